// The weight's rows are those of a gate, then those of what it gates, OUT_WIDTH (even) each. A unit is two
// neighbouring rows of the gate and the same two of the other; the gated pair (arXiv 2002.05202) makes two
// outputs of their four sums.
//   y  [step rows, OUT_WIDTH] f32, two a vec2
#import matmul/bias
#import common/activation
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
    y[t * (shape.out_width / 2u) + unit] = activate(v).xy * v.zw;
}
