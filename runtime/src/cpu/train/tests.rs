//! The CPU against the scalar reference.

use super::kernel::Vectors;
use super::*;
use crate::graph::testing::Case;
use crate::train::tests::{Probe, What, check_case, check_model, loaded, op_cases, product_cases, trainable};

impl<'a> Probe<'a> for Training<'a> {
    fn start(&mut self, batch: &Batch) {
        self.begin(batch).unwrap();
    }

    fn write(&mut self, what: What, id: ValueId, numbers: &[f64]) {
        let blocks = to_blocks(numbers, self.graph.graph.value(id).width);
        let all = if what == What::Value { &mut self.values } else { &mut self.gradients };
        all[id.0] = Some(blocks);
    }

    fn read(&mut self, what: What, id: ValueId, n: usize) -> Vec<f32> {
        let all = if what == What::Value { &self.values } else { &self.gradients };
        let width = self.graph.graph.value(id).width;
        from_blocks(all[id.0].as_ref().unwrap(), width, n / width)
    }
}

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

fn check(case: &Case, threads: usize, vectors: Vectors, tolerance: f32) {
    let graph = TrainingGraph::of_ops(&case.graph).unwrap();
    let mut weights = Weights::allocate(&graph.graph, &case.formats(), false).unwrap();
    case.load(&mut weights);
    let cpu = Cpu::open(threads).unwrap();
    let mut training = Training::new(&cpu, &graph, &weights, 0).unwrap();
    training.threads.vectors = vectors;
    check_case(case, &mut training, tolerance);
}

#[test]
fn ops_agree_with_the_reference() {
    for (i, case) in op_cases().iter().enumerate() {
        check(case, 1 + i % 3, Vectors::find(), 1e-3);
    }
}

#[test]
fn products_agree_with_the_reference() {
    for vectors in Vectors::all() {
        product_cases().for_each(|case| check(&case, 2, vectors, 1e-4));
    }
}

/// Every family, with and without kept values, on one thread and on several.
#[test]
fn models_agree_with_the_reference() {
    for (i, name) in trainable().into_iter().enumerate() {
        check_model(
            &name,
            // One is no multiple of 8, and one exceeds 32.
            [3, 8, 35][i % 3],
            |tiny, plain| loaded(tiny, plain, |formats| Weights::allocate(plain, formats, false).unwrap()),
            [(1, 0), (3, usize::MAX)].map(|(threads, kept)| (Cpu::open(threads).unwrap(), kept)),
        );
    }
}
