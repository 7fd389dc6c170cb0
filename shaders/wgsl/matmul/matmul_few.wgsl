// Matrix times a few vectors, for steps of two to eight rows, and of any number on CPUs, where tiles in workgroup memory cost more
// than they save: y[t, FIRST_ROW + r] = sum over c of w[r, c] * x[t, c].
//
//   x       [n_rows, N_COLS] f32, four a vec4
//   quants, scales: w [N_ROWS, N_COLS], one row-range part of the weight, in blocks of 32 (see weight/)
//   y       [n_rows, OUT_WIDTH] f32
//
// A thread reads a row of w once and multiplies it with eight rows of x. Grid: x strides over groups of 64 rows of w; y = n_rows / 8.
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
#import weight/{WEIGHT}
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

override N_COLS: u32;
override N_ROWS: u32;
override FIRST_ROW: u32;
override OUT_WIDTH: u32;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let first_t = group.y * 8u;
    if first_t >= n_rows() {
        return;
    }
    let n_blocks = N_COLS / 32u;
    let n = N_COLS / 4u;
    // Rows past the last repeat it; their sums are not written.
    let last = n_rows() - 1u;
    let t0 = first_t * n;
    let t1 = min(first_t + 1u, last) * n;
    let t2 = min(first_t + 2u, last) * n;
    let t3 = min(first_t + 3u, last) * n;
    let t4 = min(first_t + 4u, last) * n;
    let t5 = min(first_t + 5u, last) * n;
    let t6 = min(first_t + 6u, last) * n;
    let t7 = min(first_t + 7u, last) * n;
    for (var row = group.x * 64u + thread; row < N_ROWS; row += n_groups.x * 64u) {
        var low = vec4<f32>();
        var high = vec4<f32>();
        for (var b = 0u; b < n_blocks; b++) {
            var block = load_block(row * n_blocks + b);
            for (var i = 0u; i < 8u; i++) {
                let w = block.q[i] * block.scale + vec4<f32>(block.offset);
                let c = b * 8u + i;
                low += vec4<f32>(dot(w, x[t0 + c]), dot(w, x[t1 + c]), dot(w, x[t2 + c]), dot(w, x[t3 + c]));
                high += vec4<f32>(dot(w, x[t4 + c]), dot(w, x[t5 + c]), dot(w, x[t6 + c]), dot(w, x[t7 + c]));
            }
        }
        for (var i = 0u; i < min(8u, n_rows() - first_t); i++) {
            y[(first_t + i) * OUT_WIDTH + FIRST_ROW + row] = select(low[i % 4u], high[i % 4u], i >= 4u);
        }
    }
}
