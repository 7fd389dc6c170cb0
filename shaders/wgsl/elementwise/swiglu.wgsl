// SwiGLU (arXiv 2002.05202): y = gate / (1 + exp(-gate)) * up, all [n_rows, WIDTH] f32, four a vec4.
// One thread a vec4. Grid: x = WIDTH / 256, y = rows.
#import common/rows
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

override WIDTH: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= WIDTH / 4u || id.y >= n_rows() {
        return;
    }
    let i = id.y * (WIDTH / 4u) + id.x;
    let g = gate[i];
    // exp overflows to infinity below -88, where silu is zero to f32's precision; the clamp keeps implementations that assume
    // finite arithmetic right.
    y[i] = g / (vec4<f32>(1.0) + exp(min(-g, vec4<f32>(80.0)))) * up[i];
}
