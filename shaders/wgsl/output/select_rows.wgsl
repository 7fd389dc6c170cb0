// Copies the rows whose logits are wanted: y[o, :] = x[outputs[o].row, :].
//
//   x       [n_tokens, WIDTH] f32, four per vec4
//   outputs [n_outputs]
//   y       [n_outputs, WIDTH] f32, four per vec4
//
// One thread per vec4. Grid: x = WIDTH / 256, y = n_outputs.
#import common/step
#import common/output
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> outputs: array<Output>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

override WIDTH: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = WIDTH / 4u;
    if id.x >= n || id.y >= step.n_outputs {
        return;
    }
    y[id.y * n + id.x] = x[outputs[id.y].row * n + id.x];
}
