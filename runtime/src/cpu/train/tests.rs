//! The CPU against the scalar reference.

use super::*;
use crate::graph::Graph;
use crate::graph::testing::{Case, Random, cases, distance};
use crate::graph::uses::Uses;
use crate::load::{FileLoader, formats};
use crate::model::Tensors;
use crate::model::golden::Tiny;
use crate::quant::Format;
use crate::train::reference::Reference;
use crate::train::tests::{batch_of, has_rule, random_parameters, spec, trainable, two_examples, weights_of};

fn to_blocks(rows: &[f64], width: usize) -> Vec<f32> {
    let n_rows = rows.len() / width;
    let mut blocks = vec![0.0; n_rows.next_multiple_of(LANES) * width];
    for (i, x) in rows.iter().enumerate() {
        let (row, column) = (i / width, i % width);
        blocks[(row / LANES * width + column) * LANES + row % LANES] = *x as f32;
    }
    blocks
}

fn from_blocks(blocks: &[f32], width: usize, n_rows: usize) -> Vec<f32> {
    let place = |i: usize| (i / width / LANES * width + i % width) * LANES + i / width % LANES;
    (0..n_rows * width).map(|i| blocks[place(i)]).collect()
}

fn narrow(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|x| *x as f32).collect()
}

/// Runs a case's ops forwards and backwards and compares all values and gradients.
fn check_case(case: &Case, threads: usize, tolerance: f32) {
    let graph = TrainingGraph::of_ops(&case.graph).unwrap();
    let mut weights = Weights::allocate(&graph.graph, &case.formats(), false).unwrap();
    case.load(&mut weights);
    let cpu = Cpu::open(threads).unwrap();
    let batch = batch_of(case);
    let mut reference = Reference::new(&graph, &weights_of(case));
    for (id, data) in &case.inputs {
        reference.values[id.0] = data.iter().map(|x| f64::from(*x)).collect();
    }
    reference.forward(&batch);
    let uses = Uses::of(&graph.graph);
    let mut random = Random(5);
    let ends = graph.graph.ops.iter().filter_map(Op::out).filter(|id| uses.readers(*id).is_empty());
    let seeds: Vec<(ValueId, Vec<f64>)> = ends
        .map(|id| (id, reference.values[id.0].iter().map(|_| f64::from(random.normal())).collect()))
        .collect();
    reference.backward_from(&batch, &seeds);

    let mut training = Training::new(&cpu, &graph, &weights, 0).unwrap();
    training.begin(&batch).unwrap();
    let width = |id: ValueId| graph.graph.value(id).width;
    for (id, _) in &case.inputs {
        training.values[id.0] = Some(to_blocks(&reference.values[id.0], width(*id)));
    }
    for op in 0..graph.graph.ops.len() {
        training.compute(op, &[]).unwrap();
    }
    let compare = |what: &str, id: ValueId, found: &Option<Vec<f32>>, expected: &[f64]| {
        let found = from_blocks(found.as_ref().unwrap(), width(id), expected.len() / width(id));
        let off = distance(&found, &narrow(expected));
        assert!(off <= tolerance, "{} {what} {id:?}: {off}", case.name);
    };
    for id in graph.graph.ops.iter().filter_map(Op::out) {
        compare("value", id, &training.values[id.0], &reference.values[id.0]);
    }
    for (id, seed) in &seeds {
        training.gradients[id.0] = Some(to_blocks(seed, width(*id)));
    }
    for op in (0..graph.graph.ops.len()).rev() {
        training.differentiate(op, &[], &mut []).unwrap();
    }
    for (id, _) in case.inputs.iter().filter(|(id, _)| !uses.readers(*id).is_empty()) {
        compare("gradient", *id, &training.gradients[id.0], &reference.gradients[id.0]);
    }
}

#[test]
fn ops_agree_with_the_reference() {
    let mut all = cases::ops();
    // The layer norm of two numbers is their order: its gradient is what rounding leaves.
    all.retain(|case| !case.name.contains("extremes") && !case.name.ends_with("x 2"));
    all.retain(|case| case.graph.ops.iter().all(has_rule));
    for (i, case) in all.iter().enumerate() {
        check_case(case, 1 + i % 3, 1e-3);
    }
}

/// Products of every format, with rows that are no whole tiles or blocks.
#[test]
fn products_agree_with_the_reference() {
    for format in Format::ALL {
        let n_cols = if format.is_float() {
            70
        } else {
            format.block_len() * if format.block_len() == 32 { 11 } else { 2 }
        };
        check_case(&crate::graph::testing::matmul(format, 75, n_cols, 41), 2, 1e-4);
    }
}

/// A tiny model's weights on the CPU.
fn load(tiny: &Tiny, graph: &Graph) -> Weights {
    let tensors = Tensors::of(std::slice::from_ref(&tiny.header)).unwrap();
    let formats = formats(graph, &tensors).unwrap();
    let mut weights = Weights::allocate(graph, &formats, false).unwrap();
    let mut loader = FileLoader::new(tiny.file.len() as u64, &tiny.header, graph, &formats);
    loader.push(&tiny.file, &mut weights).unwrap();
    loader.finish().unwrap();
    weights
}

/// Every family, with and without kept values, on one thread and on several: the gradients of the reference,
/// and the same numbers each time.
#[test]
fn models_agree_with_the_reference() {
    for (i, name) in trainable().into_iter().enumerate() {
        let tiny = Tiny::new(&name);
        let plain = tiny.graph();
        // Of the ranks, one is no multiple of 8, and one exceeds 32.
        let graph = TrainingGraph::new(&plain, &spec([3, 8, 35][i % 3])).unwrap();
        let batch = two_examples(&tiny.ids());
        let parameters = random_parameters(&graph);
        let shares: Vec<f32> = (0..batch.targets.len()).map(|i| 0.1 + i as f32 / 7.0).collect();
        let mut reference = Reference::new(&graph, &tiny.weights(&plain));
        reference.parameters = parameters.iter().map(|x| f64::from(*x)).collect();
        reference.strength = 0.5;
        reference.forward(&batch);
        let wide: Vec<f64> = shares.iter().map(|x| f64::from(*x)).collect();
        reference.backward(&batch, &wide).unwrap();
        let expected = narrow(&reference.logprobs(&batch));
        let weights = load(&tiny, &plain);
        let mut before: Option<Vec<f32>> = None;
        for (threads, kept) in [(1, 0), (3, usize::MAX)] {
            let cpu = Cpu::open(threads).unwrap();
            let mut training = Training::new(&cpu, &graph, &weights, kept).unwrap();
            training.set_strength(0.5);
            training.forward(&batch, &parameters).unwrap();
            let logprobs = training.logprobs().unwrap();
            let mut gradient = vec![0.0; graph.n_parameters];
            assert_eq!(training.backward(&parameters, &shares, &mut gradient).unwrap(), logprobs);
            let off = distance(&narrow(&logprobs), &expected);
            assert!(off < 1e-4, "{name}: log-probabilities are off by {off}");
            for lora in &graph.loras {
                for (what, part) in [("A", lora.a()), ("B", lora.b())] {
                    let off = distance(&gradient[part.clone()], &narrow(&reference.gradient[part]));
                    assert!(off < 1e-3, "{name} {} {what}: {off}", lora.name);
                }
            }
            assert!(before.is_none_or(|before| before == gradient), "{name}: other numbers");
            before = Some(gradient);
        }
    }
}
