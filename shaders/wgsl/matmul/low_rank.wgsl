// Low-rank paths beside products (arXiv 2106.09685): y[t] += b · low[t], where low[t] = a · x[t] has been
// computed before. Each product has its own columns of b; the others are zero.
//   paths  where these columns are
//   low    [8 step rows, low_width] f32, four per vec4
//   b      [rows of products with a path, b_width] f32, likewise
#if BIAS=low|bias_low
struct Path {
    first: u32,  // the product's first row; no row is as great if there is no such product
    b_row: u32,  // that row in b
    begin: u32,  // its columns, in fours
    end: u32,
}
struct Paths {
    low_width: u32,  // in fours
    b_width: u32,    // likewise
    unused0: u32,
    unused1: u32,
    all: array<Path, 3>,
}
@group(0) @binding(12) var<uniform> paths: Paths;
@group(0) @binding(13) var<uniform> low: array<vec4<f32>, 1024>;
@group(0) @binding(14) var<storage, read> b: array<vec4<f32>>;

fn path_of(row: u32) -> Path {
    if row >= paths.all[2].first {
        return paths.all[2];
    }
    if row >= paths.all[1].first {
        return paths.all[1];
    }
    return paths.all[0];
}

// What a lane has of the sums of two rows of a product.
fn low_pair(t: u32, rows: vec2<u32>, lane: u32) -> vec2<f32> {
    let path = path_of(rows.x);
    let at = (rows - vec2<u32>(path.first) + vec2<u32>(path.b_row)) * paths.b_width;
    var sums = vec2<f32>();
    for (var i = path.begin + lane; i < path.end; i += LANES) {
        let v = low[t * paths.low_width + i];
        sums += vec2<f32>(dot(b[at.x + i], v), dot(b[at.y + i], v));
    }
    return sums;
}

// The same for four step rows, each a component.
fn low_pairs(t: vec4<u32>, rows: vec2<u32>, lane: u32) -> mat2x4<f32> {
    let path = path_of(rows.x);
    let at = (rows - vec2<u32>(path.first) + vec2<u32>(path.b_row)) * paths.b_width;
    let low_at = t * paths.low_width;
    var sums = mat2x4<f32>();
    for (var i = path.begin + lane; i < path.end; i += LANES) {
        let v = mat4x4<f32>(low[low_at.x + i], low[low_at.y + i], low[low_at.z + i], low[low_at.w + i]);
        sums += mat2x4<f32>(b[at.x + i] * v, b[at.y + i] * v);
    }
    return sums;
}

// The sums of the four rows of a unit, of which the first two and the last two are of one product each.
fn low_rank(t: u32, rows: vec4<u32>, lane: u32) -> vec4<f32> {
    return vec4<f32>(low_pair(t, rows.xy, lane), low_pair(t, rows.zw, lane));
}

// The same for four step rows, each a column.
fn low_ranks(t: vec4<u32>, rows: vec4<u32>, lane: u32) -> mat4x4<f32> {
    let first = low_pairs(t, rows.xy, lane);
    let last = low_pairs(t, rows.zw, lane);
    return transpose(mat4x4<f32>(first[0], first[1], last[0], last[1]));
}
#endif
