// Cross-entropy and its gradient in one pass: the logarithm of the target's probability, and with IS_BACK the
// gradient of -weight * logprob in the place of the logits.
//
//   outputs   [targets]; this slice's are from part.first on
//   weights   [targets] f32
//   logits    [part.n_rows, WIDTH] f32
//   logprobs  [targets] f32
//
// One workgroup of 64 threads per row. Grid: x = part.n_rows.
#import common/output
#import common/sum
struct Part {
    first: u32,
    n_rows: u32,
}
@group(0) @binding(0) var<uniform> part: Part;
@group(0) @binding(1) var<storage, read> outputs: array<Output>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> logits: array<f32>;
@group(0) @binding(4) var<storage, read_write> logprobs: array<f32>;

override WIDTH: u32;
override IS_BACK: bool;

var<workgroup> tops: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if group.x >= part.n_rows {
        return;
    }
    let start = group.x * WIDTH;
    let output = part.first + group.x;
    let target_id = outputs[output].target_id;
    var top = -3.0e38;
    for (var i = thread; i < WIDTH; i += 64u) {
        top = max(top, logits[start + i]);
    }
    tops[thread] = top;
    workgroupBarrier();
    for (var i = 0u; i < 64u; i++) {
        top = max(top, tops[i]);
    }
    var sum = 0.0;
    for (var i = thread; i < WIDTH; i += 64u) {
        sum += exp(max(logits[start + i] - top, -80.0));
    }
    let log_sum = log(sum_of_all(thread, sum));
    // All have read it before a gradient takes its place.
    let of_target = logits[start + target_id] - top;
    workgroupBarrier();
    if thread == 0u {
        logprobs[output] = of_target - log_sum;
    }
    if !IS_BACK {
        return;
    }
    let weight = weights[output];
    for (var i = thread; i < WIDTH; i += 64u) {
        let p = exp(max(logits[start + i] - top - log_sum, -80.0));
        logits[start + i] = weight * (p - select(0.0, 1.0, i == target_id));
    }
}
