// Counts tokens by their depth below the likeliest token, for top-k and top-p.
//
//   logits, choice, seen, bias, parts   see output/depth
//   histogram [n_slots, 2048] tokens per bin; zero before the dispatch
//
// One workgroup of 256 threads per part of 2048 tokens. Grid: x = parts, y = outputs.
#import common/step
#import output/depth
@group(0) @binding(6) var<storage, read_write> histogram: array<atomic<u32>>;

var<workgroup> counts: array<atomic<u32>, 2048>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let o = group.y;
    if o >= step.n_outputs || outputs[o].by_choice != 1u {
        return;
    }
    let top = top_logit(o, thread);
    for (var b = thread; b < BINS; b += 256u) {
        atomicStore(&counts[b], 0u);
    }
    workgroupBarrier();
    let first = group.x * PART;
    for (var i = first + thread; i < min(first + PART, N_VOCAB); i += 256u) {
        let bin = (top - adjusted(o, i)) / BIN;
        if bin < f32(BINS) {
            atomicAdd(&counts[u32(bin)], 1u);
        }
    }
    workgroupBarrier();
    for (var b = thread; b < BINS; b += 256u) {
        let n = atomicLoad(&counts[b]);
        if n > 0u {
            atomicAdd(&histogram[outputs[o].slot * BINS + b], n);
        }
    }
}
