//! Cases of every op, at odd sizes. Each device's tests run all of them.

use super::{Case, RopeShape, Subject, attention, attention_in, rope};
use crate::graph::{
    Activation, Attention, Builder, Domain, Experts, Gate, Growth, KvFormat, Norm, NormKind, PAGE, Rope,
    Routing, Score, Token, Unary, ValueId,
};
use crate::quant::Format;
use kv::stored;

#[allow(clippy::unwrap_used)]
pub mod kv;

/// Every case, except those of products, experts, embeddings and the likeliest token.
pub fn ops() -> Vec<Case> {
    [elementwise(), norms(), ropes(), attentions(), routes()].concat()
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
    let case = |width, n_tokens, build: &dyn Fn(&mut Builder, ValueId, ValueId)| {
        let mut g = Builder::default();
        let (a, b) = (g.value(Domain::Tokens, width), g.value(Domain::Tokens, width));
        build(&mut g, a, b);
        Case::new(format!("elementwise, rows of {width}"), g.finish(), n_tokens, 1e-5)
    };
    let all = |g: &mut Builder, a, b| {
        for f in functions() {
            g.unary(a, f);
        }
        for gate in gates() {
            g.gated(a, b, gate);
        }
    };
    let mut cases = vec![case(262, 33, &all)];
    // Arguments for which exponentials overflow, or tails are all that is left.
    let mut extremes = case(262, 1, &all);
    let numbers = [-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4, -0.0, -3.0, -0.2];
    extremes.inputs[0].1.iter_mut().zip(numbers.iter().cycle()).for_each(|(x, n)| *x = *n);
    extremes.name = "elementwise, at the extremes".into();
    cases.push(extremes);
    for (width, n_tokens) in [(576, 5), (262, 3), (7, 5)] {
        cases.push(case(width, n_tokens, &|g, a, b| {
            let bias = g.vector("F32:bias", width);
            g.bias(b, bias);
            g.add(a, b);
            g.mul(a, b);
            g.mul(b, b);
            g.gated(a, a, Activation::Silu);
            g.select_rows(a);
        }));
    }
    cases
}

