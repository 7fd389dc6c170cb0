// Causal grouped-query attention over the paged KV pool, as in attention, for software devices: on a CPU,
// barriers are expensive, and a few threads are enough.
//
//   tokens  [n_tokens]
//   pages   [n_sequences, step.max_pages], see attention
//   q, y    [n_tokens, N_HEADS * HEAD_DIM] f32, four per vec4
//   k       the KV pool, [n_cells, 2, N_KV_HEADS * HEAD_DIM] f16, keys then values; eight per element
//
// A workgroup of 4 threads computes one head of one row. Each thread takes every fourth position and keeps
// its own softmax; the last step joins them. HEAD_DIM is a multiple of 8, at most 4 * QUADS.
// Grid: x = heads, y = n_tokens.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

override N_HEADS: u32;
override N_KV_HEADS: u32;
override HEAD_DIM: u32;
override SCALE: f32;
override WINDOW: u32;
override PAGE: u32;

const QUADS = {QUADS}u;

// Per thread: weighted sums of values, the highest score, the total weight.
var<workgroup> parts: array<vec4<f32>, 4u * QUADS>;
var<workgroup> tops: array<f32, 4>;
var<workgroup> totals: array<f32, 4>;

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let t = group.y;
    if t >= step.n_tokens {
        return;
    }
    let token = tokens[t];
    let n_quads = HEAD_DIM / 4u;
    let kv_width = N_KV_HEADS * HEAD_DIM;
    let kv_head = group.x / (N_HEADS / N_KV_HEADS) * HEAD_DIM;
    let place = (t * N_HEADS + group.x) * n_quads;
    var query: array<vec4<f32>, QUADS>;
    for (var i = 0u; i < n_quads; i++) {
        query[i] = q[place + i] * SCALE;
    }
    let end = token.position + 1u;
    let first = select(0u, end - min(end, WINDOW), WINDOW > 0u);

    var top = -3.0e38;
    var total = 0.0;
    var sums: array<vec4<f32>, QUADS>;
    for (var p = first + thread; p < end; p += 4u) {
        let cell = pages[token.sequence * step.max_pages + p / PAGE] * PAGE + p % PAGE;
        let key = (cell * 2u * kv_width + kv_head) / 8u;
        var s = vec4<f32>();
        for (var i = 0u; i < HEAD_DIM / 8u; i++) {
            let w = k[key + i];
            s += query[2u * i] * vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y))
                + query[2u * i + 1u] * vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w));
        }
        let score = s.x + s.y + s.z + s.w;
        if score > top {
            let shrink = exp(top - score);
            top = score;
            total *= shrink;
            for (var i = 0u; i < n_quads; i++) {
                sums[i] *= shrink;
            }
        }
        let weight = exp(score - top);
        total += weight;
        let value = key + kv_width / 8u;
        for (var i = 0u; i < HEAD_DIM / 8u; i++) {
            let w = k[value + i];
            sums[2u * i] += weight * vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
            sums[2u * i + 1u] += weight * vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w));
        }
    }
    for (var i = 0u; i < n_quads; i++) {
        parts[thread * QUADS + i] = sums[i];
    }
    tops[thread] = top;
    totals[thread] = total;
    workgroupBarrier();

    let highest = max(max(tops[0], tops[1]), max(tops[2], tops[3]));
    let weights = exp(vec4<f32>(tops[0], tops[1], tops[2], tops[3]) - highest);
    let all = dot(weights, vec4<f32>(totals[0], totals[1], totals[2], totals[3]));
    for (var i = thread; i < n_quads; i += 4u) {
        let sum = weights.x * parts[i] + weights.y * parts[QUADS + i]
            + weights.z * parts[2u * QUADS + i] + weights.w * parts[3u * QUADS + i];
        y[place + i] = sum / all;
    }
}
