// A product of two matrices of f32, each with its own order of rows and columns:
// c[i, j] = factor * sum over k of a[i, k] * b[k, j]; or that is added, if `adds` is 1.
//
//   a  a[i, k] is number a_at + i * a_row + k * a_step
//   b  b[k, j] is number b_at + k * b_step + j * b_column
//   c  c[i, j] is number c_at + i * c_row + j
//
// A thread computes 4 x 4 numbers, a workgroup of 8 x 8 threads 32 x 32.
// Grid: x = n_columns / 32, y = n_rows / 32.
struct Shape {
    n_rows: u32,
    n_columns: u32,
    depth: u32,
    adds: u32,
    factor: f32,
    a_at: u32,
    a_row: u32,
    a_step: u32,
    b_at: u32,
    b_step: u32,
    b_column: u32,
    c_at: u32,
    c_row: u32,
}
@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) thread: vec3<u32>) {
    // A thread's rows and columns are 8 apart, so that threads side by side read numbers side by side. Those
    // beyond the end read the last one.
    let rows = vec4<u32>(group.y * 32u + thread.y) + vec4<u32>(0u, 8u, 16u, 24u);
    let columns = vec4<u32>(group.x * 32u + thread.x) + vec4<u32>(0u, 8u, 16u, 24u);
    var at = shape.a_at + min(rows, vec4<u32>(shape.n_rows - 1u)) * shape.a_row;
    var bt = shape.b_at + min(columns, vec4<u32>(shape.n_columns - 1u)) * shape.b_column;
    var sums: array<vec4<f32>, 4>;
    for (var k = 0u; k < shape.depth; k++) {
        let of_b = vec4<f32>(b[bt.x], b[bt.y], b[bt.z], b[bt.w]);
        sums[0] += a[at.x] * of_b;
        sums[1] += a[at.y] * of_b;
        sums[2] += a[at.z] * of_b;
        sums[3] += a[at.w] * of_b;
        at += shape.a_step;
        bt += shape.b_step;
    }
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            if rows[i] < shape.n_rows && columns[j] < shape.n_columns {
                let place = shape.c_at + rows[i] * shape.c_row + columns[j];
                var before = 0.0;
                if shape.adds == 1u {
                    before = c[place];
                }
                c[place] = before + shape.factor * sums[i][j];
            }
        }
    }
}
