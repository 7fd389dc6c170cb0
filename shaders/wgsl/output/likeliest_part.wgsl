// The likeliest token of each part of an output's logits. For plain logits, also the part's sum for
// log-probabilities.
//
//   outputs [n_outputs]; LOGIT=adjusted handles those with by_choice 1, LOGIT=plain those with 0
//   logits  [n_outputs, N_VOCAB] f32; LOGIT=adjusted applies penalties and bias, see output/adjusted
//   parts   [n_outputs, N_PARTS] (index as bits, its logit, sum of exp(l - its logit) over the part, 0)
//
// The lowest index wins a tie. One workgroup of 64 threads per part of 2048 tokens.
// Grid: x = parts, y = outputs.
#import common/step
#if LOGIT=adjusted
#import output/adjusted
#else
#import common/output
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(8) var<storage, read> outputs: array<Output>;

override N_VOCAB: u32;
#endif
@group(0) @binding(5) var<storage, read_write> parts: array<vec4<f32>>;

override N_PARTS: u32;

#import output/part

var<workgroup> values: array<f32, 64>;
var<workgroup> indices: array<u32, 64>;

fn logit(o: u32, i: u32) -> f32 {
#if LOGIT=adjusted
    return adjusted(o, i);
#else
    return logits[o * N_VOCAB + i];
#endif
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = group.y;
    if row >= step.n_outputs {
        return;
    }
#if LOGIT=adjusted
    if outputs[row].by_choice != 1u {
        return;
    }
#else
    if outputs[row].by_choice != 0u {
        return;
    }
#endif
    let first = group.x * PART;
    let end = min(first + PART, N_VOCAB);
    var best = -3.4e38;
    var index = first;
    for (var i = first + thread; i < end; i += 64u) {
        let v = logit(row, i);
        if v > best {
            best = v;
            index = i;
        }
    }
    values[thread] = best;
    indices[thread] = index;
    workgroupBarrier();
    // Every thread searches all 64 results: barriers would cost more.
    var top = values[0];
    index = indices[0];
    for (var i = 1u; i < 64u; i++) {
        let v = values[i];
        if v > top || (v == top && indices[i] < index) {
            top = v;
            index = indices[i];
        }
    }
    var sum = 0.0;
#if LOGIT=plain
    for (var i = first + thread; i < end; i += 64u) {
        sum += exp(logit(row, i) - top);
    }
    workgroupBarrier();
    values[thread] = sum;
    workgroupBarrier();
    sum = 0.0;
    for (var i = 0u; thread == 0u && i < 64u; i++) {
        sum += values[i];
    }
#endif
    if thread == 0u {
        parts[group.y * N_PARTS + group.x] = vec4<f32>(bitcast<f32>(index), top, sum, 0.0);
    }
}
