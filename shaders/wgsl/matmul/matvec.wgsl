// Matrix times vector, for steps of few rows: y[t, FIRST_ROW + r] = sum over c of w[r, c] * x[t, c].
//
//   x       [n_rows, N_COLS] f32, four a vec4
//   quants, scales: w [N_ROWS, N_COLS], one row-range part of the weight, in blocks of 32 (see weight/)
//   y       [n_rows, OUT_WIDTH] f32
//
// THREADS_PER_ROW neighbouring threads (a power of two, at most 64) share an output row: each takes every THREADS_PER_ROW-th
// block, so that neighbours read neighbouring blocks, and their sums are added in workgroup memory. Grid: x strides over groups of
// 64 / THREADS_PER_ROW rows, as many workgroups as the device allows; y is the row t of the step.
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
#import weight/{WEIGHT}
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

override N_COLS: u32;
override N_ROWS: u32;
override FIRST_ROW: u32;
override OUT_WIDTH: u32;
override THREADS_PER_ROW: u32;

var<workgroup> partial: array<f32, 64>;

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
                var block = load_block(row * n_blocks + b);
                let xb = t * (N_COLS / 4u) + b * 8u;
                var products = vec4<f32>();
                var inputs = vec4<f32>();
                for (var i = 0u; i < 8u; i++) {
                    let v = x[xb + i];
                    products += block.q[i] * v;
                    inputs += v;
                }
                sum += block.scale * dot(products, vec4<f32>(1.0)) + block.offset * dot(inputs, vec4<f32>(1.0));
            }
        }
        partial[thread] = sum;
        for (var stride = THREADS_PER_ROW / 2u; stride > 0u; stride /= 2u) {
            workgroupBarrier();
            if lane < stride {
                partial[thread] += partial[thread + stride];
            }
        }
        if lane == 0u && row < N_ROWS {
            y[t * OUT_WIDTH + FIRST_ROW + row] = partial[thread];
        }
        workgroupBarrier();
    }
}
