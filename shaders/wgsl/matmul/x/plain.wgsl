// Activations as floats.
//   x  [step rows, n_cols] f32, one block of 32 per element, so that bounds are checked once per block
@group(0) @binding(1) var<storage, read> x: array<array<vec4<f32>, 8>>;

#import matmul/x/floats

// Block `b` of row `t`.
fn load_x(t: u32, b: u32) -> X {
    return floats(x[t * (shape.n_cols / 32u) + b]);
}
