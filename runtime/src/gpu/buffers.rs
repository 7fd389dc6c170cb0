//! Everything that a plan computes on but the weights: values, the KV pool, the step's parameters.

use super::Gpu;
use super::fuse::Fused;
use crate::graph::{Capacity, Graph, Rows, Value, ValueId};

/// What a step's buffers are called in kernels.
#[derive(Debug)]
pub(super) struct StepBuffers {
    pub step: wgpu::Buffer,
    pub tokens: wgpu::Buffer,
    pub outputs: wgpu::Buffer,
    pub pages: wgpu::Buffer,
}

#[derive(Debug)]
pub(super) struct Buffers {
    /// The buffer of each value. Values that live at different times share buffers.
    pub values: Vec<wgpu::Buffer>,
    /// The KV pool of each layer: a cell's keys, then its values.
    pub kv: Vec<wgpu::Buffer>,
    pub step: StepBuffers,
    /// All that is here, once.
    all: Vec<wgpu::Buffer>,
}

pub(super) const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);

impl Buffers {
    pub fn new(
        gpu: &Gpu,
        graph: &Graph,
        fused: &[(usize, Fused)],
        capacity: Capacity,
        keep_values: bool,
    ) -> Self {
        let mut all = Vec::new();
        let mut make = |label: &str, size: u64, usage| {
            let buffer = gpu.buffer(label, size, usage);
            all.push(buffer.clone());
            buffer
        };
        let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let step = StepBuffers {
            step: make("step", 16, uniform),
            tokens: make("tokens", 16 * u64::from(capacity.tokens), STORAGE),
            outputs: make("outputs", 8 * u64::from(capacity.outputs), STORAGE),
            pages: make("pages", 4 * u64::from(capacity.sequences * capacity.max_pages), STORAGE),
        };
        let cells = u64::from(capacity.cells());
        let kv = graph.kv_widths.iter().map(|&width| make("kv", 4 * width as u64 * cells, STORAGE)).collect();
        let mut distinct: Vec<wgpu::Buffer> = Vec::new();
        let mut values = Vec::new();
        for (place, value) in place_values(graph, fused, keep_values).into_iter().zip(&graph.values) {
            if place == distinct.len() {
                let bytes = 4 * value.width as u64 * u64::from(capacity.rows(value.rows));
                distinct.push(make("value", bytes, STORAGE | wgpu::BufferUsages::COPY_SRC));
            }
            values.push(distinct[place].clone());
        }
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
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let buffer = gpu.buffer(label, 4 * contents.len() as u64, usage);
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

/// For each value: its buffer's number. A buffer is taken over by a later value of the same shape once the last reader is past,
/// whether ops run by themselves or fused. Numbers first occur in rising order.
fn place_values(graph: &Graph, fused: &[(usize, Fused)], keep_values: bool) -> Vec<usize> {
    let results = [graph.logits, graph.argmax];
    let mut last_read = vec![0; graph.values.len()];
    let mut made_at = vec![0; graph.values.len()];
    let mut is_input = vec![true; graph.values.len()];
    for (i, op) in graph.ops.iter().enumerate() {
        op.inputs().iter().for_each(|input| last_read[input.0] = i);
        if let Some(out) = op.out() {
            made_at[out.0] = i;
            is_input[out.0] = false;
        }
    }
    for (i, fused) in fused {
        for input in fused.inputs() {
            last_read[input.0] = last_read[input.0].max(*i);
        }
    }
    // (width, rows, index of the op after which it is free)
    let mut buffers: Vec<(usize, Rows, usize)> = Vec::new();
    let mut places = Vec::new();
    for (i, &Value { rows, width }) in graph.values.iter().enumerate() {
        let keeps = keep_values || is_input[i] || results.contains(&Some(ValueId(i)));
        let until = if keeps { usize::MAX } else { last_read[i] };
        let free = buffers.iter().position(|b| b.0 == width && b.1 == rows && b.2 < made_at[i]);
        let buffer = match free {
            Some(buffer) if !keep_values && !is_input[i] => {
                buffers[buffer].2 = until;
                buffer
            }
            _ => {
                buffers.push((width, rows, until));
                buffers.len() - 1
            }
        };
        places.push(buffer);
    }
    places
}
