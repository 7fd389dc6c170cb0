// Runs with zeros up to a whole block of 32: y[t, run, i] = x[t, run, i], or 0 from WIDTH on. A row has RUNS.
//
//   x  [step rows, RUNS, WIDTH] f32
//   y  [step rows, RUNS, Y_WIDTH] f32
//
// One thread per number of y. Grid: x = RUNS * Y_WIDTH / 64, y = step rows.
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

override WIDTH: u32;
override Y_WIDTH: u32;
override RUNS: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= RUNS * Y_WIDTH || id.y >= step_rows() {
        return;
    }
    let run = id.y * RUNS + id.x / Y_WIDTH;
    let i = id.x % Y_WIDTH;
    var number = 0.0;
    if i < WIDTH {
        number = x[run * WIDTH + i];
    }
    y[run * Y_WIDTH + i] = number;
}
