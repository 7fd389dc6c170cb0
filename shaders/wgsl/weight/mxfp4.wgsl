// MXFP4: w = 2^(e - 128) book[i]. One vec4<u32> of nibbles per block, and e as a byte, four per word, one per
// block of the whole buffer.
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/book_fp4
#import weight/book_32

fn scale_and_offset(i: u32) -> vec2<f32> {
    let e = (scales[i / 4u] >> (i % 4u * 8u)) & 255u;
    // Below 2 the result is subnormal.
    let bits = select((e - 1u) << 23u, 0x00200000u << (e & 1u), e < 2u);
    return vec2<f32>(bitcast<f32>(bits), 0.0);
}
