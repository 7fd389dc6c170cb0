// Projections by the experts that each row uses: y[t, s] = w[expert s of t] · x[t, s], plus the bias.
// TAIL=gated: a gated pair, see common/gate. The buffer has the gates of all experts, then their partners.
//
//   x               [step rows, PER_ROW, n_cols]; PER_ROW is N_USED, or 1 for experts that read the same row
//   quants, scales  the matrices of N_EXPERTS experts from FIRST_EXPERT on, each [n_rows, n_cols] in blocks
//                   of 32, see weight/
//   route           [step rows, 2 * N_USED] f32: numbers of experts, then weights
//   bias            [all experts, n_rows] f32
//   y               [step rows, N_USED, n_rows] f32
//
// LANES threads compute a unit: four rows of a matrix, or two of a gate and the same two of its partner.
// Only the weights of chosen experts are read; those that are in other buffers are left out.
// Grid: x strides over units, y = step rows * N_USED.
#if LANES=subgroup
enable subgroups;
#endif
#import common/rows
#import matmul/shape
#import matmul/x/plain
#import matmul/bias
#import matmul/lanes
#if TAIL=gated
#import common/gate
// Results of a unit.
const UNIT = 2u;
#else
const UNIT = 4u;
#endif
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read> route: array<f32>;

override N_USED: u32;
override PER_ROW: u32;
override FIRST_EXPERT: u32;
override N_EXPERTS: u32;

// The rows of a unit within the matrix of an expert. Rows past the last repeat it.
fn unit_rows(unit: u32) -> vec4<u32> {
#if TAIL=gated
    let rows = vec4<u32>(2u * unit) + vec4<u32>(0u, 1u, 0u, 1u);
#else
    let rows = vec4<u32>(4u * unit) + vec4<u32>(0u, 1u, 2u, 3u);
#endif
    return min(rows, vec4<u32>(shape.n_rows - 1u));
}

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) n_groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let t = group.y / N_USED;
    if t >= step_rows() {
        return;
    }
    let s = group.y % N_USED;
    let expert = u32(route[t * 2u * N_USED + s]);
    if expert < FIRST_EXPERT || expert >= FIRST_EXPERT + N_EXPERTS {
        return;
    }
    let x_row = t * PER_ROW + s % PER_ROW;
    let lane = thread % LANES;
    let units_per_group = GROUP / LANES;
    let n_blocks = shape.n_cols / 32u;
    let n_units = (shape.n_rows + UNIT - 1u) / UNIT;
    for (var first = group.x * units_per_group; first < n_units; first += n_groups.x * units_per_group) {
        // Threads past the last unit repeat it, because every thread must reach the barriers.
        let unit = min(first + thread / LANES, n_units - 1u);
#if TAIL=gated
        let partner = (expert + N_EXPERTS) * shape.n_rows;
        let own = unit_rows(unit) + vec4<u32>(vec2<u32>(expert * shape.n_rows), vec2<u32>(partner));
        let rows = own * n_blocks;
#else
        let own = unit_rows(unit) + vec4<u32>(expert * shape.n_rows);
        let rows = (own - vec4<u32>(FIRST_EXPERT * shape.n_rows) + vec4<u32>(shape.w_row)) * n_blocks;
#endif
        var sums = vec4<f32>();
        for (var b = lane; b < n_blocks; b += LANES) {
            let xb = load_x(x_row, b);
            sums += vec4<f32>(
                product(rows.x + b, xb), product(rows.y + b, xb),
                product(rows.z + b, xb), product(rows.w + b, xb),
            );
        }
        sums = sum_lanes(thread, sums);
        if lane == 0u && first + thread / LANES < n_units {
            let v = biased(own, sums);
            let at = group.y * shape.n_rows + UNIT * unit;
            let n = shape.n_rows - UNIT * unit;
#if TAIL=gated
            let result = gated(v, v.zwzw);
            y[at] = result.x;
            if n > 1u {
                y[at + 1u] = result.y;
            }
#else
            y[at] = v.x;
            if n > 1u {
                y[at + 1u] = v.y;
            }
            if n > 2u {
                y[at + 2u] = v.z;
            }
            if n > 3u {
                y[at + 3u] = v.w;
            }
#endif
        }
    }
}
