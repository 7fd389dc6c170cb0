// Writes a step's keys and values into the KV pool of one layer, as f16.
//
//   tokens  [n_tokens]
//   k, v    [n_tokens, WIDTH] f32, two a vec2; WIDTH = KV heads * head dimension
//   k_pool, v_pool: [n_cells, WIDTH] f16, two a word
//
// One thread a word. Grid: x = WIDTH / 128, y = t.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> k: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> k_pool: array<u32>;
@group(0) @binding(5) var<storage, read_write> v_pool: array<u32>;

override WIDTH: u32;

// The largest finite f16; what lies beyond is undefined in pack2x16float.
const LIMIT = vec2<f32>(65504.0);

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = WIDTH / 2u;
    if id.x >= n || id.y >= step.n_tokens {
        return;
    }
    let source = id.y * n + id.x;
    let cell = tokens[id.y].cell * n + id.x;
    k_pool[cell] = pack2x16float(clamp(k[source], -LIMIT, LIMIT));
    v_pool[cell] = pack2x16float(clamp(v[source], -LIMIT, LIMIT));
}
