//! Runs steps of a lowered graph: one compute pass and one submit a step. Results are read back behind, so that several steps may be under
//! way, each fed by the one before without its token leaving the device.

use super::device::Mapping;
use super::kernels::Kernel;
use super::lower::{Dispatch, Extent, MANY, Plan, When, lower, n_splits};
use super::variants::MAX_STEPS;
use super::{Gpu, GpuError, Weights};
use crate::graph::{Best, Capacity, Choice, Feed, Graph, Output, Rows, Step, Token, ValueId, Want};
use bytemuck::Zeroable;
use std::collections::VecDeque;

/// Steps that may be under way at once.
pub(super) const MAX_IN_FLIGHT: usize = MAX_STEPS as usize;

/// A graph ready to run on a device.
#[derive(Debug)]
pub struct Executor {
    gpu: Gpu,
    pub(super) plan: Plan,
    capacity: Capacity,
    n_vocab: usize,
    results: Option<(ValueId, ValueId)>,
    /// Where results wait for the host; one a step under way.
    staging: Vec<wgpu::Buffer>,
    /// Numbers of the free ones.
    free: Vec<usize>,
    in_flight: VecDeque<Flight>,
    n_dispatches: usize,
    /// Of each output row of the last step.
    pub best: Vec<Best>,
    /// Of the last step's output row, if wanted.
    pub logits: Vec<f32>,
    readback: Vec<u32>,
}

