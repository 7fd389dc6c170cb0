//! Every op against the scalar interpreter, fused and unfused, on one thread and on several.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::lower::groups;
use super::{Cpu, CpuError, Executor, Weights};
use crate::adapter::{beside, beside_rows};
use crate::graph::testing::cases::kv;
use crate::graph::testing::{
    Case, HeadNorms, Layers, Random, RopeShape, Subject, attention, cases, floats, layers, likeliest, matmul,
};
use crate::graph::{
    Activation, Attention, Builder, Choice, Chosen, Domain, Graph, IN_PROMPT, KvFormat, Output, Step, Token,
    ValueId, allows,
};
use crate::quant::Format;

/// A case on the CPU.
struct OnCpu {
    executor: Executor,
    weights: Weights,
    /// Whether a value is in its place after a step, and not a later value.
    is_kept: Vec<bool>,
    /// What was read after the last step.
    results: Vec<f32>,
}

impl OnCpu {
    fn new(case: &Case, int8: bool, threads: usize, keep_values: bool) -> Self {
        let graph = &case.graph;
        let mut weights = Weights::allocate(graph, &case.formats(), int8).unwrap();
        case.load(&mut weights);
        let cpu = Cpu::open(threads).unwrap();
        let executor = Executor::with(&cpu, graph, &weights, case.capacity(), keep_values).unwrap();
        let written: Vec<ValueId> =
            groups(graph, keep_values).iter().flat_map(|group| group.outs()).collect();
        let is_kept = |id: ValueId| {
            let place = executor.place(id);
            let last = written.iter().rfind(|other| executor.place(**other) == place);
            place.is_some() && last.is_none_or(|last| *last == id)
        };
        let is_kept = (0..graph.values.len()).map(|i| is_kept(ValueId(i))).collect();
        Self { executor, weights, is_kept, results: Vec::new() }
    }

    fn deviation(&mut self, case: &Case) -> f32 {
        pollster::block_on(case.deviation(self)).unwrap()
    }
}

impl Subject for OnCpu {
    type Error = CpuError;

    fn write(&mut self, id: ValueId, data: &[f32]) {
        if let Some(value) = self.executor.value(id, data.len()) {
            value.copy_from_slice(data);
        }
    }

    async fn run(&mut self, step: &Step<'_>) -> Result<Vec<Chosen>, CpuError> {
        self.executor.step(&self.weights, step)?;
        self.results.clear();
        Ok(self.executor.chosen.clone())
    }

    async fn read(&mut self, id: ValueId, n: usize, _: usize) -> Result<Option<Vec<f32>>, CpuError> {
        let found = self.executor.value(id, n).map(|value| value.to_vec());
        let found = found.filter(|_| self.is_kept[id.0]);
        self.results.extend(found.iter().flatten());
        Ok(found)
    }
}

/// Checks a case with activations of 16 and of 8 bits.
fn check(case: &Case, tolerance: f32) {
    check_with(case, false, tolerance);
    check_with(case, true, tolerance);
}

/// Any number of threads gives the same numbers to the bit.
fn check_with(case: &Case, int8: bool, tolerance: f32) {
    for keep_values in [false, true] {
        let mut first: Option<Vec<u32>> = None;
        for threads in [1, 3] {
            let mut subject = OnCpu::new(case, int8, threads, keep_values);
            let error = subject.deviation(case);
            assert!(error <= tolerance, "{}, {threads} threads, kept {keep_values}: {error}", case.name);
            let results = subject.results.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
            assert!(*first.get_or_insert_with(|| results.clone()) == results, "{}", case.name);
        }
    }
}

/// A graph of one op.
fn op(name: &str, n_tokens: u32, build: impl FnOnce(&mut Builder)) -> Case {
    let mut g = Builder::default();
    build(&mut g);
    Case::new(name, g.finish(), n_tokens, 0.0)
}

#[test]
fn matmuls() {
    for format in Format::ALL {
        for (rows, cols, tokens) in [
            // Not one result, which may be next to zero.
            (3, 32, 1),
            (63, 96, 1),
            (65, 544, 1),
            (130, 1024, 1),
            (63, 96, 2),
            (65, 96, 7),
            (130, 544, 8),
            (1, 32, 9),
            (65, 544, 31),
        ] {
            let cols = usize::next_multiple_of(cols, format.block_len());
            check(&matmul(format, rows, cols, tokens), 1e-3);
        }
    }
}

