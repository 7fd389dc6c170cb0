// Q4_0: w = d (q - 8). One vec4<u32> of nibbles per block. Scales are f16, two per word, one per block of the
// whole buffer.
@group(0) @binding(2) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/nibbles

fn scale_and_offset(i: u32) -> vec2<f32> {
    let pair = unpack2x16float(scales[i / 2u]);
    return select(pair.x, pair.y, (i & 1u) == 1u) * vec2<f32>(1.0, -8.0);
}
