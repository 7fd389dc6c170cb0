// Activations as floats. x: [n_rows, N_COLS] f32, four a vec4.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;

#import matmul/x/floats

// Block `b` of row `t`.
fn load_x(t: u32, b: u32) -> X {
    let i = t * (shape.n_cols / 4u) + b * 8u;
    return floats(array<vec4<f32>, 8>(
        x[i], x[i + 1u], x[i + 2u], x[i + 3u], x[i + 4u], x[i + 5u], x[i + 6u], x[i + 7u],
    ));
}
