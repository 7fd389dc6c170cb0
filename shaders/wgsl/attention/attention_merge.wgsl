// Joins the results of attention over a split context. Each part's sums and weight are rescaled to the
// highest score of all parts.
//
//   partial [step.n_splits, N_HEADS, VALUE_DIM + 2] f32, see attention
//   y       [1, N_HEADS * VALUE_DIM] f32, two per vec2
//
// One thread per pair of dimensions. Grid: x = N_HEADS * VALUE_DIM / 128.
#import common/step
@group(0) @binding(1) var<storage, read> partial: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec2<f32>>;

override N_HEADS: u32;
override VALUE_DIM: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_pairs = VALUE_DIM / 2u;
    if id.x >= N_HEADS * n_pairs {
        return;
    }
    let head = id.x / n_pairs;
    let i = id.x % n_pairs;
    var top = -3.0e38;
    var total = 0.0;
    var sum = vec2<f32>();
    for (var s = 0u; s < step.n_splits; s++) {
        let part = (s * N_HEADS + head) * (n_pairs + 1u);
        let weight = partial[part + n_pairs];
        let new_top = max(top, weight.x);
        let old_shrink = exp(top - new_top);
        let shrink = exp(weight.x - new_top);
        sum = sum * old_shrink + partial[part + i] * shrink;
        total = total * old_shrink + weight.y * shrink;
        top = new_top;
    }
    y[id.x] = sum / total;
}
