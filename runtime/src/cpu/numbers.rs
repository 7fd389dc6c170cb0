//! Arithmetic on rows of numbers, written so that compilers vectorise it: no branches, no calls, fixed
//! strides.

use super::simd::*;
use crate::graph::{Activation, Gate, Norm, NormKind, Unary};
use crate::quant::BLOCK;

/// An f16's value; infinities and NaN, which nothing here makes, come out as large numbers.
#[inline(always)]
pub(super) fn from_f16(h: u16) -> f32 {
    f32::from_bits(((i32::from(h as i16) << 13) as u32) & 0x8fff_ffff) * F16_SCALE
}

/// The nearest f16, saturating.
#[inline(always)]
pub(super) fn to_f16(x: f32) -> u16 {
    let magnitude = f32::from_bits(x.to_bits() & 0x7fff_ffff);
    let magnitude = if magnitude > 65504.0 { 65504.0 } else { magnitude };
    let bits = (magnitude * (1.0 / F16_SCALE)).to_bits();
    let rounded = (bits + 0x0fff + ((bits >> 13) & 1)) >> 13;
    (rounded | ((x.to_bits() >> 16) & 0x8000)) as u16
}

/// e^x with an error of about 1e-7 of it, for x from -87 to 88 and clamped to that: Cody and Waite's
/// reduction and Cephes' polynomial.
#[inline(always)]
pub(super) fn exp(x: V) -> V {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: added, it leaves an integer in the low bits
    let x = min_f32(splat_f32(88.0), max_f32(splat_f32(-87.0), x));
    let shifted = madd_f32(x, splat_f32(std::f32::consts::LOG2_E), splat_f32(ROUND));
    let n = sub_f32(shifted, splat_f32(ROUND));
    let r = madd_f32(n, splat_f32(2.121_944_4e-4), madd_f32(n, splat_f32(-0.693_359_4), x));
    let mut p = splat_f32(1.987_569_1e-4);
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = madd_f32(p, r, splat_f32(c));
    }
    let value = add_f32(madd_f32(mul_f32(p, r), r, r), splat_f32(1.0));
    mul_f32(value, shl_i32::<23>(add_i32(shifted, splat_i32(127 - ROUND.to_bits() as i32))))
}

/// Puts `f` of each number in the number's place.
#[inline(always)]
fn map(y: &mut [f32], f: impl Fn(V) -> V) {
    let (chunks, rest) = y.as_chunks_mut::<4>();
    for y in chunks {
        let value = f(floats(y));
        put(y, value);
    }
    for y in rest {
        *y = lanes(f(splat_f32(*y)))[0];
    }
}

/// Puts `f` of each number and of the number of `x` in that place in the number's place.
#[inline(always)]
fn combine(y: &mut [f32], x: &[f32], f: impl Fn(V, V) -> V) {
    let ((ys, y_rest), (xs, x_rest)) = (y.as_chunks_mut::<4>(), x.as_chunks::<4>());
    for (y, x) in ys.iter_mut().zip(xs) {
        let value = f(floats(y), floats(x));
        put(y, value);
    }
    for (y, x) in y_rest.iter_mut().zip(x_rest) {
        *y = lanes(f(splat_f32(*y), splat_f32(*x)))[0];
    }
}

/// Σ f(x), in eight strands.
#[inline(always)]
pub(super) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut strands = [0.0; 8];
    let chunks = x.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|x| f(*x)).sum();
    for chunk in chunks {
        for (s, x) in strands.iter_mut().zip(chunk) {
            *s += f(*x);
        }
    }
    let [a, b, c, d, e, f, g, h] = strands;
    ((a + e) + (b + f)) + ((c + g) + (d + h)) + rest
}

/// The norm of a row.
pub(super) fn norm(norm: Norm, x: &[f32], weight: Option<&[f32]>, bias: Option<&[f32]>, out: &mut [f32]) {
    let runs = x.chunks_exact(norm.run).zip(out.chunks_exact_mut(norm.run));
    for (i, (x, out)) in runs.enumerate() {
        // All runs share a vector that is as long as a run.
        let part = |vector: &'_ [f32]| i * norm.run % vector.len();
        let n = x.len() as f32;
        let middle = match norm.kind {
            NormKind::Rms => 0.0,
            NormKind::Layer => sum(x, |x| x) / n,
        };
        let scale = 1.0 / (sum(x, |x| (x - middle) * (x - middle)) / n + norm.eps).sqrt();
        match weight {
            Some(weight) => {
                for ((out, x), weight) in out.iter_mut().zip(x).zip(&weight[part(weight)..]) {
                    *out = (x - middle) * scale * weight;
                }
            }
            None => out.iter_mut().zip(x).for_each(|(out, x)| *out = (x - middle) * scale),
        }
        if let Some(bias) = bias {
            add(out, &bias[part(bias)..]);
        }
    }
}

