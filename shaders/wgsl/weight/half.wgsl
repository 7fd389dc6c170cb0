// The f16 in the lowest 16 bits. Not by unpack2x16float, which may take subnormal numbers for zero: scales
// that are scaled once more are often that small.
fn half(bits: u32) -> f32 {
    let rest = bits & 0x7fffu;
    // 2^-24 for each unit of a subnormal number.
    let small = f32(i32(rest)) * 0x1p-24;
    let size = select(bitcast<f32>((rest << 13u) + 0x38000000u), small, rest < 0x400u);
    return select(size, -size, (bits & 0x8000u) != 0u);
}
