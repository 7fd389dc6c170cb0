// RMSNorm (arXiv 1910.07467): y[t, i] = x[t, i] / sqrt(mean over i of x[t, i]^2 + EPS) * w[i].
//
//   x, y    [step rows, RUNS, WIDTH] f32, four per vec4; a run is a whole row or one head
//   w       [WIDTH] f32
//
// One workgroup of 64 threads per run. Grid: x = RUNS, y = step rows.
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

override WIDTH: u32;
override EPS: f32;
override RUNS: u32 = 1u;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let n = WIDTH / 4u;
    let row = (group.y * RUNS + group.x) * n;
    if group.y >= step_rows() {
        return;
    }
    var sum = 0.0;
    for (var i = thread; i < n; i += 64u) {
        let v = x[row + i];
        sum += dot(v, v);
    }
    partial[thread] = sum;
    for (var stride = 32u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if thread < stride {
            partial[thread] += partial[thread + stride];
        }
    }
    workgroupBarrier();
    let scale = inverseSqrt(partial[0] / f32(WIDTH) + EPS);
    for (var i = thread; i < n; i += 64u) {
        y[row + i] = x[row + i] * scale * w[i];
    }
}
