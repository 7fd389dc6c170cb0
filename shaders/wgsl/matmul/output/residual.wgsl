// Adds the sums, or a function of them, to the residual stream. A unit is four neighbouring rows of the
// weight. out_width, n_rows and first_row are multiples of 4.
//   residual, y  [step rows, out_width] f32, four per vec4
#import matmul/bias
#import common/unary
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> residual: array<vec4<f32>>;

fn n_units() -> u32 {
    return shape.n_rows / 4u;
}

fn unit_rows(unit: u32) -> vec4<u32> {
    return vec4<u32>(4u * unit) + vec4<u32>(0u, 1u, 2u, 3u);
}

fn store(t: u32, unit: u32, sums: vec4<f32>) {
    let at = (t * shape.out_width + shape.first_row) / 4u + unit;
    y[at] = residual[at] + unary(biased(unit_rows(unit) + vec4<u32>(shape.first_row), sums));
}
