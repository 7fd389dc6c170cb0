//! The buffers of a plan, except the weights: values, the KV pool and the step's parameters.

use super::Gpu;
use super::accepts::FEW_ROWS;
use crate::graph::fuse::Group;
use crate::graph::uses::place;
use crate::graph::{Capacity, Choice, Graph, Output, Token};

/// A step's buffers, with the names that kernels use.
#[derive(Debug)]
pub(super) struct StepBuffers {
    pub step: wgpu::Buffer,
    pub tokens: wgpu::Buffer,
    pub outputs: wgpu::Buffer,
    pub choices: wgpu::Buffer,
    pub pages: wgpu::Buffer,
    /// The token that was last chosen in each slot.
    pub chosen: wgpu::Buffer,
    /// One [`crate::graph::Chosen`] per output.
    pub results: wgpu::Buffer,
}

#[derive(Debug)]
pub(super) struct Buffers {
    /// The buffer of each value; none if no list writes it. Values whose lifetimes do not overlap can share
    /// one.
    pub values: Vec<Option<wgpu::Buffer>>,
    /// The KV pool of each layer: per cell, its keys, then its values.
    pub kv: Vec<wgpu::Buffer>,
    pub step: StepBuffers,
    /// Every buffer, listed once.
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
        // Kernels for few rows bind `tokens` as a uniform buffer of FEW_ROWS rows.
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
        let kv_usage = STORAGE | wgpu::BufferUsages::COPY_SRC;
        let kv = graph.caches.iter().map(|cache| make("kv", 2 * cache.width() as u64 * cells, kv_usage));
        let kv = kv.collect();
        let places = place(graph, lists, keep_values);
        let of_shape = |shape: &crate::graph::Value| {
            let bytes = 4 * shape.width as u64 * u64::from(capacity.rows(shape.domain));
            make("value", bytes, STORAGE | wgpu::BufferUsages::COPY_SRC)
        };
        let shapes: Vec<wgpu::Buffer> = places.shapes.iter().map(of_shape).collect();
        let values = places.of.iter().map(|place| place.map(|place| shapes[place].clone())).collect();
        Self { values, kv, step, all }
    }

    /// Adds a storage buffer for intermediate results of kernels.
    pub fn add(&mut self, gpu: &Gpu, label: &str, size: u64) -> wgpu::Buffer {
        let buffer = gpu.buffer(label, size, STORAGE);
        self.all.push(buffer.clone());
        buffer
    }

    /// Adds a uniform buffer with constant contents.
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

    /// Frees all buffers at once. In browsers, a dropped buffer waits for the garbage collector.
    pub fn destroy(&self) {
        self.all.iter().for_each(wgpu::Buffer::destroy);
    }
}