fn norms() -> Vec<Case> {
    let mut cases = Vec::new();
    for (run, n_runs, n_tokens) in [(4, 1, 1), (577, 1, 3), (260, 3, 4), (7, 5, 9), (2, 3, 33)] {
        let mut g = Builder::default();
        let x = g.value(Domain::Tokens, run * n_runs);
        // Where all numbers are far from 0, a variance is lost in its mean square.
        let far = g.value(Domain::Tokens, run * n_runs);
        let [weight, bias] = ["F32:weight", "F32:bias"].map(|name| Some(g.vector(name, run)));
        let [long_weight, long_bias] =
            ["F32:long", "F32:long bias"].map(|name| Some(g.vector(name, run * n_runs)));
        for kind in [NormKind::Rms, NormKind::Layer] {
            let mut norm = |x, weight, bias| {
                g.norm(x, Norm { kind, run, weight, bias, eps: 1e-5 });
            };
            norm(far, weight, bias);
            if n_runs > 1 {
                norm(x, None, None);
                norm(x, weight, None);
                norm(x, None, bias);
                norm(x, long_weight, long_bias);
            }
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
        shape(3, 80, 32, true),
        shape(3, 2, 2, false),
        shape(5, 8, 8, true),
        shape(2, 10, 6, true),
        shape(2, 10, 6, false),
        shape(1, 256, 64, true),
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
        (Attention { alibi: Some(8.0), ..new(3, 1, 8) }, 70),
        (new(9, 3, 64), 65),
        (Attention { window: 40, ..new(4, 4, 128) }, 130),
        (Attention { soft_cap: Some(1.5), ..new(4, 2, 96) }, 7),
        (new(2, 1, 256), 33),
        (Attention { growth: Some(Growth { every: 8, factor: 0.4 }), ..new(2, 1, 100) }, 40),
        (Attention { value_dim: 24, alibi: Some(4.0), window: 9, ..new(6, 3, 16) }, 35),
        (Attention { value_dim: 6, soft_cap: Some(2.0), ..new(4, 2, 10) }, 35),
        (new(4, 2, 80), 5),
    ];
    let mut cases: Vec<Case> =
        cases.into_iter().map(|(shape, n_tokens)| attention(shape, n_tokens)).collect();
    let sinks = attention_with_sinks;
    cases.extend([sinks(new(8, 2, 16), 35), sinks(Attention { window: 5, ..new(2, 2, 10) }, 35)]);
    cases
}

/// Embeddings, products and whole layers whose rows are not whole blocks, nor multiples of four.
pub fn odd_products() -> Vec<Case> {
    let mut cases = Vec::new();
    for (format, width, n_tokens) in
        [(Format::F32, 41, 1), (Format::F16, 66, 5), (Format::BF16, 7, 3), (Format::F32, 100, 40)]
    {
        let mut g = Builder::default();
        let table = g.matrix(format!("{}:table", format.name()), 131, width);
        let x = g.embed(table);
        let [gate, up] = ["gate", "up"].map(|part| g.matrix(format!("{}:{part}", format.name()), 35, width));
        let (gate, up) = (g.matmul(x, gate), g.matmul(x, up));
        let f = g.gated(gate, up, Activation::Gelu);
        let down = g.matrix(format!("{}:down", format.name()), width, 35);
        let f = g.matmul(f, down);
        let bias = g.vector("F32:bias", width);
        let f = g.bias(f, bias);
        let x = g.add(f, x);
        let x = g.select_rows(x);
        let norm = g.vector("F32:norm", width);
        let x = g.rms_norm(x, norm, 1e-5);
        let logits = g.matmul(x, table);
        g.logits(logits);
        cases.push(Case::new(format!("rows of {width} {}", format.name()), g.finish(), n_tokens, 1e-3));
    }
    cases
}

/// Choices of experts.
fn routes() -> Vec<Case> {
    let cases = [(8, 2, 1), (60, 4, 5), (128, 8, 3), (1, 1, 3), (5, 5, 33), (300, 7, 9)];
    let case = |(n_experts, n_used, n_tokens)| {
        let mut g = Builder::default();
        let logits = g.value(Domain::Tokens, n_experts);
        for score in [Score::Softmax, Score::Sigmoid] {
            for (is_normed, scale) in [(false, 1.0), (true, 1.0), (true, 2.5)] {
                g.route(logits, Routing { n_used, score, is_normed, scale });
            }
        }
        let mut case = Case::new(format!("route to {n_used} of {n_experts}"), g.finish(), n_tokens, 1e-5);
        // Some are equal.
        case.inputs[0].1.iter_mut().for_each(|logit| *logit = (*logit * 40.0).round() / 4.0);
        case
    };
    cases.map(case).to_vec()
}

/// The dimensions of a feed-forward layer with experts.
#[derive(Clone, Copy, Debug)]
pub struct ExpertLayer {
    /// The format of the experts' matrices.
    pub format: Format,
    /// That of the last matrix.
    pub down: Format,
    /// Floats per row.
    pub n_embd: usize,
    /// Floats between the matrices.
    pub n_ff: usize,
    /// Experts.
    pub n_experts: usize,
    /// Experts that a row uses.
    pub n_used: usize,
    /// Whether projections have biases.
    pub biases: bool,
}

/// Feed-forward layers with experts, whose input is the rows and the router's logits.
pub fn expert_layer(shape: ExpertLayer, n_tokens: u32) -> Case {
    let ExpertLayer { format, down, n_embd, n_ff, n_experts, n_used, biases } = shape;
    let mut g = Builder::default();
    let x = g.value(Domain::Tokens, n_embd);
    let logits = g.value(Domain::Tokens, n_experts);
    let route = g.route(logits, Routing { n_used, score: Score::Softmax, is_normed: true, scale: 1.0 });
    let project = |g: &mut Builder, x, part: &str, format: Format, n_rows, n_cols| {
        let weight = g.matrix(format!("{}:{part}", format.name()), n_experts * n_rows, n_cols);
        let bias = biases.then(|| g.vector(format!("F32:{part} bias"), n_experts * n_rows));
        g.experts(Experts { x, route, n_experts, weight, bias })
    };
    let gate = project(&mut g, x, "gate", format, n_ff, n_embd);
    let up = project(&mut g, x, "up", format, n_ff, n_embd);
    let f = g.gated(gate, up, Gate { f: Activation::GeluQuick, limit: biases.then_some(0.7) });
    let y = project(&mut g, f, "down", down, n_embd, n_ff);
    let sum = g.expert_sum(y, route);
    let x = g.add(x, sum);
    // The same without what may follow a sum.
    let gate = project(&mut g, x, "gate", format, n_ff, n_embd);
    let y = project(&mut g, gate, "down", down, n_embd, n_ff);
    let sum = g.expert_sum(y, route);
    g.mul(sum, x);
    Case::new(format!("{shape:?}, {n_tokens} rows"), g.finish(), n_tokens, 1e-3)
}

/// Experts of every kind of shape, in steps of one row, of a few and of many.
pub fn experts() -> Vec<Case> {
    let plain = ExpertLayer {
        format: Format::Q8_0,
        down: Format::Q8_0,
        n_embd: 64,
        n_ff: 96,
        n_experts: 8,
        n_used: 2,
        biases: false,
    };
    let odd = ExpertLayer { format: Format::F32, down: Format::F16, n_embd: 41, n_ff: 35, ..plain };
    let mixed = ExpertLayer { format: Format::Q4_0, down: Format::Q4_1, biases: true, ..plain };
    let many = ExpertLayer { n_experts: 60, n_used: 5, n_ff: 32, ..mixed };
    let one = ExpertLayer { n_experts: 1, n_used: 1, ..plain };
    let large = ExpertLayer { format: Format::Q4_K, down: Format::Q6_K, n_embd: 256, n_ff: 256, ..plain };
    let shapes = [
        (plain, &[1, 3, 70][..]),
        (odd, &[1, 5, 40]),
        (ExpertLayer { biases: true, ..odd }, &[2]),
        (mixed, &[1, 8, 33]),
        (many, &[1, 9]),
        (one, &[1, 40]),
        (large, &[1, 12]),
    ];
    let cases =
        |(shape, rows): (ExpertLayer, &'static [u32])| rows.iter().map(move |n| expert_layer(shape, *n));
    shapes.into_iter().flat_map(cases).collect()
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

/// Sequences of [`copied_pages`].
const COPIED: u32 = 5;

/// Five full pages that are read three times, each by a row of its own sequence, which is the same in all of
/// them. The layers have odd sizes, as far as the format allows.
pub fn copied_pages(format: KvFormat) -> Case {
    let mut g = Builder::default();
    let shapes = match format {
        KvFormat::F16 => [
            Attention { value_dim: 6, ..Attention::new(3, 1, 10) },
            Attention::new(4, 2, 80),
            Attention::new(1, 1, 2),
        ],
        KvFormat::Q8_0 | KvFormat::Q4_0 => [
            Attention { value_dim: 64, ..Attention::new(3, 1, 32) },
            Attention::new(4, 2, 96),
            Attention::new(1, 1, 32),
        ],
    };
    for shape in shapes {
        let (n_k, n_v) = (shape.n_kv_heads * shape.head_dim, shape.n_kv_heads * shape.value_dim);
        let [q, k, v] = [shape.n_heads * shape.head_dim, n_k, n_v].map(|n| g.value(Domain::Tokens, n));
        let cache = g.cache(n_k, n_v);
        g.attention(q, k, v, cache, shape);
    }
    let first = COPIED * PAGE;
    let case = Case::new("copied pages", g.finish(), first + 3 * COPIED, 1e-3);
    let mut case = stored(case, format);
    // The row that reads is in a second page of its sequence.
    case.pages = (0..COPIED).flat_map(|sequence| [sequence, COPIED + sequence]).collect();
    case.max_pages = 2;
    for (token, i) in case.tokens.iter_mut().zip(0..) {
        let (sequence, position, cell) = match i {
            i if i < first => (i / PAGE, i % PAGE, i),
            i => ((i - first) % COPIED, PAGE, (COPIED + (i - first) % COPIED) * PAGE),
        };
        *token = Token { sequence, position, cell, ..*token };
    }
    for (id, data) in &mut case.inputs {
        let readers = &mut data[first as usize * case.graph.value(*id).width..];
        let row = readers[..case.graph.value(*id).width].to_vec();
        readers.chunks_exact_mut(row.len()).for_each(|reader| reader.copy_from_slice(&row));
    }
    case.steps = vec![first as usize, COPIED as usize, COPIED as usize, COPIED as usize];
    case
}

/// The deviation of [`copied_pages`] when pages are copied by `copy` between its steps. In the end, rows that
/// read a copy have the same result as those that read the original, to the last bit, and others do not.
pub async fn copied_pages_deviation<S: Subject>(
    case: &Case,
    subject: &mut S,
    copy: impl Fn(&mut S, u32, u32),
) -> Result<f32, S::Error> {
    let copies: [&[(u32, u32)]; 4] = [&[], &[], &[(1, 3)], &[(3, 0), (4, 2), (4, 4), (0, 99), (99, 1)]];
    let deviation = case.deviation_with(subject, |step, subject, interpreter| {
        for &(from, to) in copies[step] {
            copy(subject, from, to);
            if from.max(to) < case.capacity().pages {
                interpreter.copy_page(from, to);
            }
        }
    });
    let deviation = deviation.await?;
    let contents = [1, 1, 4, 1, 4];
    let results = case.graph.ops.iter().filter_map(|op| op.out());
    for id in results {
        let width = case.graph.value(id).width;
        let found = subject.read(id, contents.len() * width, contents.len()).await?.unwrap_or_default();
        let rows: Vec<&[f32]> = found.chunks_exact(width).collect();
        assert_eq!(rows.len(), contents.len());
        for (i, one) in rows.iter().enumerate() {
            for (j, other) in rows.iter().enumerate() {
                assert_eq!(one == other, contents[i] == contents[j], "pages {i} and {j}");
            }
        }
    }
    Ok(deviation)
}
