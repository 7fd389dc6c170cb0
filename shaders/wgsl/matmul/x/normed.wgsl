// Activations that are still to be RMS-normed (arXiv 1910.07467): multiplied with the norm's weight as they are read; the norm's
// scale, the same for a whole row, is applied to the sums at the end. x: [n_rows, N_COLS] f32, norm: [N_COLS] f32, four a vec4.
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> norm: array<vec4<f32>>;

#import matmul/x/floats

// Of the blocks that this thread has read: the sum of the squares, from which the scale comes.
var<private> squares: f32;

fn load_x(t: u32, b: u32) -> X {
    let i = t * (shape.n_cols / 4u) + b * 8u;
    let j = b * 8u;
    let x0 = x[i];
    let x1 = x[i + 1u];
    let x2 = x[i + 2u];
    let x3 = x[i + 3u];
    let x4 = x[i + 4u];
    let x5 = x[i + 5u];
    let x6 = x[i + 6u];
    let x7 = x[i + 7u];
    let s = x0 * x0 + x1 * x1 + x2 * x2 + x3 * x3 + x4 * x4 + x5 * x5 + x6 * x6 + x7 * x7;
    squares += s.x + s.y + s.z + s.w;
    return floats(array<vec4<f32>, 8>(
        x0 * norm[j], x1 * norm[j + 1u], x2 * norm[j + 2u], x3 * norm[j + 3u],
        x4 * norm[j + 4u], x5 * norm[j + 5u], x6 * norm[j + 6u], x7 * norm[j + 7u],
    ));
}

fn norm_scale(all_squares: f32) -> f32 {
    return inverseSqrt(all_squares / f32(shape.n_cols) + shape.eps);
}
