// The norm of each run of a row. KIND=rms (arXiv 1910.07467): y = x / sqrt(mean(x^2) + EPS). KIND=layer
// (arXiv 1607.06450): y = (x - mean(x)) / sqrt(variance(x) + EPS). Then y * weight + bias, as far as there
// are these; with ADD=add, plus the residual.
//
//   x, residual, y  [step rows, RUNS, WIDTH] f32; a run is a whole row or one head
//   weight, bias    [WEIGHT_RUNS, WIDTH], [BIAS_RUNS, WIDTH] f32: one for all runs, or one for each
//
// Numbers are read one or, where WIDTH is a multiple of 4, four at a time.
// One workgroup of 64 threads per run. Grid: x = RUNS, y = step rows.
#import common/rows
#import common/sum
#if NUMBERS=4
alias Numbers = vec4<f32>;
#else
alias Numbers = f32;
#endif
@group(0) @binding(1) var<storage, read> x: array<Numbers>;
#if WEIGHT=weight
@group(0) @binding(2) var<storage, read> weight: array<Numbers>;
override WEIGHT_RUNS: u32;
#endif
@group(0) @binding(3) var<storage, read_write> y: array<Numbers>;
#if BIAS=bias
@group(0) @binding(4) var<storage, read> bias: array<Numbers>;
override BIAS_RUNS: u32;
#endif
#if ADD=add
@group(0) @binding(5) var<storage, read> residual: array<Numbers>;
#endif

override WIDTH: u32;
override EPS: f32;
override RUNS: u32;

fn total(x: Numbers) -> f32 {
#if NUMBERS=4
    return x.x + x.y + x.z + x.w;
#else
    return x;
#endif
}

// The sum over all threads, divided by the length of a run.
fn mean(thread: u32, sum: f32) -> f32 {
    return sum_of_all(thread, sum) / f32(WIDTH);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let n = WIDTH / {NUMBERS}u;
    let run = (group.y * RUNS + group.x) * n;
    if group.y >= step_rows() {
        return;
    }
    var sum = Numbers();
#if KIND=layer
    for (var i = thread; i < n; i += 64u) {
        sum += x[run + i];
    }
    let middle = Numbers() + mean(thread, total(sum));
    sum = Numbers();
#else
    let middle = Numbers();
#endif
    for (var i = thread; i < n; i += 64u) {
        let v = x[run + i] - middle;
        sum += v * v;
    }
    let scale = inverseSqrt(mean(thread, total(sum)) + EPS);
    for (var i = thread; i < n; i += 64u) {
        var v = (x[run + i] - middle) * scale;
#if WEIGHT=weight
        v *= weight[group.x % WEIGHT_RUNS * n + i];
#endif
#if BIAS=bias
        v += bias[group.x % BIAS_RUNS * n + i];
#endif
#if ADD=add
        v += residual[run + i];
#endif
        y[run + i] = v;
    }
}
