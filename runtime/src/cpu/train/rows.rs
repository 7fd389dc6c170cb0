//! Ops that compute each row by itself, forwards and backwards, on 32 rows at a time: `[width][32]`.

use super::kernel::LANES;
use crate::cpu::numbers;
use crate::cpu::simd::{add_f32, div_f32, floats, madd_f32, mul_f32, put, splat_f32, sub_f32};
use crate::graph::{Activation, Gate, Norm, NormKind, Rope, Unary};

/// A norm with its vectors.
#[derive(Clone, Copy)]
pub struct NormOf<'a> {
    pub norm: Norm,
    pub weight: Option<&'a [f32]>,
    pub bias: Option<&'a [f32]>,
}

impl NormOf<'_> {
    fn numbers(vector: Option<&[f32]>, column: usize) -> Option<f32> {
        vector.and_then(|vector| vector.get(column % vector.len().max(1)).copied())
    }

    /// What is subtracted from each row's run, and the factor after that.
    fn measure(&self, run: &[f32]) -> ([f32; LANES], [f32; LANES]) {
        let n = (run.len() / LANES) as f32;
        let mut middle = [0.0; LANES];
        if self.norm.kind == NormKind::Layer {
            for x in run.chunks_exact(LANES) {
                middle.iter_mut().zip(x).for_each(|(m, x)| *m += x / n);
            }
        }
        let mut square = [0.0; LANES];
        for x in run.chunks_exact(LANES) {
            for t in 0..LANES {
                square[t] += (x[t] - middle[t]) * (x[t] - middle[t]);
            }
        }
        (middle, square.map(|square| 1.0 / (square / n + self.norm.eps).sqrt()))
    }

    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        let run = self.norm.run * LANES;
        for (i, (x, y)) in x.chunks_exact(run).zip(y.chunks_exact_mut(run)).enumerate() {
            let (middle, scale) = self.measure(x);
            for (j, (x, y)) in x.chunks_exact(LANES).zip(y.chunks_exact_mut(LANES)).enumerate() {
                let column = i * self.norm.run + j;
                let weight = Self::numbers(self.weight, column).unwrap_or(1.0);
                let bias = Self::numbers(self.bias, column).unwrap_or(0.0);
                for t in 0..LANES {
                    y[t] = (x[t] - middle[t]) * scale[t] * weight + bias;
                }
            }
        }
    }

    /// Adds to dx; the formula is in [`crate::train::reference`].
    pub fn backward(&self, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        let (run, n) = (self.norm.run * LANES, self.norm.run as f32);
        let runs = x.chunks_exact(run).zip(dy.chunks_exact(run)).zip(dx.chunks_exact_mut(run));
        for (i, ((x, dy), dx)) in runs.enumerate() {
            let (middle, scale) = self.measure(x);
            let weight = |j: usize| Self::numbers(self.weight, i * self.norm.run + j).unwrap_or(1.0);
            let (mut along, mut mean) = ([0.0; LANES], [0.0; LANES]);
            for (j, (x, dy)) in x.chunks_exact(LANES).zip(dy.chunks_exact(LANES)).enumerate() {
                let weight = weight(j) / n;
                for t in 0..LANES {
                    along[t] += dy[t] * weight * (x[t] - middle[t]) * scale[t];
                    mean[t] += dy[t] * weight;
                }
            }
            if self.norm.kind == NormKind::Rms {
                mean = [0.0; LANES];
            }
            let rows = x.chunks_exact(LANES).zip(dy.chunks_exact(LANES)).zip(dx.chunks_exact_mut(LANES));
            for (j, ((x, dy), dx)) in rows.enumerate() {
                let weight = weight(j);
                for t in 0..LANES {
                    let unit = (x[t] - middle[t]) * scale[t];
                    dx[t] += scale[t] * (dy[t] * weight - mean[t] - unit * along[t]);
                }
            }
        }
    }
}

/// `y += x` with pairs rotated by the angles of `table`, `[n_rot / 2][cosines, sines][32]`, times `way`. Of
/// what is not rotated, y gets x.
pub fn rotate(rope: &Rope, table: &[f32], way: f32, x: &[f32], y: &mut [f32]) {
    let (head, half) = (rope.head_dim * LANES, rope.n_rot / 2);
    for (x, y) in x.chunks_exact(head).zip(y.chunks_exact_mut(head)) {
        for (i, angle) in table.chunks_exact(2 * LANES).enumerate() {
            let (a, b) = if rope.neox { (i, i + half) } else { (2 * i, 2 * i + 1) };
            let (a, b) = (a * LANES, b * LANES);
            for t in 0..LANES {
                let (cos, sin) = (angle[t], way * angle[LANES + t]);
                y[a + t] += x[a + t] * cos - x[b + t] * sin;
                y[b + t] += x[a + t] * sin + x[b + t] * cos;
            }
        }
        let rest = rope.n_rot * LANES;
        y[rest..].iter_mut().zip(&x[rest..]).for_each(|(y, x)| *y += x);
    }
}

