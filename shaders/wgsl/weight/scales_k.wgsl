// Scales of Q4_K and Q5_K: for each 256 weights a word with d and dmin as f16, then for each 32 a byte with a
// scale s and one with a minimum m. w = d s q - dmin m.
#import weight/half

fn scale_and_offset(i: u32) -> vec2<f32> {
    let at = i / 8u * 5u;
    let top = scales[at];
    let pair = scales[at + 1u + i % 8u / 2u] >> (i % 2u * 16u);
    let each = vec2<f32>(vec2<i32>(vec2<u32>(pair & 255u, (pair >> 8u) & 255u)));
    return vec2<f32>(half(top), -half(top >> 16u)) * each;
}
