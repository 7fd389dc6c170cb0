// IQ3_S: for each 32 weights two words with eight indices, and one with the signs; for each 256 seven
// units, d as f16, then for each 32 a byte with the highest bits of its indices, then 4 bits with its scale.
// w = d (2 s + 1) size, with a sign.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 3>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(11) var<uniform> grid: array<vec4<u32>, 64>;

#import weight/grid

fn load_word(i: u32, j: u32) -> u32 {
    let low = (quants[i][j / 4u] >> (j % 4u * 8u)) & 255u;
    let high = (scale_unit(i / 8u * 7u + 1u + i % 8u / 2u) >> (i % 2u * 8u + j)) & 1u;
    // Sizes are the odd numbers up to 15.
    let sizes = 0x01010101u + 2u * codes_3(low | (high << 8u));
    return negate(sizes, (quants[i][2] >> (4u * j)) & 15u);
}

fn two_scales(i: u32) -> vec2<f32> {
    let at = i / 8u * 7u;
    let s = (scale_unit(at + 5u + i % 8u / 4u) >> (i % 4u * 4u)) & 15u;
    return vec2<f32>(half(scale_unit(at)) * f32(i32(2u * s + 1u)));
}
