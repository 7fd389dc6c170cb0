// Q5_1: w = d q + m. Five words per block, and one word with d and m as f16.
@group(0) @binding(2) var<storage, read> quants: array<array<u32, 5>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/scaled_32
#import weight/bits_5

fn scale_and_offset(i: u32) -> vec2<f32> {
    return unpack2x16float(scales[i]);
}