/// Rows of floats of any length; more than one op uses the same ones.
#[test]
fn rows_of_any_length() {
    for case in cases::odd_products() {
        check_with(&case, false, case.tolerance);
    }
}

#[test]
fn embeddings() {
    for format in Format::ALL {
        for (width, tokens) in [(32, 1), (576, 40)] {
            let width = usize::next_multiple_of(width, format.block_len());
            let case = op(&format!("embed {}", format.name()), tokens, |g| {
                let w = g.matrix(format.name(), 131, width);
                g.embed(w);
            });
            check(&case, 1e-6);
        }
    }
}

#[test]
fn ops() {
    for case in cases::ops() {
        check_with(&case, false, case.tolerance);
    }
}

#[test]
fn experts() {
    for case in cases::experts() {
        check_with(&case, false, case.tolerance);
    }
}

/// Rows of a table of positions, whose order is not that of the rows.
#[test]
fn position_embeddings() {
    let mut case = op("embed positions", 9, |g| {
        let w = g.matrix("F16", 131, 96);
        g.embed_position(w);
    });
    case.tokens.iter_mut().for_each(|token| token.position = token.position * 29 % 131);
    check(&case, 1e-6);
    case.tokens[3].position = 131;
    let mut subject = OnCpu::new(&case, false, 1, false);
    let error = subject.executor.step(&subject.weights, &case.step()).unwrap_err().to_string();
    assert!(error.contains("row 3 is at position 131, but the model knows only 131 positions"), "{error}");
}

fn heads(n_heads: usize, n_kv_heads: usize, head_dim: usize, window: u32) -> Attention {
    Attention { window, ..Attention::new(n_heads, n_kv_heads, head_dim) }
}

#[test]
fn attentions_without_a_cache() {
    for (shape, tokens) in [(heads(1, 1, 2, 0), 1), (heads(9, 3, 64, 0), 65), (heads(4, 2, 80, 10), 33)] {
        let mut case = op(&format!("attention without a cache, {shape:?}"), tokens, |g| {
            let n_kv = shape.n_kv_heads * shape.head_dim;
            let q = g.value(Domain::Tokens, shape.n_heads * shape.head_dim);
            let (k, v) = (g.value(Domain::Tokens, n_kv), g.value(Domain::Tokens, n_kv));
            g.attention_without_cache(q, k, v, shape);
        });
        check(&case, 1e-4);
        for (i, token) in case.tokens.iter_mut().enumerate() {
            (token.sequence, token.position) = (i as u32 % 2, i as u32 / 2);
        }
        case.name += ", two sequences";
        check(&case, 1e-4);
    }
}

/// Rows of two sequences in one step see only their own.
#[test]
fn attention_keeps_sequences_apart() {
    let mut case = attention(heads(2, 1, 32, 0), 80);
    cases::in_two_sequences(&mut case);
    check(&case, 1e-4);
}

/// Few rows whose contexts are longer than a span, of which threads have parts.
#[test]
fn threads_share_rows_with_long_contexts() {
    let mut cases = vec![
        attention(heads(6, 3, 32, 0), 290),
        attention(heads(4, 2, 16, 150), 290),
        attention(Attention { value_dim: 6, ..heads(3, 1, 10, 0) }, 290),
        cases::attention_with_sinks(heads(4, 2, 16, 140), 290),
    ];
    for case in &mut cases {
        case.steps = vec![270, 16, 1, 3];
    }
    let mut two = attention(heads(4, 2, 16, 0), 290);
    cases::in_two_sequences(&mut two);
    two.steps = vec![284, 1, 2, 3];
    cases.push(two);
    for case in cases {
        check_with(&case, false, 1e-4);
    }
}

#[test]
fn pages_are_copied() {
    for format in KvFormat::ALL {
        let case = cases::copied_pages(format);
        let mut subject = OnCpu::new(&case, false, 2, true);
        let copy = |subject: &mut OnCpu, from, to| subject.executor.copy_page(from, to);
        let error = pollster::block_on(cases::copied_pages_deviation(&case, &mut subject, copy)).unwrap();
        assert!(error <= case.tolerance, "{}: {error}", case.name);
    }
}

