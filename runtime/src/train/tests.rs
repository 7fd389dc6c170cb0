//! The reference against finite differences, and the pass on tiny models of every family.

use super::reference::Reference;
use super::*;
use crate::graph::testing::{Case, Random, cases, distance, floats, matmul};
use crate::graph::uses::Uses;
use crate::graph::{Graph, Op, ValueId};
use crate::load::{FileLoader, Sink, formats};
use crate::model::Tensors;
use crate::model::golden::{Tiny, models};
use crate::quant::Format;
use pollster::block_on;
use std::fmt::Debug;

/// A case's rows and outputs as a batch.
pub(crate) fn batch_of(case: &Case) -> Batch {
    let targets = case.outputs.iter().map(|o| Target { row: o.row, id: o.target });
    Batch { tokens: case.tokens.clone(), targets: targets.collect() }
}

pub(crate) fn weights_of(case: &Case) -> Vec<Vec<f32>> {
    case.weights.iter().map(|(format, bytes)| floats(*format, bytes)).collect()
}

fn random(n: usize, random: &mut Random) -> Vec<f64> {
    (0..n).map(|_| f64::from(random.normal())).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Whether a slope along a direction is what the gradient says. `loss(step)` is the loss so far along it.
fn check_slope(what: &str, gradient: &[f64], direction: &[f64], mut loss: impl FnMut(f64) -> f64) {
    let step = 1e-6;
    let expected = (loss(step) - loss(-step)) / (2.0 * step);
    let found = dot(gradient, direction);
    let size = dot(gradient, gradient).sqrt();
    println!("{what}: {found} {expected}, gradient {size}");
    // A row that sees only itself has no gradient of its query.
    let allowed = 1e-6 * (size + expected.abs()).max(1e-3);
    assert!((found - expected).abs() < allowed, "{what}: {found} {expected}");
}

/// Runs a case's ops forwards and backwards in the reference, from random gradients of what no op reads:
/// these are returned, too.
fn differentiated<'g>(
    case: &Case,
    graph: &'g TrainingGraph,
    numbers: &mut Random,
) -> (Reference<'g>, Vec<(ValueId, Vec<f64>)>) {
    let batch = batch_of(case);
    let mut reference = Reference::new(graph, &weights_of(case));
    for (id, data) in &case.inputs {
        reference.values[id.0] = data.iter().map(|x| f64::from(*x)).collect();
    }
    reference.forward(&batch);
    let uses = Uses::of(&graph.graph);
    let ends = graph.graph.ops.iter().filter_map(Op::out).filter(|id| uses.readers(*id).is_empty());
    let seeds: Vec<(ValueId, Vec<f64>)> =
        ends.map(|id| (id, random(reference.values[id.0].len(), numbers))).collect();
    reference.backward_from(&batch, &seeds);
    (reference, seeds)
}

/// Every op and every setting of it, by the cases on which devices are tested.
#[test]
fn rules_agree_with_finite_differences() {
    let mut all = cases::ops();
    // At a kink there is no slope.
    all.retain(|case| !case.name.contains("extremes"));
    let mut attention = all.iter().rfind(|case| case.name.starts_with("attention")).unwrap().clone();
    cases::in_two_sequences(&mut attention);
    all.push(attention);
    for case in all.into_iter().filter(|case| case.graph.ops.iter().all(has_rule)) {
        let graph = TrainingGraph::of_ops(&case.graph).unwrap();
        let batch = batch_of(&case);
        let mut numbers = Random(5);
        let (mut reference, seeds) = differentiated(&case, &graph, &mut numbers);
        let uses = Uses::of(&graph.graph);
        let gradients = reference.gradients.clone();
        for (input, data) in case.inputs.iter().filter(|(id, _)| !uses.readers(*id).is_empty()) {
            let start: Vec<f64> = data.iter().map(|x| f64::from(*x)).collect();
            let direction = random(data.len(), &mut numbers);
            check_slope(&format!("{} {input:?}", case.name), &gradients[input.0], &direction, |step| {
                reference.values[input.0] = start.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
                reference.forward(&batch);
                seeds.iter().map(|(id, seed)| dot(&reference.values[id.0], seed)).sum()
            });
            reference.values[input.0] = start;
        }
    }
}

/// A device's training as tests see it: the numbers of single values, row by row.
pub(crate) trait Probe<'g>: Walk<'g> {
    fn start(&mut self, batch: &Batch);
    fn write(&mut self, what: What, id: ValueId, numbers: &[f64]);
    fn read(&mut self, what: What, id: ValueId, n: usize) -> Vec<f32>;
}

/// A value, or its gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    Value,
    Gradient,
}

pub(crate) fn narrow(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|x| *x as f32).collect()
}

/// The cases of ops that devices can train.
pub(crate) fn op_cases() -> Vec<Case> {
    let mut all = cases::ops();
    // The layer norm of two numbers is their order: its gradient is what rounding leaves.
    all.retain(|case| !case.name.contains("extremes") && !case.name.ends_with("x 2"));
    all.retain(|case| case.graph.ops.iter().all(has_rule));
    all
}

