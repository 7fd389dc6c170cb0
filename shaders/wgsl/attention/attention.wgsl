// Causal grouped-query attention over the paged KV pool, one pass with online softmax (arXiv 2205.14135).
//
//   tokens  [n_tokens]
//   pages   [n_sequences, step.max_pages], page numbers; position p of a sequence is in cell pages[p / PAGE] * PAGE + p % PAGE
//   q, y    [n_tokens, N_HEADS * HEAD_DIM] f32, four and two a vector
//   k, v    the KV pool, eight halves and two halves an element: [n_cells, keys then values of N_KV_HEADS * HEAD_DIM f16]
//   partial [step.n_splits, N_HEADS, HEAD_DIM + 2] f32: sums, then their maximal score and total weight; two a vec2
//
// A workgroup of 64 threads computes one head of one row. It walks the context in chunks of 64 positions: a thread scores one
// position, then the threads turn to the dimensions and add up the chunk's weighted values. In steps of one row with much context it is
// split over step.n_splits workgroups, each of which leaves its part to attention_merge. HEAD_DIM is a multiple of 8, at most
// 512. A row sees positions max(0, p + 1 - WINDOW) ..= p; WINDOW = 0 means all. Grid: x = heads, y = t, z = splits.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> v: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> partial: array<vec2<f32>>;

override N_HEADS: u32;
override N_KV_HEADS: u32;
override HEAD_DIM: u32;
override SCALE: f32;
override WINDOW: u32;
override PAGE: u32;

const LOWEST = -3.0e38;

var<workgroup> q_head: array<vec4<f32>, 128>;
var<workgroup> weights: array<f32, 64>;
var<workgroup> cells: array<u32, 64>;
var<workgroup> scratch: array<f32, 64>;

fn group_max(thread: u32, value: f32) -> f32 {
    scratch[thread] = value;
    for (var stride = 32u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if thread < stride {
            scratch[thread] = max(scratch[thread], scratch[thread + stride]);
        }
    }
    workgroupBarrier();
    let result = scratch[0];
    workgroupBarrier();
    return result;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = group.x;
    let t = group.y;
    if t >= step.n_tokens {
        return;
    }
    let token = tokens[t];
    let kv_head = head / (N_HEADS / N_KV_HEADS) * HEAD_DIM;
    let q_offset = (t * N_HEADS + head) * HEAD_DIM;
    for (var i = thread; i < HEAD_DIM / 4u; i += 64u) {
        q_head[i] = q[q_offset / 4u + i] * SCALE;
    }
    workgroupBarrier();

    let context_end = token.position + 1u;
    var first = 0u;
    if WINDOW > 0u && context_end > WINDOW {
        first = context_end - WINDOW;
    }
    // This workgroup's share of the context, in whole chunks.
    let share = ((context_end - first) + 64u * step.n_splits - 1u) / (64u * step.n_splits) * 64u;
    first += share * group.z;
    let end = min(context_end, first + share);

    var top = LOWEST;
    var total = 0.0;
    var sums: array<vec2<f32>, 4>;
    for (var chunk = first; chunk < end; chunk += 64u) {
        let n = min(64u, end - chunk);
        var score = LOWEST;
        if thread < n {
            let p = chunk + thread;
            let cell = pages[token.sequence * step.max_pages + p / PAGE] * PAGE + p % PAGE;
            let at = cell * (2u * N_KV_HEADS * HEAD_DIM) + kv_head;
            // Where its values begin, in words.
            cells[thread] = (at + N_KV_HEADS * HEAD_DIM) / 2u;
            var s = vec4<f32>();
            for (var i = 0u; i < HEAD_DIM / 8u; i++) {
                let w = k[at / 8u + i];
                s += q_head[2u * i] * vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y))
                    + q_head[2u * i + 1u] * vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w));
            }
            score = s.x + s.y + s.z + s.w;
        }
        let new_top = max(top, group_max(thread, score));
        weights[thread] = select(0.0, exp(score - new_top), thread < n);
        workgroupBarrier();
        let shrink = exp(top - new_top);
        top = new_top;
        var chunk_total = 0.0;
        for (var j = 0u; j < n; j++) {
            chunk_total += weights[j];
        }
        total = total * shrink + chunk_total;
        for (var d = 0u; d < 4u; d++) {
            let i = thread + 64u * d;
            if i < HEAD_DIM / 2u {
                var sum = sums[d] * shrink;
                for (var j = 0u; j < n; j++) {
                    sum += weights[j] * unpack2x16float(v[cells[j] + i]);
                }
                sums[d] = sum;
            }
        }
        workgroupBarrier();
    }
    let is_whole = step.n_splits == 1u;
    let part = (group.z * N_HEADS + head) * (HEAD_DIM / 2u + 1u);
    for (var d = 0u; d < 4u; d++) {
        let i = thread + 64u * d;
        if i < HEAD_DIM / 2u {
            if is_whole {
                y[q_offset / 2u + i] = sums[d] / total;
            } else {
                partial[part + i] = sums[d];
            }
        }
    }
    if !is_whole && thread == 0u {
        partial[part + HEAD_DIM / 2u] = vec2<f32>(top, total);
    }
}
