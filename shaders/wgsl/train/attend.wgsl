// Causal attention over the step's own rows, without a KV pool; see train/scores for shapes.
//
//   y      [n_tokens, N_HEADS, VALUE_DIM] f32
//   ends   the first of each pair is written
//   sinks  [N_HEADS] scores without values
//
// One thread per row and head. Grid: x = n_tokens * N_HEADS / 64.
#import train/scores
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> ends: array<vec2<f32>>;
#if SINKS=sinks
@group(0) @binding(7) var<storage, read> sinks: array<f32>;
#endif

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= step.n_tokens * N_HEADS {
        return;
    }
    let row = id.x / N_HEADS;
    let head = id.x % N_HEADS;
    let y_at = id.x * VALUE_DIM;
    for (var i = 0u; i < VALUE_DIM; i++) {
        y[y_at + i] = 0.0;
    }
#if SINKS=sinks
    var top = sinks[head];
    var sum = 1.0;
#else
    var top = -3.0e38;
    var sum = 0.0;
#endif
    for (var key = 0u; key < step.n_tokens; key++) {
        if !sees(row, key) {
            continue;
        }
        let s = score(row, head, key).x;
        // What was added up before the highest score so far is made smaller.
        let higher = max(top, s);
        let shrink = exp(max(top - higher, -80.0));
        let weight = exp(max(s - higher, -80.0));
        top = higher;
        sum = sum * shrink + weight;
        let value_at = (key * N_KV_HEADS + kv_head(head)) * VALUE_DIM;
        for (var i = 0u; i < VALUE_DIM; i++) {
            y[y_at + i] = y[y_at + i] * shrink + weight * v[value_at + i];
        }
    }
    for (var i = 0u; i < VALUE_DIM; i++) {
        y[y_at + i] /= sum;
    }
    ends[id.x].x = top + log(sum);
}
