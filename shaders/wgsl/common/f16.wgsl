// Two numbers as f16. Clamped, because pack2x16float is undefined outside the finite range.
fn pack_f16(v: vec2<f32>) -> u32 {
    return pack2x16float(clamp(v, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}
