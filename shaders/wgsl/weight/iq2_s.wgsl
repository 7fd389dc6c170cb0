// IQ2_S: for each 32 weights a word with four indices, and one with the signs; for each 256 nine units, d as
// f16, and for each 32 a byte with the upper 2 bits of its indices, and one with the scales of its halves.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 2>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(11) var<uniform> grid: array<vec4<u32>, 128>;

#import weight/grid
#import weight/sizes_iq2

fn load_word(i: u32, j: u32) -> u32 {
    let low = (quants[i][0] >> (j / 2u * 8u)) & 255u;
    let high = (scale_unit(i / 8u * 9u + 1u + i % 8u) >> (j / 2u * 2u)) & 3u;
    return negate(sizes(low | (high << 8u), j), (quants[i][1] >> (4u * j)) & 15u);
}

fn two_scales(i: u32) -> vec2<f32> {
    let at = i / 8u * 9u;
    let s = scale_unit(at + 1u + i % 8u) >> 8u;
    return halves_scales(half(scale_unit(at)), s, s >> 4u);
}
