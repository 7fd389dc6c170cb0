// Matrix times vector, for steps of one row: y[t, FIRST_ROW + r] = sum over c of w[r, c] * x[t, c].
//
//   x       [n_rows, N_COLS] f32, four a vec4
//   quants, scales: w [N_ROWS, N_COLS], one row-range part of the weight, in blocks of 32 (see weight/)
//   y       [n_rows, OUT_WIDTH] f32
//
// Where SHARED is off, a thread computes an output row. Where it is on, THREADS_PER_ROW neighbours (a power of two, at most 64)
// share one: each takes every THREADS_PER_ROW-th block, so that neighbours read neighbouring blocks, and their sums are added in
// workgroup memory. Grid: x strides over groups of 64 / THREADS_PER_ROW rows, as many workgroups as there may be; y is t.
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
#import weight/{WEIGHT}
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

override N_COLS: u32;
override N_ROWS: u32;
override FIRST_ROW: u32;
override OUT_WIDTH: u32;
#if SHARED
override THREADS_PER_ROW: u32;

var<workgroup> partial: array<f32, 64>;
#else
const THREADS_PER_ROW = 1u;
#endif

// A block of w times its columns of x, which begin at x[xb]. Written out, because compilers for CPUs keep an array that a loop
// indexes in memory.
fn block_product(i: u32, xb: u32) -> f32 {
    let block = load_block(i);
    let x0 = x[xb];
    let x1 = x[xb + 1u];
    let x2 = x[xb + 2u];
    let x3 = x[xb + 3u];
    let x4 = x[xb + 4u];
    let x5 = x[xb + 5u];
    let x6 = x[xb + 6u];
    let x7 = x[xb + 7u];
    let p = block.q[0] * x0 + block.q[1] * x1 + block.q[2] * x2 + block.q[3] * x3
        + block.q[4] * x4 + block.q[5] * x5 + block.q[6] * x6 + block.q[7] * x7;
    let s = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7;
    return block.scale * (p.x + p.y + p.z + p.w) + block.offset * (s.x + s.y + s.z + s.w);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let t = group.y;
    if t >= n_rows() {
        return;
    }
    let lane = thread % THREADS_PER_ROW;
    let rows_per_group = 64u / THREADS_PER_ROW;
    let n_blocks = N_COLS / 32u;
    for (var first = group.x * rows_per_group; first < N_ROWS; first += n_groups.x * rows_per_group) {
        let row = first + thread / THREADS_PER_ROW;
        var sum = 0.0;
        if row < N_ROWS {
            for (var b = lane; b < n_blocks; b += THREADS_PER_ROW) {
                sum += block_product(row * n_blocks + b, t * (N_COLS / 4u) + b * 8u);
            }
        }
#if SHARED
        partial[thread] = sum;
        for (var stride = THREADS_PER_ROW / 2u; stride > 0u; stride /= 2u) {
            workgroupBarrier();
            if lane < stride {
                partial[thread] += partial[thread + stride];
            }
        }
        sum = partial[thread];
#endif
        if lane == 0u && row < N_ROWS {
            y[t * OUT_WIDTH + FIRST_ROW + row] = sum;
        }
#if SHARED
        workgroupBarrier();
#endif
    }
}
