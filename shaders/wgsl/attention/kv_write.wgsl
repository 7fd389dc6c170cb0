// Writes a step's keys or values to a layer's part of the KV pool.
//
//   tokens [n_tokens]
//   x      [n_tokens, WIDTH] f32, two per vec2; WIDTH = KV heads * head dimension
//   kv     f16: [n_cells, CELL] words of two f16: keys, then values; x begins at word AT of a cell.
//          Blocks: see attention/blocks; a cell has CELL numbers, and x begins at its number AT
//
// One thread per two numbers. Grid: x = WIDTH / 128, y = n_tokens.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> x: array<vec2<f32>>;
#if KV=f16
#import common/f16
@group(0) @binding(3) var<storage, read_write> kv: array<u32>;
#else
@group(0) @binding(3) var<storage, read_write> kv: array<atomic<u32>>;
override PAGE: u32;
#import attention/blocks_write
#endif

override WIDTH: u32;
override CELL: u32;
override AT: u32;

#if KV=f16
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = WIDTH / 2u;
    if id.x >= n || id.y >= step.n_tokens {
        return;
    }
    kv[tokens[id.y].cell * CELL + AT + id.x] = pack_f16(x[id.y * n + id.x]);
}
#else
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if group.y >= step.n_tokens {
        return;
    }
    let first = group.x * 128u;
    var pair = vec2<f32>();
    if first + 2u * thread < WIDTH {
        pair = x[(group.y * WIDTH + first) / 2u + thread];
    }
    write_blocks(thread, pair, WIDTH - first, tokens[group.y].cell, CELL, AT + first);
}
#endif
