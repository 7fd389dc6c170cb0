//! Every op against the scalar interpreter: the GPU's cases, fused and unfused, on one thread and on several.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::{Cpu, Executor, Weights};
use crate::gpu::self_test::{Case, argmax, attention, distance, floats, matmul, rms_norm, rope};
use crate::graph::interpreter::Interpreter;
use crate::graph::{Attention, Builder, Graph, PAGE, Rope, Rows, ValueId, Want, WeightId};
use crate::quant::Format;

fn upload(case: &Case, int8: bool) -> Weights {
    let formats: Vec<Format> = case.weights.iter().map(|(format, _)| *format).collect();
    let mut weights = Weights::allocate(&case.graph, &formats, int8).unwrap();
    for (i, (format, bytes)) in case.weights.iter().enumerate() {
        let id = WeightId(i);
        if case.graph.weights[i].is_vector {
            weights.write_vector(id, &floats(*format, bytes));
            continue;
        }
        for (piece, blocks) in bytes.chunks(38 * format.block_bytes()).enumerate() {
            let (mut quants, mut scales) = (Vec::new(), Vec::new());
            format.repack(blocks, &mut quants, &mut scales);
            weights.write_blocks(id, piece * 38, &quants, &scales);
        }
    }
    weights
}

/// The largest difference between the CPU's results and the interpreter's, in units of the results' root mean square, and the
/// results. Values that fusion does away with are not compared.
fn deviation(case: &Case, int8: bool, threads: usize, keep_values: bool) -> (f32, Vec<f32>) {
    let weights = case.weights.iter().map(|(format, bytes)| floats(*format, bytes)).collect();
    let mut interpreter = Interpreter::new(&case.graph, weights, case.capacity());
    for (id, data) in &case.inputs {
        interpreter.values[id.0].clone_from(data);
    }
    interpreter.step(&case.step());

    let weights = upload(case, int8);
    let cpu = Cpu::open(threads).unwrap();
    let mut executor = Executor::with(&cpu, &case.graph, &weights, case.capacity(), keep_values).unwrap();
    for (i, expected) in interpreter.values.iter().enumerate() {
        if let Some(value) = executor.value(ValueId(i), expected.len()) {
            value.fill(f32::NAN);
        }
    }
    for (id, data) in &case.inputs {
        executor.value(*id, data.len()).unwrap().copy_from_slice(data);
    }
    executor.step(&weights, &case.step(), Want::Best).unwrap();
    let (mut worst, mut results) = (0.0_f32, Vec::new());
    let is_last = |id| keep_values || !case.graph.ops.iter().any(|op| op.inputs().contains(&id));
    for (i, expected) in interpreter.values.iter().enumerate().filter(|(i, _)| is_last(ValueId(*i))) {
        if let Some(found) = executor.value(ValueId(i), expected.len()) {
            worst = worst.max(distance(found, expected, case.graph.argmax == Some(ValueId(i))));
            results.extend_from_slice(found);
        }
    }
    (worst, results)
}

fn check(case: Case, tolerance: f32) {
    check_class(&case, false, tolerance);
    check_class(&case, true, tolerance);
}

