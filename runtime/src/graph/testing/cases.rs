//! Cases of every op, at odd sizes. Each device's tests run all of them.

use super::{Case, RopeShape, attention, attention_in, rope};
use crate::graph::{
    Activation, Attention, Builder, Domain, Gate, Growth, Norm, NormKind, PAGE, Rope, Token, Unary, ValueId,
};

/// Widths and numbers of rows.
const SIZES: [(usize, u32); 5] = [(4, 1), (96, 5), (576, 3), (262, 33), (7, 5)];

/// Every case, except those of products, embeddings and the likeliest token.
pub fn ops() -> Vec<Case> {
    [elementwise(), norms(), ropes(), attentions()].concat()
}

/// Every function of one number.
fn functions() -> Vec<Unary> {
    let others = [Unary::Scale(-0.37), Unary::SoftCap(1.5), Unary::SoftCap(30.0), Unary::Clamp(0.6)];
    Activation::ALL.map(Unary::Activation).into_iter().chain(others).collect()
}

fn gates() -> impl Iterator<Item = Gate> {
    let plain = Activation::ALL.map(Gate::from).into_iter();
    plain.chain([Gate { f: Activation::GeluQuick, limit: Some(0.7) }])
}

fn elementwise() -> Vec<Case> {
    let mut cases = Vec::new();
    for (width, n_tokens) in SIZES {
        let mut g = Builder::default();
        let (a, b) = (g.value(Domain::Tokens, width), g.value(Domain::Tokens, width));
        for f in functions() {
            g.unary(a, f);
        }
        for gate in gates() {
            g.gated(a, b, gate);
        }
        g.gated(a, a, Activation::Silu);
        g.add(a, b);
        g.add(a, a);
        g.mul(a, b);
        g.mul(b, b);
        let bias = g.vector("F32:bias", width);
        g.bias(b, bias);
        g.select_rows(a);
        cases.push(Case::new(format!("elementwise, rows of {width}"), g.finish(), n_tokens, 1e-5));
    }
    cases
        .extend(functions().into_iter().map(|f| at_the_extremes(&format!("{f:?}"), |g, x, _| g.unary(x, f))));
    cases.extend(gates().map(|f| at_the_extremes(&format!("{f:?}"), |g, x, up| g.gated(x, up, f))));
    cases
}

/// Arguments for which exponentials overflow, or tails are all that is left.
fn at_the_extremes(name: &str, op: impl Fn(&mut Builder, ValueId, ValueId) -> ValueId) -> Case {
    let mut g = Builder::default();
    let (x, up) = (g.value(Domain::Tokens, 10), g.value(Domain::Tokens, 10));
    op(&mut g, x, up);
    let mut case = Case::new(format!("{name} at the extremes"), g.finish(), 1, 1e-5);
    case.inputs[0].1 = vec![-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4, -0.0, -3.0, -0.2];
    case.inputs[1].1 = vec![1.0; 10];
    case
}

fn norms() -> Vec<Case> {
    let mut cases = Vec::new();
    for (run, n_runs, n_tokens) in [(4, 1, 1), (96, 1, 5), (577, 1, 3), (260, 3, 4), (7, 5, 9), (2, 3, 33)] {
        let mut g = Builder::default();
        let x = g.value(Domain::Tokens, run * n_runs);
        // Where all numbers are far from 0, a variance is lost in its mean square.
        let far = g.value(Domain::Tokens, run * n_runs);
        let [weight, bias] = ["F32:weight", "F32:bias"].map(|name| g.vector(name, run));
        let [long_weight, long_bias] = ["F32:long", "F32:long bias"].map(|name| g.vector(name, run * n_runs));
        for kind in [NormKind::Rms, NormKind::Layer] {
            for (weight, bias) in [
                (None, None),
                (Some(weight), None),
                (None, Some(bias)),
                (Some(weight), Some(bias)),
                (Some(long_weight), None),
                (Some(long_weight), Some(long_bias)),
            ] {
                g.norm(x, Norm { kind, run, weight, bias, eps: 1e-5 });
            }
            g.norm(far, Norm { kind, run, weight: None, bias: None, eps: 1e-5 });
        }
        let mut case = Case::new(format!("norms of {n_runs} x {run}"), g.finish(), n_tokens, 1e-4);
        case.inputs[1].1.iter_mut().for_each(|x| *x += 20.0);
        cases.push(case);
    }
    cases
}

