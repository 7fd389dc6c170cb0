// How far below the likeliest token's the adjusted logits are, in nats after temperature.
//   parts [1, N_PARTS], see output/best_part
#import output/adjusted
@group(0) @binding(5) var<storage, read> parts: array<vec4<f32>>;

override N_VOCAB: u32;
override N_PARTS: u32;

#import output/part
const BINS = 2048u;
// Nats of a bin.
const BIN = 0.01;

var<workgroup> tops: array<f32, 256>;

// The likeliest token's logit. All 256 threads of a workgroup call it.
fn top_logit(thread: u32) -> f32 {
    var top = -3.4e38;
    for (var p = thread; p < N_PARTS; p += 256u) {
        top = max(top, parts[p].y);
    }
    tops[thread] = top;
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if thread < stride {
            tops[thread] = max(tops[thread], tops[thread + stride]);
        }
    }
    workgroupBarrier();
    return tops[0];
}
