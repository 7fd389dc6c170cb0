//! Training on WebGPU: computes a training graph and its gradients, see [`crate::train`].
//!
//! Matrices stay as they are for inference and are dequantised some rows at a time. Of each layer the input
//! is kept, and what it computes as far as there is memory; the rest is computed again on the way back. No
//! kernel uses atomics, so a step gives the same numbers each time.

mod head;
mod learnt;
mod ops;
mod product;
mod queue;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

pub use self::learnt::OnGpu;

use self::queue::Queue;
use super::kernels::{Resource, whole};
use super::{Gpu, GpuError, Weights};
use crate::graph::{Domain, Op, Output, Rope, ValueId};
use crate::train::{Batch, Gradients, Teaches, TrainError, TrainingGraph, Walk};
use std::collections::HashMap;

/// Rows by which buffers grow, so that batches of almost the same length can use the same ones.
const STEP_ROWS: usize = 32;

impl From<GpuError> for TrainError {
    fn from(error: GpuError) -> Self {
        Self::Device { code: error.code(), message: error.to_string() }
    }
}

impl Teaches for Gpu {
    type Weights = Weights;
    type Learnt = OnGpu;
    type Training<'a> = Training<'a>;

    fn learnt(&self, parameters: Vec<f32>) -> Result<OnGpu, TrainError> {
        Ok(OnGpu::new(self, &parameters)?)
    }

    fn training<'a>(
        &self,
        learnt: &OnGpu,
        graph: &'a TrainingGraph,
        weights: &'a Weights,
        kept_bytes: usize,
    ) -> Result<Training<'a>, TrainError> {
        Ok(Training::new(learnt, graph, weights, kept_bytes)?)
    }
}

/// The buffers that describe a batch.
#[derive(Clone, Debug)]
struct Tables {
    tokens: wgpu::Buffer,
    outputs: wgpu::Buffer,
    /// The weight of each target in the loss.
    shares: wgpu::Buffer,
    logprobs: wgpu::Buffer,
    /// Cosines and sines of each rotary embedding's angles.
    angles: Vec<(Rope, wgpu::Buffer)>,
}

impl Tables {
    fn give_back(self, queue: &Queue) {
        let angles = self.angles.into_iter().map(|(_, table)| table);
        let all = [self.tokens, self.outputs, self.shares, self.logprobs].into_iter().chain(angles);
        all.for_each(|buffer| queue.give_back(buffer));
    }
}

/// A training graph on a GPU, over the weights of a model.
#[derive(Debug)]
pub struct Training<'a> {
    queue: Queue,
    graph: &'a TrainingGraph,
    weights: &'a Weights,
    strength: f32,
    /// Numbers that may be kept of layers, beside their inputs.
    may_keep: usize,
    batch: Batch,
    tables: Tables,
    /// What exists of each value, and of its gradient.
    values: Vec<Option<wgpu::Buffer>>,
    gradients: Vec<Option<wgpu::Buffer>>,
    /// For each attention, two numbers of each row and head, see `train/scores.wgsl`.
    ends: HashMap<usize, wgpu::Buffer>,
    parameters: wgpu::Buffer,
    gradient: wgpu::Buffer,
}

impl<'a> Training<'a> {
    /// See [`Teaches::training`]. Memory that was used before for the same parameters is used again.
    fn new(
        learnt: &OnGpu,
        graph: &'a TrainingGraph,
        weights: &'a Weights,
        kept_bytes: usize,
    ) -> Result<Self, GpuError> {
        let n_values = graph.graph.values.len();
        let queue = learnt.queue.clone();
        let tables = Tables {
            tokens: queue.floats(0)?,
            outputs: queue.floats(0)?,
            shares: queue.floats(0)?,
            logprobs: queue.floats(0)?,
            angles: Vec::new(),
        };
        Ok(Self {
            queue,
            graph,
            weights,
            strength: 1.0,
            may_keep: kept_bytes / size_of::<f32>(),
            batch: Batch::default(),
            tables,
            values: vec![None; n_values],
            gradients: vec![None; n_values],
            ends: HashMap::new(),
            parameters: learnt.parameters.clone(),
            gradient: learnt.gradient.clone(),
        })
    }

    /// Takes these parameters and their gradient.
    fn of(&mut self, learnt: &OnGpu) {
        (self.parameters, self.gradient) = (learnt.parameters.clone(), learnt.gradient.clone());
    }

    fn n_rows(&self, domain: Domain) -> usize {
        match domain {
            Domain::Tokens => self.batch.tokens.len(),
            Domain::Outputs => self.batch.targets.len(),
        }
    }

    /// Gives back the memory of a step, except its tables.
    fn end(&mut self) {
        for id in 0..self.values.len() {
            self.release(ValueId(id));
        }
        self.ends.drain().for_each(|(_, ends)| self.queue.give_back(ends));
    }

