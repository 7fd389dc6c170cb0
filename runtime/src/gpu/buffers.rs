//! Everything that a plan computes on but the weights: values, the KV pool, the step's parameters.

use super::Gpu;
use super::accepts::FEW_ROWS;
use crate::graph::fuse::Group;
use crate::graph::uses::place;
use crate::graph::{Capacity, Choice, Graph, Output, Token};

/// What a step's buffers are called in kernels.
#[derive(Debug)]
pub(super) struct StepBuffers {
    pub step: wgpu::Buffer,
    pub tokens: wgpu::Buffer,
    pub outputs: wgpu::Buffer,
    pub choices: wgpu::Buffer,
    pub pages: wgpu::Buffer,
    /// The token of each slot.
    pub chosen: wgpu::Buffer,
    /// A [`crate::graph::Chosen`] of each output.
    pub results: wgpu::Buffer,
}

#[derive(Debug)]
pub(super) struct Buffers {
    /// The buffer of each value; none where no list writes it. Values that live at different times share
    /// buffers.
    pub values: Vec<Option<wgpu::Buffer>>,
    /// The KV pool of each layer: a cell's keys, then its values.
    pub kv: Vec<wgpu::Buffer>,
    pub step: StepBuffers,
    /// All that is here, once.
    all: Vec<wgpu::Buffer>,
}

pub(super) const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);
const UNIFORM: wgpu::BufferUsages = wgpu::BufferUsages::UNIFORM.union(wgpu::BufferUsages::COPY_DST);

impl Buffers {
    pub fn new(gpu: &Gpu, graph: &Graph, lists: &[&[Group]], capacity: Capacity, keep_values: bool) -> Self {
        let mut all = Vec::new();
        let mut make = |label: &str, size: u64, usage| {
            let buffer = gpu.buffer(label, size, usage);
            all.push(buffer.clone());
            buffer
        };
        let outputs = u64::from(capacity.outputs);
        // Kernels of few rows bind the rows of tokens as a uniform buffer of its full size.
        let rows = u64::from(capacity.tokens.max(FEW_ROWS));
        let step = StepBuffers {
            step: make("step", 16, UNIFORM),
            tokens: make("tokens", size_of::<Token>() as u64 * rows, STORAGE | UNIFORM),
            outputs: make("outputs", size_of::<Output>() as u64 * outputs, STORAGE),
            choices: make("choices", size_of::<Choice>() as u64 * outputs, STORAGE),
            pages: make("pages", 4 * u64::from(capacity.sequences * capacity.max_pages), STORAGE),
            chosen: make("chosen", 4 * u64::from(capacity.sequences), STORAGE),
            results: make("results", 16 * outputs, STORAGE | wgpu::BufferUsages::COPY_SRC),
        };
        let cells = u64::from(capacity.cells());
        let kv =
            graph.caches.iter().map(|cache| make("kv", 4 * cache.width as u64 * cells, STORAGE)).collect();
        let places = place(graph, lists, keep_values);
        let of_shape = |shape: &crate::graph::Value| {
            let bytes = 4 * shape.width as u64 * u64::from(capacity.rows(shape.domain));
            make("value", bytes, STORAGE | wgpu::BufferUsages::COPY_SRC)
        };
        let shapes: Vec<wgpu::Buffer> = places.shapes.iter().map(of_shape).collect();
        let values = places.of.iter().map(|place| place.map(|place| shapes[place].clone())).collect();
        Self { values, kv, step, all }
    }

    /// Another storage buffer, for what the kernels keep among themselves.
    pub fn add(&mut self, gpu: &Gpu, label: &str, size: u64) -> wgpu::Buffer {
        let buffer = gpu.buffer(label, size, STORAGE);
        self.all.push(buffer.clone());
        buffer
    }

    /// Another uniform buffer, whose contents stay.
    pub fn add_uniform(&mut self, gpu: &Gpu, label: &str, contents: &[u32]) -> wgpu::Buffer {
        let buffer = gpu.buffer(label, 4 * contents.len() as u64, UNIFORM);
        gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(contents));
        self.all.push(buffer.clone());
        buffer
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.all.iter().map(wgpu::Buffer::size).sum()
    }

    /// Frees all; in browsers a dropped buffer waits for the garbage collector.
    pub fn destroy(&self) {
        self.all.iter().for_each(wgpu::Buffer::destroy);
    }
}
