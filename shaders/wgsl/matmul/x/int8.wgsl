// Activations quantised in blocks of 32, see norm/quantise.
//   x         [step rows, n_cols] i8, one block of 32 per element
//   x_scales  [step rows, n_cols / 32] (scale, scale * sum of the block's integers)
@group(0) @binding(1) var<storage, read> x: array<array<vec4<u32>, 2>>;
@group(0) @binding(5) var<storage, read> x_scales: array<vec2<f32>>;

#import weight/{WEIGHT}

struct X {
    low: vec4<u32>,
    high: vec4<u32>,
    scale: f32,
    sum: f32,
}

// Block `b` of row `t`.
fn load_x(t: u32, b: u32) -> X {
    let i = t * (shape.n_cols / 32u) + b;
    let s = x_scales[i];
    let v = x[i];
    return X(v[0], v[1], s.x, s.y);
}

fn product_of(w: Packed, x: X) -> f32 {
    let p = dot4I8Packed(w.low.x, x.low.x) + dot4I8Packed(w.low.y, x.low.y)
        + dot4I8Packed(w.low.z, x.low.z) + dot4I8Packed(w.low.w, x.low.w)
        + dot4I8Packed(w.high.x, x.high.x) + dot4I8Packed(w.high.y, x.high.y)
        + dot4I8Packed(w.high.z, x.high.z) + dot4I8Packed(w.high.w, x.high.w);
    return w.scale * x.scale * f32(p) + w.offset * x.sum;
}

// Block `i` of the weight times a block of activations.
fn product(i: u32, x: X) -> f32 {
    return product_of(load_packed(i), x);
}

// Block `i` of the weight times four blocks of activations.
fn products(i: u32, a: X, b: X, c: X, d: X) -> vec4<f32> {
    let w = load_packed(i);
    return vec4<f32>(product_of(w, a), product_of(w, b), product_of(w, c), product_of(w, d));
}
