// Matrix times matrix, for prefill on GPUs: y[t, first_row + r] = sum over c of w[r, c] * x[t, c].
//
//   x               [step rows, n_cols], see x/
//   quants, scales  w [n_rows, n_cols] in blocks of 32, see weight/; w_row is its first row in the buffer
//   y               [step rows, out_width] f32
//
// A workgroup of 64 threads (8 x 8) computes a tile of TILE (64 or 32) step rows by 64 weight rows. A thread
// computes 8 x 8 results of a tile of 64, or 4 x 8 of a tile of 32, as quads of rows. For each block of 32
// columns, the tiles of x and w are staged in workgroup memory with four rows per vector: per column, a
// thread needs four loads for 64 products, or three for 32. STAGED=f32 and f16 stage dequantised numbers;
// sums are f32. STAGED=int8 stages four columns per word and scales the dot products once per block. The
// shape is in a uniform buffer, see shape. Grid: x = weight tiles, y = step tiles.
//
// EXPERTS=experts: w has N_EXPERTS matrices from FIRST_EXPERT on. A tile is pairs of a row and one expert,
// see experts/sort. SAME pairs read the same row of x; y is [pairs, n_rows]. Grid: y = tiles of pairs.
#if STAGED=f16
enable f16;
alias Staged = vec4<f16>;
#endif
#if STAGED=f32
alias Staged = vec4<f32>;
#endif
#if STAGED=int8
alias Staged = vec4<u32>;
#endif
#import common/rows
#import matmul/shape
#import weight/{WEIGHT}
#if STAGED=int8
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(5) var<storage, read> x_scales: array<vec2<f32>>;
#else
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
#endif
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

#if EXPERTS=experts
#import matmul/bias
@group(0) @binding(6) var<storage, read> sorted: array<u32>;

override PAIRS_AT: u32;
override SAME: u32;
override FIRST_EXPERT: u32;
override N_EXPERTS: u32;

// The tile's expert among those of w, and the place after the tile's last pair.
var<private> own: u32;
var<private> end: u32;

fn x_row(place: u32) -> u32 {
    return sorted[PAIRS_AT + place] / SAME;
}
#endif

const TILE = {TILE}u;
// Quads of step rows.
const QUADS = TILE / 4u;

// Element k * QUADS + q of x_tile, and k * 16 + q of w_tile, is column k (int8: columns 4k .. 4k + 4) of rows
// 4q .. 4q + 4.
#if STAGED=int8
var<workgroup> x_tile: array<Staged, 8u * QUADS>;
var<workgroup> w_tile: array<Staged, 128>;
// (scale, sum) per row of activations, (scale, offset) per row of weights.
var<workgroup> x_tile_scales: array<vec2<f32>, TILE>;
var<workgroup> w_tile_scales: array<vec2<f32>, 64>;
#else
var<workgroup> x_tile: array<Staged, 32u * QUADS>;
var<workgroup> w_tile: array<Staged, 512>;
#endif

#if EXPERTS=experts
fn store_quad(place: u32, row: u32, sums: vec4<f32>) {
    if place >= end {
        return;
    }
    let first_bias = (FIRST_EXPERT + own) * shape.n_rows;
    let results = biased(vec4<u32>(first_bias + row) + vec4<u32>(0u, 1u, 2u, 3u), sums);
    let at = sorted[PAIRS_AT + place] * shape.n_rows + row;
    for (var j = 0u; j < 4u; j++) {
        if row + j < shape.n_rows {
            y[at + j] = results[j];
        }
    }
}
#else
fn store_quad(t: u32, row: u32, sums: vec4<f32>) {
    if t >= step_rows() {
        return;
    }
    for (var j = 0u; j < 4u; j++) {
        if row + j < shape.n_rows {
            y[t * shape.out_width + shape.first_row + row + j] = sums[j];
        }
    }
}
#endif

#if STAGED=int8
// Dot products of one word of activations with four words of weights.
fn dots(x: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(dot4I8Packed(x, w.x), dot4I8Packed(x, w.y), dot4I8Packed(x, w.z), dot4I8Packed(x, w.w));
}

fn scaled(t: u32, quad: u32, sums: vec4<i32>) -> vec4<f32> {
    let s = x_tile_scales[t];
    let a = w_tile_scales[4u * quad];
    let b = w_tile_scales[4u * quad + 1u];
    let c = w_tile_scales[4u * quad + 2u];
    let d = w_tile_scales[4u * quad + 3u];
    return vec4<f32>(a.x, b.x, c.x, d.x) * s.x * vec4<f32>(sums) + vec4<f32>(a.y, b.y, c.y, d.y) * s.y;
}

