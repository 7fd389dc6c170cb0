// Writes a step's keys and values into the KV pool of one layer, as f16.
//
//   tokens [n_tokens]
//   k, v   [n_tokens, WIDTH] f32, two a vec2; WIDTH = KV heads * head dimension
//   kv     [n_cells, WIDTH keys then WIDTH values] f16, two a word
//
// One thread a word of each. Grid: x = WIDTH / 128, y = t.
#import common/step
#import common/token
#import common/f16
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> k: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> v: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> kv: array<u32>;

override WIDTH: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = WIDTH / 2u;
    if id.x >= n || id.y >= step.n_tokens {
        return;
    }
    let source = id.y * n + id.x;
    let cell = tokens[id.y].cell * WIDTH + id.x;
    kv[cell] = pack_f16(k[source]);
    kv[cell + n] = pack_f16(v[source]);
}
