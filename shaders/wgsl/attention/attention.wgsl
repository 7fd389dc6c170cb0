// Causal grouped-query attention over the paged KV pool, in one pass with online softmax (arXiv 2205.14135).
//
//   tokens  [n_tokens]
//   pages   [n_sequences, step.max_pages] page numbers: position p of a sequence is in cell
//           pages[p / PAGE] * PAGE + p % PAGE
//   q       [n_tokens, N_HEADS * HEAD_DIM] f32
//   y       [n_tokens, N_HEADS * VALUE_DIM] f32, two per element
//   k, v    the KV pool: f16, [n_cells, N_KV_HEADS * HEAD_DIM keys then N_KV_HEADS * VALUE_DIM values], two
//           per element in v; or the same in blocks, see attention/blocks
//   sinks   [N_HEADS] f32: a score for each head that takes part in its softmax, but has no value
//   partial [step.n_splits, N_HEADS, VALUE_DIM + 2] f32, two per element: weighted sums of values, then the
//           highest score and the total weight
//
// A workgroup of 64 threads computes one query, or up to four that share keys: HEADS neighbouring heads of
// ROWS rows, one query per vector component. It walks the context in chunks of 64 positions. Each thread
// first scores one position for all queries. Then each thread adds up the chunk's weighted values for PAIRS
// pairs of dimensions. In a step of one row with a long context, step.n_splits workgroups share the context,
// and attention_merge joins their results. HEAD_DIM and VALUE_DIM are even, VALUE_DIM at most 128 * PAIRS.
// Keys are read eight numbers at a time if both are multiples of 8, otherwise two. A row attends to positions
// max(0, p + 1 - WINDOW) ..= p, or to all up to p if WINDOW is 0.
// Grid: x = N_HEADS / HEADS, y = n_tokens / ROWS, z = splits.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;
#if KEYS=8|blocks
@group(0) @binding(3) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> k: array<vec4<u32>>;
#else
@group(0) @binding(3) var<storage, read> q: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> k: array<u32>;
#endif
@group(0) @binding(5) var<storage, read> v: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> partial: array<vec2<f32>>;
#if SINKS=sinks
@group(0) @binding(8) var<storage, read> sinks: array<f32>;
#endif

override N_HEADS: u32;
override N_KV_HEADS: u32;
override HEAD_DIM: u32;
override VALUE_DIM: u32;
override WINDOW: u32;
override PAGE: u32;
override HEADS: u32;
override ROWS: u32;

const LOWEST = -3.0e38;
const PAIRS = {PAIRS}u;

#if KEYS=blocks
#import attention/blocks_read

// Numbers i and i + 1 of the block that begins with this word, without its scale; i is even.
fn pair_at(word: u32, i: u32) -> vec2<f32> {
#if KV=q8_0
    let w = v[word + i / 4u] >> (8u * (i & 2u));
    return vec2<f32>(vec2<i32>(vec2<u32>(w << 24u, w << 16u)) >> vec2<u32>(24u));
#else
    let w = v[word + i % 16u / 4u] >> (8u * (i & 2u) + i / 16u * 4u);
    return vec2<f32>(vec2<i32>(vec2<u32>(w, w >> 8u) & vec2<u32>(15u)) - 8);
#endif
}
#endif

// One number, or one integer, per query.
#if QUERIES=4
alias Numbers = vec4<f32>;
alias Integers = vec4<u32>;
#else
alias Numbers = f32;
alias Integers = u32;
#endif
#import attention/scores

// The weight of each position of the chunk.
var<workgroup> weights: array<Numbers, 64>;
// Where the values of each position begin: in words; for blocks, their first block.
#if KEYS=blocks
var<workgroup> values: array<vec2<u32>, 64>;
#else
var<workgroup> values: array<u32, 64>;
#endif
// For the reduction over threads.
var<workgroup> scratch: array<Numbers, 64>;

fn group_max(thread: u32, value: Numbers) -> Numbers {
    scratch[thread] = value;
    for (var stride = 32u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if thread < stride {
            scratch[thread] = max(scratch[thread], scratch[thread + stride]);
        }
    }
    workgroupBarrier();
    return scratch[0];
}

// The step's row of query `a`. The workgroup's rows start at `t0`; rows past the last repeat it.
fn row_of(t0: u32, a: u32) -> u32 {
    return min(t0 + min(a / HEADS, ROWS - 1u), step.n_tokens - 1u);
}

