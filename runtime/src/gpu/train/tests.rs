//! The GPU against the scalar reference.

use super::*;
use crate::gpu::{Options, self_test};
use crate::graph::Graph;
use crate::graph::testing::{Case, Random, cases, distance, matmul};
use crate::graph::uses::Uses;
use crate::load::{FileLoader, formats};
use crate::model::Tensors;
use crate::model::golden::Tiny;
use crate::quant::Format;
use crate::train::reference::Reference;
use crate::train::tests::{batch_of, has_rule, random_parameters, spec, two_examples, weights_of};
use std::sync::OnceLock;

fn device() -> Gpu {
    static DEVICE: OnceLock<Gpu> = OnceLock::new();
    DEVICE.get_or_init(|| pollster::block_on(Gpu::open(Options::default())).unwrap()).clone()
}

fn narrow(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|x| *x as f32).collect()
}

/// Runs a case's ops forwards and backwards and compares all values and gradients.
fn check_case(case: &Case, tolerance: f32) {
    let graph = TrainingGraph::of_ops(&case.graph).unwrap();
    let gpu = device();
    let weights = self_test::upload(case, &gpu).unwrap();
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

    let mut training = Training::new(&gpu, &graph, &weights, 0).unwrap();
    training.begin(&batch).unwrap();
    let write = |training: &mut Training, id: ValueId, numbers: &[f64]| {
        let buffer = training.queue.floats(training.size(id)).unwrap();
        gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&narrow(numbers)));
        buffer
    };
    for (id, _) in &case.inputs {
        training.values[id.0] = Some(write(&mut training, *id, &reference.values[id.0]));
    }
    for op in 0..graph.graph.ops.len() {
        training.compute(op).unwrap();
    }
    let compare = |training: &mut Training, what: &str, id: ValueId, found: Option<_>, expected: &[f64]| {
        let found = training.queue.read(&found.unwrap(), expected.len()).unwrap();
        let off = distance(&found, &narrow(expected));
        assert!(off <= tolerance, "{} {what} {id:?}: {off}", case.name);
    };
    for id in graph.graph.ops.iter().filter_map(Op::out) {
        let found = training.values[id.0].clone();
        compare(&mut training, "value", id, found, &reference.values[id.0]);
    }
    for (id, seed) in &seeds {
        training.gradients[id.0] = Some(write(&mut training, *id, seed));
    }
    for op in (0..graph.graph.ops.len()).rev() {
        training.differentiate(op).unwrap();
    }
    for (id, _) in case.inputs.iter().filter(|(id, _)| !uses.readers(*id).is_empty()) {
        let found = training.gradients[id.0].clone();
        compare(&mut training, "gradient", *id, found, &reference.gradients[id.0]);
    }
    gpu.check().unwrap();
}

#[test]
fn ops_agree_with_the_reference() {
    let mut all = cases::ops();
    // The layer norm of two numbers is their order: its gradient is what rounding leaves.
    all.retain(|case| !case.name.contains("extremes") && !case.name.ends_with("x 2"));
    all.retain(|case| case.graph.ops.iter().all(has_rule));
    all.iter().for_each(|case| check_case(case, 1e-3));
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
        check_case(&matmul(format, 75, n_cols, 41), 1e-4);
    }
}

/// A tiny model's weights on the device.
fn load(gpu: &Gpu, tiny: &Tiny, graph: &Graph) -> Weights {
    let tensors = Tensors::of(std::slice::from_ref(&tiny.header)).unwrap();
    let formats = formats(graph, &tensors).unwrap();
    let mut weights = Weights::allocate(gpu, graph, &formats).unwrap();
    let mut loader = FileLoader::new(tiny.file.len() as u64, &tiny.header, graph, &formats);
    loader.push(&tiny.file, &mut weights).unwrap();
    loader.finish().unwrap();
    weights
}

/// Models that together have all ops, with and without kept values: the gradients of the reference, and the
/// same numbers each time.
#[test]
fn models_agree_with_the_reference() {
    let gpu = device();
    for (i, name) in ["llama", "gemma2", "qwen3", "gpt2"].into_iter().enumerate() {
        let tiny = Tiny::new(name);
        let plain = tiny.graph();
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
        let weights = load(&gpu, &tiny, &plain);
        let mut before: Option<Vec<f32>> = None;
        for kept in [0, usize::MAX] {
            let mut training = Training::new(&gpu, &graph, &weights, kept).unwrap();
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
