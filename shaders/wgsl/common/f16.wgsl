// Two numbers as f16, the nearest finite ones: what lies beyond is undefined in pack2x16float.
fn pack_f16(v: vec2<f32>) -> u32 {
    return pack2x16float(clamp(v, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
}
