// IQ3_XXS: for each 32 weights two words with eight indices, and one with 7 signs for each 8 and the scale;
// for each 256 d as f16. w = d (s + 1/2) / 2 size, with a sign.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 3>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(11) var<uniform> grid: array<vec4<u32>, 32>;

#import weight/grid

fn load_word(i: u32, j: u32) -> u32 {
    let index = (quants[i][j / 4u] >> (j % 4u * 8u)) & 255u;
    let signs = even_signs(quants[i][2] >> (j / 2u * 7u));
    // Sizes are 4, 12, 20 and so on, but the last is 62 and not 60.
    let codes = codes_3(index);
    let last = codes & (codes >> 1u) & (codes >> 2u) & 0x01010101u;
    return negate(0x04040404u + 8u * codes + 2u * last, (signs >> (j % 2u * 4u)) & 15u);
}

fn two_scales(i: u32) -> vec2<f32> {
    let s = f32(i32(quants[i][2] >> 28u));
    return vec2<f32>(half(scale_unit(i / 8u)) * (s + 0.5) * 0.5);
}
