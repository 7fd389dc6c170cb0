// The weight's rows are those of the gate, then those of the up projection, OUT_WIDTH (even) each. A unit is two neighbouring rows of
// the gate and the same two of the up projection; SwiGLU (arXiv 2002.05202) makes two outputs of their four sums.
//   y  [n_rows, OUT_WIDTH] f32, two a vec2
@group(0) @binding(4) var<storage, read_write> y: array<vec2<f32>>;

fn n_units() -> u32 {
    return shape.out_width / 2u;
}

fn unit_rows(unit: u32) -> vec4<u32> {
    let row = 2u * unit;
    return vec4<u32>(row, row + 1u, shape.out_width + row, shape.out_width + row + 1u);
}

fn store(t: u32, unit: u32, sums: vec4<f32>) {
    let gate = sums.xy;
    // exp overflows to infinity below -88, where silu is zero to f32's precision; the clamp keeps implementations that assume
    // finite arithmetic right.
    y[t * (shape.out_width / 2u) + unit] = gate / (vec2<f32>(1.0) + exp(min(-gate, vec2<f32>(80.0)))) * sums.zw;
}
