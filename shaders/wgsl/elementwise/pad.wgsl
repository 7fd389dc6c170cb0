// Rows with zeros up to a whole block of 32: y[t, i] = x[t, i], or 0 from WIDTH on.
//
//   x  [step rows, WIDTH] f32
//   y  [step rows, Y_WIDTH] f32
//
// One thread per number of y. Grid: x = Y_WIDTH / 64, y = step rows.
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

override WIDTH: u32;
override Y_WIDTH: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= Y_WIDTH || id.y >= step_rows() {
        return;
    }
    var number = 0.0;
    if id.x < WIDTH {
        number = x[id.y * WIDTH + id.x];
    }
    y[id.y * Y_WIDTH + id.x] = number;
}
