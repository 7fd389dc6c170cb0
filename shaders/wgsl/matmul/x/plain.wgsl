// Activations as floats. x: [step rows, N_COLS] f32, a block of 32 an element, so that its bounds are checked
// once.
@group(0) @binding(1) var<storage, read> x: array<array<vec4<f32>, 8>>;

#import matmul/x/floats

// Block `b` of row `t`.
fn load_x(t: u32, b: u32) -> X {
    return floats(x[t * (shape.n_cols / 32u) + b]);
}
