// Q2_K: two words per 32 weights. For each 256, a word with d and dmin as f16, then for each 16 a byte with a
// scale s in its low nibble and a minimum m in its high one. w = d s q - dmin m.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 2>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/scaled_16
#import weight/bits_2
#import weight/half

fn scales_and_offsets(i: u32) -> vec4<f32> {
    let at = i / 8u * 5u;
    let top = scales[at];
    let pair = vec4<u32>(scales[at + 1u + i % 8u / 2u] >> (i % 2u * 16u));
    let each = vec4<f32>(vec4<i32>((pair >> vec4<u32>(0u, 4u, 8u, 12u)) & vec4<u32>(15u)));
    let d = half(top);
    let dmin = -half(top >> 16u);
    return vec4<f32>(d, dmin, d, dmin) * each;
}
