// Activations that are RMS-normalised (arXiv 1910.07467) as they are read: they are multiplied by the norm's
// weight here, and the sums are multiplied by the row's scale at the end.
//   x     [step rows, n_cols] f32, one block of 32 per element, so that bounds are checked once per block
//   norm  [n_cols] f32, likewise
@group(0) @binding(1) var<storage, read> x: array<array<vec4<f32>, 8>>;
@group(0) @binding(5) var<storage, read> norm: array<array<vec4<f32>, 8>>;

#import matmul/x/floats

// The sum of squares of the last block that was read, for the norm's scale.
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

// The scales of four rows, from their sums of squares.
fn norm_scales(squares: vec4<f32>) -> vec4<f32> {
    return inverseSqrt(squares / f32(shape.n_cols) + vec4<f32>(shape.eps));
}
