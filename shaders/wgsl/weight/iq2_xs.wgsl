// IQ2_XS: for each 8 weights 16 bits, an index of 9 bits and 7 signs; for each 256 five units, d as f16 and a
// byte for each 32 with the scales of its halves.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 2>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(11) var<uniform> grid: array<vec4<u32>, 64>;

#import weight/grid
#import weight/sizes_iq2

fn load_word(i: u32, j: u32) -> u32 {
    let pick = quants[i][j / 4u] >> (j / 2u % 2u * 16u);
    let signs = even_signs(pick >> 9u);
    return negate(sizes(pick & 511u, j), (signs >> (j % 2u * 4u)) & 15u);
}

fn two_scales(i: u32) -> vec2<f32> {
    let at = i / 8u * 5u;
    let s = scale_unit(at + 1u + i % 8u / 2u) >> (i % 2u * 8u);
    return halves_scales(half(scale_unit(at)), s, s >> 4u);
}
