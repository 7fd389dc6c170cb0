#import weight/block

fn nibbles(bytes: u32) -> vec4<f32> {
    // Through i32: from unsigned numbers, processors without AVX-512 convert slowly.
    return vec4<f32>(vec4<i32>(vec4<u32>(bytes, bytes >> 8u, bytes >> 16u, bytes >> 24u) & vec4<u32>(15u)));
}

// A block's 16 bytes: weights 0..16 in the low nibbles, 16..32 in the high ones.
fn nibble_block(w: vec4<u32>, scale: f32, offset: f32) -> Block {
    let h = w >> vec4<u32>(4u);
    return Block(array<vec4<f32>, 8>(
        nibbles(w.x), nibbles(w.y), nibbles(w.z), nibbles(w.w),
        nibbles(h.x), nibbles(h.y), nibbles(h.z), nibbles(h.w),
    ), scale, offset);
}
