// Sizes of IQ2: 8, 25 or 43.
fn sizes(index: u32, j: u32) -> u32 {
    let codes = codes_2(index, j);
    return 0x08080808u + 17u * codes + ((codes >> 1u) & 0x01010101u);
}

// The scales of two halves, from 4 bits each: d (s + 1/2) / 4.
fn halves_scales(d: f32, low: u32, high: u32) -> vec2<f32> {
    return d * (vec2<f32>(vec2<i32>(vec2<u32>(low, high) & vec2<u32>(15u))) + vec2<f32>(0.5)) * 0.25;
}