/// A step under way.
#[derive(Debug)]
struct Flight {
    staging: usize,
    n_outputs: usize,
    want: Want,
    mapping: Option<Mapping>,
    submission: wgpu::SubmissionIndex,
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
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        // Logits are only read by callers that wait for every step, who always get the first.
        let size = |i| 16 * u64::from(capacity.outputs) + if i == 0 { 4 * n_vocab as u64 } else { 0 };
        Ok(Self {
            gpu: gpu.clone(),
            plan,
            capacity,
            n_vocab,
            results: graph.logits.zip(graph.argmax),
            staging: (0..MAX_IN_FLIGHT).map(|i| gpu.buffer("staging", size(i), usage)).collect(),
            free: (0..MAX_IN_FLIGHT).rev().collect(),
            in_flight: VecDeque::new(),
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
        self.plan.buffers.kv.iter().map(wgpu::Buffer::size).sum()
    }

    /// Bytes of all the buffers that the graph computes on, the KV pool included; the weights are not.
    pub fn bytes(&self) -> u64 {
        self.plan.buffers.bytes() + self.staging.iter().map(wgpu::Buffer::size).sum::<u64>()
    }

    /// Steps that it pays to have under way.
    pub fn depth(&self) -> usize {
        self.gpu.variants().steps as usize
    }

    /// Steps under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Runs one step and waits for what is wanted of it, which is then in [`Self::best`] and [`Self::logits`].
    pub async fn step(&mut self, step: &Step<'_>, want: Want) -> Result<(), GpuError> {
        self.drain().await?;
        self.submit(step, want, Feed::Host)?;
        self.result().await
    }

    /// Before an answer whose tokens the device chooses: of each token, whether it is seen, and its bias. Empty where no logit is adjusted.
    pub fn adjust(&self, seen: &[u32], bias: &[f32]) {
        if let Some(buffers) = &self.plan.choice_buffers {
            self.gpu.queue.write_buffer(&buffers.seen, 0, bytemuck::cast_slice(seen));
            self.gpu.queue.write_buffer(&buffers.bias, 0, bytemuck::cast_slice(bias));
        }
    }

    /// Begins one step for each kind of kernels that steps run, so that the device compiles them before they are needed: while weights are
    /// still on their way. What is computed is of no use.
    pub fn warm_up(&mut self) -> Result<(), GpuError> {
        if self.results.is_none() {
            return Ok(());
        }
        let choice = Choice { temperature: 1.0, top_p: 0.5, ..Choice::zeroed() };
        let tiles = self.gpu.variants().tile.then_some((MANY, Want::Best));
        let steps = [(1, Want::Best), (1, Want::Choice(choice)), (2, Want::Best)];
        for (n, want) in steps.into_iter().chain(tiles) {
            let n = n.min(self.capacity.tokens).min(self.capacity.cells());
            let tokens: Vec<Token> =
                (0..n).map(|i| Token { id: 0, position: i, sequence: 0, cell: i }).collect();
            let outputs = [Output { row: n - 1, target: 0 }];
            let step = Step { tokens: &tokens, outputs: &outputs, pages: &[0], max_pages: 1 };
            self.submit(&step, want, Feed::Host)?;
        }
        Ok(())
    }

    /// Begins a step; with [`Feed::Previous`], the id of its only token is what the step before chose.
    pub fn submit(&mut self, step: &Step<'_>, want: Want, feed: Feed) -> Result<(), GpuError> {
        let n_outputs = step.outputs.len();
        if step.tokens.len() > self.capacity.tokens as usize
            || n_outputs > self.capacity.outputs as usize
            || step.pages.len() > (self.capacity.sequences * self.capacity.max_pages) as usize
            || (want != Want::Best && n_outputs != 1)
            || (matches!(want, Want::Choice(_)) && self.plan.choice_buffers.is_none())
            || (want == Want::Logits && !self.in_flight.is_empty())
            || (feed == Feed::Previous && step.tokens.len() != 1)
        {
            return Err(GpuError::Internal("a step beyond the plan's capacity".into()));
        }
        if self.in_flight.is_empty() {
            // Taken from the end; the first has room for logits.
            self.free.sort_unstable_by(|a, b| b.cmp(a));
        }
        let staging = self.free.pop().ok_or_else(|| GpuError::Internal("too many steps under way".into()))?;
        let submission = self.encode(step, want, feed, staging);
        let has_results = self.results.is_some() && n_outputs > 0;
        let size = 16 * n_outputs as u64 + if want == Want::Logits { 4 * self.n_vocab as u64 } else { 0 };
        let mapping = has_results.then(|| self.gpu.request(&self.staging[staging], size));
        self.in_flight.push_back(Flight { staging, n_outputs, want, mapping, submission });
        Ok(())
    }

    /// Waits for the oldest step under way; what was wanted of it is then in [`Self::best`] and [`Self::logits`].
    pub async fn result(&mut self) -> Result<(), GpuError> {
        let Some(flight) = self.in_flight.pop_front() else {
            return Err(GpuError::Internal("no step is under way".into()));
        };
        self.free.push(flight.staging);
        self.best.clear();
        let Some(mapping) = flight.mapping else { return self.gpu.settle().await };
        let n_best = 4 * flight.n_outputs;
        let n_logits = if flight.want == Want::Logits { self.n_vocab } else { 0 };
        self.readback.resize(n_best + n_logits, 0);
        let data = bytemuck::cast_slice_mut(&mut self.readback);
        self.gpu.receive(&self.staging[flight.staging], mapping, Some(flight.submission), data).await?;
        self.best.extend_from_slice(bytemuck::cast_slice(&self.readback[..n_best]));
        if flight.want == Want::Logits {
            self.logits.copy_from_slice(bytemuck::cast_slice(&self.readback[n_best..]));
        }
        Ok(())
    }

    /// Waits until no step is under way.
    pub async fn drain(&mut self) -> Result<(), GpuError> {
        while !self.in_flight.is_empty() {
            self.result().await?;
        }
        Ok(())
    }

    /// Workgroups that share a head's context.
    fn n_splits(&self, step: &Step) -> u32 {
        match step.tokens {
            [token] => n_splits(&self.gpu, token.position),
            _ => 1,
        }
    }

    /// Writes what kernels must know of a step.
    pub(super) fn write_step(&self, step: &Step, want: Want, feed: Feed) {
        let (queue, buffers) = (&self.gpu.queue, &self.plan.buffers.step);
        let (n_tokens, n_outputs) = (step.tokens.len() as u32, step.outputs.len() as u32);
        let parameters = [n_tokens, n_outputs, step.max_pages, self.n_splits(step)];
        queue.write_buffer(&buffers.step, 0, bytemuck::bytes_of(&parameters));
        let tokens: &[u8] = bytemuck::cast_slice(step.tokens);
        // The id comes first in a token; the device may have written it.
        let skip = if feed == Feed::Previous { 4 } else { 0 };
        queue.write_buffer(&buffers.tokens, skip as u64, &tokens[skip..]);
        queue.write_buffer(&buffers.outputs, 0, bytemuck::cast_slice(step.outputs));
        queue.write_buffer(&buffers.pages, 0, bytemuck::cast_slice(step.pages));
        if let (Want::Choice(choice), Some(buffers)) = (want, &self.plan.choice_buffers) {
            queue.write_buffer(&buffers.choice, 0, bytemuck::bytes_of(&choice));
        }
    }

    /// What a step launches: the dispatch's number in the plan's list, the dispatch, its kernel and workgroups. What finds or chooses tokens is
    /// numbered after the rest.
    pub(super) fn launches<'a>(
        &'a self,
        step: &Step,
        want: Want,
    ) -> impl Iterator<Item = (usize, &'a Dispatch, &'a Kernel, [u32; 3])> + use<'a> {
        let (n_tokens, n_outputs) = (step.tokens.len() as u32, step.outputs.len() as u32);
        let n_splits = self.n_splits(step);
        let (last, is_truncated) = match want {
            Want::Choice(choice) => (&self.plan.choice, choice.truncates()),
            Want::Best | Want::Logits => (&self.plan.best, false),
        };
        let is = move |when| match when {
            When::Always => true,
            When::Split => n_splits > 1,
            When::Truncated => is_truncated,
        };
        let count = move |rows| match rows {
            Rows::Tokens => n_tokens,
            Rows::Outputs => n_outputs,
        };
        let extent = move |extent: Extent| match extent {
            Extent::Fixed(n) => n,
            Extent::Rows(rows, at_a_time) => count(rows).div_ceil(at_a_time),
            Extent::Splits => n_splits,
        };
        let dispatches = if n_tokens == 1 { &self.plan.one } else { &self.plan.many };
        dispatches.iter().chain(last).enumerate().filter_map(move |(i, dispatch)| {
            let launch = dispatch.launch(count, is)?;
            Some((i, dispatch, launch.kernel.as_ref(), launch.grid.map(extent)))
        })
    }

    fn encode(&mut self, step: &Step, want: Want, feed: Feed, staging: usize) -> wgpu::SubmissionIndex {
        self.write_step(step, want, feed);
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        let mut n_dispatches = 0;
        for (_, dispatch, kernel, [x, y, z]) in self.launches(step, want) {
            pass.set_pipeline(&kernel.pipeline);
            pass.set_bind_group(0, &dispatch.bind_group, &[]);
            pass.dispatch_workgroups(x, y, z);
            n_dispatches += 1;
        }
        self.n_dispatches = n_dispatches;
        drop(pass);
        let n_outputs = step.outputs.len() as u32;
        if let (Some((logits, argmax)), 1..) = (self.results, n_outputs) {
            let staging = &self.staging[staging];
            let n_best = 16 * u64::from(n_outputs);
            let values = &self.plan.buffers.values;
            encoder.copy_buffer_to_buffer(&values[argmax.0], 0, staging, 0, n_best);
            if want == Want::Logits {
                encoder.copy_buffer_to_buffer(&values[logits.0], 0, staging, n_best, 4 * self.n_vocab as u64);
            }
        }
        self.gpu.queue.submit([encoder.finish()])
    }

    /// Whether steps of so many rows write a value; fused dispatches leave out what is between their ops.
    pub(super) fn writes(&self, n_tokens: usize, id: ValueId) -> bool {
        n_tokens != 1 || self.plan.written_by_one.contains(&id)
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
        self.plan.buffers.destroy();
        self.staging.iter().for_each(wgpu::Buffer::destroy);
    }
}
