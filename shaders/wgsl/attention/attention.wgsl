// Causal grouped-query attention over the paged KV pool, one pass with online softmax (arXiv 2205.14135).
//
//   tokens  [n_tokens]
//   pages   [n_sequences, step.max_pages], page numbers; position p of a sequence is in cell pages[p / PAGE] * PAGE + p % PAGE
//   q, y    [n_tokens, N_HEADS * HEAD_DIM] f32
//   k_pool, v_pool: [n_cells, N_KV_HEADS * HEAD_DIM] f16, two a word
//
// A workgroup of 64 threads computes one head of one row. It walks the context in chunks of 64 positions: a thread scores one
// position, then the threads turn to the dimensions and add up the chunk's weighted values. HEAD_DIM is even, at most 512. A row
// sees positions max(0, p + 1 - WINDOW) ..= p; WINDOW = 0 means all. Grid: x = heads, y = t.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
@group(0) @binding(3) var<storage, read> q: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> k_pool: array<u32>;
@group(0) @binding(5) var<storage, read> v_pool: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<vec2<f32>>;

override N_HEADS: u32;
override N_KV_HEADS: u32;
override HEAD_DIM: u32;
override SCALE: f32;
override WINDOW: u32;
override PAGE: u32;

const LOWEST = -3.0e38;

var<workgroup> q_head: array<vec2<f32>, 256>;
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
    let n_pairs = HEAD_DIM / 2u;
    let cell_width = N_KV_HEADS * n_pairs;
    let kv_offset = head / (N_HEADS / N_KV_HEADS) * n_pairs;
    let q_offset = (t * N_HEADS + head) * n_pairs;
    for (var i = thread; i < n_pairs; i += 64u) {
        q_head[i] = q[q_offset + i] * SCALE;
    }
    workgroupBarrier();

    let end = token.position + 1u;
    var first = 0u;
    if WINDOW > 0u && end > WINDOW {
        first = end - WINDOW;
    }
    var top = LOWEST;
    var total = 0.0;
    var sums: array<vec2<f32>, 4>;
    for (var chunk = first; chunk < end; chunk += 64u) {
        let n = min(64u, end - chunk);
        var score = LOWEST;
        if thread < n {
            let p = chunk + thread;
            let cell = pages[token.sequence * step.max_pages + p / PAGE] * PAGE + p % PAGE;
            let at = cell * cell_width + kv_offset;
            cells[thread] = at;
            score = 0.0;
            for (var i = 0u; i < n_pairs; i++) {
                score += dot(q_head[i], unpack2x16float(k_pool[at + i]));
            }
        }
        let new_top = max(top, group_max(thread, score));
        let weight = select(0.0, exp(score - new_top), thread < n);
        weights[thread] = weight;
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
            if i < n_pairs {
                var sum = sums[d] * shrink;
                for (var j = 0u; j < n; j++) {
                    sum += weights[j] * unpack2x16float(v_pool[cells[j] + i]);
                }
                sums[d] = sum;
            }
        }
        workgroupBarrier();
    }
    for (var d = 0u; d < 4u; d++) {
        let i = thread + 64u * d;
        if i < n_pairs {
            y[q_offset + i] = sums[d] / total;
        }
    }
}
