// Activations that are still to be RMS-normed (arXiv 1910.07467): multiplied with the norm's weight as they
// are read; the norm's scale, the same for a whole row, is applied to the sums at the end. x: [step rows,
// N_COLS] f32, norm: [N_COLS] f32, a block of 32 an element, so that its bounds are checked once.
@group(0) @binding(1) var<storage, read> x: array<array<vec4<f32>, 8>>;
@group(0) @binding(5) var<storage, read> norm: array<array<vec4<f32>, 8>>;

#import matmul/x/floats

// The sum of the squares of the block that was read last, from which the norm's scale comes.
var<private> block_squares: f32;

fn load_x(t: u32, b: u32) -> X {
    let v = x[t * (shape.n_cols / 32u) + b];
    let n = norm[b];
    let s = v[0] * v[0] + v[1] * v[1] + v[2] * v[2] + v[3] * v[3]
        + v[4] * v[4] + v[5] * v[5] + v[6] * v[6] + v[7] * v[7];
    block_squares = s.x + s.y + s.z + s.w;
    return floats(array<vec4<f32>, 8>(
        v[0] * n[0], v[1] * n[1], v[2] * n[2], v[3] * n[3],
        v[4] * n[4], v[5] * n[5], v[6] * n[6], v[7] * n[7],
    ));
}

// The scales of four rows, from the sums of their squares.
fn norm_scales(squares: vec4<f32>) -> vec4<f32> {
    return inverseSqrt(squares / f32(shape.n_cols) + vec4<f32>(shape.eps));
}
