// IQ4_XS: one vec4<u32> of nibbles per 32 weights. For each 256, d as f16, then for each 32 a scale s as a
// signed byte: five units of two bytes. w = d s book[i].
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/book_iq4
#import weight/book_32
#import weight/half
#import weight/unit

fn scale_and_offset(i: u32) -> vec2<f32> {
    let at = i / 8u * 5u;
    let pair = scale_unit(at + 1u + i % 8u / 2u) >> (i % 2u * 8u);
    return vec2<f32>(half(scale_unit(at)) * f32(i32(pair << 24u) >> 24u), 0.0);
}
