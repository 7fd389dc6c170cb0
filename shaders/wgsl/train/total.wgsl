// Sums of runs of numbers, or of their squares: y[part.at + g] = sum of x[i] over run g.
//
//   x  [part.n] f32, in runs of part.per_group
//   y  f32
//
// One workgroup of 64 threads per run. Grid: x = part.n / part.per_group.
#import common/sum
struct Part {
    n: u32,
    per_group: u32,
    at: u32,
}
@group(0) @binding(0) var<uniform> part: Part;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

override SQUARES: bool;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.x * part.per_group;
    let end = min(first + part.per_group, part.n);
    var sum = 0.0;
    for (var i = first + thread; i < end; i += 64u) {
        sum += select(x[i], x[i] * x[i], SQUARES);
    }
    sum = sum_of_all(thread, sum);
    if thread == 0u {
        y[part.at + group.x] = sum;
    }
}
