// What becomes of query, key and value heads after their projection, where it cannot be a part of it: queries
// and keys are normalised (arXiv 1910.07467) and rotated, keys and values go to the KV pool as f16.
//
//   tokens          [n_tokens]
//   x               [n_tokens, N_Q + N_K + N_V, HEAD_DIM] f32; each of the three numbers can be 0
//   q_norm, k_norm  [HEAD_DIM] f32
//   table           [n_tokens, N_ROT / 2] (cosine, sine), see rope_table
//   y               [n_tokens, N_Q * HEAD_DIM] f32, the queries
//   kv              [n_cells, 2 * CELL] f16, two per word: KEYS keys, then values
//
// HEAD_DIM is even. N_ROT is 0 without a rotary embedding. For NEOX, see rope.
// One workgroup of 64 threads per head. Grid: x = heads, y = n_tokens.
#import common/step
#import common/token
#import common/f16
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> kv: array<u32>;

override N_Q: u32;
override N_K: u32;
override N_V: u32;
override KEYS: u32;
override CELL: u32;
override HEAD_DIM: u32;
override N_ROT: u32;
override NEOX: bool;

#if NORMS=norms
@group(0) @binding(6) var<storage, read> q_norm: array<f32>;
@group(0) @binding(7) var<storage, read> k_norm: array<f32>;
override EPS: f32;

var<workgroup> partial: array<f32, 64>;

fn scale_of(head: u32, thread: u32) -> f32 {
    var sum = 0.0;
    for (var i = thread; i < HEAD_DIM; i += 64u) {
        let v = x[head + i];
        sum += v * v;
    }
    partial[thread] = sum;
    for (var stride = 32u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if thread < stride {
            partial[thread] += partial[thread + stride];
        }
    }
    workgroupBarrier();
    return inverseSqrt(partial[0] / f32(HEAD_DIM) + EPS);
}
#endif

// Number `i` of a head that starts at `start`, without its scale.
fn number(start: u32, is_query: bool, i: u32) -> f32 {
#if NORMS=norms
    if is_query {
        return x[start + i] * q_norm[i];
    }
    return x[start + i] * k_norm[i];
#else
    return x[start + i];
#endif
}

fn turned(t: u32, start: u32, is_query: bool, i: u32) -> f32 {
    let v = number(start, is_query, i);
    if i >= N_ROT {
        return v;
    }
    let half = N_ROT / 2u;
    let is_second = select((i & 1u) == 1u, i >= half, NEOX);
    let pair = select(i / 2u, i % half, NEOX);
    let other = select(i ^ 1u, select(i + half, pair, is_second), NEOX);
    let turn = table[t * half + pair];
    let w = number(start, is_query, other);
    return v * turn.x + select(-w, w, is_second) * turn.y;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let t = group.y;
    if t >= step.n_tokens {
        return;
    }
    let head = group.x;
    let start = (t * (N_Q + N_K + N_V) + head) * HEAD_DIM;
    let is_query = head < N_Q;
    let is_value = head >= N_Q + N_K;
    var scale = 1.0;
#if NORMS=norms
    if !is_value {
        scale = scale_of(start, thread);
    }
#endif
    for (var i = 2u * thread; i < HEAD_DIM; i += 128u) {
        var v = vec2<f32>(x[start + i], x[start + i + 1u]);
        if !is_value {
            v = scale * vec2<f32>(turned(t, start, is_query, i), turned(t, start, is_query, i + 1u));
        }
        if is_query {
            let at = (t * N_Q + head) * HEAD_DIM + i;
            y[at] = v.x;
            y[at + 1u] = v.y;
        } else {
            let row = select((head - N_Q) * HEAD_DIM, KEYS + (head - N_Q - N_K) * HEAD_DIM, is_value);
            kv[tokens[t].cell * CELL + (row + i) / 2u] = pack_f16(v);
        }
    }
}
