// 32 consecutive weights of one row: weight 4i+j is `q[i][j] * scale + offset`. Kernels that sum over a block
// apply scale and offset once to the sums instead of 32 times to the weights.
struct Block {
    q: array<vec4<f32>, 8>,
    scale: f32,
    offset: f32,
}

// A block with its integers as bytes, four per word, the first in the lowest bits; i8 if they can be
// negative.
struct Packed {
    low: vec4<u32>,
    high: vec4<u32>,
    scale: f32,
    offset: f32,
}
