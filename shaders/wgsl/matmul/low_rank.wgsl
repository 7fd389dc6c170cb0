// Low-rank paths beside products (arXiv 2106.09685): y[t] += b · low[t], where low[t] = a · x[t] has been
// computed before. Each product has its own columns of b; the others are zero.
//   paths  where these columns are
//   low    [8 step rows, low_width] f32, eight per element, so that bounds are checked once
//   b      [rows of products with a path, b_width] f32, likewise
#if BIAS=low|bias_low
struct Path {
    first: u32,  // the product's first row; no row is as great if there is no such product
    b_row: u32,  // that row in b
    begin: u32,  // its columns, in eights
    end: u32,
}
struct Paths {
    low_width: u32,  // in eights
    b_width: u32,    // likewise
    unused0: u32,
    unused1: u32,
    all: array<Path, 3>,
}
@group(0) @binding(12) var<uniform> paths: Paths;
@group(0) @binding(13) var<uniform> low: array<array<vec4<f32>, 2>, 512>;
@group(0) @binding(14) var<storage, read> b: array<array<vec4<f32>, 2>>;

// Where rows of b begin.
fn begins(path: Path, rows: vec2<u32>) -> vec2<u32> {
    return (rows - vec2<u32>(path.first) + vec2<u32>(path.b_row)) * paths.b_width;
}

// The path of a unit's first two rows.
fn first_path(rows: vec4<u32>) -> Path {
#if OUTPUT=plain|heads
    if rows.x >= paths.all[2].first {
        return paths.all[2];
    }
    if rows.x >= paths.all[1].first {
        return paths.all[1];
    }
#endif
    return paths.all[0];
}

// The path of its last two rows: only a gate and its partner are two products.
fn last_path(rows: vec4<u32>) -> Path {
#if OUTPUT=gated
    return paths.all[1];
#else
    return first_path(rows);
#endif
}

// What a lane has of the sums of two rows of a product.
fn low_pair(path: Path, t: u32, rows: vec2<u32>, lane: u32) -> vec2<f32> {
    let at = begins(path, rows);
    var sums = vec2<f32>();
    for (var i = path.begin + lane; i < path.end; i += LANES) {
        let v = low[t * paths.low_width + i];
        let x = b[at.x + i];
        let y = b[at.y + i];
        sums += vec2<f32>(dot(x[0], v[0]) + dot(x[1], v[1]), dot(y[0], v[0]) + dot(y[1], v[1]));
    }
    return sums;
}

// The same for four step rows, each a component.
fn low_pairs(path: Path, t: vec4<u32>, rows: vec2<u32>, lane: u32) -> mat2x4<f32> {
    let at = begins(path, rows);
    let low_at = t * paths.low_width;
    var sums = mat2x4<f32>();
    for (var i = path.begin + lane; i < path.end; i += LANES) {
        let v0 = low[low_at.x + i];
        let v1 = low[low_at.y + i];
        let v2 = low[low_at.z + i];
        let v3 = low[low_at.w + i];
        let first = mat4x4<f32>(v0[0], v1[0], v2[0], v3[0]);
        let last = mat4x4<f32>(v0[1], v1[1], v2[1], v3[1]);
        let x = b[at.x + i];
        let y = b[at.y + i];
        sums += mat2x4<f32>(x[0] * first + x[1] * last, y[0] * first + y[1] * last);
    }
    return sums;
}

// The sums of the four rows of a unit.
fn low_rank(t: u32, rows: vec4<u32>, lane: u32) -> vec4<f32> {
    let path = first_path(rows);
#if OUTPUT=gated
    return vec4<f32>(low_pair(path, t, rows.xy, lane), low_pair(last_path(rows), t, rows.zw, lane));
#else
    let at = vec4<u32>(begins(path, rows.xy), begins(path, rows.zw));
    var sums = vec4<f32>();
    for (var i = path.begin + lane; i < path.end; i += LANES) {
        let v = low[t * paths.low_width + i];
        let x = b[at.x + i];
        let y = b[at.y + i];
        let z = b[at.z + i];
        let w = b[at.w + i];
        sums += vec4<f32>(dot(x[0], v[0]), dot(y[0], v[0]), dot(z[0], v[0]), dot(w[0], v[0]))
            + vec4<f32>(dot(x[1], v[1]), dot(y[1], v[1]), dot(z[1], v[1]), dot(w[1], v[1]));
    }
    return sums;
#endif
}

// The same for four step rows, each a column.
fn low_ranks(t: vec4<u32>, rows: vec4<u32>, lane: u32) -> mat4x4<f32> {
    let first = low_pairs(first_path(rows), t, rows.xy, lane);
    let last = low_pairs(last_path(rows), t, rows.zw, lane);
    return transpose(mat4x4<f32>(first[0], first[1], last[0], last[1]));
}
#endif
