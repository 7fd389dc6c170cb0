#import weight/block

fn nibbles(bytes: u32) -> vec4<f32> {
    // Converted from i32, because u32 to f32 is slow on x86 processors without AVX-512.
    return vec4<f32>(vec4<i32>(vec4<u32>(bytes, bytes >> 8u, bytes >> 16u, bytes >> 24u) & vec4<u32>(15u)));
}

// Weights 0..16 are in the low nibbles of a block's 16 bytes, weights 16..32 in the high nibbles.
fn load_block(i: u32) -> Block {
    let w = quants[i];
    let h = w >> vec4<u32>(4u);
    let s = scale_and_offset(i);
    return Block(array<vec4<f32>, 8>(
        nibbles(w.x), nibbles(w.y), nibbles(w.z), nibbles(w.w),
        nibbles(h.x), nibbles(h.y), nibbles(h.z), nibbles(h.w),
    ), s.x, s.y);
}

fn load_packed(i: u32) -> Packed {
    let w = quants[i];
    let mask = vec4<u32>(0x0f0f0f0fu);
    let s = scale_and_offset(i);
    return Packed(w & mask, (w >> vec4<u32>(4u)) & mask, s.x, s.y);
}

// Integers 4j .. 4j + 4 of a block, as bytes.
fn load_word(i: u32, j: u32) -> u32 {
    return (quants[i][j % 4u] >> (j / 4u * 4u)) & 0x0f0f0f0fu;
}

// Weights 4j .. 4j + 4 of a block.
fn load_quad(i: u32, j: u32) -> vec4<f32> {
    let s = scale_and_offset(i);
    return nibbles(load_word(i, j)) * s.x + vec4<f32>(s.y);
}