/// Keys and values in blocks, where quants do not depend on how sums are computed.
#[test]
fn keys_and_values_in_blocks() {
    let mut cases = kv::attentions();
    for format in kv::BLOCKS {
        cases.push(kv::exact_heads(format, &[1]));
        cases.push(kv::exact_heads(format, &[40, 1, 3]));
        let mut two = kv::stored(attention(heads(2, 1, 32, 0), 80), format);
        cases::in_two_sequences(&mut two);
        cases.push(two);
    }
    for case in cases {
        check_with(&case, false, 1e-4);
    }
}

#[test]
fn likeliest_tokens() {
    for (n_vocab, tokens) in [(4, 1), (1000, 3), (49_152, 2)] {
        check(&likeliest(n_vocab, tokens), 1e-5);
    }
    let mut tie = likeliest(9000, 1);
    tie.inputs[0].1 = vec![0.5; 9000];
    check(&tie, 1e-5);
}

/// Layers of every shape, in one step and decoded from a filled pool.
#[test]
fn whole_layers() {
    let rope = |n_rot, neox| RopeShape { n_heads: 4, head_dim: 16, n_rot, neox };
    for shape in [
        Layers::of(Format::F32),
        Layers { biases: true, n_layers: 2, ..Layers::of(Format::F16) },
        Layers { head_norms: HeadNorms::Heads, rope: rope(16, true), ..Layers::of(Format::Q8_0) },
        Layers { biases: true, head_norms: HeadNorms::Heads, post_norms: true, ..Layers::of(Format::Q4_1) },
        Layers {
            rope: RopeShape { n_heads: 4, head_dim: 18, n_rot: 6, neox: false },
            ..Layers::of(Format::F16)
        },
        Layers { rope: rope(8, true), window: 5, n_layers: 2, ..Layers::of(Format::Q4_0) },
        Layers { rope: rope(8, false), ..Layers::of(Format::Q4_0) },
        Layers { finer: Format::Q6_K, ..Layers::of(Format::Q4_K) },
    ] {
        for steps in [&[1][..], &[2], &[7], &[11, 1, 1, 3, 1], &[40, 1, 1]] {
            let case = layers(shape, steps);
            check_with(&case, false, case.tolerance);
        }
    }
}

#[test]
fn whole_layers_of_two_sequences() {
    for steps in [&[80][..], &[66, 2, 2]] {
        let mut case = layers(Layers { n_layers: 2, ..Layers::of(Format::Q8_0) }, steps);
        cases::in_two_sequences(&mut case);
        check_with(&case, false, case.tolerance);
    }
}

#[test]
fn low_rank_paths_beside_products() {
    for (format, biases) in [(Format::Q4_1, false), (Format::F32, true)] {
        let case = layers(Layers { biases, ..Layers::of(format) }, &[9, 1, 5]);
        let rank = |part: &str| if part == "v0" { 0 } else { 2 * part.len() + 1 };
        check_with(&beside(case.clone(), 0.5, rank), false, 4e-3);
        check_with(&beside_rows(case, 0.5, rank), false, 4e-3);
    }
    for case in cases::odd_products() {
        check_with(&beside(case.clone(), 1.0, |_| 3), false, 1e-3);
        check_with(&beside_rows(case, 1.0, |_| 3), false, 1e-3);
    }
}

/// What 8 bits lose adds up from product to product; fused and unfused, it is the same.
#[test]
fn layers_with_8_bits() {
    let mut case = layers(Layers::of(Format::Q4_1), &[9, 1, 1]);
    case.same_choice = false;
    let results = [false, true].map(|keep_values| {
        let mut subject = OnCpu::new(&case, true, 2, keep_values);
        assert!(subject.deviation(&case) < 0.2);
        subject.executor.logits(0).to_vec()
    });
    assert!(results[0] == results[1] && results[0].iter().all(|x| x.is_finite()));
}

/// Norm, query, key and value; rotary embedding and KV write; attention; output; gate and up; down.
#[test]
fn a_layer_is_six_stages() {
    let stages = |n_layers, biases| {
        let case = layers(Layers { n_layers, biases, ..Layers::of(Format::Q4_0) }, &[1]);
        OnCpu::new(&case, false, 1, false).executor.stages()
    };
    for biases in [false, true] {
        assert_eq!(stages(3, biases) - stages(2, biases), 6);
        // After the layers: the selection of rows; norm and logits; the likeliest token.
        assert_eq!(stages(1, biases), 6 + 3);
    }
}

