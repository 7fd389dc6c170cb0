// Q5_0: w = d (q - 16). Five words per block. Scales are f16, two per word, one per block of the whole
// buffer.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 5>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/scaled_32
#import weight/bits_5

fn scale_and_offset(i: u32) -> vec2<f32> {
    let pair = unpack2x16float(scales[i / 2u]);
    return select(pair.x, pair.y, (i & 1u) == 1u) * vec2<f32>(1.0, -16.0);
}
