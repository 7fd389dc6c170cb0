// What a projection looks like; not `override` constants, so that all projections of a model share their
// pipelines.
struct Shape {
    n_cols: u32,     // columns of the weight, a multiple of 32
    w_row: u32,      // the first row in the buffer that is meant
    n_rows: u32,     // rows of this piece of the weight
    first_row: u32,  // where their outputs begin in a row of y
    out_width: u32,  // numbers in a row of y
    eps: f32,        // of the norm
    bias_at: u32,    // where the bias begins in its buffer
    unused: u32,
}
@group(0) @binding(9) var<uniform> shape: Shape;