/// Products of every format, with rows that are no whole tiles or blocks.
pub(crate) fn product_cases() -> impl Iterator<Item = Case> {
    Format::ALL.into_iter().map(|format| {
        let n_cols = if format.is_float() {
            70
        } else {
            format.block_len() * if format.block_len() == 32 { 11 } else { 2 }
        };
        matmul(format, 75, n_cols, 41)
    })
}

/// Runs a case's ops forwards and backwards on a device and compares all values and gradients with the
/// reference.
pub(crate) fn check_case<'g, T: Probe<'g>>(case: &Case, training: &mut T, tolerance: f32)
where
    T::Error: Debug,
{
    let graph = training.graph();
    let (reference, seeds) = differentiated(case, graph, &mut Random(5));
    let uses = Uses::of(&graph.graph);
    training.start(&batch_of(case));
    for (id, _) in &case.inputs {
        training.write(What::Value, *id, &reference.values[id.0]);
    }
    for op in 0..graph.graph.ops.len() {
        training.compute(op, &[]).unwrap();
    }
    let compare = |training: &mut T, what: What, id: ValueId, expected: &[f64]| {
        let off = distance(&training.read(what, id, expected.len()), &narrow(expected));
        assert!(off <= tolerance, "{} {what:?} {id:?}: {off}", case.name);
    };
    for id in graph.graph.ops.iter().filter_map(Op::out) {
        compare(training, What::Value, id, &reference.values[id.0]);
    }
    for (id, seed) in &seeds {
        training.write(What::Gradient, *id, seed);
    }
    for op in (0..graph.graph.ops.len()).rev() {
        training.differentiate(op, &[], &mut []).unwrap();
    }
    for (id, _) in case.inputs.iter().filter(|(id, _)| !uses.readers(*id).is_empty()) {
        compare(training, What::Gradient, *id, &reference.gradients[id.0]);
    }
}

/// A tiny model's weights on a device.
pub(crate) fn loaded<S: Sink>(tiny: &Tiny, graph: &Graph, allocate: impl FnOnce(&[Format]) -> S) -> S {
    let tensors = Tensors::of(std::slice::from_ref(&tiny.header)).unwrap();
    let formats = formats(graph, &tensors).unwrap();
    let mut weights = allocate(&formats);
    let mut loader = FileLoader::new(tiny.file.len() as u64, &tiny.header, graph, &formats);
    loader.push(&tiny.file, &mut weights).unwrap();
    loader.finish().unwrap();
    weights
}

