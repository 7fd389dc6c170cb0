// Causal grouped-query attention over the paged KV pool, one pass with online softmax (arXiv 2205.14135).
//
//   tokens  [n_tokens]
//   pages   [n_sequences, step.max_pages], page numbers; position p of a sequence is in cell pages[p / PAGE] * PAGE + p % PAGE
//   q, y    [n_tokens, N_HEADS * HEAD_DIM] f32, four and two a vector
//   k, v    the KV pool, eight halves and two halves an element: [n_cells, keys then values of N_KV_HEADS * HEAD_DIM f16]
//   partial [step.n_splits, N_HEADS, HEAD_DIM + 2] f32: sums, then their maximal score and total weight; two a vec2
//
// A workgroup of 64 threads computes up to 8 queries that share keys: HEADS neighbouring heads of ROWS rows. It walks the context in
// chunks of 64 positions: a thread scores one position for all queries, then the threads turn to the dimensions, PAIRS pairs each, and
// add up the chunk's weighted values. In steps of one row with much context it is split over step.n_splits workgroups, each of
// which leaves its part to attention_merge. HEAD_DIM is a multiple of 8, at most 128 * PAIRS. A row sees positions
// max(0, p + 1 - WINDOW) ..= p; WINDOW = 0 means all. Grid: x = N_HEADS / HEADS, y = t / ROWS, z = splits.
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
override HEADS: u32;
override ROWS: u32;

const LOWEST = -3.0e38;
const PAIRS = {PAIRS}u;

// Element [query * 64 + i]: of position i of the chunk.
var<workgroup> weights: array<f32, 512>;
// Of thread i.
var<workgroup> scratch: array<f32, 512>;
// Where a position's values begin, in words.
var<workgroup> values: array<u32, 64>;

// The first position that a row sees.
fn first_of(token: Token) -> u32 {
    let end = token.position + 1u;
    return select(0u, end - min(end, WINDOW), WINDOW > 0u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let t0 = group.y * ROWS;
    if t0 >= step.n_tokens {
        return;
    }
    let head = group.x * HEADS;
    let kv_head = head / (N_HEADS / N_KV_HEADS) * HEAD_DIM;
    let n_rows = min(ROWS, step.n_tokens - t0);
    let n_queries = n_rows * HEADS;

    // Rows of one sequence share its pages; those of another take their turn, so that barriers are met by all.
    var done = 0u;
    for (var leader = 0u; leader < n_rows; leader++) {
        if ((done >> leader) & 1u) == 1u {
            continue;
        }
        let sequence = tokens[t0 + leader].sequence;
        var first = 0xffffffffu;
        var end = 0u;
        for (var r = leader; r < n_rows; r++) {
            let token = tokens[t0 + r];
            if token.sequence == sequence {
                done |= 1u << r;
                first = min(first, first_of(token));
                end = max(end, token.position + 1u);
            }
        }
        // This workgroup's share of the context, in whole chunks.
        let share = ((end - first) + 64u * step.n_splits - 1u) / (64u * step.n_splits) * 64u;
        first += share * group.z;
        end = min(end, first + share);

        var tops: array<f32, 8>;
        var totals: array<f32, 8>;
        var sums: array<vec2<f32>, 8u * PAIRS>;
        for (var a = 0u; a < n_queries; a++) {
            tops[a] = LOWEST;
        }
        for (var chunk = first; chunk < end; chunk += 64u) {
            let n = min(64u, end - chunk);
            let p = chunk + thread;
            var scores: array<f32, 8>;
            if thread < n {
                let cell = pages[sequence * step.max_pages + p / PAGE] * PAGE + p % PAGE;
                let at = cell * (2u * N_KV_HEADS * HEAD_DIM) + kv_head;
                values[thread] = (at + N_KV_HEADS * HEAD_DIM) / 2u;
                for (var i = 0u; i < HEAD_DIM / 8u; i++) {
                    let w = k[at / 8u + i];
                    let low = vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
                    let high = vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w));
                    for (var a = 0u; a < n_queries; a++) {
                        let x = ((t0 + a / HEADS) * N_HEADS + head + a % HEADS) * (HEAD_DIM / 4u) + 2u * i;
                        scores[a] += dot(q[x], low) + dot(q[x + 1u], high);
                    }
                }
            }
            for (var a = 0u; a < n_queries; a++) {
                let token = tokens[t0 + a / HEADS];
                let is_seen = thread < n && token.sequence == sequence && p <= token.position && p >= first_of(token);
                scores[a] = select(LOWEST, scores[a] * SCALE, is_seen);
                scratch[a * 64u + thread] = scores[a];
            }
            for (var stride = 32u; stride > 0u; stride /= 2u) {
                workgroupBarrier();
                if thread < stride {
                    for (var a = 0u; a < n_queries; a++) {
                        let i = a * 64u + thread;
                        scratch[i] = max(scratch[i], scratch[i + stride]);
                    }
                }
            }
            workgroupBarrier();
            for (var a = 0u; a < n_queries; a++) {
                let top = max(tops[a], scratch[a * 64u]);
                // Of a query that has seen nothing yet, lowest minus lowest would count as one.
                weights[a * 64u + thread] = select(0.0, exp(scores[a] - top), scores[a] > LOWEST);
                let shrink = exp(tops[a] - top);
                tops[a] = top;
                totals[a] *= shrink;
                for (var d = 0u; d < PAIRS; d++) {
                    sums[a * PAIRS + d] *= shrink;
                }
            }
            workgroupBarrier();
            for (var j = 0u; j < n; j++) {
                let value = values[j];
                for (var a = 0u; a < n_queries; a++) {
                    totals[a] += weights[a * 64u + j];
                }
                for (var d = 0u; d < PAIRS; d++) {
                    let i = thread + 64u * d;
                    if i < HEAD_DIM / 2u {
                        let x = unpack2x16float(v[value + i]);
                        for (var a = 0u; a < n_queries; a++) {
                            sums[a * PAIRS + d] += weights[a * 64u + j] * x;
                        }
                    }
                }
            }
            workgroupBarrier();
        }

        for (var a = 0u; a < n_queries; a++) {
            let row = t0 + a / HEADS;
            if tokens[row].sequence != sequence {
                continue;
            }
            let to = row * N_HEADS + head + a % HEADS;
            let part = (group.z * N_HEADS + head + a % HEADS) * (HEAD_DIM / 2u + 1u);
            for (var d = 0u; d < PAIRS; d++) {
                let i = thread + 64u * d;
                if i < HEAD_DIM / 2u {
                    if step.n_splits == 1u {
                        y[to * (HEAD_DIM / 2u) + i] = sums[a * PAIRS + d] / totals[a];
                    } else {
                        partial[part + i] = sums[a * PAIRS + d];
                    }
                }
            }
            if step.n_splits > 1u && thread == 0u {
                partial[part + HEAD_DIM / 2u] = vec2<f32>(tops[a], totals[a]);
            }
        }
    }
}
