//! Runs steps of a lowered graph, with one compute pass and one submit per step. Results are read back later,
//! so that several steps can be in flight: a step reads the tokens of the one before on the device.

use super::device::Mapping;
use super::kernels::Pipeline;
use super::lower::{
    AdaptedPlan, Dispatch, Extent, List, MANY, Plan, When, lower, lower_adapted, most_tiles, n_splits,
};
use super::variants::MAX_STEPS;
use super::{Gpu, GpuError, Weights};
use crate::graph::{Cache, Capacity, Choice, Chosen, Domain, Graph, Output, PAGE, Step, Token, ValueId};
use bytemuck::Zeroable;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// The most steps in flight at once.
pub(super) const MAX_IN_FLIGHT: usize = MAX_STEPS as usize;

/// A graph ready to run on a device.
#[derive(Debug)]
pub struct Executor {
    gpu: Gpu,
    graph: Graph,
    pub(super) plan: Plan,
    /// The same model with low-rank paths, by number.
    adapted: HashMap<u32, (AdaptedPlan, Weights)>,
    /// Which of them runs; none: the model as it is.
    selected: Option<u32>,
    capacity: Capacity,
    /// Buffers from which the host reads results, one per step in flight.
    staging: Vec<wgpu::Buffer>,
    /// Indices of the free staging buffers.
    free: Vec<usize>,
    in_flight: VecDeque<Flight>,
    n_dispatches: usize,
    /// Whether the part of the next step before its choices is submitted.
    has_begun: bool,
    /// Holds a page of a layer while it is copied; from the first copy on.
    page: Option<wgpu::Buffer>,
    /// The results of the step that [`Self::result`] last waited for, one per output.
    pub chosen: Vec<Chosen>,
    /// Its outputs whose token the host picks, and their logits.
    read: Vec<usize>,
    logits: Vec<f32>,
    /// How many each of them has.
    width: usize,
}

/// A step in flight.
#[derive(Debug)]
struct Flight {
    staging: usize,
    n_outputs: usize,
    /// Outputs whose logits are read, and how many each has.
    read: Vec<usize>,
    width: usize,
    mapping: Option<Mapping>,
    submission: wgpu::SubmissionIndex,
}

