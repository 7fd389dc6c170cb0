// The gradients of keys and values, added to dk and dv, after train/attend_queries: dk = sum over rows and
// heads that see the key of ds q, times the slope of the score; dv = that of p dy.
//
//   dy   [n_tokens, N_HEADS, VALUE_DIM] f32
//   dk   [n_tokens, N_KV_HEADS, HEAD_DIM] f32
//   dv   [n_tokens, N_KV_HEADS, VALUE_DIM] f32
//
// One thread per key and KV head. Grid: x = n_tokens * N_KV_HEADS / 64.
#import train/scores
@group(0) @binding(5) var<storage, read> dy: array<f32>;
@group(0) @binding(6) var<storage, read> ends: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> dk: array<f32>;
@group(0) @binding(8) var<storage, read_write> dv: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= step.n_tokens * N_KV_HEADS {
        return;
    }
    let key = id.x / N_KV_HEADS;
    let group = N_HEADS / N_KV_HEADS;
    let first_head = id.x % N_KV_HEADS * group;
    let key_at = id.x * HEAD_DIM;
    let value_at = id.x * VALUE_DIM;
    for (var row = 0u; row < step.n_tokens; row++) {
        if !sees(row, key) {
            continue;
        }
        for (var head = first_head; head < first_head + group; head++) {
            let at = row * N_HEADS + head;
            let s = score(row, head, key);
            let p = exp(s.x - ends[at].x);
            var product = 0.0;
            for (var i = 0u; i < VALUE_DIM; i++) {
                let d = dy[at * VALUE_DIM + i];
                product += d * v[value_at + i];
                dv[value_at + i] += p * d;
            }
            let ds = p * (product - ends[at].y) * s.y;
            for (var i = 0u; i < HEAD_DIM; i++) {
                dk[key_at + i] += ds * q[at * HEAD_DIM + i];
            }
        }
    }
}
