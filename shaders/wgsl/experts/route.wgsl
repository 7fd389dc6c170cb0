// The experts of each row: those of its N_USED greatest logits, of equal ones the first, and their weights.
// SIGMOID: a weight is the sigmoid of its logit; otherwise it is that of the softmax. NORMED: weights are
// divided by their sum.
//
//   logits  [step rows, N_EXPERTS] f32
//   y       [step rows, 2 * N_USED] f32: numbers of experts, then weights, the greatest first
//
// Each thread counts for some experts how many come before them. Grid: y = step rows.
#import common/rows
#import common/sum
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

override N_EXPERTS: u32;
override N_USED: u32;
override SIGMOID: bool;
override NORMED: bool;
override SCALE: f32;

// N_EXPERTS is at most 1024.
var<workgroup> chosen: array<u32, 1024>;

fn score(logit: f32, top: f32) -> f32 {
    if SIGMOID {
        return 1.0 / (1.0 + exp(min(-logit, 80.0)));
    }
    return exp(logit - top);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let t = group.y;
    if t >= step_rows() {
        return;
    }
    let first = t * N_EXPERTS;
    // Where logits are no numbers, some places are never taken.
    for (var i = thread; i < N_USED; i += 64u) {
        chosen[i] = i;
    }
    workgroupBarrier();
    for (var expert = thread; expert < N_EXPERTS; expert += 64u) {
        let logit = logits[first + expert];
        var before = 0u;
        for (var i = 0u; i < N_EXPERTS; i++) {
            let other = logits[first + i];
            before += select(0u, 1u, other > logit || (other == logit && i < expert));
        }
        if before < N_USED {
            chosen[before] = expert;
        }
    }
    workgroupBarrier();
    let top = logits[first + chosen[0]];
    var sum = 0.0;
    if NORMED {
        for (var i = thread; i < N_USED; i += 64u) {
            sum += score(logits[first + chosen[i]], top);
        }
    } else if !SIGMOID {
        for (var i = thread; i < N_EXPERTS; i += 64u) {
            sum += score(logits[first + i], top);
        }
    }
    // The smallest normal number of half precision.
    let total = select(1.0, max(sum_of_all(thread, sum), 6.1035156e-5), NORMED || !SIGMOID);
    let at = t * 2u * N_USED;
    for (var i = thread; i < N_USED; i += 64u) {
        y[at + i] = f32(chosen[i]);
        y[at + N_USED + i] = score(logits[first + chosen[i]], top) / total * SCALE;
    }
}
