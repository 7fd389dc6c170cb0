// The weighted sum of what a row's experts gave: y[t, i] = sum over s of weight s of t * x[t, s, i].
//
//   x      [step rows, N_USED, WIDTH] f32
//   route  [step rows, 2 * N_USED] f32: numbers of experts, then weights
//   y      [step rows, WIDTH] f32
//
// One thread per number of y. Grid: x = WIDTH / 64, y = step rows.
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> route: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

override WIDTH: u32;
override N_USED: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= WIDTH || id.y >= step_rows() {
        return;
    }
    let pair = id.y * N_USED;
    var sum = 0.0;
    for (var s = 0u; s < N_USED; s++) {
        sum += route[2u * pair + N_USED + s] * x[(pair + s) * WIDTH + id.x];
    }
    y[id.y * WIDTH + id.x] = sum;
}
