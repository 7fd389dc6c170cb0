// 5 bits: nibbles as in nibbles.wgsl, then the highest bits. Byte j of them has weight 4g + j at bit g, and
// weight 16 + 4g + j at bit 4 + g.
fn integers(i: u32) -> Integers {
    let q = quants[i];
    let w = vec4<u32>(q[0], q[1], q[2], q[3]);
    let h = vec4<u32>(q[4]);
    let mask = vec4<u32>(0x0f0f0f0fu);
    let bit = vec4<u32>(0x10101010u);
    return Integers(
        (w & mask) | ((h << vec4<u32>(4u, 3u, 2u, 1u)) & bit),
        ((w >> vec4<u32>(4u)) & mask) | ((h >> vec4<u32>(0u, 1u, 2u, 3u)) & bit),
    );
}

// Integers 4j .. 4j + 4 of a block, as bytes.
fn load_word(i: u32, j: u32) -> u32 {
    let low = (quants[i][j % 4u] >> (j / 4u * 4u)) & 0x0f0f0f0fu;
    return low | (((quants[i][4] >> j) & 0x01010101u) << 4u);
}