/// `x * sigmoid(factor * x)`.
#[inline(always)]
fn swish(factor: f32, x: V) -> V {
    div_f32(x, add_f32(splat_f32(1.0), exp(mul_f32(x, splat_f32(-factor)))))
}

/// The tanh approximation of `x * Φ(x)`, which is `x * sigmoid(2 u)` with the tanh's argument `u`.
#[inline(always)]
fn gelu(x: V) -> V {
    const TWICE: f32 = 2.0 * 0.797_884_6; // sqrt(2/π)
    let one = splat_f32(1.0);
    let inner = madd_f32(mul_f32(x, x), splat_f32(0.044_715), one);
    let u = mul_f32(mul_f32(x, inner), splat_f32(-TWICE));
    div_f32(x, add_f32(one, exp(u)))
}

/// `x * Φ(x)`, with Φ by Abramowitz and Stegun 7.1.26, whose error is below 1e-7.
#[inline(always)]
fn gelu_erf(x: V) -> V {
    let size = max_f32(x, mul_f32(x, splat_f32(-1.0)));
    let z = mul_f32(size, splat_f32(std::f32::consts::FRAC_1_SQRT_2));
    let one = splat_f32(1.0);
    let t = div_f32(one, madd_f32(z, splat_f32(0.327_591_1), one));
    let mut p = splat_f32(1.061_405_4);
    for c in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = madd_f32(p, t, splat_f32(c));
    }
    // What both tails together have beyond x.
    let tails = mul_f32(mul_f32(p, t), exp(mul_f32(mul_f32(z, z), splat_f32(-1.0))));
    sub_f32(max_f32(x, zero()), mul_f32(mul_f32(size, tails), splat_f32(0.5)))
}

/// `cap * tanh(x / cap)`.
#[inline(always)]
fn soft_cap(cap: f32, x: V) -> V {
    let one = splat_f32(1.0);
    let tail = div_f32(splat_f32(2.0), add_f32(one, exp(mul_f32(x, splat_f32(2.0 / cap)))));
    mul_f32(splat_f32(cap), sub_f32(one, tail))
}

#[inline(always)]
fn within(limit: f32, x: V) -> V {
    min_f32(splat_f32(limit), max_f32(splat_f32(-limit), x))
}

#[inline(always)]
fn relu(x: V) -> V {
    max_f32(x, zero())
}

/// `y = f(y)`.
pub(super) fn unary(f: Unary, y: &mut [f32]) {
    match f {
        Unary::Activation(Activation::Silu) => map(y, |x| swish(1.0, x)),
        Unary::Activation(Activation::Gelu) => map(y, gelu),
        Unary::Activation(Activation::GeluErf) => map(y, gelu_erf),
        Unary::Activation(Activation::GeluQuick) => map(y, |x| swish(1.702, x)),
        Unary::Activation(Activation::Relu) => map(y, relu),
        Unary::Activation(Activation::ReluSquared) => map(y, |x| mul_f32(relu(x), relu(x))),
        Unary::Scale(factor) => map(y, |x| mul_f32(x, splat_f32(factor))),
        Unary::SoftCap(cap) => map(y, |x| soft_cap(cap, x)),
        Unary::Clamp(limit) => map(y, |x| within(limit, x)),
    }
}

/// The gate and y become y; see [`Gate`].
pub(super) fn gate(how: Gate, gate: &[f32], y: &mut [f32]) {
    match how.f {
        Activation::Silu => gate_by(how.limit, gate, y, |x| swish(1.0, x)),
        Activation::Gelu => gate_by(how.limit, gate, y, gelu),
        Activation::GeluErf => gate_by(how.limit, gate, y, gelu_erf),
        Activation::GeluQuick => gate_by(how.limit, gate, y, |x| swish(1.702, x)),
        Activation::Relu => gate_by(how.limit, gate, y, relu),
        Activation::ReluSquared => gate_by(how.limit, gate, y, |x| mul_f32(relu(x), relu(x))),
    }
}

#[inline(always)]
fn gate_by(limit: Option<f32>, gate: &[f32], y: &mut [f32], f: impl Fn(V) -> V) {
    match limit {
        None => combine(y, gate, |y, gate| mul_f32(f(gate), y)),
        Some(limit) => combine(y, gate, |y, gate| {
            let gate = f(min_f32(splat_f32(limit), gate));
            mul_f32(gate, add_f32(within(limit, y), splat_f32(1.0)))
        }),
    }
}

/// `y = y * x`.
pub(super) fn mul(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y *= x;
    }
}

