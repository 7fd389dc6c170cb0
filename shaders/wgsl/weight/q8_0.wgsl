// Q8_0: w = d q, with q as signed bytes. Two vec4<u32> per block. Scales are f16, two per word, one per block
// of the whole buffer.
@group(0) @binding(2) var<storage, read> quants: array<array<vec4<u32>, 2>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;

#import weight/block

fn scale_and_offset(i: u32) -> vec2<f32> {
    let pair = unpack2x16float(scales[i / 2u]);
    return vec2<f32>(select(pair.x, pair.y, (i & 1u) == 1u), 0.0);
}

fn signed_bytes(bytes: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(bytes << 24u, bytes << 16u, bytes << 8u, bytes)) >> vec4<u32>(24u));
}

fn load_block(i: u32) -> Block {
    let q = quants[i];
    let a = q[0];
    let b = q[1];
    return Block(array<vec4<f32>, 8>(
        signed_bytes(a.x), signed_bytes(a.y), signed_bytes(a.z), signed_bytes(a.w),
        signed_bytes(b.x), signed_bytes(b.y), signed_bytes(b.z), signed_bytes(b.w),
    ), scale_and_offset(i).x, 0.0);
}

// Weights 4j .. 4j + 4 of a block.
fn load_quad(i: u32, j: u32) -> vec4<f32> {
    return signed_bytes(quants[i][j / 4u][j % 4u]) * scale_and_offset(i).x;
}
