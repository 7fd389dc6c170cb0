// IQ1_S: for each 32 weights a word with four indices; for each 256 nine units, d as f16, and for each 32 the
// upper 3 bits of its indices, the scale, and whether the weights are moved down. w = d (2 s + 1) / 8 number.
@group(0) @binding(2) var<storage, read> quants: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(11) var<uniform> grid: array<vec4<u32>, 256>;

#import weight/grid
#import weight/moved_iq1

fn load_word(i: u32, j: u32) -> u32 {
    let low = (quants[i] >> (j / 2u * 8u)) & 255u;
    let high = scale_unit(i / 8u * 9u + 1u + i % 8u);
    return moved(low | (((high >> (j / 2u * 3u)) & 7u) << 8u), j, (high & 0x8000u) != 0u);
}

fn two_scales(i: u32) -> vec2<f32> {
    let at = i / 8u * 9u;
    let s = (scale_unit(at + 1u + i % 8u) >> 12u) & 7u;
    return vec2<f32>(half(scale_unit(at)) * f32(i32(2u * s + 1u)) * 0.125);
}
