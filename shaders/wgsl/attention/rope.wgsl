// Rotary position embedding (arXiv 2104.09864) of the first N_ROT dimensions of each head; the others pass through.
//
//   tokens  [n_tokens]
//   turns   [N_ROT / 2] f32, turns (of 2 pi) per position
//   factors [N_ROT / 2] f32, divisors of the frequency (Llama 3's long-context scaling; ones elsewhere)
//   x, y    [n_tokens, N_HEADS * HEAD_DIM] f32
//
// A pair is (2i, 2i+1), or (i, i + N_ROT/2) where NEOX is on. One thread a pair. Grid: x = pairs / 64, y = t.
#import common/step
#import common/token
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> turns: array<f32>;
@group(0) @binding(3) var<storage, read> factors: array<f32>;
@group(0) @binding(4) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

override N_HEADS: u32;
override HEAD_DIM: u32;
override N_ROT: u32;
override NEOX: bool;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let n_pairs = HEAD_DIM / 2u;
    if id.x >= N_HEADS * n_pairs || id.y >= step.n_tokens {
        return;
    }
    let head = (id.y * N_HEADS + id.x / n_pairs) * HEAD_DIM;
    let pair = id.x % n_pairs;
    let rotated = pair < N_ROT / 2u;
    var a = head + 2u * pair;
    var b = a + 1u;
    if NEOX && rotated {
        a = head + pair;
        b = a + N_ROT / 2u;
    }
    if !rotated {
        y[a] = x[a];
        y[b] = x[b];
        return;
    }
    // Reduced to a half turn first: WGSL promises the precision of sin and cos only there.
    let turn = f32(tokens[id.y].position) * (turns[pair] / factors[pair]);
    let angle = (turn - round(turn)) * 6.283185307179586;
    let c = cos(angle);
    let s = sin(angle);
    let u = x[a];
    let v = x[b];
    y[a] = u * c - v * s;
    y[b] = u * s + v * c;
}
