// 3 bits: the lower two as in bits_2.wgsl, then the highest as in bits_5.wgsl.
fn integers(i: u32) -> Integers {
    let q = quants[i];
    let pair = vec4<u32>(0x03030303u);
    let at = vec4<u32>(0u, 2u, 4u, 6u);
    let h = vec4<u32>(q[2]);
    let bit = vec4<u32>(0x01010101u);
    let two = vec4<u32>(2u);
    return Integers(
        ((vec4<u32>(q[0]) >> at) & pair) | (((h >> vec4<u32>(0u, 1u, 2u, 3u)) & bit) << two),
        ((vec4<u32>(q[1]) >> at) & pair) | (((h >> vec4<u32>(4u, 5u, 6u, 7u)) & bit) << two),
    );
}

// Integers 4j .. 4j + 4 of a block, as bytes.
fn load_word(i: u32, j: u32) -> u32 {
    let low = (quants[i][j / 4u] >> (j % 4u * 2u)) & 0x03030303u;
    return low | (((quants[i][2] >> j) & 0x01010101u) << 2u);
}
