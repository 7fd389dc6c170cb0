// What becomes of query, key and value heads after their projection, where it cannot be a part of it: queries
// and keys are normalised and rotated, keys and values go to the KV pool. For norms, see norm/norm; a
// run is a head or several, and a weight as long as a run or a row. With LAST, weights come after the rotary
// embedding.
//
//   tokens          [n_tokens]
//   x               [n_tokens, N_Q + N_K + N_V, HEAD_DIM] f32; each of the three numbers can be 0
//   q_norm, k_norm  [Q_LENGTH], [K_LENGTH] f32
//   table           [n_tokens, N_ROT / 2] (cosine, sine), see rope_table
//   y               [n_tokens, N_Q * HEAD_DIM] f32, the queries
//   kv              f16: [n_cells, 2 * CELL], two per word: KEYS keys, then values.
//                   Blocks: see attention/blocks; a cell has CELL numbers
//
// HEAD_DIM is even, and a multiple of 32 for blocks. N_ROT is 0 without a rotary embedding. For NEOX, see
// rope.
// One workgroup of 64 threads per head. Grid: x = heads, y = n_tokens.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
#if KV=f16
#import common/f16
@group(0) @binding(5) var<storage, read_write> kv: array<u32>;
#else
@group(0) @binding(5) var<storage, read_write> kv: array<atomic<u32>>;
override PAGE: u32;
#import attention/blocks_write
#endif

override N_Q: u32;
override N_K: u32;
override N_V: u32;
override KEYS: u32;
override CELL: u32;
override HEAD_DIM: u32;
override N_ROT: u32;
override NEOX: bool;

#if NORMS=norms
#import common/sum
@group(0) @binding(6) var<storage, read> q_norm: array<f32>;
@group(0) @binding(7) var<storage, read> k_norm: array<f32>;
override EPS: f32;
override LAYER: bool;
override LAST: bool;
override Q_RUN: u32;
override K_RUN: u32;
override Q_LENGTH: u32;
override K_LENGTH: u32;

// What is subtracted from the numbers of a run, and what they are multiplied by then.
fn norm_of(run: u32, length: u32, thread: u32) -> vec2<f32> {
    var middle = 0.0;
    var sum = 0.0;
    if LAYER {
        for (var i = thread; i < length; i += 64u) {
            sum += x[run + i];
        }
        middle = sum_of_all(thread, sum) / f32(length);
        sum = 0.0;
    }
    for (var i = thread; i < length; i += 64u) {
        let v = x[run + i] - middle;
        sum += v * v;
    }
    return vec2<f32>(middle, inverseSqrt(sum_of_all(thread, sum) / f32(length) + EPS));
}
#endif

// A head: where it starts in x, the place of its first number in the row of queries or keys, and its norm.
struct Head {
    start: u32,
    place: u32,
    is_query: bool,
    norm: vec2<f32>,
}

fn weight_of(head: Head, i: u32) -> f32 {
#if NORMS=norms
    if head.is_query {
        return q_norm[(head.place + i) % Q_LENGTH];
    }
    return k_norm[(head.place + i) % K_LENGTH];
#else
    return 1.0;
#endif
}

// Number `i` of a head.
fn number(head: Head, i: u32) -> f32 {
#if NORMS=norms
    let v = (x[head.start + i] - head.norm.x) * head.norm.y;
    return select(v * weight_of(head, i), v, LAST);
#else
    return x[head.start + i];
#endif
}

fn turned(t: u32, head: Head, i: u32) -> f32 {
    var v = number(head, i);
    if i < N_ROT {
        // Without a rotary embedding, a constant remainder by 0 would be an error.
        let half = max(N_ROT / 2u, 1u);
        let is_second = select((i & 1u) == 1u, i >= half, NEOX);
        let pair = select(i / 2u, i % half, NEOX);
        let other = select(i ^ 1u, select(i + half, pair, is_second), NEOX);
        let turn = table[t * half + pair];
        let w = number(head, other);
        v = v * turn.x + select(-w, w, is_second) * turn.y;
    }
#if NORMS=norms
    if LAST {
        v *= weight_of(head, i);
    }
#endif
    return v;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let t = group.y;
    if t >= step.n_tokens {
        return;
    }
    let row = t * (N_Q + N_K + N_V) * HEAD_DIM;
    let is_query = group.x < N_Q;
    let is_value = group.x >= N_Q + N_K;
    var head = Head(row + group.x * HEAD_DIM, 0u, is_query, vec2<f32>());
    head.place = select(group.x - N_Q, group.x, is_query) * HEAD_DIM;
#if NORMS=norms
    if !is_value {
        let length = select(K_RUN, Q_RUN, is_query);
        head.norm = norm_of(head.start - head.place % length, length, thread);
    }
#endif
#if KV=f16
    for (var i = 2u * thread; i < HEAD_DIM; i += 128u) {
        if is_query {
            let at = t * N_Q * HEAD_DIM + head.place + i;
            y[at] = turned(t, head, i);
            y[at + 1u] = turned(t, head, i + 1u);
            continue;
        }
        var v = vec2<f32>(x[head.start + i], x[head.start + i + 1u]);
        var word = KEYS + head.place - N_K * HEAD_DIM + i;
        if !is_value {
            v = vec2<f32>(turned(t, head, i), turned(t, head, i + 1u));
            word = head.place + i;
        }
        kv[tokens[t].cell * CELL + word / 2u] = pack_f16(v);
    }
#else
    for (var start = 0u; start < HEAD_DIM; start += 128u) {
        let i = start + 2u * thread;
        var v = vec2<f32>();
        if i < HEAD_DIM {
            if is_value {
                v = vec2<f32>(x[head.start + i], x[head.start + i + 1u]);
            } else {
                v = vec2<f32>(turned(t, head, i), turned(t, head, i + 1u));
            }
            if is_query {
                let at = t * N_Q * HEAD_DIM + head.place + i;
                y[at] = v.x;
                y[at + 1u] = v.y;
            }
        }
        if !is_query {
            let first = select(head.place, KEYS + head.place - N_K * HEAD_DIM, is_value) + start;
            write_blocks(thread, v, HEAD_DIM - start, tokens[t].cell, CELL, first);
        }
    }
#endif
}
