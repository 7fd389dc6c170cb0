// Dequantises rows of a matrix: y[i, :] = w[first_row + i, :], and zeros up to whole blocks.
//
//   quants, scales  w, see weight/
//   y               [n_rows, 32 n_blocks] f32
//
// One thread per block of 32. Grid: x = n_blocks / 64, y = n_rows.
struct Rows {
    first_row: u32,  // in the buffer
    n_rows: u32,
    n_blocks: u32,   // per row
}
@group(0) @binding(0) var<uniform> rows: Rows;
#import weight/{WEIGHT}
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= rows.n_blocks || id.y >= rows.n_rows {
        return;
    }
    var block = load_block((rows.first_row + id.y) * rows.n_blocks + id.x);
    for (var i = 0u; i < 8u; i++) {
        y[(id.y * rows.n_blocks + id.x) * 8u + i] = block.q[i] * block.scale + vec4<f32>(block.offset);
    }
}
