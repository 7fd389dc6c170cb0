// A step of AdamW (arXiv 1711.05101): clips the gradient g and changes moments m, v and parameters p:
// m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, p -= decay p + rate m / (sqrt(v) / root + eps).
// Where the gradient's norm is not finite, nothing changes.
//
//   square                                [1] f32: the square of the norm of all gradients together
//   gradient, parameters, first, second  [update.n] f32: g, p, m, v
//
// A workgroup of 64 threads takes 1024 numbers. Grid: x = update.n / 1024.
struct Update {
    n: u32,
    rate: f32,
    root: f32,
    decay: f32,
    beta1: f32,
    beta2: f32,
    eps: f32,
    clip: f32,
}
@group(0) @binding(0) var<uniform> update: Update;
@group(0) @binding(1) var<storage, read> square: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(3) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(4) var<storage, read_write> first: array<f32>;
@group(0) @binding(5) var<storage, read_write> second: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    // By its bits: compilers may assume that numbers are finite.
    if (bitcast<u32>(square[0]) & 0x7f800000u) == 0x7f800000u {
        return;
    }
    let factor = min(update.clip / (sqrt(square[0]) + 1e-6), 1.0);
    let end = min((group.x + 1u) * 1024u, update.n);
    for (var i = group.x * 1024u + thread; i < end; i += 64u) {
        let g = factor * gradient[i];
        gradient[i] = g;
        let m = update.beta1 * first[i] + (1.0 - update.beta1) * g;
        let v = update.beta2 * second[i] + (1.0 - update.beta2) * g * g;
        first[i] = m;
        second[i] = v;
        let p = parameters[i];
        parameters[i] = p - (update.decay * p + update.rate * m / (sqrt(v) / update.root + update.eps));
    }
}
