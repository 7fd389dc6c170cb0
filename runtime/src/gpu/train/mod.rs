//! Training on WebGPU: computes a training graph and its gradients, see [`crate::train`].
//!
//! Matrices stay as they are for inference and are dequantised some rows at a time. Of each layer the input
//! is kept, and what it computes as far as there is memory; the rest is computed again on the way back. No
//! kernel uses atomics, so a step gives the same numbers each time.

mod head;
mod ops;
mod product;
mod queue;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use self::queue::Queue;
use super::buffers::STORAGE;
use super::kernels::{Resource, whole};
use super::{Gpu, GpuError, Weights};
use crate::graph::{Domain, Op, Output, Rope, ValueId};
use crate::quant;
use crate::train::{Batch, Gradients, TrainError, TrainingGraph, Walk};
use std::collections::HashMap;

/// Rows by which buffers grow, so that batches of almost the same length can use the same ones.
const STEP_ROWS: usize = 32;

impl From<GpuError> for TrainError {
    fn from(error: GpuError) -> Self {
        Self::Device(error.to_string())
    }
}

/// The buffers that describe a batch.
#[derive(Debug)]
struct Tables {
    tokens: wgpu::Buffer,
    outputs: wgpu::Buffer,
    /// The weight of each target in the loss.
    shares: wgpu::Buffer,
    logprobs: wgpu::Buffer,
    /// Cosines and sines of each rotary embedding's angles.
    angles: Vec<(Rope, wgpu::Buffer)>,
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
    grids: HashMap<quant::Layout, wgpu::Buffer>,
}

impl<'a> Training<'a> {
    /// `kept_bytes` is how much may be kept of what layers compute: more is faster, and the result is the
    /// same.
    pub fn new(
        gpu: &Gpu,
        graph: &'a TrainingGraph,
        weights: &'a Weights,
        kept_bytes: usize,
    ) -> Result<Self, GpuError> {
        let n_values = graph.graph.values.len();
        let usage = STORAGE | wgpu::BufferUsages::COPY_SRC;
        let bytes = 4 * graph.n_parameters as u64;
        if bytes > gpu.info().max_buffer_size {
            return Err(GpuError::OutOfMemory(format!("{bytes} bytes of parameters")));
        }
        let empty = || gpu.buffer("empty", 0, STORAGE);
        let tables = Tables {
            tokens: empty(),
            outputs: empty(),
            shares: empty(),
            logprobs: empty(),
            angles: Vec::new(),
        };
        Ok(Self {
            queue: Queue::new(gpu),
            graph,
            weights,
            strength: 1.0,
            may_keep: kept_bytes / size_of::<f32>(),
            batch: Batch::default(),
            tables,
            values: vec![None; n_values],
            gradients: vec![None; n_values],
            ends: HashMap::new(),
            parameters: gpu.buffer("parameters", bytes, usage),
            gradient: gpu.buffer("gradient", bytes, usage),
            grids: HashMap::new(),
        })
    }

    fn n_rows(&self, domain: Domain) -> usize {
        match domain {
            Domain::Tokens => self.batch.tokens.len(),
            Domain::Outputs => self.batch.targets.len(),
        }
    }

    /// The grid of a weight layout that has one.
    fn grid_of(&mut self, layout: quant::Layout) -> Option<wgpu::Buffer> {
        let numbers = layout.grid()?;
        let gpu = &self.queue.gpu;
        let buffer = self.grids.entry(layout).or_insert_with(|| {
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let buffer = gpu.buffer("grid", numbers.len() as u64, usage);
            gpu.queue.write_buffer(&buffer, 0, numbers);
            buffer
        });
        Some(buffer.clone())
    }

    /// Takes the rows of a step and makes the tables that depend on them.
    fn begin(&mut self, batch: &Batch) -> Result<(), GpuError> {
        // What was collected for another step reads its tables.
        self.queue.submit();
        for id in 0..self.values.len() {
            self.release(ValueId(id));
        }
        let sizes =
            |this: &Self| [Domain::Tokens, Domain::Outputs].map(|d| this.n_rows(d).div_ceil(STEP_ROWS));
        let before = sizes(self);
        self.batch = batch.clone();
        if sizes(self) != before {
            self.queue.forget();
        }
        self.ends.clear();
        let gpu = self.queue.gpu.clone();
        let make = |label, bytes: &[u8]| {
            let buffer = gpu.buffer(label, bytes.len() as u64, STORAGE | wgpu::BufferUsages::COPY_SRC);
            gpu.queue.write_buffer(&buffer, 0, bytes);
            buffer
        };
        let outputs: Vec<Output> =
            batch.targets.iter().map(|target| Output::likeliest(target.row, target.id)).collect();
        let zeros = vec![0_u8; 4 * outputs.len()];
        self.tables = Tables {
            tokens: make("tokens", bytemuck::cast_slice(&batch.tokens)),
            outputs: make("outputs", bytemuck::cast_slice(&outputs)),
            shares: make("shares", &zeros),
            logprobs: make("logprobs", &zeros),
            angles: Vec::new(),
        };
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

    fn set_parameters(&self, parameters: &[f32]) -> Result<(), TrainError> {
        if parameters.len() != self.graph.n_parameters {
            return Err(TrainError::Setting(format!("{} parameters", parameters.len())));
        }
        self.queue.gpu.queue.write_buffer(&self.parameters, 0, bytemuck::cast_slice(parameters));
        Ok(())
    }
}

/// Parameters and their gradient are on the device while a step goes on.
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

impl Gradients for Training<'_> {
    fn forward(&mut self, batch: &Batch, parameters: &[f32]) -> Result<(), TrainError> {
        batch.check(self.graph)?;
        if batch.targets.is_empty() {
            return Err(TrainError::Example("nothing is to be predicted".into()));
        }
        self.begin(batch)?;
        self.set_parameters(parameters)?;
        Ok(self.walk(parameters)?)
    }

    fn logprobs(&mut self) -> Result<Vec<f64>, TrainError> {
        self.loss(None)?;
        self.read_logprobs()
    }

    fn backward(
        &mut self,
        parameters: &[f32],
        weights: &[f32],
        gradient: &mut [f32],
    ) -> Result<Vec<f64>, TrainError> {
        if weights.len() != self.batch.targets.len() || gradient.len() != self.graph.n_parameters {
            return Err(TrainError::Example(format!("{} weights", weights.len())));
        }
        self.set_parameters(parameters)?;
        let of_parameters = self.gradient.clone();
        self.queue.clear(&of_parameters);
        self.loss(Some(weights))?;
        self.walk_back(parameters, gradient)?;
        let found = self.queue.read(&of_parameters, gradient.len())?;
        gradient.iter_mut().zip(found).for_each(|(to, x)| *to += x);
        self.read_logprobs()
    }

    fn set_strength(&mut self, strength: f32) {
        self.strength = strength;
    }

    fn likeliest(&mut self) -> Result<Vec<u32>, TrainError> {
        Ok(self.likeliest_tokens()?)
    }
}
