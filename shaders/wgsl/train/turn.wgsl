// Rotary embedding (arXiv 2104.09864): y = x, with the first N_ROT numbers of each head turned. With WAY = -1
// they are turned back and added to y, which is the gradient.
//
//   x, y   [n_tokens, WIDTH] f32, in heads of HEAD_DIM
//   table  [n_tokens, N_ROT / 2] cosines and sines
//
// One thread per number. Grid: x = WIDTH / 64, y = n_tokens.
#import common/step
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

override WIDTH: u32;
override HEAD_DIM: u32;
override N_ROT: u32;
// Whether pairs are (i, i + N_ROT / 2) instead of (2i, 2i + 1).
override NEOX: bool;
override WAY: f32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= WIDTH || id.y >= step.n_tokens {
        return;
    }
    let at = id.y * WIDTH + id.x;
    let place = id.x % HEAD_DIM;
    var turned = x[at];
    if place < N_ROT {
        let half = N_ROT / 2u;
        let pair = select(place / 2u, place % half, NEOX);
        let is_second = select(place % 2u == 1u, place >= half, NEOX);
        let distance = select(1u, half, NEOX);
        let angle = table[id.y * half + pair];
        if is_second {
            turned = x[at] * angle.x + WAY * x[at - distance] * angle.y;
        } else {
            turned = x[at] * angle.x - WAY * x[at + distance] * angle.y;
        }
    }
    if WAY < 0.0 {
        turned += y[at];
    }
    y[at] = turned;
}
