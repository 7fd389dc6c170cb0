// Q4_1: w = d q + m. One vec4<u32> of nibbles per block, and one word with d and m as f16.
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/nibbles

fn scale_and_offset(i: u32) -> vec2<f32> {
    return unpack2x16float(scales[i]);
}
