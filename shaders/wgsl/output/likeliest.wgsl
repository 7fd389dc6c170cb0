// The likeliest token of each output row, and the numbers for the target token's log-probability, from the
// results of the row's parts.
//
//   logits  [n_outputs, N_VOCAB] f32
//   outputs [n_outputs]; those with by_choice set are skipped
//   parts   [n_outputs, N_PARTS], see output/likeliest_part
//   y       [n_outputs]: (token as u32 bits, its logit, ln of the sum of exp(l - its logit) over all
//           logits l, the target's logit)
//   chosen  [n_slots] token ids; written if the output has a slot
//
// One thread per output, because parts are few. Grid: x = outputs / 64.
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
