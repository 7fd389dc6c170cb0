#import common/unary
// Numbers of the gate and its partner are clamped to this, and 1 is added to the partner's; 0: none of that.
override LIMIT: f32 = 0.0;

// A gate and its partner (arXiv 2002.05202).
fn gated(gate: vec4<f32>, up: vec4<f32>) -> vec4<f32> {
    if LIMIT > 0.0 {
        let limit = vec4<f32>(LIMIT);
        return unary(min(gate, limit)) * (clamp(up, -limit, limit) + vec4<f32>(1.0));
    }
    return unary(gate) * up;
}
