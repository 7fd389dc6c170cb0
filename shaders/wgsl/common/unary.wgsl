// A function of each number. 0: none, 1: SiLU (arXiv 1702.03118), 2: GELU by its tanh approximation
// (arXiv 1606.08415), 3: GELU, 4: GELU by x * sigmoid(1.702 x), 5: ReLU, 6: squared ReLU (arXiv 2109.08668),
// 7: PARAMETER * x, 8: PARAMETER * tanh(x / PARAMETER), 9: x between -PARAMETER and PARAMETER.
override FUNCTION: u32 = 0u;
override PARAMETER: f32 = 0.0;

// exp and tanh overflow for large arguments, where the result is 0 or x in f32. The clamps keep the result
// correct on implementations that assume finite arithmetic.
fn sigmoid(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(1.0) / (vec4<f32>(1.0) + exp(min(-x, vec4<f32>(80.0))));
}

fn safe_tanh(x: vec4<f32>) -> vec4<f32> {
    return tanh(clamp(x, vec4<f32>(-40.0), vec4<f32>(40.0)));
}

// What the normal distribution has beyond |x| on both sides, by Abramowitz and Stegun 7.1.26.
fn tails(x: vec4<f32>) -> vec4<f32> {
    let z = min(abs(x) * 0.70710678, vec4<f32>(8.0));
    let t = vec4<f32>(1.0) / (vec4<f32>(1.0) + 0.3275911 * z);
    let p = ((((1.0614054 * t - 1.453152) * t + 1.4214137) * t - 0.28449674) * t + 0.2548296) * t;
    return p * exp(-z * z);
}

fn unary(x: vec4<f32>) -> vec4<f32> {
    if FUNCTION == 1u {
        return x * sigmoid(x);
    }
    if FUNCTION == 2u {
        return 0.5 * x * (1.0 + safe_tanh(0.7978846 * (x + 0.044715 * x * x * x)));
    }
    if FUNCTION == 3u {
        return max(x, vec4<f32>()) - 0.5 * abs(x) * tails(x);
    }
    if FUNCTION == 4u {
        return x * sigmoid(1.702 * x);
    }
    if FUNCTION == 5u {
        return max(x, vec4<f32>());
    }
    if FUNCTION == 6u {
        let positive = max(x, vec4<f32>());
        return positive * positive;
    }
    if FUNCTION == 7u {
        return PARAMETER * x;
    }
    if FUNCTION == 8u {
        return PARAMETER * safe_tanh(x / PARAMETER);
    }
    if FUNCTION == 9u {
        return clamp(x, vec4<f32>(-PARAMETER), vec4<f32>(PARAMETER));
    }
    return x;
}
