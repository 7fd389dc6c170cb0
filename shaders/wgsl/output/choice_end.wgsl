// Picks the winner of all parts. It is the step's result, is kept for the next step, and is counted as seen.
//
//   outputs   [n_outputs]
//   winners   [n_outputs, N_PARTS], see output/choice_race
//   y         [n_outputs]: (token as u32 bits, 0, 0, 0)
//   chosen    [n_slots] token ids
//   seen      [n_slots, N_VOCAB + N_VOCAB / 32], see output/adjusted
//   histogram [n_slots, 2048], zeroed for the next step
//
// One workgroup of 256 threads per output. Grid: x = 1, y = outputs.
#import common/step
#import common/output
@group(0) @binding(1) var<storage, read> winners: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> chosen: array<u32>;
@group(0) @binding(4) var<storage, read_write> seen: array<u32>;
@group(0) @binding(5) var<storage, read_write> histogram: array<u32>;

@group(0) @binding(8) var<storage, read> outputs: array<Output>;

override N_VOCAB: u32;
override N_PARTS: u32;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let o = group.y;
    if o >= step.n_outputs || outputs[o].by_choice != 1u {
        return;
    }
    let slot = outputs[o].slot;
    for (var bin = thread; bin < 2048u; bin += 256u) {
        histogram[slot * 2048u + bin] = 0u;
    }
    if thread == 0u {
        var best = winners[o * N_PARTS];
        for (var p = 1u; p < N_PARTS; p++) {
            let winner = winners[o * N_PARTS + p];
            if winner.y > best.y {
                best = winner;
            }
        }
        let token = bitcast<u32>(best.x);
        y[o] = vec4<u32>(token, 0u, 0u, 0u);
        chosen[slot] = token;
        seen[slot * (N_VOCAB + (N_VOCAB + 31u) / 32u) + token] += 1u;
    }
}