    /// Takes the rows of a step and makes the tables that depend on them.
    fn begin(&mut self, batch: &Batch) -> Result<(), GpuError> {
        self.end();
        self.queue.begin([batch.tokens.len(), batch.targets.len()].map(|n| n.div_ceil(STEP_ROWS)));
        let queue = self.queue.clone();
        let make = |bytes: &[u8]| -> Result<wgpu::Buffer, GpuError> {
            let buffer = queue.floats(bytes.len() / size_of::<f32>())?;
            queue.gpu.queue.write_buffer(&buffer, 0, bytes);
            Ok(buffer)
        };
        let outputs: Vec<Output> =
            batch.targets.iter().map(|target| Output::likeliest(target.row, target.id)).collect();
        let zeros = vec![0_u8; size_of::<f32>() * outputs.len()];
        let tables = Tables {
            tokens: make(bytemuck::cast_slice(&batch.tokens))?,
            outputs: make(bytemuck::cast_slice(&outputs))?,
            shares: make(&zeros)?,
            logprobs: make(&zeros)?,
            angles: Vec::new(),
        };
        std::mem::replace(&mut self.tables, tables).give_back(&self.queue);
        self.batch = batch.clone();
        let graph = self.graph;
        for op in &graph.graph.ops {
            let Op::Rope { rope, .. } = *op else { continue };
            if self.angles(&rope).is_none() {
                let table = self.rope_table(rope)?;
                self.tables.angles.push((rope, table));
            }
        }
        Ok(())
    }

    fn angles(&self, rope: &Rope) -> Option<&wgpu::Buffer> {
        let key = |rope: &Rope| (rope.turns, rope.factors, rope.n_rot, rope.magnitude.to_bits());
        let found = self.tables.angles.iter().find(|(known, _)| key(known) == key(rope));
        found.map(|(_, table)| table)
    }

    /// The step's uniform and tables, by the names that kernels use.
    fn step(&self) -> [u32; 4] {
        [self.batch.tokens.len() as u32, self.batch.targets.len() as u32, 0, 1]
    }

    fn shared(&self) -> [Resource; 2] {
        [whole("tokens", &self.tables.tokens), whole("outputs", &self.tables.outputs)]
    }
}

/// Parameters and their gradient are on the device.
impl<'a> Walk<'a> for Training<'a> {
    type Error = GpuError;

    fn graph(&self) -> &'a TrainingGraph {
        self.graph
    }

    fn may_keep(&self) -> usize {
        self.may_keep
    }

    fn size(&self, id: ValueId) -> usize {
        let value = self.graph.graph.value(id);
        value.width * self.n_rows(value.domain).next_multiple_of(STEP_ROWS)
    }

    fn exists(&self, id: ValueId) -> bool {
        self.values[id.0].is_some()
    }

    fn release(&mut self, id: ValueId) {
        let both = [self.values[id.0].take(), self.gradients[id.0].take()];
        both.into_iter().flatten().for_each(|buffer| self.queue.give_back(buffer));
    }

    fn compute(&mut self, op: usize, _: &[f32]) -> Result<(), GpuError> {
        self.compute_op(op)
    }

    fn differentiate(&mut self, op: usize, _: &[f32], _: &mut [f32]) -> Result<(), GpuError> {
        self.differentiate_op(op)
    }

    fn flush(&mut self) {
        self.queue.submit();
    }
}

/// Its memory is used by the next one.
impl Drop for Training<'_> {
    fn drop(&mut self) {
        self.end();
        self.tables.clone().give_back(&self.queue);
    }
}

impl Gradients for Training<'_> {
    type Learnt = OnGpu;

    fn forward(&mut self, batch: &Batch, learnt: &OnGpu) -> Result<(), TrainError> {
        batch.check(self.graph)?;
        if batch.targets.is_empty() {
            return Err(TrainError::Example("nothing is to be predicted".into()));
        }
        self.of(learnt);
        self.begin(batch)?;
        Ok(self.walk(&[])?)
    }

    async fn logprobs(&mut self) -> Result<Vec<f64>, TrainError> {
        self.loss(None)?;
        self.read_logprobs().await
    }

    async fn backward(&mut self, learnt: &mut OnGpu, weights: &[f32]) -> Result<Vec<f64>, TrainError> {
        if weights.len() != self.batch.targets.len() {
            return Err(TrainError::Example(format!("{} weights", weights.len())));
        }
        self.of(learnt);
        self.loss(Some(weights))?;
        self.walk_back(&[], &mut [])?;
        self.read_logprobs().await
    }

    fn set_strength(&mut self, strength: f32) {
        self.strength = strength;
    }

    async fn likeliest(&mut self) -> Result<Vec<u32>, TrainError> {
        Ok(self.likeliest_tokens().await?)
    }
}
