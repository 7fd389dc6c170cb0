// The gradient of queries, added to dq; see train/scores for shapes. With weights p and D = dy y:
// ds = p (dy v - D), and dq = sum over keys of ds k, times the slope of the score.
//
//   y, dy  [n_tokens, N_HEADS, VALUE_DIM] f32
//   dq     [n_tokens, N_HEADS, HEAD_DIM] f32
//   ends   the second of each pair is written: D
//
// One thread per row and head. Grid: x = n_tokens * N_HEADS / 64.
#import train/scores
@group(0) @binding(5) var<storage, read> y: array<f32>;
@group(0) @binding(6) var<storage, read> dy: array<f32>;
@group(0) @binding(7) var<storage, read_write> ends: array<vec2<f32>>;
@group(0) @binding(8) var<storage, read_write> dq: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= step.n_tokens * N_HEADS {
        return;
    }
    let row = id.x / N_HEADS;
    let head = id.x % N_HEADS;
    let y_at = id.x * VALUE_DIM;
    var all = 0.0;
    for (var i = 0u; i < VALUE_DIM; i++) {
        all += dy[y_at + i] * y[y_at + i];
    }
    ends[id.x].y = all;
    let log_sum = ends[id.x].x;
    for (var key = 0u; key < step.n_tokens; key++) {
        if !sees(row, key) {
            continue;
        }
        let value_at = (key * N_KV_HEADS + kv_head(head)) * VALUE_DIM;
        var product = 0.0;
        for (var i = 0u; i < VALUE_DIM; i++) {
            product += dy[y_at + i] * v[value_at + i];
        }
        let s = score(row, head, key);
        let ds = exp(s.x - log_sum) * (product - all) * s.y;
        let key_at = (key * N_KV_HEADS + kv_head(head)) * HEAD_DIM;
        for (var i = 0u; i < HEAD_DIM; i++) {
            dq[id.x * HEAD_DIM + i] += ds * k[key_at + i];
        }
    }
}
