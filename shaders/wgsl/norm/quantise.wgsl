// Quantises activations for the int8 kernels, in blocks of 32: scale = max |v| / 127, q = round(v / scale).
//
//   x        [step rows, WIDTH] f32, four per vec4
//   norm     [WIDTH] f32; if X is `normed`, x is RMS-normalised first (arXiv 1910.07467)
//   y        [step rows, WIDTH] i8, sixteen per vec4
//   y_scales [step rows, WIDTH / 32] (scale, scale * sum of the block's q)
//
// One workgroup of 64 threads per row; each thread takes one block at a time. Grid: x = 1, y = step rows.
#import common/rows
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
#if X=normed
@group(0) @binding(2) var<storage, read> norm: array<vec4<f32>>;
#endif
@group(0) @binding(3) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y_scales: array<vec2<f32>>;

override WIDTH: u32;
#if X=normed
#import common/sum
override EPS: f32;

fn norm_scale(row: u32, thread: u32) -> f32 {
    var sum = 0.0;
    for (var i = thread; i < WIDTH / 4u; i += 64u) {
        let v = x[row + i];
        sum += dot(v, v);
    }
    return inverseSqrt(sum_of_all(thread, sum) / f32(WIDTH) + EPS);
}
#endif

// Packs four numbers into bytes, the first in the lowest bits.
fn pack(v: vec4<i32>) -> u32 {
    let bytes = bitcast<vec4<u32>>(v) & vec4<u32>(255u);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    if group.y >= step_rows() {
        return;
    }
    let n_blocks = WIDTH / 32u;
    let row = group.y * (WIDTH / 4u);
#if X=normed
    let factor = norm_scale(row, thread);
#endif
    for (var b = thread; b < n_blocks; b += 64u) {
        var v: array<vec4<f32>, 8>;
        var most = vec4<f32>();
        for (var i = 0u; i < 8u; i++) {
#if X=normed
            v[i] = x[row + b * 8u + i] * norm[b * 8u + i] * factor;
#else
            v[i] = x[row + b * 8u + i];
#endif
            most = max(most, abs(v[i]));
        }
        let scale = max(max(most.x, most.y), max(most.z, most.w)) / 127.0;
        let inverse = select(0.0, 1.0 / scale, scale > 0.0);
        var words: array<u32, 8>;
        var sum = vec4<i32>();
        for (var i = 0u; i < 8u; i++) {
            let q = vec4<i32>(round(v[i] * inverse));
            sum += q;
            words[i] = pack(q);
        }
        let at = group.y * n_blocks + b;
        y[2u * at] = vec4<u32>(words[0], words[1], words[2], words[3]);
        y[2u * at + 1u] = vec4<u32>(words[4], words[5], words[6], words[7]);
        y_scales[at] = vec2<f32>(scale, scale * f32(sum.x + sum.y + sum.z + sum.w));
    }
}
