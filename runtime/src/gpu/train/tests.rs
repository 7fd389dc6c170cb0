//! The GPU against the scalar reference.

use super::*;
use crate::gpu::{Options, self_test};
use crate::graph::testing::{Case, Random, distance};
use crate::train::tests::{Probe, What, check_case, check_model, loaded, narrow, op_cases, product_cases};
use crate::train::{AdamW, Kind, Learnt, OnHost, Optimiser};
use pollster::block_on;
use std::sync::OnceLock;

fn device() -> Gpu {
    static DEVICE: OnceLock<Gpu> = OnceLock::new();
    DEVICE.get_or_init(|| pollster::block_on(Gpu::open(Options::default())).unwrap()).clone()
}

impl<'a> Probe<'a> for Training<'a> {
    fn start(&mut self, batch: &Batch) {
        self.begin(batch).unwrap();
    }

    fn write(&mut self, what: What, id: ValueId, numbers: &[f64]) {
        let buffer = self.queue.floats(self.size(id)).unwrap();
        self.queue.gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(&narrow(numbers)));
        let all = if what == What::Value { &mut self.values } else { &mut self.gradients };
        all[id.0] = Some(buffer);
    }

    fn read(&mut self, what: What, id: ValueId, n: usize) -> Vec<f32> {
        let all = if what == What::Value { &self.values } else { &self.gradients };
        let buffer = all[id.0].clone().unwrap();
        block_on(self.queue.read(&buffer, n)).unwrap()
    }
}

fn check(case: &Case, tolerance: f32) {
    let graph = TrainingGraph::of_ops(&case.graph).unwrap();
    let gpu = device();
    let weights = self_test::upload(case, &gpu).unwrap();
    let learnt = gpu.learnt(Vec::new()).unwrap();
    check_case(case, &mut Training::new(&learnt, &graph, &weights, 0).unwrap(), tolerance);
    gpu.check().unwrap();
}

#[test]
fn ops_agree_with_the_reference() {
    op_cases().iter().for_each(|case| check(case, 1e-3));
}

#[test]
fn products_agree_with_the_reference() {
    product_cases().for_each(|case| check(&case, 1e-4));
}

/// Models that together have all ops, with and without kept values.
#[test]
fn models_agree_with_the_reference() {
    let gpu = device();
    for (i, name) in ["llama", "gemma2", "qwen3", "gpt2"].into_iter().enumerate() {
        check_model(
            name,
            [3, 8, 35][i % 3],
            |tiny, plain| loaded(tiny, plain, |formats| Weights::allocate(&gpu, plain, formats).unwrap()),
            [0, usize::MAX].map(|kept| (gpu.clone(), kept)),
        );
    }
}

/// On the GPU as on the host, over several bindings and a last workgroup that is not full.
#[test]
fn updates_are_those_of_the_host() {
    let mut gpu = device();
    gpu.pretend(|info| info.max_binding_size = 8192);
    let mut random = Random(3);
    let mut numbers = |size: f32| -> Vec<f32> { (0..5000).map(|_| size * random.normal()).collect() };
    let (start, gradient) = (numbers(1.0), numbers(0.1));
    for clip in [None, Some(1.0)] {
        let settings = AdamW { clip, decay: 0.1, ..AdamW::default() };
        let mut optimiser = Optimiser::new(settings, 0).unwrap();
        let (mut host, mut learnt) = (OnHost::new(start.clone()), gpu.learnt(start.clone()).unwrap());
        for _ in 0..3 {
            let update = optimiser.next(5);
            optimiser.advance();
            host.write(Kind::Gradient, &gradient).unwrap();
            learnt.write(Kind::Gradient, &gradient).unwrap();
            let norms = (block_on(host.update(&update)).unwrap(), block_on(learnt.update(&update)).unwrap());
            assert!((norms.0 - norms.1).abs() < 1e-4 * norms.0, "{norms:?}");
        }
        for kind in [Kind::Parameters, Kind::Gradient, Kind::First, Kind::Second] {
            let found = block_on(learnt.read(kind)).unwrap();
            let off = distance(&found, &block_on(host.read(kind)).unwrap());
            assert!(off < 1e-5, "{kind:?}: {off}");
        }
        let before = block_on(learnt.read(Kind::Parameters)).unwrap().into_owned();
        learnt.write(Kind::Gradient, &[&gradient[1..], &[f32::NAN]].concat()).unwrap();
        assert!(!block_on(learnt.update(&optimiser.next(5))).unwrap().is_finite());
        assert_eq!(*block_on(learnt.read(Kind::Parameters)).unwrap(), before);
        learnt.clear();
        assert!(block_on(learnt.read(Kind::Gradient)).unwrap().iter().all(|g| *g == 0.0));
    }
    gpu.check().unwrap();
}
