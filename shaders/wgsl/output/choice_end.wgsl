// The token that wins over all parts: it is the step's result, feeds the next step, and counts as seen.
//
//   winners   [N_PARTS], see output/choice_race
//   y         [1]: (token as u32 bits, 0, 0, 0)
//   next      [n_tokens] the step's tokens, of which the first gets the id
//   seen      [N_VOCAB], see output/adjusted
//   histogram [2048], zeroed for the next step
//
// One workgroup of 256 threads.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> winners: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> next: array<Token>;
@group(0) @binding(4) var<storage, read_write> seen: array<u32>;
@group(0) @binding(5) var<storage, read_write> histogram: array<u32>;

override N_PARTS: u32;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    if step.n_outputs == 0u {
        return;
    }
    for (var bin = thread; bin < 2048u; bin += 256u) {
        histogram[bin] = 0u;
    }
    if thread == 0u {
        var best = winners[0];
        for (var p = 1u; p < N_PARTS; p++) {
            if winners[p].y > best.y {
                best = winners[p];
            }
        }
        let token = bitcast<u32>(best.x);
        y[0] = vec4<u32>(token, 0u, 0u, 0u);
        next[0].id = token;
        seen[token] += 1u;
    }
}
