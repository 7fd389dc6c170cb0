// A token's depth is how far its adjusted logit is below the highest, in nats before temperature.
//   parts [n_outputs, N_PARTS], see output/likeliest_part
#import output/adjusted
@group(0) @binding(5) var<storage, read> parts: array<vec4<f32>>;

override N_PARTS: u32;

#import output/part
const BINS = 2048u;
// Width of a bin, in nats.
const BIN = 0.01;

var<workgroup> tops: array<f32, 256>;

// The highest logit of output `o`. All 256 threads of the workgroup must call it.
fn top_logit(o: u32, thread: u32) -> f32 {
    var top = -3.4e38;
    for (var p = thread; p < N_PARTS; p += 256u) {
        top = max(top, parts[o * N_PARTS + p].y);
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
