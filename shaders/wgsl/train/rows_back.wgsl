// The gradient of chosen rows, added to those that they were copied from: dx[outputs[o].row, :] += dy[o, :].
//
//   outputs  [n_outputs]; several may have the same row
//   dy       [n_outputs, WIDTH] f32
//   dx       [n_tokens, WIDTH] f32
//
// One thread per number of dx. Grid: x = WIDTH / 64, y = n_tokens.
#import common/step
#import common/output
@group(0) @binding(1) var<storage, read> outputs: array<Output>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;

override WIDTH: u32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= WIDTH || id.y >= step.n_tokens {
        return;
    }
    var sum = dx[id.y * WIDTH + id.x];
    for (var o = 0u; o < step.n_outputs; o++) {
        if outputs[o].row == id.y {
            sum += dy[o * WIDTH + id.x];
        }
    }
    dx[id.y * WIDTH + id.x] = sum;
}
