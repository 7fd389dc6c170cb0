// 0: none, 1: SiLU (arXiv 1702.03118), 2: GELU, tanh approximation (arXiv 1606.08415).
override ACTIVATION: u32 = 0u;

// exp and tanh overflow for large arguments, where the result is 0 or x in f32. The clamps keep the result
// correct on implementations that assume finite arithmetic.
fn activate(x: vec4<f32>) -> vec4<f32> {
    if ACTIVATION == 1u {
        return x / (vec4<f32>(1.0) + exp(min(-x, vec4<f32>(80.0))));
    }
    if ACTIVATION == 2u {
        let inner = clamp(0.7978846 * (x + 0.044715 * x * x * x), vec4<f32>(-40.0), vec4<f32>(40.0));
        return 0.5 * x * (1.0 + tanh(inner));
    }
    return x;
}
