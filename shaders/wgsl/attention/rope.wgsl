// Rotary position embedding (arXiv 2104.09864) of the first N_ROT dimensions of each head; the others are
// copied.
//
//   table  [n_tokens, N_ROT / 2] (cosine, sine), see rope_table
//   x, y   [n_tokens, N_HEADS * HEAD_DIM] f32
//
// A pair is (2i, 2i+1), or (i, i + N_ROT/2) if NEOX. One thread per pair. Grid: x = pairs / 64, y = n_tokens.
#import common/step
@group(0) @binding(1) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

override N_HEADS: u32;
override HEAD_DIM: u32;
override N_ROT: u32;
override NEOX: bool;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_pairs = HEAD_DIM / 2u;
    if id.x >= N_HEADS * n_pairs || id.y >= step.n_tokens {
        return;
    }
    let head = (id.y * N_HEADS + id.x / n_pairs) * HEAD_DIM;
    let pair = id.x % n_pairs;
    let rotated = pair < N_ROT / 2u;
    var a = head + 2u * pair;
    var b = a + 1u;
    if NEOX && rotated {
        a = head + pair;
        b = a + N_ROT / 2u;
    }
    let u = x[a];
    let v = x[b];
    if !rotated {
        y[a] = u;
        y[b] = v;
        return;
    }
    let turn = table[id.y * (N_ROT / 2u) + pair];
    y[a] = u * turn.x - v * turn.y;
    y[b] = u * turn.y + v * turn.x;
}
