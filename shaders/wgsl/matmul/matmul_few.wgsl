// Matrix times a few vectors, followed by a tail: y[t] = OUTPUT(w · x[t]). For steps of two to eight rows; on
// software devices for any number of rows, because tiles in workgroup memory are slower there.
//
//   x               [step rows, n_cols], see x/
//   quants, scales  w [n_rows, n_cols] in blocks of 32, see weight/; w_row is its first row in the buffer
//   y               see output/
//
// LANES threads compute a unit: four rows of w times four rows of x.
// Grid: x strides over units, y = step rows / 4.
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
    let t = group.y * 4u;
    if t >= step_rows() {
        return;
    }
    // Rows past the last repeat it; their sums are not stored.
    let last = step_rows() - 1u;
    let lane = thread % LANES;
    let units_per_group = GROUP / LANES;
    let n_blocks = shape.n_cols / 32u;
    for (var first = group.x * units_per_group; first < n_units(); first += n_groups.x * units_per_group) {
        let unit = min(first + thread / LANES, n_units() - 1u);
        let rows = (unit_rows(unit) + vec4<u32>(shape.w_row)) * n_blocks;
        var sums0 = vec4<f32>();
        var sums1 = vec4<f32>();
        var sums2 = vec4<f32>();
        var sums3 = vec4<f32>();
#if X=normed
        var squares = vec4<f32>();
#endif
        for (var b = lane; b < n_blocks; b += LANES) {
            let x0 = load_x(t, b);
#if X=normed
            squares.x += block_squares;
#endif
            let x1 = load_x(min(t + 1u, last), b);
#if X=normed
            squares.y += block_squares;
#endif
            let x2 = load_x(min(t + 2u, last), b);
#if X=normed
            squares.z += block_squares;
#endif
            let x3 = load_x(min(t + 3u, last), b);
#if X=normed
            squares.w += block_squares;
#endif
            // Column i of the matrix is row i of w times the four rows of x.
            let p = transpose(mat4x4<f32>(
                products(rows.x + b, x0, x1, x2, x3), products(rows.y + b, x0, x1, x2, x3),
                products(rows.z + b, x0, x1, x2, x3), products(rows.w + b, x0, x1, x2, x3),
            ));
            sums0 += p[0];
            sums1 += p[1];
            sums2 += p[2];
            sums3 += p[3];
        }
        sums0 = sum_lanes(thread, sums0);
        sums1 = sum_lanes(thread, sums1);
        sums2 = sum_lanes(thread, sums2);
        sums3 = sum_lanes(thread, sums3);
#if X=normed
        let scales = norm_scales(sum_lanes(thread, squares));
        sums0 *= scales.x;
        sums1 *= scales.y;
        sums2 *= scales.z;
        sums3 *= scales.w;
#endif
#if BIAS=low|bias_low
        let step_row = min(vec4<u32>(t) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
        let low_sums = low_ranks(step_row, unit_rows(unit) + vec4<u32>(shape.first_row), lane);
        sums0 += sum_lanes(thread, low_sums[0]);
        sums1 += sum_lanes(thread, low_sums[1]);
        sums2 += sum_lanes(thread, low_sums[2]);
        sums3 += sum_lanes(thread, low_sums[3]);
#endif
        if lane == 0u && first + thread / LANES < n_units() {
            store(t, unit, sums0);
            if t < last {
                store(t + 1u, unit, sums1);
            }
            if t + 1u < last {
                store(t + 2u, unit, sums2);
            }
            if t + 2u < last {
                store(t + 3u, unit, sums3);
            }
        }
    }
}
