// Scales of Q3_K and Q6_K: for each 256 weights d as f16, then for each 16 a scale s as a signed byte. Each
// 256 have nine units of two bytes. w = d s (q - ZERO).
#import weight/half
#import weight/unit

fn scales_and_offsets(i: u32) -> vec4<f32> {
    let at = i / 8u * 9u;
    let pair = scale_unit(at + 1u + i % 8u);
    let each = vec2<f32>(vec2<i32>(vec2<u32>(pair << 24u, pair << 16u)) >> vec2<u32>(24u));
    let s = each * half(scale_unit(at));
    return vec4<f32>(s.x, -ZERO * s.x, s.y, -ZERO * s.y);
}
