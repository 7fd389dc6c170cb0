// Cosines and sines of rotary position embedding (arXiv 2104.09864) for the rows of a step. All layers share
// the table.
//
//   tokens  [n_tokens]
//   turns   [N_ROT / 2] f32, full turns per position
//   factors [N_ROT / 2] f32, divisors of `turns` (scaling for long contexts; otherwise 1)
//   y       [n_tokens, N_ROT / 2] (cosine, sine), both times MAGNITUDE
//
// One thread per pair. Grid: x = pairs / 64, y = n_tokens.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> turns: array<f32>;
@group(0) @binding(3) var<storage, read> factors: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec2<f32>>;

override N_ROT: u32;
override MAGNITUDE: f32;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_pairs = N_ROT / 2u;
    if id.x >= n_pairs || id.y >= step.n_tokens {
        return;
    }
    // WGSL guarantees the precision of sin and cos only from -pi to pi.
    let turn = f32(tokens[id.y].position) * (turns[id.x] / factors[id.x]);
    let angle = (turn - round(turn)) * 6.283185307179586;
    y[id.y * n_pairs + id.x] = MAGNITUDE * vec2<f32>(cos(angle), sin(angle));
}
