// The likeliest token of each output row, and what its target token's log-probability needs, of what the
// row's parts gave.
//
//   logits  [n_outputs, N_VOCAB] f32
//   outputs [n_outputs]; those whose token is chosen otherwise are left out
//   parts   [n_outputs, N_PARTS], see output/likeliest_part
//   y       [n_outputs]: (token as u32 bits, its logit, ln of the sum of exp(logit - that), the target's
//           logit)
//   chosen  [n_slots] the token, where the output has a slot
//
// One thread a row: parts are few. Grid: x = output rows / 64.
#import common/step
#import common/output
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> outputs: array<Output>;
@group(0) @binding(3) var<storage, read> parts: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> chosen: array<u32>;

override N_VOCAB: u32;
override N_PARTS: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x;
    if row >= step.n_outputs || outputs[row].by_choice != 0u {
        return;
    }
    var best = parts[row * N_PARTS];
    for (var p = 1u; p < N_PARTS; p++) {
        let part = parts[row * N_PARTS + p];
        let top = max(best.y, part.y);
        let sum = best.z * exp(best.y - top) + part.z * exp(part.y - top);
        if part.y > best.y {
            best = part;
        }
        best.z = sum;
    }
    let index = bitcast<u32>(best.x);
    let target_logit = logits[row * N_VOCAB + min(outputs[row].target_id, N_VOCAB - 1u)];
    y[row] = vec4<u32>(index, bitcast<u32>(best.y), bitcast<u32>(log(best.z)), bitcast<u32>(target_logit));
    if outputs[row].slot != NO_SLOT {
        chosen[outputs[row].slot] = index;
    }
}
