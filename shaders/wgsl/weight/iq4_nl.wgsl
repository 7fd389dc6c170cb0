// IQ4_NL: w = d book[i]. One vec4<u32> of nibbles per block. Scales are f16, two per word, one per block of
// the whole buffer.
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/book_iq4
#import weight/book_32

fn scale_and_offset(i: u32) -> vec2<f32> {
    let pair = unpack2x16float(scales[i / 2u]);
    return vec2<f32>(select(pair.x, pair.y, (i & 1u) == 1u), 0.0);
}