// The number of query `a` in q and y. The workgroup's heads start at `head`.
fn place_of(t0: u32, head: u32, a: u32) -> u32 {
    return row_of(t0, a) * N_HEADS + head + a % HEADS;
}

// The first position that a row attends to.
fn first_of(token: Token) -> u32 {
    let end = token.position + 1u;
    return select(0u, end - min(end, WINDOW), WINDOW > 0u);
}

#if KEYS=8|blocks
// Dot products of eight dimensions of the queries with those of a key. `x` is where they begin in q.
fn products(x: Integers, low: vec4<f32>, high: vec4<f32>) -> Numbers {
#if QUERIES=4
    return vec4<f32>(
        dot(q[x.x], low) + dot(q[x.x + 1u], high), dot(q[x.y], low) + dot(q[x.y + 1u], high),
        dot(q[x.z], low) + dot(q[x.z + 1u], high), dot(q[x.w], low) + dot(q[x.w + 1u], high),
    );
#else
    return dot(q[x], low) + dot(q[x + 1u], high);
#endif
}
#else
// Products of two dimensions. `x` is where they are in q.
fn products(x: Integers, key: vec2<f32>) -> Numbers {
#if QUERIES=4
    return vec4<f32>(dot(q[x.x], key), dot(q[x.y], key), dot(q[x.z], key), dot(q[x.w], key));
#else
    return dot(q[x], key);
#endif
}
#endif

