// 2 bits: byte j of the first word has weight 4g + j at bits 2g, byte j of the second has weight 16 + 4g + j
// there.
fn integers(i: u32) -> Integers {
    let q = quants[i];
    let pair = vec4<u32>(0x03030303u);
    let at = vec4<u32>(0u, 2u, 4u, 6u);
    return Integers((vec4<u32>(q[0]) >> at) & pair, (vec4<u32>(q[1]) >> at) & pair);
}

// Integers 4j .. 4j + 4 of a block, as bytes.
fn load_word(i: u32, j: u32) -> u32 {
    return (quants[i][j / 4u] >> (j % 4u * 2u)) & 0x03030303u;
}
