// IQ2_XXS: for each 32 weights a word with four indices, and one with 7 signs for each 8 and the scale; for
// each 256 d as f16.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 2>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(11) var<uniform> grid: array<vec4<u32>, 32>;

#import weight/grid
#import weight/sizes_iq2

fn load_word(i: u32, j: u32) -> u32 {
    let index = (quants[i][0] >> (j / 2u * 8u)) & 255u;
    let signs = even_signs(quants[i][1] >> (j / 2u * 7u));
    return negate(sizes(index, j), (signs >> (j % 2u * 4u)) & 15u);
}

fn two_scales(i: u32) -> vec2<f32> {
    let s = quants[i][1] >> 28u;
    return halves_scales(half(scale_unit(i / 8u)), s, s);
}
