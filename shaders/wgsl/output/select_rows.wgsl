// Picks the rows whose logits are wanted: y[o, :] = x[outputs[o].x, :].
//
//   x       [n_tokens, WIDTH] f32, four a vec4
//   outputs [n_outputs], (row of the step, target token) each
//   y       [n_outputs, WIDTH] f32, four a vec4
//
// One thread a vec4. Grid: x = WIDTH / 256, y = o.
#import common/step
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> outputs: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

override WIDTH: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = WIDTH / 4u;
    if id.x >= n || id.y >= step.n_outputs {
        return;
    }
    y[id.y * n + id.x] = x[outputs[id.y].x * n + id.x];
}