/// Bytes of a page of a cache.
fn page_bytes(cache: &Cache) -> u64 {
    cache.bytes(PAGE)
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
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let size = size_of::<Chosen>() as u64 * u64::from(capacity.outputs);
        Ok(Self {
            gpu: gpu.clone(),
            graph: graph.clone(),
            plan,
            adapted: HashMap::new(),
            selected: None,
            capacity,
            staging: (0..MAX_IN_FLIGHT).map(|_| gpu.buffer("staging", size, usage)).collect(),
            free: (0..MAX_IN_FLIGHT).collect(),
            in_flight: VecDeque::new(),
            n_dispatches: 0,
            has_begun: false,
            page: None,
            chosen: Vec::new(),
            read: Vec::new(),
            logits: Vec::new(),
            width: 0,
        })
    }

    /// Adds the model with low-rank paths, over the same KV pool, under a number. `weights` are those of its
    /// graph.
    pub fn add(&mut self, number: u32, graph: &Graph, weights: Weights) -> Result<(), GpuError> {
        let plan = lower_adapted(&self.gpu, graph, &weights, self.capacity, &self.plan)?;
        self.adapted.insert(number, (plan, weights));
        Ok(())
    }

    /// Frees what [`Self::add`] added. Steps in flight keep their buffers until they are done.
    pub fn remove(&mut self, number: u32) {
        if let Some((plan, _)) = self.adapted.remove(&number) {
            plan.buffers.destroy();
        }
        self.selected = self.selected.filter(|selected| *selected != number);
    }

    /// Chooses what the next steps run: what was added under a number, or the model as it is.
    pub fn select(&mut self, number: Option<u32>) {
        self.selected = number.filter(|number| self.adapted.contains_key(number));
    }

    /// The graph as it was before paths were added.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The limits of a step.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// The number of dispatches of the last step.
    pub fn dispatches(&self) -> usize {
        self.n_dispatches
    }

    /// Bytes of the KV pool.
    pub fn kv_bytes(&self) -> u64 {
        self.plan.buffers.kv.iter().map(wgpu::Buffer::size).sum()
    }

    /// Bytes of all buffers, including the KV pool and low-rank paths, but not the model's weights.
    pub fn bytes(&self) -> u64 {
        let adapted = self.adapted.values().map(|(plan, weights)| plan.buffers.bytes() + weights.bytes());
        let staging = self.staging.iter().map(wgpu::Buffer::size);
        self.plan.buffers.bytes() + adapted.chain(staging).sum::<u64>()
    }

    /// How many steps should be in flight.
    pub fn depth(&self) -> usize {
        self.gpu.variants().steps as usize
    }

    /// The number of steps in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Runs one step and waits for its result, which is then in [`Self::chosen`].
    pub async fn step(&mut self, step: &Step<'_>) -> Result<(), GpuError> {
        self.drain().await?;
        self.submit(step)?;
        self.result().await
    }

    /// Copies the keys and values of a page to another, after the steps that are submitted; pages that
    /// are not in the pool are left alone.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        let Some(most) = self.graph.caches.iter().map(page_bytes).max() else { return };
        if from.max(to) >= self.capacity.pages {
            return;
        }
        let gpu = &self.gpu;
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let page = self.page.get_or_insert_with(|| gpu.buffer("page", most, usage));
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for (kv, cache) in self.plan.buffers.kv.iter().zip(&self.graph.caches) {
            let size = page_bytes(cache);
            // A buffer cannot be copied to itself.
            encoder.copy_buffer_to_buffer(kv, size * u64::from(from), page, 0, size);
            encoder.copy_buffer_to_buffer(page, 0, kv, size * u64::from(to), size);
        }
        gpu.queue.submit([encoder.finish()]);
    }

    /// The keys and values of a page, those of one cache after the other, after the steps that are submitted.
    pub async fn read_page(&mut self, page: u32) -> Result<Vec<u8>, GpuError> {
        let mut bytes = vec![0; self.graph.kv_bytes(PAGE) as usize];
        if page >= self.capacity.pages || bytes.is_empty() {
            return Ok(Vec::new());
        }
        let sizes = self.graph.caches.iter().map(page_bytes);
        let parts =
            self.plan.buffers.kv.iter().zip(sizes).map(|(kv, size)| (kv, size * u64::from(page), size));
        self.gpu.read_parts(&parts.collect::<Vec<_>>(), &mut bytes).await?;
        Ok(bytes)
    }

    /// Sets the keys and values of a page, after the steps that are submitted; bytes of another length than
    /// [`Self::read_page`] gives are left alone.
    pub fn write_page(&mut self, page: u32, mut bytes: &[u8]) {
        if page >= self.capacity.pages || bytes.len() as u64 != self.graph.kv_bytes(PAGE) {
            return;
        }
        for (kv, cache) in self.plan.buffers.kv.iter().zip(&self.graph.caches) {
            let size = page_bytes(cache);
            let (its, rest) = bytes.split_at(size as usize);
            self.gpu.queue.write_buffer(kv, size * u64::from(page), its);
            bytes = rest;
        }
    }

    /// Prepares a slot for a new answer. `seen` and `bias` have one number per token, as [`Choice::choose`]
    /// takes them; both are empty if no logit is adjusted.
    pub fn set_slot(&mut self, slot: u32, seen: &[u32], bias: &[f32]) {
        if let Some(slots) = self.plan.slots.as_ref().filter(|_| slot < self.capacity.sequences) {
            let n = self.graph.n_vocab();
            let (seen_at, bias_at) = (slots.seen_at(slot, n), 4 * n as u64 * u64::from(slot));
            let (seen, bias) = (&seen[..seen.len().min(n)], &bias[..bias.len().min(n)]);
            self.gpu.queue.write_buffer(&slots.seen, seen_at, bytemuck::cast_slice(seen));
            self.gpu.queue.write_buffer(&slots.bias, bias_at, bytemuck::cast_slice(bias));
        }
    }

    /// Sets the tokens that masked choices of a slot's outputs may take, in steps that are submitted from now
    /// on, which may have begun: see [`crate::graph::allows`].
    pub fn set_mask(&mut self, slot: u32, mask: &[u32]) {
        if let Some(slots) = self.plan.slots.as_ref().filter(|_| slot < self.capacity.sequences) {
            let n_vocab = self.graph.n_vocab();
            let mut words = mask[..mask.len().min(n_vocab.div_ceil(32))].to_vec();
            words.resize(n_vocab.div_ceil(32), 0);
            let at = slots.seen_at(slot, n_vocab) + 4 * n_vocab as u64;
            self.gpu.queue.write_buffer(&slots.seen, at, bytemuck::cast_slice(&words));
        }
    }

    /// Submits one step for each set of kernels, so that the device compiles them while weights are still
    /// loading. The results are meaningless.
    pub fn warm_up(&mut self) -> Result<(), GpuError> {
        if self.graph.logits.is_none() {
            return Ok(());
        }
        let choices = [Choice { temperature: 1.0, top_p: 0.5, ..Choice::zeroed() }];
        let tiles = self.gpu.variants().tile.then_some((MANY, 0));
        for (n, by_choice) in [(1, 0), (1, 1), (2, 0)].into_iter().chain(tiles) {
            let n = n.min(self.capacity.tokens).min(self.capacity.cells());
            let tokens: Vec<Token> =
                (0..n).map(|i| Token { position: i, cell: i, ..Token::default() }).collect();
            let outputs = [Output { row: n - 1, target: 0, slot: 0, by_choice }];
            let step =
                Step { tokens: &tokens, outputs: &outputs, choices: &choices, pages: &[0], max_pages: 1 };
            self.submit(&step)?;
        }
        Ok(())
    }

    /// Starts what comes before the choices of a step, which [`Self::submit`] is called with next.
    pub fn begin(&mut self, step: &Step<'_>) -> Result<(), GpuError> {
        self.check(step)?;
        self.write_step(step);
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        self.dispatch(&mut encoder, step, 0..self.first_choice(step));
        self.gpu.queue.submit([encoder.finish()]);
        self.has_begun = true;
        Ok(())
    }

    fn check(&self, step: &Step<'_>) -> Result<(), GpuError> {
        step.check(&self.graph, self.capacity)?;
        match step.outputs.iter().any(|output| output.by_choice == 1) && self.plan.slots.is_none() {
            true => Err(GpuError::Internal("the step has a choice, but the plan has no slots".into())),
            false => Ok(()),
        }
    }

    /// Starts a step, or the rest of it. [`Self::result`] waits for it.
    pub fn submit(&mut self, step: &Step<'_>) -> Result<(), GpuError> {
        let has_begun = std::mem::take(&mut self.has_begun);
        self.check(step)?;
        let staging = self
            .free
            .pop()
            .ok_or_else(|| GpuError::Internal(format!("more than {MAX_IN_FLIGHT} steps are in flight")))?;
        let n_outputs = if self.graph.logits.is_some() { step.outputs.len() } else { 0 };
        let by_host = |i: &usize| step.outputs[*i].by_choice == Output::BY_HOST;
        let read: Vec<usize> = (0..n_outputs).filter(by_host).collect();
        let width = self.read_from().map_or(0, |(_, width)| width);
        let size = (size_of::<Chosen>() * n_outputs + 4 * width * read.len()) as u64;
        if self.staging[staging].size() < size {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            self.staging[staging].destroy();
            self.staging[staging] = self.gpu.buffer("staging", size, usage);
        }
        let first = if has_begun { self.first_choice(step) } else { 0 };
        let submission = self.encode(step, first, staging, &read);
        let mapping = (n_outputs > 0).then(|| self.gpu.request(&self.staging[staging], size));
        self.in_flight.push_back(Flight { staging, n_outputs, read, width, mapping, submission });
        Ok(())
    }

    /// The value whose rows are read where the host asks for logits, and its width.
    fn read_from(&self) -> Option<(ValueId, usize)> {
        match self.selected.and_then(|number| self.adapted.get(&number)) {
            Some((plan, _)) => plan.logits,
            None => self.graph.logits.map(|id| (id, self.graph.n_vocab())),
        }
    }

    /// The logits of an output of the step that [`Self::result`] last waited for; none unless the host picks
    /// its token.
    pub fn logits(&self, output: usize) -> &[f32] {
        let n = self.width;
        let row = self.read.iter().position(|read| *read == output);
        row.and_then(|row| self.logits.get(row * n..)?.get(..n)).unwrap_or_default()
    }

    /// Waits for the oldest step in flight. Its results are then in [`Self::chosen`].
    pub async fn result(&mut self) -> Result<(), GpuError> {
        let Some(flight) = self.in_flight.front_mut() else {
            return Err(GpuError::Internal("no step is in flight".into()));
        };
        self.chosen.clear();
        self.read.clear();
        let n_outputs = flight.n_outputs;
        match flight.mapping.as_mut() {
            None => self.gpu.settle().await?,
            Some(mapping) => {
                self.chosen.resize(n_outputs, Chosen::zeroed());
                self.read.clone_from(&flight.read);
                self.width = flight.width;
                self.logits.resize(flight.width * flight.read.len(), 0.0);
                let submission = Some(flight.submission.clone());
                let chosen = bytemuck::cast_slice_mut(&mut self.chosen);
                let parts = [chosen, bytemuck::cast_slice_mut(&mut self.logits)];
                let received =
                    self.gpu.receive(&self.staging[flight.staging], mapping, submission, parts).await;
                if received.is_err() {
                    self.chosen.clear();
                }
                // The step counts as done even after an error, because the device cannot be used any more.
                self.end_oldest();
                return received;
            }
        }
        self.end_oldest();
        Ok(())
    }

    fn end_oldest(&mut self) {
        self.free.extend(self.in_flight.pop_front().map(|flight| flight.staging));
    }

    /// Waits until no step is in flight.
    pub async fn drain(&mut self) -> Result<(), GpuError> {
        while !self.in_flight.is_empty() {
            self.result().await?;
        }
        Ok(())
    }

    /// The number of workgroups that share a head's context.
    fn n_splits(&self, step: &Step) -> u32 {
        match step.tokens {
            [token] => n_splits(&self.gpu, token.position),
            _ => 1,
        }
    }

    /// Writes the step's parameters to the device.
    pub(super) fn write_step(&self, step: &Step) {
        let (queue, buffers) = (&self.gpu.queue, &self.plan.buffers.step);
        let (n_tokens, n_outputs) = (step.tokens.len() as u32, step.outputs.len() as u32);
        let parameters = [n_tokens, n_outputs, step.max_pages, self.n_splits(step)];
        queue.write_buffer(&buffers.step, 0, bytemuck::bytes_of(&parameters));
        queue.write_buffer(&buffers.tokens, 0, bytemuck::cast_slice(step.tokens));
        queue.write_buffer(&buffers.outputs, 0, bytemuck::cast_slice(step.outputs));
        queue.write_buffer(&buffers.pages, 0, bytemuck::cast_slice(step.pages));
        if step.outputs.iter().any(|output| output.by_choice == 1) {
            let choices = &step.choices[..step.outputs.len().min(step.choices.len())];
            queue.write_buffer(&buffers.choices, 0, bytemuck::cast_slice(choices));
        }
    }

    /// The list for steps of `n_tokens` rows.
    pub(super) fn list(&self, n_tokens: usize) -> &List {
        let adapted = self.selected.and_then(|number| self.adapted.get(&number));
        let (few, many) = match adapted {
            Some((plan, _)) => (&plan.few, &plan.many),
            None => (&self.plan.few, &self.plan.many),
        };
        if n_tokens < MANY as usize { few } else { many }
    }

    /// The dispatches that find the likeliest tokens, if a step asks for some.
    fn likeliest(&self, step: &Step) -> &[Dispatch] {
        match step.outputs.iter().any(|output| output.by_choice == 0) {
            true => &self.plan.likeliest,
            false => &[],
        }
    }

    /// The launches of a step: the index of the dispatch, the dispatch, its pipeline and its grid. Dispatches
    /// that find or choose tokens are numbered after those of the list.
    pub(super) fn launches<'a>(
        &'a self,
        step: &Step,
    ) -> impl Iterator<Item = (usize, &'a Dispatch, &'a Pipeline, [u32; 3])> + use<'a> {
        let (n_tokens, n_outputs) = (step.tokens.len() as u32, step.outputs.len() as u32);
        let n_splits = self.n_splits(step);
        let chosen = step.outputs.iter().zip(step.choices).filter(|(output, _)| output.by_choice == 1);
        let is_truncated = chosen.clone().any(|(_, choice)| choice.truncates());
        let by_choice = chosen.count();
        let likeliest = self.likeliest(step);
        let choice: &[Dispatch] = if by_choice > 0 { &self.plan.choice } else { &[] };
        let is = move |when| match when {
            When::Always => true,
            When::Split => n_splits > 1,
            When::Truncated => is_truncated,
        };
        let count = move |domain| match domain {
            Domain::Tokens => n_tokens,
            Domain::Outputs => n_outputs,
        };
        let extent = move |extent: Extent| match extent {
            Extent::Fixed(n) => n,
            Extent::Rows(domain, at_a_time) => count(domain).div_ceil(at_a_time),
            Extent::Pairs(domain, per_row) => count(domain) * per_row,
            Extent::Tiles(domain, per_row, experts) => most_tiles(count(domain) * per_row, experts),
            Extent::Splits => n_splits,
        };
        let dispatches = &self.list(step.tokens.len()).dispatches;
        let all = dispatches.iter().chain(likeliest).chain(choice).enumerate();
        all.filter_map(move |(i, dispatch)| {
            let launch = dispatch.launch(count, is)?;
            Some((i, dispatch, launch.pipeline.as_ref(), launch.grid.map(extent)))
        })
    }

    /// Submits a step from the dispatch of this number on.
    fn encode(&mut self, step: &Step, first: usize, staging: usize, read: &[usize]) -> wgpu::SubmissionIndex {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        if first == 0 {
            self.write_step(step);
        }
        self.dispatch(&mut encoder, step, first..usize::MAX);
        if let Some((logits, width)) = self.read_from().filter(|_| !step.outputs.is_empty()) {
            let size = (size_of::<Chosen>() * step.outputs.len()) as u64;
            let (results, staging) = (&self.plan.buffers.step.results, &self.staging[staging]);
            encoder.copy_buffer_to_buffer(results, 0, staging, 0, size);
            let row = 4 * width as u64;
            for (i, &output) in read.iter().enumerate() {
                if let Some(logits) = &self.plan.buffers.values[logits.0] {
                    let to = size + row * i as u64;
                    encoder.copy_buffer_to_buffer(logits, row * output as u64, staging, to, row);
                }
            }
        }
        self.gpu.queue.submit([encoder.finish()])
    }

    /// The number of a step's first dispatch that chooses tokens, see [`Self::launches`].
    fn first_choice(&self, step: &Step) -> usize {
        self.list(step.tokens.len()).dispatches.len() + self.likeliest(step).len()
    }

    /// Those launches of a step whose dispatches have these numbers.
    fn dispatch(&mut self, encoder: &mut wgpu::CommandEncoder, step: &Step, numbers: Range<usize>) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        let mut n_dispatches = if numbers.start == 0 { 0 } else { self.n_dispatches };
        for (_, dispatch, pipeline, [x, y, z]) in self.launches(step).filter(|(i, ..)| numbers.contains(i)) {
            pass.set_pipeline(&pipeline.pipeline);
            pass.set_bind_group(0, &dispatch.bind_group, &[]);
            pass.dispatch_workgroups(x, y, z);
            n_dispatches += 1;
        }
        drop(pass);
        self.n_dispatches = n_dispatches;
    }

    /// Fills a value before a step: an input with data, any other with NaN.
    pub(super) fn write_value(&self, id: ValueId, data: &[f32]) {
        if let Some(buffer) = &self.plan.buffers.values[id.0] {
            self.gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(data));
        }
    }

    /// The first `n` floats of a value after a step of `n_tokens` rows; none if such steps do not write it.
    pub(super) async fn read_value(
        &self,
        id: ValueId,
        n: usize,
        n_tokens: usize,
    ) -> Result<Option<Vec<f32>>, GpuError> {
        let buffer = self.plan.buffers.values[id.0].as_ref();
        let Some(buffer) = buffer.filter(|_| self.list(n_tokens).writes(id)) else { return Ok(None) };
        let mut data = vec![0.0; n];
        let parts = [(buffer, 0, 4 * n as u64)];
        self.gpu.read_parts(&parts, bytemuck::cast_slice_mut(&mut data)).await?;
        Ok(Some(data))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.plan.buffers.destroy();
        self.adapted.values().for_each(|(plan, _)| plan.buffers.destroy());
        self.staging.iter().chain(&self.page).for_each(wgpu::Buffer::destroy);
    }
}
