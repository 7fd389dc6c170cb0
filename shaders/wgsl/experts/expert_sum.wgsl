// The weighted sum of what a row's experts gave: y[t, i] = sum over s of weight s of t * x[t, s, i],
// plus the residual.
//
//   x      [step rows, N_USED, WIDTH] f32
//   route  [step rows, 2 * N_USED] f32: numbers of experts, then weights
//   residual, y  [step rows, WIDTH] f32
//
// One thread per number of y. Grid: x = WIDTH / 64, y = step rows.
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> route: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
#if ADD=add
@group(0) @binding(4) var<storage, read> residual: array<f32>;
#endif

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
#if ADD=add
    sum += residual[id.y * WIDTH + id.x];
#endif
    y[id.y * WIDTH + id.x] = sum;
}
