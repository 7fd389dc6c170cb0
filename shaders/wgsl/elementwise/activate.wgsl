// Activation: y = activation(x), both [step rows, WIDTH] f32, four per vec4.
// One thread per vec4. Grid: x = WIDTH / 256, y = step rows.
#import common/rows
#import common/activation
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

override WIDTH: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= WIDTH / 4u || id.y >= step_rows() {
        return;
    }
    let i = id.y * (WIDTH / 4u) + id.x;
    y[i] = activate(x[i]);
}