fn ropes() -> Vec<Case> {
    let shape = |n_heads, head_dim, n_rot, neox| RopeShape { n_heads, head_dim, n_rot, neox };
    let shapes = [
        shape(3, 64, 64, false),
        shape(3, 64, 64, true),
        shape(3, 80, 32, false),
        shape(3, 80, 32, true),
        shape(3, 2, 2, false),
        shape(5, 8, 8, true),
        shape(2, 10, 6, true),
        shape(2, 10, 6, false),
        shape(1, 256, 64, true),
        shape(2, 96, 96, true),
    ];
    let mut cases: Vec<Case> = shapes.into_iter().map(|shape| rope(shape, 9)).collect();
    // The same angles with and without a magnitude.
    let mut g = Builder::default();
    let x = g.value(Domain::Tokens, 3 * 24);
    let plain = shape(3, 24, 16, true).build(&mut g, 10_000.0, |i| 1.0 + i as f32);
    g.rope(x, plain);
    g.rope(x, Rope { magnitude: 1.25, ..plain });
    cases.push(Case::new("rope with a magnitude", g.finish(), 9, 1e-4));
    cases
}

fn attentions() -> Vec<Case> {
    let new = Attention::new;
    let cases = [
        (new(1, 1, 2), 1),
        (new(3, 1, 8), 33),
        (new(9, 3, 64), 65),
        (new(4, 4, 128), 130),
        (new(4, 2, 96), 7),
        (new(2, 1, 256), 33),
        (new(2, 2, 10), 5),
        (new(2, 1, 100), 40),
        (Attention { window: 40, ..new(4, 2, 80) }, 129),
        (Attention { window: 3, scale: 1.7, ..new(12, 1, 16) }, 9),
        (Attention { value_dim: 24, ..new(4, 2, 16) }, 35),
        (Attention { value_dim: 16, ..new(4, 1, 24) }, 35),
        (Attention { value_dim: 6, ..new(4, 2, 10) }, 35),
        (Attention { value_dim: 128, ..new(2, 2, 192) }, 4),
        (Attention { soft_cap: Some(1.5), ..new(4, 2, 16) }, 35),
        (Attention { alibi: Some(8.0), ..new(4, 4, 16) }, 70),
        (Attention { alibi: Some(4.0), window: 9, ..new(6, 3, 8) }, 35),
        (Attention { growth: Some(Growth { every: 8, factor: 0.4 }), ..new(4, 2, 16) }, 35),
        (Attention { soft_cap: Some(2.0), window: 20, ..new(4, 2, 6) }, 35),
    ];
    let mut cases: Vec<Case> =
        cases.into_iter().map(|(shape, n_tokens)| attention(shape, n_tokens)).collect();
    let sinks = attention_with_sinks;
    cases.extend([sinks(new(8, 2, 16), 35), sinks(Attention { window: 5, ..new(6, 2, 10) }, 35)]);
    cases
}

/// Attention with a sink for each head.
pub fn attention_with_sinks(shape: Attention, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let sinks = g.constant((0..shape.n_heads).map(|head| head as f32 / 4.0 - 1.0).collect());
    attention_in(g, Attention { sinks: Some(sinks), ..shape }, n_tokens)
}

/// Puts every other token into a second sequence, with pages of their own.
pub fn in_two_sequences(case: &mut Case) {
    let n_pages = (case.tokens.len() as u32).div_ceil(2).div_ceil(PAGE);
    // The first sequence has the odd pages, from the last to the first, and the second the even ones.
    case.pages =
        (0..n_pages).rev().map(|page| 2 * page + 1).chain((0..n_pages).map(|page| 2 * page)).collect();
    case.max_pages = n_pages;
    for (i, token) in case.tokens.iter_mut().enumerate() {
        let (sequence, position) = (i as u32 % 2, i as u32 / 2);
        let page = case.pages[(sequence * n_pages + position / PAGE) as usize];
        *token = Token { sequence, position, cell: page * PAGE + position % PAGE, ..*token };
    }
}
