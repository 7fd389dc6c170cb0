// 6 bits: nibbles as in nibbles.wgsl, then the highest pairs of bits. Byte j of their first word has weight
// 4g + j at bits 2g, byte j of the second has weight 16 + 4g + j there.
fn integers(i: u32) -> Integers {
    let q = quants[i];
    let w = vec4<u32>(q[0], q[1], q[2], q[3]);
    let mask = vec4<u32>(0x0f0f0f0fu);
    let pair = vec4<u32>(0x03030303u);
    let at = vec4<u32>(0u, 2u, 4u, 6u);
    return Integers(
        (w & mask) | (((vec4<u32>(q[4]) >> at) & pair) << vec4<u32>(4u)),
        ((w >> vec4<u32>(4u)) & mask) | (((vec4<u32>(q[5]) >> at) & pair) << vec4<u32>(4u)),
    );
}

// Integers 4j .. 4j + 4 of a block, as bytes.
fn load_word(i: u32, j: u32) -> u32 {
    let low = (quants[i][j % 4u] >> (j / 4u * 4u)) & 0x0f0f0f0fu;
    return low | (((quants[i][4u + j / 4u] >> (j % 4u * 2u)) & 0x03030303u) << 4u);
}