fn check_class(case: &Case, int8: bool, tolerance: f32) {
    let mut first: Option<Vec<f32>> = None;
    for threads in [1, 3] {
        for keep_values in [false, true] {
            let (error, results) = deviation(case, int8, threads, keep_values);
            assert!(error <= tolerance, "{}, {threads} threads, kept {keep_values}: {error}", case.name);
            if !keep_values {
                let first = first.get_or_insert_with(|| results.clone());
                assert!(results.iter().zip(first).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", case.name);
            }
        }
    }
}

/// Moves each block's inputs to multiples of 1/127 of its greatest, so that 8 bits hold them exactly.
fn to_8_bits(case: &mut Case) {
    for (_, input) in &mut case.inputs {
        for block in input.chunks_mut(32) {
            let unit = block.iter().fold(0.0_f32, |top, x| top.max(x.abs())) / 127.0;
            block.iter_mut().for_each(|x| *x = unit * (*x / unit).round());
        }
    }
}

#[test]
fn matmuls() {
    for format in Format::ALL {
        for (rows, cols, tokens) in [
            (1, 32, 1),
            (63, 96, 1),
            (65, 544, 1),
            (130, 1024, 1),
            (63, 96, 2),
            (130, 544, 8),
            (1, 32, 9),
            (65, 544, 31),
        ] {
            let mut case = matmul(format, rows, cols, tokens);
            to_8_bits(&mut case);
            check(case, 1e-3);
        }
    }
}

#[test]
fn embeddings() {
    for format in Format::ALL {
        for (width, tokens) in [(32, 1), (576, 40)] {
            let mut g = Builder::default();
            let w = g.matrix(format.name(), 131, width);
            g.embed(w);
            check(Case::new(format!("embed {}", format.name()), g.finish(), tokens, 0.0), 1e-6);
        }
    }
}

#[test]
fn norms_and_elementwise() {
    for (width, tokens) in [(4, 1), (96, 5), (576, 3), (260, 33)] {
        check(rms_norm(width, tokens), 1e-5);
        let mut g = Builder::default();
        let (a, b) = (g.value(Rows::Tokens, width), g.value(Rows::Tokens, width));
        g.swiglu(a, b);
        g.add(a, b);
        check(Case::new(format!("swiglu and add {width}"), g.finish(), tokens, 0.0), 1e-5);
    }
}

#[test]
fn swiglu_at_the_extremes() {
    let mut g = Builder::default();
    let (gate, up) = (g.value(Rows::Tokens, 8), g.value(Rows::Tokens, 8));
    g.swiglu(gate, up);
    let mut case = Case::new("swiglu extremes".into(), g.finish(), 1, 0.0);
    case.inputs[0].1 = vec![-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4, -0.0];
    case.inputs[1].1 = vec![1.0; 8];
    check(case, 1e-5);
}

#[test]
fn ropes() {
    for (head_dim, n_rot, neox) in
        [(64, 64, false), (64, 64, true), (80, 32, false), (80, 32, true), (2, 2, false)]
    {
        check(rope(Rope { n_heads: 3, head_dim, n_rot, neox }, 9), 1e-4);
    }
}

fn heads(n_heads: usize, n_kv_heads: usize, head_dim: usize, window: u32) -> Attention {
    Attention { n_heads, n_kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt(), window }
}

#[test]
fn attentions() {
    for (shape, tokens) in [
        (heads(1, 1, 2, 0), 1),
        (heads(9, 3, 64, 0), 65),
        (heads(4, 4, 128, 0), 130),
        (heads(2, 1, 256, 0), 33),
        (heads(4, 2, 80, 40), 129),
    ] {
        check(attention(shape, tokens), 1e-4);
    }
}

/// Rows of two sequences in one step see only their own.
#[test]
fn attention_keeps_sequences_apart() {
    let mut case = attention(heads(2, 1, 32, 0), 40);
    case.pages = vec![2, 0, 1, 3];
    case.max_pages = 2;
    for (i, token) in case.tokens.iter_mut().enumerate() {
        (token.sequence, token.position) = (i as u32 % 2, i as u32 / 2);
        token.cell = case.pages[(token.sequence * 2) as usize] * PAGE + token.position;
    }
    check(case, 1e-4);
}

#[test]
fn argmaxes() {
    for (n_vocab, tokens) in [(4, 1), (1000, 3), (49_152, 2)] {
        check(argmax(n_vocab, tokens), 1e-5);
    }
    let mut tie = argmax(9000, 1);
    tie.inputs[0].1 = vec![0.5; 9000];
    check(tie, 1e-5);
}

/// The products of a decoder's layer, fused as far as they go, but for what is quantised in between.
fn layer(weights: [&str; 5]) -> Graph {
    let (n, ff) = (64, 160);
    let mut g = Builder::default();
    let x = g.value(Rows::Tokens, n);
    let norm = g.constant(vec![1.0; n]);
    // Weights are known by their tensor's name, which here is their format's: one of each.
    let [gate, up, down, q, output] = weights;
    let q = g.matrix(q, n, n);
    let a = g.matmul(x, q);
    let x = g.add(x, a);
    let h = g.rms_norm(x, norm, 1e-5);
    let (gate, up) = (g.matrix(gate, ff, n), g.matrix(up, ff, n));
    let (gate, up) = (g.matmul(h, gate), g.matmul(h, up));
    let f = g.swiglu(gate, up);
    let down = g.matrix(down, n, ff);
    let f = g.matmul(f, down);
    let x = g.add(f, x);
    let x = g.select_rows(x);
    let h = g.rms_norm(x, norm, 1e-5);
    let output = g.matrix(output, 9, n);
    g.matmul(h, output);
    g.finish()
}

#[test]
fn fused_layers() {
    for tokens in [1, 2, 7] {
        // Names of no format are F32.
        let exact = ["Q8_0", "F16", "down", "q", "output"];
        check(Case::new(format!("layer, {tokens} rows"), layer(exact), tokens, 0.0), 1e-3);
        // What 8 bits lose adds up from product to product, and yet is the same with fusion and without.
        let case = Case::new(String::new(), layer(["Q4_0", "Q4_1", "down", "q", "output"]), tokens, 0.0);
        let ((off, fused), (_, kept)) = (deviation(&case, true, 2, false), deviation(&case, true, 2, true));
        assert!(off < 0.2 && kept.ends_with(&fused));
        // 16 bits lose next to nothing.
        check_class(&case, false, 1e-3);
    }
}
