// Blocks of indices into a grid, which has the sizes of 4 or 8 weights. Each layout has `load_word`, numbers
// 4j .. 4j + 4 of block `i` as signed bytes, and `two_scales`, for the halves of the block. The functions are
// those of quant/grid.rs.
//   grid  entries of 16 bits
#import weight/block
#import weight/half
#import weight/unit

// An entry of the grid, in the lower 16 bits.
fn entry(index: u32) -> u32 {
    return grid[index / 8u][index / 2u % 4u] >> (index % 2u * 16u);
}

// Codes 0..4 or, if j is odd, 4..8 of 2 bits in an entry, as bytes.
fn codes_2(index: u32, j: u32) -> u32 {
    let bits = (entry(index) >> (j % 2u * 8u)) & 255u;
    return (bits | (bits << 6u) | (bits << 12u) | (bits << 18u)) & 0x03030303u;
}

// The 4 codes of 3 bits in an entry, as bytes.
fn codes_3(index: u32) -> u32 {
    let bits = entry(index);
    return (bits & 7u) | ((bits & 0x38u) << 5u) | ((bits & 0x1c0u) << 10u) | ((bits & 0xe00u) << 15u);
}

// Negates bytes above 0 whose bits are set in `signs`, which has 4.
fn negate(bytes: u32, signs: u32) -> u32 {
    let ones = (signs | (signs << 7u) | (signs << 14u) | (signs << 21u)) & 0x01010101u;
    return (bytes ^ (ones * 255u)) + ones;
}

// The signs of 8 weights from those of 7: their number is even.
fn even_signs(bits: u32) -> u32 {
    let signs = bits & 127u;
    return signs | ((countOneBits(signs) & 1u) << 7u);
}

fn signed_bytes(bytes: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(bytes << 24u, bytes << 16u, bytes << 8u, bytes)) >> vec4<u32>(24u));
}

fn load_block(i: u32) -> Block {
    let s = two_scales(i);
    return Block(array<vec4<f32>, 8>(
        signed_bytes(load_word(i, 0u)) * s.x, signed_bytes(load_word(i, 1u)) * s.x,
        signed_bytes(load_word(i, 2u)) * s.x, signed_bytes(load_word(i, 3u)) * s.x,
        signed_bytes(load_word(i, 4u)) * s.y, signed_bytes(load_word(i, 5u)) * s.y,
        signed_bytes(load_word(i, 6u)) * s.y, signed_bytes(load_word(i, 7u)) * s.y,
    ), 1.0, 0.0);
}

// Weights 4j .. 4j + 4 of a block.
fn load_quad(i: u32, j: u32) -> vec4<f32> {
    let s = two_scales(i);
    return signed_bytes(load_word(i, j)) * select(s.x, s.y, j >= 4u);
}
