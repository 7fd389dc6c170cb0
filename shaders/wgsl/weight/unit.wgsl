// The 16 bits at place `u` of the scales, as the lowest.
fn scale_unit(u: u32) -> u32 {
    return scales[u / 2u] >> (u % 2u * 16u);
}
