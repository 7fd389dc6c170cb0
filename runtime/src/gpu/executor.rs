//! Runs steps of a lowered graph: one compute pass and one submit a step, then a small read back.

use super::lower::{Extent, Plan, lower};
use super::{Gpu, GpuError, Weights};
use crate::graph::{Best, Capacity, Graph, Rows, Step, ValueId, Want};

/// A graph ready to run on a device.
#[derive(Debug)]
pub struct Executor {
    gpu: Gpu,
    plan: Plan,
    capacity: Capacity,
    n_vocab: usize,
    results: Option<(ValueId, ValueId)>,
    staging: wgpu::Buffer,
    bytes: u64,
    n_dispatches: usize,
    /// Of each output row of the last step.
    pub best: Vec<Best>,
    /// Of the last step's output row, if wanted.
    pub logits: Vec<f32>,
    readback: Vec<u32>,
}

impl Executor {
    /// Compiles the graph's kernels and allocates its buffers.
    pub fn new(gpu: &Gpu, graph: &Graph, weights: &Weights, capacity: Capacity) -> Result<Self, GpuError> {
        Self::with(gpu, graph, weights, capacity, false)
    }

    pub(super) fn with(
        gpu: &Gpu,
        graph: &Graph,
        weights: &Weights,
        capacity: Capacity,
        keep_values: bool,
    ) -> Result<Self, GpuError> {
        let plan = lower(gpu, graph, weights, capacity, keep_values)?;
        let n_vocab = graph.logits.map_or(0, |id| graph.values[id.0].width);
        let size = 16 * u64::from(capacity.outputs) + 4 * n_vocab as u64;
        let bytes = plan.buffers.all().map(wgpu::Buffer::size).sum::<u64>() + size;
        Ok(Self {
            gpu: gpu.clone(),
            plan,
            capacity,
            n_vocab,
            results: graph.logits.zip(graph.argmax),
            staging: gpu.buffer("staging", size, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            bytes,
            n_dispatches: 0,
            best: Vec::new(),
            logits: vec![0.0; n_vocab],
            readback: Vec::new(),
        })
    }

    /// What a step may hold.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Dispatches of the last step.
    pub fn dispatches(&self) -> usize {
        self.n_dispatches
    }

    /// Bytes of the KV pool.
    pub fn kv_bytes(&self) -> u64 {
        self.plan.buffers.kv.iter().map(|(k, v)| k.size() + v.size()).sum()
    }

    /// Bytes of all the buffers that the graph computes on, the KV pool included; the weights are not.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Runs one step and waits for what is wanted of it, which is then in [`Self::best`] and [`Self::logits`].
    pub async fn step(&mut self, step: &Step<'_>, want: Want) -> Result<(), GpuError> {
        let n_outputs = step.outputs.len();
        if step.tokens.len() > self.capacity.tokens as usize
            || n_outputs > self.capacity.outputs as usize
            || step.pages.len() > (self.capacity.sequences * self.capacity.max_pages) as usize
            || (want == Want::Logits && n_outputs != 1)
        {
            return Err(GpuError::Internal("a step beyond the plan's capacity".into()));
        }
        self.submit(step, want);
        let Some(_) = self.results.filter(|_| n_outputs > 0) else {
            self.best.clear();
            return self.gpu.settle().await;
        };
        let n_best = 4 * n_outputs;
        let n_logits = if want == Want::Logits { self.n_vocab } else { 0 };
        self.readback.resize(n_best + n_logits, 0);
        self.gpu.read(&self.staging, bytemuck::cast_slice_mut(&mut self.readback)).await?;
        self.best.clear();
        self.best.extend_from_slice(bytemuck::cast_slice(&self.readback[..n_best]));
        if want == Want::Logits {
            self.logits.copy_from_slice(bytemuck::cast_slice(&self.readback[n_best..]));
        }
        Ok(())
    }

    fn submit(&mut self, step: &Step, want: Want) {
        let (queue, buffers) = (&self.gpu.queue, &self.plan.buffers.step);
        let (n_tokens, n_outputs) = (step.tokens.len() as u32, step.outputs.len() as u32);
        queue.write_buffer(&buffers.step, 0, bytemuck::bytes_of(&[n_tokens, n_outputs, step.max_pages, 0]));
        queue.write_buffer(&buffers.tokens, 0, bytemuck::cast_slice(step.tokens));
        queue.write_buffer(&buffers.outputs, 0, bytemuck::cast_slice(step.outputs));
        queue.write_buffer(&buffers.pages, 0, bytemuck::cast_slice(step.pages));

        let count = |rows| match rows {
            Rows::Tokens => n_tokens,
            Rows::Outputs => n_outputs,
        };
        let extent = |extent: Extent| match extent {
            Extent::Fixed(n) => n,
            Extent::Rows(rows, at_a_time) => count(rows).div_ceil(at_a_time),
        };
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.n_dispatches = 0;
        for dispatch in &self.plan.dispatches {
            let Some(launch) = dispatch.launch(count) else { continue };
            let [x, y] = launch.grid.map(extent);
            pass.set_pipeline(&launch.kernel.pipeline);
            pass.set_bind_group(0, &dispatch.bind_group, &[]);
            pass.dispatch_workgroups(x, y, 1);
            self.n_dispatches += 1;
        }
        drop(pass);
        if let (Some((logits, argmax)), 1..) = (self.results, n_outputs) {
            let n_best = 16 * u64::from(n_outputs);
            encoder.copy_buffer_to_buffer(&self.plan.buffers.values[argmax.0], 0, &self.staging, 0, n_best);
            if want == Want::Logits {
                let size = 4 * self.n_vocab as u64;
                encoder.copy_buffer_to_buffer(
                    &self.plan.buffers.values[logits.0],
                    0,
                    &self.staging,
                    n_best,
                    size,
                );
            }
        }
        queue.submit([encoder.finish()]);
    }

    /// Fills a value before a step: inputs with data, outputs with poison.
    pub(super) fn write_value(&self, id: ValueId, data: &[f32]) {
        self.gpu.queue.write_buffer(&self.plan.buffers.values[id.0], 0, bytemuck::cast_slice(data));
    }

    /// The first `n` floats of a value after a step.
    pub(super) async fn read_value(&self, id: ValueId, n: usize) -> Result<Vec<f32>, GpuError> {
        let size = 4 * n as u64;
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.gpu.buffer("value readback", size, usage);
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&self.plan.buffers.values[id.0], 0, &staging, 0, size);
        self.gpu.queue.submit([encoder.finish()]);
        let mut data = vec![0.0; n];
        self.gpu.read(&staging, bytemuck::cast_slice_mut(&mut data)).await?;
        Ok(data)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // In browsers a dropped buffer waits for the garbage collector.
        self.plan.buffers.all().for_each(wgpu::Buffer::destroy);
        self.staging.destroy();
    }
}
