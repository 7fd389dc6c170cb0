// The shape of a projection. It is a uniform buffer instead of `override` constants, so that projections of
// different shapes share a pipeline.
struct Shape {
    n_cols: u32,     // columns of the weight, a multiple of 32
    w_row: u32,      // first row of the weight in the buffer
    n_rows: u32,     // rows of this piece of the weight
    first_row: u32,  // where the piece's outputs begin in a row of y
    out_width: u32,  // width of y
    eps: f32,        // added to the norm's mean square
    bias_at: u32,    // start of the bias in its buffer
    unused: u32,
}
@group(0) @binding(9) var<uniform> shape: Shape;