/// `y = y + x`.
pub(super) fn add(y: &mut [f32], x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// Turns the leading `n_rot` floats of each head; `table` holds the cosine and the sine of each pair's angle.
pub(super) fn rope(row: &mut [f32], head_dim: usize, neox: bool, table: &[[f32; 2]]) {
    let half = table.len();
    for head in row.chunks_exact_mut(head_dim) {
        if neox {
            let (a, b) = head.split_at_mut(half);
            for ((a, b), [cos, sin]) in a.iter_mut().zip(b).zip(table) {
                (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
            }
        } else {
            for (pair, [cos, sin]) in head.chunks_exact_mut(2).zip(table) {
                (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
            }
        }
    }
}

/// The index of a row's greatest number, that number, and Σ exp(x − that).
pub(super) fn likeliest(row: &[f32]) -> (usize, f32, f32) {
    let top = max(row);
    let index = row.iter().position(|x| *x == top).unwrap_or(0);
    (index, top, sum_exp(row, top))
}

/// The greatest number; negative infinity where there is none.
pub(super) fn max(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<16>();
    let mut tops = [splat_f32(f32::NEG_INFINITY); 4];
    for chunk in chunks {
        for (top, x) in tops.iter_mut().zip(chunk.as_chunks::<4>().0) {
            *top = max_f32(floats(x), *top);
        }
    }
    tops.into_iter().flat_map(lanes).chain(rest.iter().copied()).fold(f32::NEG_INFINITY, f32::max)
}

/// Σ exp(x − top).
fn sum_exp(row: &[f32], top: f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<4>();
    let mut sum = splat_f32(0.0);
    for x in chunks {
        sum = add_f32(sum, exp(sub_f32(floats(x), splat_f32(top))));
    }
    let rest = rest.iter().map(|x| lanes(exp(splat_f32(x - top)))[0]);
    lanes(sum).into_iter().chain(rest).sum()
}

/// Puts exp(x − top) in each number's place; returns their sum.
pub(super) fn exp_all(row: &mut [f32], top: f32) -> f32 {
    let mut sum = splat_f32(0.0);
    for x in row.as_chunks_mut::<4>().0 {
        let value = exp(sub_f32(floats(x), splat_f32(top)));
        sum = add_f32(sum, value);
        put(x, value);
    }
    lanes(sum).into_iter().sum()
}

/// Rounds a block's numbers to integers of at most `LIMIT`; returns their unit. A NaN makes the unit NaN.
#[inline(always)]
pub(super) fn quantise<const LIMIT: u32>(x: &[f32; BLOCK], q: &mut [i32; BLOCK]) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let mut top = 0_u32;
    for x in x {
        top = top.max(x.to_bits() & 0x7fff_ffff);
    }
    let top = f32::from_bits(top);
    let scale = if top > 0.0 { LIMIT as f32 / top } else { 0.0 };
    // A block of subnormal numbers would have an infinite scale: it counts as zeros.
    let scale = if scale == f32::INFINITY { 0.0 } else { scale };
    for (q, x) in q.iter_mut().zip(x) {
        *q = (x * scale + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    }
    top / LIMIT as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn half_floats() {
        for bits in 0..0x7c00_u16 {
            for bits in [bits, bits | 0x8000] {
                let value = f16::from_bits(bits).to_f32();
                assert_eq!(from_f16(bits), value);
                assert_eq!(to_f16(value), bits);
            }
        }
        for i in 0..100_000 {
            let x = (i as f32 - 50_000.0) * 0.013_37;
            assert_eq!(to_f16(x), f16::from_f32(x).to_bits(), "{x}");
        }
        assert_eq!(to_f16(1e9), f16::MAX.to_bits());
    }

    #[test]
    fn exponentials() {
        for i in -87_000..=88_000 {
            let x = i as f32 / 1000.0;
            let (found, expected) = (f64::from(lanes(exp(splat_f32(x)))[3]), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 3e-7, "{x}: {found} {expected}");
        }
        assert!(lanes(exp(splat_f32(f32::NEG_INFINITY)))[0] < 1e-37);
        assert!(lanes(exp(splat_f32(1e9)))[0].is_finite());
    }

    #[test]
    fn blocks_round_to_the_nearest() {
        let x: [f32; BLOCK] = std::array::from_fn(|i| (i as f32 - 15.0) * 0.37);
        let mut q = [0; BLOCK];
        let unit = quantise::<127>(&x, &mut q);
        for (x, q) in x.iter().zip(q) {
            assert!((x - unit * q as f32).abs() <= unit * 0.500_01 && q.abs() <= 127);
        }
        assert_eq!(quantise::<127>(&[0.0; BLOCK], &mut q), 0.0);
        assert_eq!(q, [0; BLOCK]);
        assert!(quantise::<127>(&[f32::NAN; BLOCK], &mut q).is_nan());
    }
}
