// Matrix times matrix, for prefill on GPUs: y[t, FIRST_ROW + r] = sum over c of w[r, c] * x[t, c].
//
//   x       [n_rows, N_COLS] f32, four a vec4
//   quants, scales: w [N_ROWS, N_COLS], one row-range part of the weight, in blocks of 32 (see weight/)
//   y       [n_rows, OUT_WIDTH] f32
//
// A workgroup of 64 threads (8 x 8) computes a tile of 32 step rows by 32 weight rows; a thread, 4 by 4 of it, spread by 8 so
// that neighbours touch neighbours. For each block of 32 columns the tile of x and the dequantised tile of w are staged in
// workgroup memory (as f16 where F16 is on; sums are f32 always). Grid: x = weight tiles, y = step tiles.
#if F16
enable f16;
alias Staged = vec4<f16>;
#else
alias Staged = vec4<f32>;
#endif
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
#import weight/{WEIGHT}
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

override N_COLS: u32;
override N_ROWS: u32;
override FIRST_ROW: u32;
override OUT_WIDTH: u32;

// Nine vec4 a row, of which eight are used: an odd stride keeps threads of a column off each other's banks.
const STRIDE = 9u;
var<workgroup> x_tile: array<Staged, 32u * STRIDE>;
var<workgroup> w_tile: array<Staged, 32u * STRIDE>;

fn write_row(t: u32, first_row: u32, sums: vec4<f32>) {
    if t >= n_rows() {
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        let row = first_row + 8u * j;
        if row < N_ROWS {
            y[t * OUT_WIDTH + FIRST_ROW + row] = sums[j];
        }
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_t = group.y * 32u;
    let first_row = group.x * 32u;
    let n_blocks = N_COLS / 32u;
    let tr = thread % 8u;
    let tt = thread / 8u;
    if first_t >= n_rows() {
        return;
    }
    var sums0 = vec4<f32>();
    var sums1 = vec4<f32>();
    var sums2 = vec4<f32>();
    var sums3 = vec4<f32>();
    for (var b = 0u; b < n_blocks; b++) {
        for (var t = tt; t < 32u; t += 8u) {
            var v = vec4<f32>();
            if first_t + t < n_rows() {
                v = x[(first_t + t) * (N_COLS / 4u) + b * 8u + tr];
            }
            x_tile[t * STRIDE + tr] = Staged(v);
        }
        if thread < 32u && first_row + thread < N_ROWS {
            var block = load_block((first_row + thread) * n_blocks + b);
            for (var i = 0u; i < 8u; i++) {
                w_tile[thread * STRIDE + i] = Staged(block.q[i] * block.scale + vec4<f32>(block.offset));
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            let w = mat4x4<f32>(
                vec4<f32>(w_tile[tr * STRIDE + k]),
                vec4<f32>(w_tile[(tr + 8u) * STRIDE + k]),
                vec4<f32>(w_tile[(tr + 16u) * STRIDE + k]),
                vec4<f32>(w_tile[(tr + 24u) * STRIDE + k]),
            );
            // A row vector times a matrix: its dot products with the columns.
            sums0 += vec4<f32>(x_tile[tt * STRIDE + k]) * w;
            sums1 += vec4<f32>(x_tile[(tt + 8u) * STRIDE + k]) * w;
            sums2 += vec4<f32>(x_tile[(tt + 16u) * STRIDE + k]) * w;
            sums3 += vec4<f32>(x_tile[(tt + 24u) * STRIDE + k]) * w;
        }
        workgroupBarrier();
    }
    write_row(first_t + tt, first_row + tr, sums0);
    write_row(first_t + tt + 8u, first_row + tr, sums1);
    write_row(first_t + tt + 16u, first_row + tr, sums2);
    write_row(first_t + tt + 24u, first_row + tr, sums3);
}