/// `y += x`.
pub fn add(y: &mut [f32], x: &[f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
}

/// Puts the slope of an activation in the place of its argument.
fn activation_slopes(f: Activation, x: &mut [f32]) {
    const GELU: f32 = 0.797_884_6; // sqrt(2/π)
    let swish = |factor: f32, x: &mut [f32]| {
        let (chunks, _) = x.as_chunks_mut::<4>();
        for x in chunks {
            let (v, one) = (floats(x), splat_f32(1.0));
            let s = div_f32(one, add_f32(one, numbers::exp(mul_f32(v, splat_f32(-factor)))));
            let rest = mul_f32(mul_f32(v, splat_f32(factor)), mul_f32(s, sub_f32(one, s)));
            put(x, add_f32(s, rest));
        }
    };
    match f {
        Activation::Silu => swish(1.0, x),
        Activation::GeluQuick => swish(1.702, x),
        Activation::Gelu => {
            let (chunks, _) = x.as_chunks_mut::<4>();
            for x in chunks {
                // x * sigmoid(2 u), with u = GELU (x + 0.044715 x³).
                let (v, one) = (floats(x), splat_f32(1.0));
                let square = mul_f32(v, v);
                let u2 =
                    mul_f32(mul_f32(v, splat_f32(2.0 * GELU)), madd_f32(square, splat_f32(0.044_715), one));
                let s = div_f32(one, add_f32(one, numbers::exp(mul_f32(u2, splat_f32(-1.0)))));
                let slope = mul_f32(splat_f32(2.0 * GELU), madd_f32(square, splat_f32(0.134_145), one));
                let rest = mul_f32(mul_f32(v, slope), mul_f32(s, sub_f32(one, s)));
                put(x, add_f32(s, rest));
            }
        }
        Activation::GeluErf => {
            for x in x {
                let density = (-0.5 * *x * *x).exp() / std::f32::consts::TAU.sqrt();
                let mut y = [*x, 0.0, 0.0, 0.0];
                numbers::unary(Unary::Activation(Activation::GeluErf), &mut y);
                // Φ(x) is f(x) / x; near 0, a half and the density times x.
                let phi = if x.abs() < 1e-3 { 0.5 + *x * density } else { y[0] / *x };
                *x = phi + *x * density;
            }
        }
        Activation::Relu => x.iter_mut().for_each(|x| *x = f32::from(u8::from(*x > 0.0))),
        Activation::ReluSquared => x.iter_mut().for_each(|x| *x = 2.0 * x.max(0.0)),
    }
}

/// `dx += f'(x) dy`.
pub fn unary_backward(f: Unary, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    let parts = x.chunks_exact(LANES).zip(dy.chunks_exact(LANES)).zip(dx.chunks_exact_mut(LANES));
    for ((x, dy), dx) in parts {
        let mut slopes = [0.0; LANES];
        slopes.copy_from_slice(x);
        match f {
            Unary::Activation(f) => activation_slopes(f, &mut slopes),
            Unary::Scale(factor) => slopes.fill(factor),
            Unary::SoftCap(cap) => {
                numbers::unary(f, &mut slopes);
                slopes.iter_mut().for_each(|y| *y = 1.0 - (*y / cap) * (*y / cap));
            }
            Unary::Clamp(limit) => {
                slopes.iter_mut().for_each(|x| *x = f32::from(u8::from(x.abs() <= limit)));
            }
        }
        for t in 0..LANES {
            dx[t] += slopes[t] * dy[t];
        }
    }
}

/// What a gated pair's gradients are made of.
#[derive(Clone, Copy)]
pub struct Gated<'a> {
    pub how: Gate,
    pub gate: &'a [f32],
    pub up: &'a [f32],
    pub dy: &'a [f32],
}

impl Gated<'_> {
    /// Adds to the gradient of the gate.
    pub fn gate_backward(&self, dx: &mut [f32]) {
        self.each(dx, |how, gate, up, slopes| {
            slopes.copy_from_slice(gate);
            if let Some(limit) = how.limit {
                slopes.iter_mut().for_each(|g| *g = g.min(limit));
            }
            activation_slopes(how.f, slopes);
            match how.limit {
                None => numbers::mul(slopes, up),
                Some(limit) => {
                    for ((s, g), u) in slopes.iter_mut().zip(gate).zip(up) {
                        *s *= if *g <= limit { u.clamp(-limit, limit) + 1.0 } else { 0.0 };
                    }
                }
            }
        });
    }

    /// Adds to the gradient of the gate's partner.
    pub fn up_backward(&self, dx: &mut [f32]) {
        self.each(dx, |how, gate, up, slopes| {
            slopes.copy_from_slice(gate);
            if let Some(limit) = how.limit {
                slopes.iter_mut().for_each(|g| *g = g.min(limit));
            }
            numbers::unary(Unary::Activation(how.f), slopes);
            if let Some(limit) = how.limit {
                for (s, u) in slopes.iter_mut().zip(up) {
                    *s *= f32::from(u8::from(u.abs() <= limit));
                }
            }
        });
    }

    fn each(&self, dx: &mut [f32], slopes_of: impl Fn(Gate, &[f32], &[f32], &mut [f32; LANES])) {
        let inputs = self.gate.chunks_exact(LANES).zip(self.up.chunks_exact(LANES));
        for ((gate, up), (dy, dx)) in inputs.zip(self.dy.chunks_exact(LANES).zip(dx.chunks_exact_mut(LANES)))
        {
            let mut slopes = [0.0; LANES];
            slopes_of(self.how, gate, up, &mut slopes);
            for t in 0..LANES {
                dx[t] += slopes[t] * dy[t];
            }
        }
    }
}
