// Matrix times vector, followed by a tail, for steps of one row: y[t] = OUTPUT(w · x[t]).
//
//   x               [step rows, n_cols], see x/
//   quants, scales  w [n_rows, n_cols] in blocks of 32, see weight/; w_row is its first row in the buffer
//   y               see output/
//
// LANES threads compute a unit of four rows of w, so that activations are read once for four weights. Each
// thread takes every LANES-th block, so that neighbouring threads read neighbouring blocks.
// Grid: x strides over units, y = step rows.
#if LANES=subgroup
enable subgroups;
#endif
#import common/rows
#import matmul/shape
#import matmul/x/{X}
#import matmul/output/{OUTPUT}
#import matmul/lanes
#import matmul/low_rank

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let t = group.y;
    if t >= step_rows() {
        return;
    }
    let lane = thread % LANES;
    let units_per_group = GROUP / LANES;
    let n_blocks = shape.n_cols / 32u;
    for (var first = group.x * units_per_group; first < n_units(); first += n_groups.x * units_per_group) {
        // Threads past the last unit repeat it, because every thread must reach the barriers.
        let unit = min(first + thread / LANES, n_units() - 1u);
        let rows = (unit_rows(unit) + vec4<u32>(shape.w_row)) * n_blocks;
        var sums = vec4<f32>();
#if X=normed
        var squares = 0.0;
#endif
        for (var b = lane; b < n_blocks; b += LANES) {
            let xb = load_x(t, b);
#if X=normed
            squares += block_squares;
#endif
            sums += vec4<f32>(
                product(rows.x + b, xb), product(rows.y + b, xb),
                product(rows.z + b, xb), product(rows.w + b, xb),
            );
        }
        sums = sum_lanes(thread, sums);
#if X=normed
        sums *= norm_scales(sum_lanes(thread, vec4<f32>(squares))).x;
#endif
#if BIAS=low|bias_low
        sums += sum_lanes(thread, low_rank(t, unit_rows(unit) + vec4<u32>(shape.first_row), lane));
#endif
        if lane == 0u && first + thread / LANES < n_units() {
            store(t, unit, sums);
        }
    }
}
