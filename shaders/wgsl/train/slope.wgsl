// The gradient of an elementwise op by one of its numbers, added to da: da += dy, f'(a) dy, dy b, or the
// slopes of a gate (OP=gate) and of its partner (OP=partner) times dy.
//
//   a, b, dy, da  [step rows, WIDTH] f32; for a gate, a is the gate and b its partner
//
// One thread per number. Grid: x = WIDTH / 64, y = step rows.
#import common/rows
#import common/gate
#if OP=unary|gate|partner
@group(0) @binding(1) var<storage, read> a: array<f32>;
#endif
#if OP=mul|gate|partner
@group(0) @binding(2) var<storage, read> b: array<f32>;
#endif
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> da: array<f32>;

override WIDTH: u32;

fn swish_slope(x: f32, factor: f32) -> f32 {
    let s = sigmoid(vec4<f32>(factor * x)).x;
    return s + factor * x * s * (1.0 - s);
}

// The slope of common/unary.
fn slope(x: f32) -> f32 {
    if FUNCTION == 1u {
        return swish_slope(x, 1.0);
    }
    if FUNCTION == 2u {
        let t = safe_tanh(vec4<f32>(0.7978846 * (x + 0.044715 * x * x * x))).x;
        return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * 0.7978846 * (1.0 + 0.134145 * x * x);
    }
    if FUNCTION == 3u {
        let beyond = 0.5 * tails(vec4<f32>(x)).x;
        return select(beyond, 1.0 - beyond, x > 0.0) + x * exp(max(-0.5 * x * x, -80.0)) * 0.39894228;
    }
    if FUNCTION == 4u {
        return swish_slope(x, 1.702);
    }
    if FUNCTION == 5u {
        return select(0.0, 1.0, x > 0.0);
    }
    if FUNCTION == 6u {
        return 2.0 * max(x, 0.0);
    }
    if FUNCTION == 7u {
        return PARAMETER;
    }
    if FUNCTION == 8u {
        let t = safe_tanh(vec4<f32>(x / PARAMETER)).x;
        return 1.0 - t * t;
    }
    if FUNCTION == 9u {
        return select(0.0, 1.0, abs(x) <= PARAMETER);
    }
    return 1.0;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= WIDTH || id.y >= step_rows() {
        return;
    }
    let i = id.y * WIDTH + id.x;
#if OP=add
    da[i] += dy[i];
#endif
#if OP=mul
    da[i] += dy[i] * b[i];
#endif
#if OP=unary
    da[i] += dy[i] * slope(a[i]);
#endif
#if OP=gate
    if LIMIT > 0.0 {
        let partner = clamp(b[i], -LIMIT, LIMIT) + 1.0;
        da[i] += select(0.0, dy[i] * slope(a[i]) * partner, a[i] <= LIMIT);
    } else {
        da[i] += dy[i] * slope(a[i]) * b[i];
    }
#endif
#if OP=partner
    if LIMIT > 0.0 {
        da[i] += select(0.0, dy[i] * unary(vec4<f32>(min(a[i], LIMIT))).x, abs(b[i]) <= LIMIT);
    } else {
        da[i] += dy[i] * unary(vec4<f32>(a[i])).x;
    }
#endif
}