fn stage(thread: u32, first_t: u32, first_row: u32, b: u32, n_blocks: u32) {
    let q = thread % 16u;
    let t = vec4<u32>(first_t + 4u * q) + vec4<u32>(0u, 1u, 2u, 3u);
    let r = vec4<u32>(first_row + 4u * q) + vec4<u32>(0u, 1u, 2u, 3u);
    // Rows past the last repeat it; their sums are not stored.
    let ti = min(t, vec4<u32>(step_rows() - 1u)) * n_blocks + vec4<u32>(b);
    let wi = (min(r, vec4<u32>(shape.n_rows - 1u)) + vec4<u32>(shape.w_row)) * n_blocks + vec4<u32>(b);
    for (var k = thread / 16u; k < 8u; k += 4u) {
        if q < QUADS {
            let at = ti * 8u + vec4<u32>(k);
            x_tile[k * QUADS + q] = vec4<u32>(x[at.x], x[at.y], x[at.z], x[at.w]);
        }
        w_tile[k * 16u + q] = vec4<u32>(
            load_word(wi.x, k), load_word(wi.y, k), load_word(wi.z, k), load_word(wi.w, k),
        );
    }
    if thread < TILE {
        x_tile_scales[thread] = x_scales[min(first_t + thread, step_rows() - 1u) * n_blocks + b];
    }
    let w_row = min(first_row + thread, shape.n_rows - 1u) + shape.w_row;
    w_tile_scales[thread] = scale_and_offset(w_row * n_blocks + b);
}
#else
fn stage(thread: u32, first_t: u32, first_row: u32, b: u32, n_blocks: u32) {
    let q = thread % 16u;
    let t = vec4<u32>(first_t + 4u * q) + vec4<u32>(0u, 1u, 2u, 3u);
    let r = vec4<u32>(first_row + 4u * q) + vec4<u32>(0u, 1u, 2u, 3u);
    // Rows past the last repeat it; their sums are not stored.
#if EXPERTS=experts
    let places = min(t, vec4<u32>(end - 1u));
    let x_rows = vec4<u32>(x_row(places.x), x_row(places.y), x_row(places.z), x_row(places.w));
    let w_row = shape.w_row + own * shape.n_rows;
#else
    let x_rows = min(t, vec4<u32>(step_rows() - 1u));
    let w_row = shape.w_row;
#endif
    let ti = (x_rows * n_blocks + vec4<u32>(b)) * 8u;
    let wi = (min(r, vec4<u32>(shape.n_rows - 1u)) + vec4<u32>(w_row)) * n_blocks + vec4<u32>(b);
    for (var k = thread / 16u; k < 8u; k += 4u) {
        if q < QUADS {
            let xs = transpose(mat4x4<f32>(x[ti.x + k], x[ti.y + k], x[ti.z + k], x[ti.w + k]));
            let at = 4u * QUADS * k + q;
            x_tile[at] = Staged(xs[0]);
            x_tile[at + QUADS] = Staged(xs[1]);
            x_tile[at + 2u * QUADS] = Staged(xs[2]);
            x_tile[at + 3u * QUADS] = Staged(xs[3]);
        }
        let ws = transpose(mat4x4<f32>(
            load_quad(wi.x, k), load_quad(wi.y, k), load_quad(wi.z, k), load_quad(wi.w, k),
        ));
        let at = 64u * k + q;
        w_tile[at] = Staged(ws[0]);
        w_tile[at + 16u] = Staged(ws[1]);
        w_tile[at + 32u] = Staged(ws[2]);
        w_tile[at + 48u] = Staged(ws[3]);
    }
}
#endif

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_row = group.x * 64u;
#if EXPERTS=experts
    if group.y >= sorted[0] {
        return;
    }
    let expert = sorted[1u + 3u * group.y];
    if expert < FIRST_EXPERT || expert >= FIRST_EXPERT + N_EXPERTS {
        return;
    }
    let first_t = sorted[2u + 3u * group.y];
    own = expert - FIRST_EXPERT;
    end = sorted[3u + 3u * group.y];
#else
    let first_t = group.y * TILE;
    if first_t >= step_rows() {
        return;
    }
#endif
    let n_blocks = shape.n_cols / 32u;
    let tr = thread % 8u;
    let tt = thread / 8u;
    // a{i} is row 4 tt + i of the step, b{i} is row 32 + 4 tt + i; `low` is weight rows 4 tr .. 4 tr + 4,
    // `high` is weight rows 32 + 4 tr .. 32 + 4 tr + 4.
    var a0_low = vec4<f32>();
    var a1_low = vec4<f32>();
    var a2_low = vec4<f32>();
    var a3_low = vec4<f32>();
#if TILE=64
    var b0_low = vec4<f32>();
    var b1_low = vec4<f32>();
    var b2_low = vec4<f32>();
    var b3_low = vec4<f32>();
#endif
    var a0_high = vec4<f32>();
    var a1_high = vec4<f32>();
    var a2_high = vec4<f32>();
    var a3_high = vec4<f32>();
#if TILE=64
    var b0_high = vec4<f32>();
    var b1_high = vec4<f32>();
    var b2_high = vec4<f32>();
    var b3_high = vec4<f32>();
