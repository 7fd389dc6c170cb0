// Gated pair, see common/gate. The weight's rows are out_width rows of the gate,
// then out_width rows of up; out_width is even. A unit is two neighbouring rows of the gate and the same two
// of up, and gives two outputs.
//   y  [step rows, out_width] f32, two per vec2
#import matmul/bias
#import common/gate
@group(0) @binding(4) var<storage, read_write> y: array<vec2<f32>>;

fn n_units() -> u32 {
    return shape.out_width / 2u;
}

fn unit_rows(unit: u32) -> vec4<u32> {
    let row = 2u * unit;
    return vec4<u32>(row, row + 1u, shape.out_width + row, shape.out_width + row + 1u);
}

fn store(t: u32, unit: u32, sums: vec4<f32>) {
    let v = biased(unit_rows(unit), sums);
    y[t * (shape.out_width / 2u) + unit] = gated(v, v.zwzw).xy;
}