// Stores one pair of dimensions of a query. Where the context is split, this is a partial sum; the first pair
// also stores the highest score and the total weight.
fn store(i: u32, split: u32, head: u32, place: u32, sum: vec2<f32>, top: f32, total: f32) {
    let n_pairs = VALUE_DIM / 2u;
    if i >= n_pairs {
        return;
    }
    if step.n_splits == 1u {
        y[place * n_pairs + i] = sum / total;
        return;
    }
    let part = (split * N_HEADS + head) * (n_pairs + 1u);
    partial[part + i] = sum;
    if i == 0u {
        partial[part + n_pairs] = vec2<f32>(top, total);
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let t0 = group.y * ROWS;
    if t0 >= step.n_tokens {
        return;
    }
    let head = group.x * HEADS;
    let kv_head = head / (N_HEADS / N_KV_HEADS);
    let keys_width = N_KV_HEADS * HEAD_DIM;
    let cell_width = keys_width + N_KV_HEADS * VALUE_DIM;
#if QUERIES=4
    let places = vec4<u32>(
        place_of(t0, head, 0u), place_of(t0, head, 1u), place_of(t0, head, 2u), place_of(t0, head, 3u),
    );
#else
    let places = place_of(t0, head, 0u);
#endif

    // All threads process one sequence at a time, because every thread must reach the barriers.
    let group_rows = min(ROWS, step.n_tokens - t0);
    var done = 0u;
    for (var leader = 0u; leader < group_rows; leader++) {
        if ((done >> leader) & 1u) == 1u {
            continue;
        }
        let sequence = tokens[t0 + leader].sequence;
        var first = 0xffffffffu;
        var end = 0u;
        for (var r = leader; r < group_rows; r++) {
            let token = tokens[t0 + r];
            if token.sequence == sequence {
                done |= 1u << r;
                first = min(first, first_of(token));
                end = max(end, token.position + 1u);
            }
        }
        // The positions that each query attends to; none if its row belongs to another sequence.
        var firsts = Integers();
        var ends = Integers();
        var scales = Numbers();
        var slopes = Numbers();
#if QUERIES=4
        for (var a = 0u; a < 4u; a++) {
            let token = tokens[row_of(t0, a)];
            firsts[a] = first_of(token);
            ends[a] = select(0u, token.position + 1u, token.sequence == sequence);
            scales[a] = scale_at(token.position);
            slopes[a] = slope_of(head + a % HEADS);
        }
#else
        firsts = first;
        ends = end;
        scales = scale_at(end - 1u);
        slopes = slope_of(head);
#endif
        // This workgroup's share of the context, in whole chunks.
        let share = ((end - first) + 64u * step.n_splits - 1u) / (64u * step.n_splits) * 64u;
        first += share * group.z;
        end = min(end, first + share);

        var top = Numbers() + LOWEST;
        var total = Numbers();
#if SINKS=sinks
        if group.z == 0u {
            total += 1.0;
#if QUERIES=4
            for (var a = 0u; a < 4u; a++) {
                top[a] = sinks[head + a % HEADS];
            }
#else
            top = sinks[head];
#endif
        }
#endif
        // Sums of the first and second dimension of each pair.
        var sums_x: array<Numbers, PAIRS>;
        var sums_y: array<Numbers, PAIRS>;
        for (var chunk = first; chunk < end; chunk += 64u) {
            let n = min(64u, end - chunk);
            let p = chunk + thread;
            var score = Numbers() + LOWEST;
            if thread < n {
                let cell = pages[sequence * step.max_pages + p / PAGE] * PAGE + p % PAGE;
                var s = Numbers();
#if KEYS=blocks
                let at = block_at(cell, cell_width, kv_head * HEAD_DIM);
                values[thread] = block_at(cell, cell_width, keys_width + kv_head * VALUE_DIM);
                for (var b = 0u; b < HEAD_DIM / 32u; b++) {
                    let block = quants_at(at.x + b * BLOCK_WORDS);
                    var sum = Numbers();
                    for (var i = 0u; i < 8u; i += 2u) {
                        sum += products(places * (HEAD_DIM / 4u) + 8u * b + i, block[i], block[i + 1u]);
                    }
                    s += scale_at_half(at.y + b) * sum;
                }
#else
                let at = cell * cell_width + kv_head * HEAD_DIM;
                values[thread] = (cell * cell_width + keys_width + kv_head * VALUE_DIM) / 2u;
#endif
#if KEYS=8
                for (var i = 0u; i < HEAD_DIM / 8u; i++) {
                    let w = k[at / 8u + i];
                    let low = vec4<f32>(unpack2x16float(w.x), unpack2x16float(w.y));
                    let high = vec4<f32>(unpack2x16float(w.z), unpack2x16float(w.w));
                    s += products(places * (HEAD_DIM / 4u) + 2u * i, low, high);
                }
#endif
#if KEYS=2
                for (var i = 0u; i < HEAD_DIM / 2u; i++) {
                    s += products(places * (HEAD_DIM / 2u) + i, unpack2x16float(k[at / 2u + i]));
                }
#endif
                let is_seen = (Integers() + p >= firsts) & (Integers() + p < ends);
                let distance = Numbers(ends) - Numbers(Integers() + p) - 1.0;
                score = select(score, score_of(s * scales, slopes, distance), is_seen);
            }
            let new_top = max(top, group_max(thread, score));
            // Before a query has seen a position, both scores are LOWEST and exp(0) would be a weight of 1.
            weights[thread] = select(Numbers(), exp(score - new_top), score > Numbers() + LOWEST);
            let shrink = exp(top - new_top);
            top = new_top;
            total *= shrink;
            for (var d = 0u; d < PAIRS; d++) {
                sums_x[d] *= shrink;
                sums_y[d] *= shrink;
            }
            workgroupBarrier();
            for (var j = 0u; j < n; j++) {
                total += weights[j];
            }
            for (var d = 0u; d < PAIRS; d++) {
                let i = thread + 64u * d;
                if i < VALUE_DIM / 2u {
                    var x = Numbers();
                    var y = Numbers();
                    for (var j = 0u; j < n; j++) {
#if KEYS=blocks
                        let word = values[j].x + i / 16u * BLOCK_WORDS;
                        let value = scale_at_half(values[j].y + i / 16u) * pair_at(word, 2u * i % 32u);
#else
                        let value = unpack2x16float(v[values[j] + i]);
#endif
                        let weight = weights[j];
                        x += weight * value.x;
                        y += weight * value.y;
                    }
                    sums_x[d] += x;
                    sums_y[d] += y;
                }
            }
            workgroupBarrier();
        }

        for (var d = 0u; d < PAIRS; d++) {
            let i = thread + 64u * d;
#if QUERIES=4
            for (var a = 0u; a < HEADS * group_rows; a++) {
                if ends[a] > 0u {
                    let sum = vec2<f32>(sums_x[d][a], sums_y[d][a]);
                    store(i, group.z, head + a % HEADS, places[a], sum, top[a], total[a]);
                }
            }
#else
            store(i, group.z, head, places, vec2<f32>(sums_x[d], sums_y[d]), top, total);
#endif
        }
    }
}
