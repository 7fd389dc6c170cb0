//! Functions of one and two numbers, and their slopes.

use crate::graph::{Activation, Gate, Unary};

/// `sqrt(2/π)`, as in the tanh approximation of GELU.
const GELU: f64 = 0.797_884_560_802_865_4;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `f(x)`.
pub fn activate(f: Activation, x: f64) -> f64 {
    match f {
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => 0.5 * x * (1.0 + (GELU * (x + 0.044_715 * x * x * x)).tanh()),
        Activation::GeluErf => x * normal(x),
        Activation::GeluQuick => x * sigmoid(1.702 * x),
        Activation::Relu => x.max(0.0),
        Activation::ReluSquared => x.max(0.0) * x.max(0.0),
    }
}

/// `f'(x)`.
fn activation_slope(f: Activation, x: f64) -> f64 {
    let swish = |factor: f64| {
        let s = sigmoid(factor * x);
        s + factor * x * s * (1.0 - s)
    };
    match f {
        Activation::Silu => swish(1.0),
        Activation::Gelu => {
            let t = (GELU * (x + 0.044_715 * x * x * x)).tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU * (1.0 + 3.0 * 0.044_715 * x * x)
        }
        Activation::GeluErf => normal(x) + x * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt(),
        Activation::GeluQuick => swish(1.702),
        Activation::Relu => f64::from(x > 0.0),
        Activation::ReluSquared => 2.0 * x.max(0.0),
    }
}

/// `f(x)`.
pub fn unary(f: Unary, x: f64) -> f64 {
    match f {
        Unary::Activation(f) => activate(f, x),
        Unary::Scale(factor) => f64::from(factor) * x,
        Unary::SoftCap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
        Unary::Clamp(limit) => x.clamp(-f64::from(limit), f64::from(limit)),
    }
}

/// `f'(x)`.
pub fn slope(f: Unary, x: f64) -> f64 {
    match f {
        Unary::Activation(f) => activation_slope(f, x),
        Unary::Scale(factor) => f64::from(factor),
        Unary::SoftCap(cap) => 1.0 - (x / f64::from(cap)).tanh().powi(2),
        Unary::Clamp(limit) => f64::from(x.abs() <= f64::from(limit)),
    }
}

/// See [`Gate`].
pub fn gated(Gate { f, limit }: Gate, gate: f64, up: f64) -> f64 {
    match limit.map(f64::from) {
        None => activate(f, gate) * up,
        Some(limit) => activate(f, gate.min(limit)) * (up.clamp(-limit, limit) + 1.0),
    }
}

/// The slopes of [`gated`] by its gate and by its partner.
pub fn gated_slopes(Gate { f, limit }: Gate, gate: f64, up: f64) -> [f64; 2] {
    match limit.map(f64::from) {
        None => [activation_slope(f, gate) * up, activate(f, gate)],
        Some(limit) => [
            f64::from(gate <= limit) * activation_slope(f, gate.min(limit)) * (up.clamp(-limit, limit) + 1.0),
            f64::from(up.abs() <= limit) * activate(f, gate.min(limit)),
        ],
    }
}

/// The normal distribution's Φ(x), by a series of positive terms for erf (DLMF 7.6.2); beyond 9 it is 0 or 1.
fn normal(x: f64) -> f64 {
    if x.abs() > 9.0 {
        return f64::from(x > 0.0);
    }
    let z = x * std::f64::consts::FRAC_1_SQRT_2;
    let (mut term, mut sum) = (z, z);
    for n in 1..300 {
        term *= 2.0 * z * z / f64::from(2 * n + 1);
        sum += term;
    }
    0.5 + 0.5 * sum * std::f64::consts::FRAC_2_SQRT_PI * (-z * z).exp()
}
