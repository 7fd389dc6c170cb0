// Bias: y[t, i] = x[t, i] + bias[BIAS_AT + i]; x and y are [step rows, WIDTH] f32, bias is f32.
// One thread per number. Grid: x = WIDTH / 64, y = step rows.
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

override WIDTH: u32;
override BIAS_AT: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= WIDTH || id.y >= step_rows() {
        return;
    }
    let i = id.y * WIDTH + id.x;
    y[i] = x[i] + bias[BIAS_AT + id.x];
}
