// Writes a step's keys or values to a layer's part of the KV pool, as f16.
//
//   tokens [n_tokens]
//   x      [n_tokens, WIDTH] f32, two per vec2; WIDTH = KV heads * head dimension
//   kv     [n_cells, CELL] words of two f16: keys, then values; x begins at word AT of a cell
//
// One thread per word. Grid: x = WIDTH / 128, y = n_tokens.
#import common/step
#import common/token
#import common/f16
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> x: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> kv: array<u32>;

override WIDTH: u32;
override CELL: u32;
override AT: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = WIDTH / 2u;
    if id.x >= n || id.y >= step.n_tokens {
        return;
    }
    kv[tokens[id.y].cell * CELL + AT + id.x] = pack_f16(x[id.y * n + id.x]);
}