/// Trains a tiny model in two ways, which differ in devices and in how much may be kept: each has the
/// reference's gradients, and both the same numbers.
pub(crate) fn check_model<D: Teaches>(
    name: &str,
    rank: usize,
    load: impl Fn(&Tiny, &Graph) -> D::Weights,
    ways: [(D, usize); 2],
) {
    let tiny = Tiny::new(name);
    let plain = tiny.graph();
    let graph = TrainingGraph::new(&plain, &spec(rank)).unwrap();
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
    for (device, kept_bytes) in ways {
        let mut learnt = device.learnt(parameters.clone()).unwrap();
        let mut training = device.training(&learnt, &graph, &weights, kept_bytes).unwrap();
        training.set_strength(0.5);
        training.forward(&batch, &learnt).unwrap();
        let logprobs = block_on(training.logprobs()).unwrap();
        assert_eq!(block_on(training.backward(&mut learnt, &shares)).unwrap(), logprobs);
        let gradient = block_on(learnt.read(Kind::Gradient)).unwrap().into_owned();
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

/// LoRA's parameters with random numbers.
pub(crate) fn random_parameters(graph: &TrainingGraph) -> Vec<f32> {
    let mut random = Random(11);
    let mut parameters = Vec::new();
    for lora in &graph.loras {
        let size = 1.0 / (lora.n_in as f32).sqrt();
        parameters.extend((0..lora.a().len()).map(|_| size * random.normal()));
        parameters.extend((0..lora.b().len()).map(|_| 0.3 * random.normal()));
    }
    parameters
}

pub(crate) fn spec(rank: usize) -> LoraSpec {
    LoraSpec { rank, alpha: 2.0 * rank as f32, targets: Vec::new() }
}

/// Two sequences, of which the second half is to be predicted.
pub(crate) fn two_examples(ids: &[u32]) -> Batch {
    let (first, second) = ids[..20].split_at(11);
    let mut batch = Batch::default();
    batch.push(first, |i| i > 5);
    batch.push(second, |i| i > 3);
    batch
}

/// Whether there is a rule for an op: not for those of experts.
pub(crate) fn has_rule(op: &Op) -> bool {
    !matches!(op, Op::Route { .. } | Op::Experts { .. } | Op::ExpertSum { .. })
}

/// The tiny models whose ops all have rules.
pub(crate) fn trainable() -> Vec<String> {
    models().into_iter().filter(|name| Tiny::new(name).graph().ops.iter().all(has_rule)).collect()
}

#[test]
fn models_with_experts_are_refused() {
    let known = trainable();
    let others: Vec<String> = models().into_iter().filter(|name| !known.contains(name)).collect();
    assert!(others.len() >= 6 && known.len() > others.len(), "{others:?}");
    for name in others {
        let error = TrainingGraph::new(&Tiny::new(&name).graph(), &spec(3)).unwrap_err();
        assert_eq!(error, TrainError::Experts, "{name}");
    }
}

/// Whole models of every family: what LoRA learns agrees with finite differences of the loss.
#[test]
fn models_have_the_gradients_of_their_loss() {
    for name in trainable() {
        let tiny = Tiny::new(&name);
        let plain = tiny.graph();
        let graph = TrainingGraph::new(&plain, &spec(3)).unwrap();
        let batch = two_examples(&tiny.ids());
        batch.check(&graph).unwrap();
        let mut reference = Reference::new(&graph, &tiny.weights(&plain));
        let parameters: Vec<f64> = random_parameters(&graph).iter().map(|x| f64::from(*x)).collect();
        let weights: Vec<f64> = (0..batch.targets.len()).map(|i| 0.1 + i as f64 / 7.0).collect();
        reference.parameters = parameters.clone();
        reference.forward(&batch);
        reference.backward(&batch, &weights).unwrap();
        let gradient = reference.gradient.clone();
        let direction = random(parameters.len(), &mut Random(3));
        check_slope(&name, &gradient, &direction, |step| {
            reference.parameters = parameters.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
            reference.forward(&batch);
            -dot(&reference.logprobs(&batch), &weights)
        });
    }
}

/// Without LoRA the reference is the model: log-probabilities are those of llama.cpp.
#[test]
fn the_reference_is_the_model() {
    for name in ["llama", "gemma2", "gpt2"] {
        let tiny = Tiny::new(name);
        let plain = tiny.graph();
        let graph = TrainingGraph::new(&plain, &spec(2)).unwrap();
        let mut reference = Reference::new(&graph, &tiny.weights(&plain));
        let (ids, golden) = tiny.likeliest();
        let mut batch = Batch::default();
        batch.push(&ids, |_| true);
        batch.targets.iter_mut().zip(&golden).for_each(|(target, (id, _))| target.id = *id);
        reference.forward(&batch);
        let found = reference.logprobs(&batch);
        let off: f64 = found.iter().zip(&golden).map(|(f, (_, e))| (f - e).abs()).sum();
        assert!(found.len() > 20 && off / found.len() as f64 <= 0.01, "{name}: {off} of {}", found.len());
    }
}

/// A layer's ops are one segment, which begins with the residual stream.
#[test]
fn segments_are_layers() {
    for name in trainable() {
        let tiny = Tiny::new(&name);
        let graph = TrainingGraph::new(&tiny.graph(), &spec(2)).unwrap();
        let n_layers = graph.graph.ops.iter().filter(|op| matches!(op, Op::Attention { .. })).count();
        assert_eq!(graph.segments.len(), n_layers, "{name}");
        let mut at = 0;
        for segment in &graph.segments {
            assert_eq!(segment.ops.start, at);
            at = segment.ops.end;
            let attention = |op: &&Op| matches!(op, Op::Attention { .. });
            assert_eq!(graph.graph.ops[segment.ops.clone()].iter().filter(attention).count(), 1, "{name}");
        }
        assert_eq!(at, graph.head);
        assert_eq!(graph.segments[0].input, None);
    }
}

#[test]
fn what_cannot_be_trained_is_named() {
    let tiny = Tiny::new("llama");
    let plain = tiny.graph();
    let with = |rank, targets: &[&str]| {
        let targets = targets.iter().map(|target| target.to_string()).collect();
        TrainingGraph::new(&plain, &LoraSpec { rank, alpha: 1.0, targets })
    };
    let error = with(4, &["attn_q", "q_proj"]).unwrap_err().to_string();
    assert!(error.contains("q_proj") && error.contains("attn_q, attn_k, attn_v, attn_output"), "{error}");
    assert!(with(0, &[]).is_err() && with(5000, &[]).is_err());
    let graph = with(4, &["attn_q", "ffn_down"]).unwrap();
    assert_eq!(graph.loras.len(), 2 * graph.segments.len());
    assert!(!plain.ops.is_empty() && TrainingGraph::new(&Default::default(), &spec(1)).is_err());
    let mut batch = Batch::default();
    batch.push(&[1, 2, 3], |_| true);
    assert_eq!(batch.check(&graph), Ok(()));
    let mut wrong = batch.clone();
    wrong.tokens[0].id = 1 << 30;
    assert!(wrong.check(&graph).is_err());
    batch.tokens[1].position = 5;
    assert!(batch.check(&graph).is_err());
}
