//! The GPU against the scalar reference.

use super::*;
use crate::gpu::{Options, self_test};
use crate::graph::testing::Case;
use crate::train::tests::{Probe, What, check_case, check_model, loaded, narrow, op_cases, product_cases};
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
        self.queue.read(&buffer, n).unwrap()
    }
}

fn check(case: &Case, tolerance: f32) {
    let graph = TrainingGraph::of_ops(&case.graph).unwrap();
    let gpu = device();
    let weights = self_test::upload(case, &gpu).unwrap();
    check_case(case, &mut Training::new(&gpu, &graph, &weights, 0).unwrap(), tolerance);
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
            |way, graph, weights| {
                Box::new(Training::new(&gpu, graph, weights, [0, usize::MAX][way]).unwrap())
            },
        );
    }
}
