// The entries of IQ1, -1, 0 or 1, times 8, plus or minus 1.
fn moved(index: u32, j: u32, is_down: bool) -> u32 {
    // 128 more, so that no byte carries into the next.
    return (select(0x79797979u, 0x77777777u, is_down) + 8u * codes_2(index, j)) ^ 0x80808080u;
}
