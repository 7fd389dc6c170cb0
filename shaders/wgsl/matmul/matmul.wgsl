// Matrix times matrix, for prefill: y[t, FIRST_ROW + r] = sum over c of w[r, c] * x[t, c].
//
//   x       [n_rows, N_COLS] f32, four a vec4
//   quants, scales: w [N_ROWS, N_COLS], one row-range part of the weight, in blocks of 32 (see weight/)
//   y       [n_rows, OUT_WIDTH] f32
//
// A workgroup of 64 threads (8 x 8) computes a tile of 32 step rows by 64 weight rows; a thread, 4 by 8 of it, spread by 8 so
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
var<workgroup> w_tile: array<Staged, 64u * STRIDE>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_t = group.y * 32u;
    let first_row = group.x * 64u;
    let n_blocks = N_COLS / 32u;
    let tr = thread % 8u;
    let tt = thread / 8u;
    let rows = n_rows();
    if first_t >= rows {
        return;
    }
    var sums: array<array<f32, 8>, 4>;
    for (var b = 0u; b < n_blocks; b++) {
        for (var i = 0u; i < 4u; i++) {
            let t = tt + 8u * i;
            var v = vec4<f32>();
            if first_t + t < rows {
                v = x[(first_t + t) * (N_COLS / 4u) + b * 8u + tr];
            }
            x_tile[t * STRIDE + tr] = Staged(v);
        }
        if first_row + thread < N_ROWS {
            var block = load_block((first_row + thread) * n_blocks + b);
            for (var i = 0u; i < 8u; i++) {
                w_tile[thread * STRIDE + i] = Staged(block.q[i] * block.scale + vec4<f32>(block.offset));
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            var xs: array<vec4<f32>, 4>;
            for (var i = 0u; i < 4u; i++) {
                xs[i] = vec4<f32>(x_tile[(tt + 8u * i) * STRIDE + k]);
            }
            for (var j = 0u; j < 8u; j++) {
                let w = vec4<f32>(w_tile[(tr + 8u * j) * STRIDE + k]);
                for (var i = 0u; i < 4u; i++) {
                    sums[i][j] += dot(xs[i], w);
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let t = first_t + tt + 8u * i;
        for (var j = 0u; j < 8u; j++) {
            let row = first_row + tr + 8u * j;
            if t < rows && row < N_ROWS {
                y[t * OUT_WIDTH + FIRST_ROW + row] = sums[i][j];
            }
        }
    }
}
