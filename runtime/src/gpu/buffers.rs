//! The buffers of a plan, except the weights: values, the KV pool and the step's parameters.

use super::Gpu;
use super::accepts::{FEW_ROWS, LOW_BYTES};
use crate::graph::fuse::Group;
use crate::graph::uses::place;
use crate::graph::{Capacity, Choice, Graph, Output, Token, Value};

/// A step's buffers, with the names that kernels use.
#[derive(Clone, Debug)]
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
    /// The KV pool of each layer: per cell, its keys, then its values; for blocks, see
    /// `attention/blocks.wgsl`.
    pub kv: Vec<wgpu::Buffer>,
    pub step: StepBuffers,
    /// The buffers of values, with their shapes.
    places: Vec<(Value, wgpu::Buffer)>,
    /// Every buffer that is not another plan's, listed once.
    all: Vec<wgpu::Buffer>,
}

pub(super) const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);
const UNIFORM: wgpu::BufferUsages = wgpu::BufferUsages::UNIFORM.union(wgpu::BufferUsages::COPY_DST);
const VALUE: wgpu::BufferUsages =
    STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::UNIFORM);

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
        let kv_usage = STORAGE | wgpu::BufferUsages::COPY_SRC;
        let kv = graph.caches.iter().map(|cache| make("kv", cache.bytes(capacity.cells()), kv_usage));
        let kv = kv.collect();
        let places = place(graph, lists, keep_values);
        let of_shape = |shape: &Value| (*shape, make("value", value_bytes(*shape, capacity), VALUE));
        let shapes: Vec<(Value, wgpu::Buffer)> = places.shapes.iter().map(of_shape).collect();
        let values = places.of.iter().map(|place| place.map(|place| shapes[place].1.clone())).collect();
        Self { values, kv, step, places: shapes, all }
    }

    /// The buffers of another plan of the same model, which shares what it can with this one. Steps of only
    /// one of them run at a time. The logits are in the same buffer.
    pub fn share(&self, gpu: &Gpu, graph: &Graph, lists: &[&[Group]], capacity: Capacity) -> Self {
        let places = place(graph, lists, false);
        let logits = graph.logits.and_then(|id| Some((places.of[id.0]?, self.values[id.0].clone()?)));
        let is_logits = |buffer: &wgpu::Buffer| logits.as_ref().is_some_and(|(_, of)| of == buffer);
        let mut free: Vec<(Value, wgpu::Buffer)> =
            self.places.iter().filter(|(_, buffer)| !is_logits(buffer)).cloned().collect();
        let mut all = Vec::new();
        let mut shapes = Vec::new();
        for (i, shape) in places.shapes.iter().enumerate() {
            let known = free.iter().position(|(of, _)| of == shape);
            shapes.push(match (&logits, known) {
                (Some((place, buffer)), _) if *place == i => (*shape, buffer.clone()),
                (_, Some(known)) => free.swap_remove(known),
                (_, None) => {
                    let buffer = gpu.buffer("value", value_bytes(*shape, capacity), VALUE);
                    all.push(buffer.clone());
                    (*shape, buffer)
                }
            });
        }
        let values = places.of.iter().map(|place| place.map(|place| shapes[place].1.clone())).collect();
        Self { values, kv: self.kv.clone(), step: self.step.clone(), places: shapes, all }
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

    /// Bytes of all buffers that are not another plan's.
    pub fn bytes(&self) -> u64 {
        self.all.iter().map(wgpu::Buffer::size).sum()
    }

    /// Frees at once all buffers that are not another plan's. In browsers, a dropped buffer waits for the
    /// garbage collector.
    pub fn destroy(&self) {
        self.all.iter().for_each(wgpu::Buffer::destroy);
    }
}

fn value_bytes(shape: Value, capacity: Capacity) -> u64 {
    let bytes = 4 * shape.width as u64 * u64::from(capacity.rows(shape.domain));
    // Kernels with low-rank paths bind a value as a uniform buffer of this length.
    bytes.max(LOW_BYTES)
}
