// The likeliest token of each output row, and what its target token's log-probability needs.
//
//   logits  [n_outputs, N_VOCAB] f32
//   outputs [n_outputs], (row of the step, target token) each
//   y       [n_outputs]: (argmax as u32 bits, its logit, ln of the sum of exp(logit - that), the target's logit)
//
//   next    [n_tokens] the step's tokens: where there is one output, the argmax becomes the first's id, for the next step
//
// The lowest index wins a tie. One workgroup of 256 threads a row. Grid: x = output rows.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> outputs: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> next: array<Token>;

override N_VOCAB: u32;

var<workgroup> values: array<f32, 256>;
var<workgroup> indices: array<u32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if group.x >= step.n_outputs {
        return;
    }
    let row = group.x * N_VOCAB;
    var best = -3.4e38;
    var index = 0u;
    for (var i = thread; i < N_VOCAB; i += 256u) {
        let v = logits[row + i];
        if v > best {
            best = v;
            index = i;
        }
    }
    values[thread] = best;
    indices[thread] = index;
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if thread < stride {
            let v = values[thread + stride];
            let i = indices[thread + stride];
            if v > values[thread] || (v == values[thread] && i < indices[thread]) {
                values[thread] = v;
                indices[thread] = i;
            }
        }
    }
    workgroupBarrier();
    let top = values[0];
    workgroupBarrier();
    var sum = 0.0;
    for (var i = thread; i < N_VOCAB; i += 256u) {
        sum += exp(logits[row + i] - top);
    }
    values[thread] = sum;
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if thread < stride {
            values[thread] += values[thread + stride];
        }
    }
    if thread == 0u {
        let target_logit = logits[row + min(outputs[group.x].y, N_VOCAB - 1u)];
        y[group.x] = vec4<u32>(indices[0], bitcast<u32>(top), bitcast<u32>(log(values[0])), bitcast<u32>(target_logit));
        if step.n_outputs == 1u {
            next[0].id = indices[0];
        }
    }
}
