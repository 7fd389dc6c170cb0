// IQ1_M: for each 32 weights a word with four indices; for each 256 thirteen units, d as f16, then for each 8
// the upper 3 bits of the index and whether the weights are moved down, then for each 32 a byte with the
// scales of its halves. w = d (2 s + 1) / 8 number.
@group(0) @binding(2) var<storage, read> quants: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(11) var<uniform> grid: array<vec4<u32>, 256>;

#import weight/grid
#import weight/moved_iq1

fn load_word(i: u32, j: u32) -> u32 {
    let low = (quants[i] >> (j / 2u * 8u)) & 255u;
    let high = scale_unit(i / 8u * 13u + 1u + i % 8u) >> (j / 2u * 4u);
    return moved(low | ((high & 7u) << 8u), j, (high & 8u) != 0u);
}

fn two_scales(i: u32) -> vec2<f32> {
    let at = i / 8u * 13u;
    let s = scale_unit(at + 9u + i % 8u / 2u) >> (i % 2u * 8u);
    let factors = vec2<f32>(vec2<i32>(2u * (vec2<u32>(s, s >> 4u) & vec2<u32>(7u)) + vec2<u32>(1u)));
    return half(scale_unit(at)) * factors * 0.125;
}
