// Causal grouped-query attention over the paged KV pool, as in attention, for software devices: on a CPU,
// barriers are expensive, and a few threads are enough.
//
//   tokens  [n_tokens]
//   pages   [n_sequences, step.max_pages], see attention
//   q       [n_tokens, N_HEADS * HEAD_DIM] f32
//   y       [n_tokens, N_HEADS * VALUE_DIM] f32
//   k       the KV pool: f16, [n_cells, N_KV_HEADS * HEAD_DIM keys then N_KV_HEADS * VALUE_DIM values], or
//           the same in blocks, see attention/blocks
//   sinks   [N_HEADS] f32, see attention
//
// A workgroup of 4 threads computes one head of one row. Each thread takes every fourth position and keeps
// its own softmax; the last step joins them. Numbers are in parts of four if HEAD_DIM and VALUE_DIM are
// multiples of 8, otherwise of two; a head has at most PARTS.
// Grid: x = heads, y = n_tokens.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
#if KEYS=8|blocks
alias Part = vec4<f32>;
const PART = 4u;
@group(0) @binding(4) var<storage, read> k: array<vec4<u32>>;
#else
alias Part = vec2<f32>;
const PART = 2u;
@group(0) @binding(4) var<storage, read> k: array<u32>;
#endif
@group(0) @binding(3) var<storage, read> q: array<Part>;
@group(0) @binding(5) var<storage, read_write> y: array<Part>;
#if SINKS=sinks
@group(0) @binding(6) var<storage, read> sinks: array<f32>;
#endif

override N_HEADS: u32;
override N_KV_HEADS: u32;
override HEAD_DIM: u32;
override VALUE_DIM: u32;
override WINDOW: u32;
override PAGE: u32;

const PARTS = {PARTS}u;
#if KEYS=blocks
#import attention/blocks_read
#endif

alias Numbers = f32;
#import attention/scores

// Per thread: weighted sums of values, the highest score, the total weight.
var<workgroup> parts: array<Part, 4u * PARTS>;
var<workgroup> tops: array<f32, 4>;
var<workgroup> totals: array<f32, 4>;

@compute @workgroup_size(4)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let t = group.y;
    if t >= step.n_tokens {
        return;
    }
    let token = tokens[t];
    let head_parts = HEAD_DIM / PART;
    let value_parts = VALUE_DIM / PART;
    let keys_width = N_KV_HEADS * HEAD_DIM;
    let cell_width = keys_width + N_KV_HEADS * VALUE_DIM;
    let kv_head = group.x / (N_HEADS / N_KV_HEADS);
    let place = t * N_HEADS + group.x;
    let scale = scale_at(token.position);
    let slope = slope_of(group.x);
    var query: array<Part, PARTS>;
    for (var i = 0u; i < head_parts; i++) {
        query[i] = q[place * head_parts + i] * scale;
    }
    let end = token.position + 1u;
    let first = select(0u, end - min(end, WINDOW), WINDOW > 0u);

    var top = -3.0e38;
    var total = 0.0;
#if SINKS=sinks
    if thread == 0u {
        top = sinks[group.x];
        total = 1.0;
    }
#endif
    var sums: array<Part, PARTS>;
    for (var p = first + thread; p < end; p += 4u) {
        let cell = pages[token.sequence * step.max_pages + p / PAGE] * PAGE + p % PAGE;
#if KEYS=blocks
        let key = block_at(cell, cell_width, kv_head * HEAD_DIM);
        let value = block_at(cell, cell_width, keys_width + kv_head * VALUE_DIM);
#else
        let key = cell * cell_width + kv_head * HEAD_DIM;
        let value = cell * cell_width + keys_width + kv_head * VALUE_DIM;
#endif
        var s = Part();
#if KEYS=blocks
        for (var b = 0u; b < HEAD_DIM / 32u; b++) {
            let block = quants_at(key.x + b * BLOCK_WORDS);
            var sum = Part();
            for (var i = 0u; i < 8u; i++) {
                sum += query[8u * b + i] * block[i];
            }
            s += scale_at_half(key.y + b) * sum;
        }
        let product = s.x + s.y + s.z + s.w;
#endif
#if KEYS=8
        for (var i = 0u; i < HEAD_DIM / 8u; i++) {
            let w = k[key / 8u + i];
            s += query[2u * i] * vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y))
                + query[2u * i + 1u] * vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w));
        }
        let product = s.x + s.y + s.z + s.w;
#endif
#if KEYS=2
        for (var i = 0u; i < head_parts; i++) {
            s += query[i] * unpack2x16float(k[key / 2u + i]);
        }
        let product = s.x + s.y;
#endif
        let score = score_of(product, slope, f32(token.position - p));
        if score > top {
            let shrink = exp(top - score);
            top = score;
            total *= shrink;
            for (var i = 0u; i < value_parts; i++) {
                sums[i] *= shrink;
            }
        }
        let weight = exp(score - top);
        total += weight;
#if KEYS=blocks
        for (var b = 0u; b < VALUE_DIM / 32u; b++) {
            let block = quants_at(value.x + b * BLOCK_WORDS);
            let factor = weight * scale_at_half(value.y + b);
            for (var i = 0u; i < 8u; i++) {
                sums[8u * b + i] += factor * block[i];
            }
        }
#endif
#if KEYS=8
        for (var i = 0u; i < VALUE_DIM / 8u; i++) {
            let w = k[value / 8u + i];
            sums[2u * i] += weight * vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
            sums[2u * i + 1u] += weight * vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w));
        }
#endif
#if KEYS=2
        for (var i = 0u; i < value_parts; i++) {
            sums[i] += weight * unpack2x16float(k[value / 2u + i]);
        }
#endif
    }
    for (var i = 0u; i < value_parts; i++) {
        parts[thread * PARTS + i] = sums[i];
    }
    tops[thread] = top;
    totals[thread] = total;
    workgroupBarrier();

    let highest = max(max(tops[0], tops[1]), max(tops[2], tops[3]));
    let weights = exp(vec4<f32>(tops[0], tops[1], tops[2], tops[3]) - highest);
    let all = dot(weights, vec4<f32>(totals[0], totals[1], totals[2], totals[3]));
    for (var i = thread; i < value_parts; i += 4u) {
        let sum = weights.x * parts[i] + weights.y * parts[PARTS + i]
            + weights.z * parts[2u * PARTS + i] + weights.w * parts[3u * PARTS + i];
        y[place * value_parts + i] = sum / all;
    }
}
