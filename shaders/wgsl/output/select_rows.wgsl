// Copies the rows whose logits are wanted: y[o, :] = x[outputs[o].row, :].
//
//   x       [n_tokens, WIDTH] f32
//   outputs [n_outputs]
//   y       [n_outputs, WIDTH] f32
//
// Numbers are copied one or, where WIDTH is a multiple of 4, four at a time. One thread for each.
// Grid: x = WIDTH / NUMBERS / 64, y = n_outputs.
#import common/step
#import common/output
#if NUMBERS=4
alias Numbers = vec4<f32>;
#else
alias Numbers = f32;
#endif
@group(0) @binding(1) var<storage, read> x: array<Numbers>;
@group(0) @binding(2) var<storage, read> outputs: array<Output>;
@group(0) @binding(3) var<storage, read_write> y: array<Numbers>;

override WIDTH: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n = WIDTH / {NUMBERS}u;
    if id.x >= n || id.y >= step.n_outputs {
        return;
    }
    y[id.y * n + id.x] = x[outputs[id.y].row * n + id.x];
}