/// Products with weights of different formats, which need activations in different forms; a gate with a bias
/// whose pair has none; a tail with an activation; sums of a product with its own input.
#[test]
fn tails_of_mixed_products() {
    let (n, ff) = (64, 160);
    let build = |g: &mut Builder| {
        let x = g.value(Domain::Tokens, n);
        let norm = g.constant(vec![1.0; n]);
        let square = |g: &mut Builder, format: &str, x| {
            let weight = g.matrix(format!("{format}:{}", x), n, n);
            g.matmul(ValueId(x), weight)
        };
        let a = square(g, "Q4_0", x.0);
        let x = g.add(x, a);
        let h = g.rms_norm(x, norm, 1e-5);
        let (gate, up) = (g.matrix("Q8_0:gate", ff, n), g.matrix("F16:up", ff, n));
        let (gate, up) = (g.matmul(h, gate), g.matmul(h, up));
        let bias = g.vector("F32:bias", ff);
        let gate = g.bias(gate, bias);
        let f = g.gated(gate, up, Activation::Gelu);
        let down = g.matrix("Q4_1:down", n, ff);
        let f = g.matmul(f, down);
        let f = g.activate(f, Activation::Silu);
        let x = g.add(f, x);
        let y = square(g, "Q8_0", x.0);
        g.add(x, y);
        let selected = g.select_rows(x);
        let h = g.rms_norm(selected, norm, 1e-5);
        let output = g.matrix("F32:output", 9, n);
        let y = g.matmul(h, output);
        g.logits(y);
    };
    for tokens in [1, 2, 7] {
        check_with(&op(&format!("mixed products, {tokens} rows"), tokens, build), false, 1e-3);
    }
}

/// Pairs of which one is a product of other rows, and a gate that is gated itself.
#[test]
fn products_whose_parts_do_not_fit_run_op_by_op() {
    let build = |g: &mut Builder| {
        let (x, z) = (g.value(Domain::Tokens, 64), g.value(Domain::Tokens, 64));
        let product = |g: &mut Builder, name: &str, x| {
            let weight = g.matrix(format!("Q8_0:{name}"), 40, 64);
            g.matmul(x, weight)
        };
        let (a, b, c) = (product(g, "a", x), product(g, "b", x), product(g, "c", z));
        let ab = g.gated(a, b, Activation::Silu);
        g.gated(ab, c, Activation::Silu);
        let (d, e) = (product(g, "d", x), product(g, "e", z));
        g.gated(d, e, Activation::Gelu);
        let (f, h) = (product(g, "f", x), product(g, "h", x));
        let gate = g.gated(f, h, Activation::Silu);
        let i = product(g, "i", x);
        g.gated(gate, i, Activation::Silu);
    };
    for tokens in [1, 5] {
        check_with(&op(&format!("parts, {tokens} rows"), tokens, build), false, 1e-3);
    }
}

const PLAIN: Choice = Choice {
    temperature: 0.8,
    top_p: 0.95,
    min_p: 0.0,
    top_k: 0,
    repetition_penalty: 1.2,
    presence_penalty: 0.5,
    frequency_penalty: 0.25,
    adjusts: 1,
    seed: [11, 12],
    counter: 0,
    masked: 0,
};

