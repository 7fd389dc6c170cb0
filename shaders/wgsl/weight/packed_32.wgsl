// The integers of blocks with one scale and one offset, for integer dot products.
fn load_packed(i: u32) -> Packed {
    let q = integers(i);
    let s = scale_and_offset(i);
    return Packed(q.low, q.high, s.x, s.y);
}