#endif
    for (var block = 0u; block < n_blocks; block++) {
        workgroupBarrier();
        stage(thread, first_t, first_row, block, n_blocks);
        workgroupBarrier();
#if STAGED=int8
        var i0_low = vec4<i32>();
        var i1_low = vec4<i32>();
        var i2_low = vec4<i32>();
        var i3_low = vec4<i32>();
#if TILE=64
        var j0_low = vec4<i32>();
        var j1_low = vec4<i32>();
        var j2_low = vec4<i32>();
        var j3_low = vec4<i32>();
#endif
        var i0_high = vec4<i32>();
        var i1_high = vec4<i32>();
        var i2_high = vec4<i32>();
        var i3_high = vec4<i32>();
#if TILE=64
        var j0_high = vec4<i32>();
        var j1_high = vec4<i32>();
        var j2_high = vec4<i32>();
        var j3_high = vec4<i32>();
#endif
        for (var k = 0u; k < 8u; k++) {
            let xa = x_tile[k * QUADS + tt];
            let low = w_tile[k * 16u + tr];
            let high = w_tile[k * 16u + tr + 8u];
#if TILE=64
            let xb = x_tile[k * QUADS + tt + 8u];
#endif
            i0_low += dots(xa.x, low);
            i1_low += dots(xa.y, low);
            i2_low += dots(xa.z, low);
            i3_low += dots(xa.w, low);
#if TILE=64
            j0_low += dots(xb.x, low);
            j1_low += dots(xb.y, low);
            j2_low += dots(xb.z, low);
            j3_low += dots(xb.w, low);
#endif
            i0_high += dots(xa.x, high);
            i1_high += dots(xa.y, high);
            i2_high += dots(xa.z, high);
            i3_high += dots(xa.w, high);
#if TILE=64
            j0_high += dots(xb.x, high);
            j1_high += dots(xb.y, high);
            j2_high += dots(xb.z, high);
            j3_high += dots(xb.w, high);
#endif
        }
        let ta = 4u * tt;
#if TILE=64
        let tb = 32u + 4u * tt;
#endif
        a0_low += scaled(ta, tr, i0_low);
        a1_low += scaled(ta + 1u, tr, i1_low);
        a2_low += scaled(ta + 2u, tr, i2_low);
        a3_low += scaled(ta + 3u, tr, i3_low);
#if TILE=64
        b0_low += scaled(tb, tr, j0_low);
        b1_low += scaled(tb + 1u, tr, j1_low);
        b2_low += scaled(tb + 2u, tr, j2_low);
        b3_low += scaled(tb + 3u, tr, j3_low);
#endif
        a0_high += scaled(ta, tr + 8u, i0_high);
        a1_high += scaled(ta + 1u, tr + 8u, i1_high);
        a2_high += scaled(ta + 2u, tr + 8u, i2_high);
        a3_high += scaled(ta + 3u, tr + 8u, i3_high);
#if TILE=64
        b0_high += scaled(tb, tr + 8u, j0_high);
        b1_high += scaled(tb + 1u, tr + 8u, j1_high);
        b2_high += scaled(tb + 2u, tr + 8u, j2_high);
        b3_high += scaled(tb + 3u, tr + 8u, j3_high);
#endif
#else
        for (var k = 0u; k < 32u; k++) {
            let xa = vec4<f32>(x_tile[k * QUADS + tt]);
            let low = vec4<f32>(w_tile[k * 16u + tr]);
            let high = vec4<f32>(w_tile[k * 16u + tr + 8u]);
#if TILE=64
            let xb = vec4<f32>(x_tile[k * QUADS + tt + 8u]);
#endif
            a0_low += xa.x * low;
            a1_low += xa.y * low;
            a2_low += xa.z * low;
            a3_low += xa.w * low;
#if TILE=64
            b0_low += xb.x * low;
            b1_low += xb.y * low;
            b2_low += xb.z * low;
            b3_low += xb.w * low;
#endif
            a0_high += xa.x * high;
            a1_high += xa.y * high;
            a2_high += xa.z * high;
            a3_high += xa.w * high;
#if TILE=64
            b0_high += xb.x * high;
            b1_high += xb.y * high;
            b2_high += xb.z * high;
            b3_high += xb.w * high;
#endif
        }
#endif
    }
    let t = first_t + 4u * tt;
    let low = first_row + 4u * tr;
    let high = low + 32u;
    store_quad(t, low, a0_low);
    store_quad(t + 1u, low, a1_low);
    store_quad(t + 2u, low, a2_low);
    store_quad(t + 3u, low, a3_low);
#if TILE=64
    store_quad(t + 32u, low, b0_low);
    store_quad(t + 33u, low, b1_low);
    store_quad(t + 34u, low, b2_low);
    store_quad(t + 35u, low, b3_low);
#endif
    store_quad(t, high, a0_high);
    store_quad(t + 1u, high, a1_high);
    store_quad(t + 2u, high, a2_high);
    store_quad(t + 3u, high, a3_high);
#if TILE=64
    store_quad(t + 32u, high, b0_high);
    store_quad(t + 33u, high, b1_high);
    store_quad(t + 34u, high, b2_high);
    store_quad(t + 35u, high, b3_high);
#endif
}
