// The gradient of a norm, added to dx. With y = (x - m) s w, g = dy w and u = (x - m) s:
// dx += s (g - mean(g) - u mean(g u)). An RMS norm has m = 0 and no mean(g).
//
//   x, dy, dx  [step rows, RUNS, WIDTH] f32
//   weight     [WEIGHT_RUNS, WIDTH] f32
//
// One workgroup of 64 threads per run. Grid: x = RUNS, y = step rows.
#import common/rows
#import common/sum
@group(0) @binding(1) var<storage, read> x: array<f32>;
#if WEIGHT=weight
@group(0) @binding(2) var<storage, read> weight: array<f32>;
override WEIGHT_RUNS: u32;
#endif
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

override WIDTH: u32;
override EPS: f32;
override RUNS: u32;

// The sum over all threads, divided by the length of a run.
fn mean(thread: u32, sum: f32) -> f32 {
    return sum_of_all(thread, sum) / f32(WIDTH);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let run = (group.y * RUNS + group.x) * WIDTH;
    if group.y >= step_rows() {
        return;
    }
#if WEIGHT=weight
    let weight_at = group.x % WEIGHT_RUNS * WIDTH;
#endif
    var sum = 0.0;
#if KIND=layer
    for (var i = thread; i < WIDTH; i += 64u) {
        sum += x[run + i];
    }
    let middle = mean(thread, sum);
    sum = 0.0;
#else
    let middle = 0.0;
#endif
    for (var i = thread; i < WIDTH; i += 64u) {
        let v = x[run + i] - middle;
        sum += v * v;
    }
    let scale = inverseSqrt(mean(thread, sum) + EPS);
    var along = 0.0;
    sum = 0.0;
    for (var i = thread; i < WIDTH; i += 64u) {
        var g = dy[run + i];
#if WEIGHT=weight
        g *= weight[weight_at + i];
#endif
        along += g * (x[run + i] - middle) * scale;
        sum += g;
    }
    let mean_along = mean(thread, along);
#if KIND=layer
    let mean_g = mean(thread, sum);
#else
    let mean_g = 0.0;
#endif
    for (var i = thread; i < WIDTH; i += 64u) {
        var g = dy[run + i];
#if WEIGHT=weight
        g *= weight[weight_at + i];
#endif
        dx[run + i] += scale * (g - mean_g - (x[run + i] - middle) * scale * mean_along);
    }
}
