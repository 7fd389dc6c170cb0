// Stores the sums, or a function of them. A unit is four neighbouring rows of the weight.
//   y  [step rows, out_width] f32
#import matmul/bias
#import common/unary
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

fn n_units() -> u32 {
    return (shape.n_rows + 3u) / 4u;
}

// Rows past the last repeat it; their sums are not stored.
fn unit_rows(unit: u32) -> vec4<u32> {
    return min(vec4<u32>(4u * unit) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(shape.n_rows - 1u));
}

fn store(t: u32, unit: u32, sums: vec4<f32>) {
    let v = unary(biased(unit_rows(unit) + vec4<u32>(shape.first_row), sums));
    let at = t * shape.out_width + shape.first_row + 4u * unit;
    let n = shape.n_rows - 4u * unit;
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
}