/// Two outputs with choices of their own and one without, through several steps; the tokens feed the next
/// step.
#[test]
fn chosen_tokens() {
    let n_vocab = 70;
    let graph = {
        let mut g = Builder::default();
        let embedding = g.matrix("F32:embedding", n_vocab, 32);
        let x = g.embed(embedding);
        let x = g.select_rows(x);
        let output = g.matrix("F32:output", n_vocab, 32);
        let logits = g.matmul(x, output);
        g.logits(logits);
        g.finish()
    };
    let mut case = Case::new("chosen tokens", graph, 3, 0.0);
    (case.pages, case.max_pages) = (vec![0, 1, 2], 1);
    case.outputs = (0..3).map(|row| Output::likeliest(row, 0)).collect();
    let mut subject = OnCpu::new(&case, false, 2, false);
    let mut random = Random(5);
    let bias: Vec<f32> = (0..n_vocab).map(|_| random.normal()).collect();
    let mut seen: Vec<u32> = (0..n_vocab).map(|i| (i % 3 == 0) as u32 * IN_PROMPT).collect();
    subject.executor.set_slot(0, &seen, &bias);
    let slots = [2, 1, 0];
    let mut ids = [3, 50, 69];
    for counter in 0..8 {
        let id = |i: usize| if counter == 0 { ids[i] } else { Token::FROM_SLOT | slots[i] };
        let tokens: Vec<Token> = (0..3).map(|i| Token { id: id(i), ..Default::default() }).collect();
        // The choice of the output without one is not looked at.
        let choices = [
            Choice { adjusts: 0, masked: 1, counter, ..PLAIN },
            Choice { temperature: f32::NAN, ..PLAIN },
            Choice { counter, ..PLAIN },
        ];
        let output =
            |row: u32| Output { row, target: 7, slot: slots[row as usize], by_choice: u32::from(row != 1) };
        let outputs = [0, 1, 2].map(output);
        let step = Step { tokens: &tokens, outputs: &outputs, choices: &choices, pages: &[], max_pages: 1 };
        // 70 tokens: the last word is not full. In some steps one token is left.
        let one = (counter % 3 == 0).then(|| (random.bits() % 70) as u32);
        let mask: Vec<u32> = (0..3)
            .map(|word| match one {
                Some(id) => u32::from(id / 32 == word) << (id % 32),
                None => (0..32).fold(0, |bits, _| bits << 1 | u32::from(random.bits().is_multiple_of(3))),
            })
            .collect();
        subject.executor.set_mask(slots[0], &mask);
        subject.executor.step(&subject.weights, &step).unwrap();

        let logits = [0, 1, 2].map(|i| subject.executor.logits(i).to_vec());
        let numbers = |weight: usize| floats(case.weights[weight].0, &case.weights[weight].1);
        let (embedding, output) = (numbers(0), numbers(1));
        for (id, logits) in ids.iter().zip(&logits) {
            let x = &embedding[*id as usize * 32..][..32];
            for (found, w) in logits.iter().zip(output.chunks_exact(32)) {
                let expected: f32 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                assert!((found - expected).abs() < 1e-4);
            }
        }
        let chosen = &subject.executor.chosen;
        let first = choices[0].choose(&mut logits[0].clone(), &[], &[], &mask);
        assert_eq!(chosen[0], Chosen { id: first, ..Default::default() });
        assert!(allows(&mask, first as usize) && one.is_none_or(|id| id == first));
        let top = (0..n_vocab).max_by(|a, b| logits[1][*a].total_cmp(&logits[1][*b])).unwrap();
        assert_eq!((chosen[1].id, chosen[1].target_logit), (top as u32, logits[1][7]));
        let last = choices[2].choose(&mut logits[2].clone(), &seen, &bias, &[]);
        assert_eq!(chosen[2], Chosen { id: last, ..Default::default() });
        seen[last as usize] += 1;
        ids = [chosen[0].id, chosen[1].id, chosen[2].id];
    }
}

#[test]
fn steps_that_do_not_fit_are_errors() {
    let case = layers(Layers::of(Format::F32), &[3]);
    let mut subject = OnCpu::new(&case, false, 1, false);
    let step = case.step();
    let mut run = |step: &Step| subject.executor.step(&subject.weights, step);
    let tokens = [step.tokens, step.tokens].concat();
    assert!(matches!(run(&Step { tokens: &tokens, ..step }), Err(CpuError::Step(_))));
    let outputs = [Output::likeliest(3, 0)];
    assert!(matches!(run(&Step { outputs: &outputs, ..step }), Err(CpuError::Step(_))));
    let tokens = [Token { cell: 1 << 20, ..step.tokens[0] }];
    assert!(matches!(run(&Step { tokens: &tokens, outputs: &[], ..step }), Err(CpuError::Step(_))));
    assert_eq!(run(&step), Ok(()));
}

/// A matrix that is not there is noticed within the step; the threads are of no use after that.
#[test]
fn a_step_that_fails_in_its_threads_is_an_error() {
    for threads in [1, 3] {
        let case = layers(Layers::of(Format::F32), &[3]);
        let mut subject = OnCpu::new(&case, false, threads, false);
        let mut graph: Graph = case.graph.clone();
        graph.weights.iter_mut().for_each(|weight| weight.is_vector = true);
        let vectors = Weights::allocate(&graph, &case.formats(), false).unwrap();
        assert!(subject.executor.step(&vectors, &case.step()).is_err());
        assert_eq!(subject.executor.step(&subject.weights, &case.step()), Err(CpuError::Thread));
    }
}
