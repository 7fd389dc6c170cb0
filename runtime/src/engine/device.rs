//! What the engine asks of a device, and the devices that there are.

use super::Error;
use crate::adapter::Adapted;
#[cfg(feature = "cpu")]
use crate::cpu::{self, Cpu, CpuInfo};
#[cfg(feature = "gpu")]
use crate::gpu::{self, Gpu, GpuInfo};
#[cfg(any(feature = "gpu", feature = "cpu"))]
use crate::graph::WeightId;
use crate::graph::{Capacity, Chosen, Graph, Step};
use crate::load::Sink;
use crate::quant::Format;
use serde::Serialize;
use std::future::Future;

#[cfg(not(any(feature = "gpu", feature = "cpu", test)))]
compile_error!("a build needs a device: enable the feature `gpu`, `cpu` or both");

/// A device that runs models.
pub trait Device {
    /// What the device is and can do.
    type Info: Serialize;
    /// A model on the device.
    type Model: DeviceModel;

    /// What the device is and can do.
    fn info(&self) -> Self::Info;
    /// The device and its kernels in words: what its numbers depend on besides the model.
    fn kernels(&self) -> String;
    /// Allocates a graph's weights, its KV pool and what else it computes on.
    fn allocate(&self, graph: &Graph, formats: &[Format], capacity: Capacity) -> Result<Self::Model, Error>;
    /// Waits until the device has done all that it was given, so that its errors are known.
    fn settle(&self) -> impl Future<Output = Result<(), Error>>;
    /// Most rows of a step. How many a step of prefill has depends on the device's speed: see `pace.rs`.
    fn max_rows(&self) -> u32;
    /// Bytes of the largest buffer. A layer's keys and values must fit into one.
    fn max_buffer(&self) -> u64;
    /// Gives up the device at once, with all its memory.
    fn destroy(&self);
}

/// A graph with its weights on a device. Weights are written through [`Sink`].
pub trait DeviceModel: Sink {
    /// What a step may hold.
    fn capacity(&self) -> Capacity;
    /// Makes the device compile what steps run, without waiting for it. May begin steps, whose results are of
    /// no use.
    fn warm_up(&mut self) -> Result<(), Error>;
    /// How many steps are worth having under way at once.
    fn depth(&self) -> usize;
    /// Sets what the choices of a slot's outputs depend on, before the first of them. Steps that have begun
    /// are not affected. From then on the device counts the tokens that it chooses there as seen.
    fn set_slot(&mut self, slot: u32, state: SlotState);
    /// Sets the tokens that may be chosen for a slot's outputs in steps that are submitted from now on, where
    /// the [`crate::graph::Choice`] is masked. A bit for each token: see [`crate::graph::allows`].
    fn set_mask(&mut self, slot: u32, mask: &[u32]);
    /// Copies the keys and values of a page of the pool to another, after the steps that have begun and
    /// before those that begin later.
    fn copy_page(&mut self, from: u32, to: u32);
    /// The keys and values of a page of the pool, for [`Self::write_page`] of the same build and device.
    fn read_page(&mut self, page: u32) -> impl Future<Output = Result<Vec<u8>, Error>>;
    /// Sets the keys and values of a page of the pool. Bytes of another length than [`Self::read_page`] gives
    /// change nothing.
    fn write_page(&mut self, page: u32, bytes: &[u8]);
    /// The model's graph, without adapters.
    fn graph(&self) -> &Graph;
    /// Adds the model with low-rank paths, over the same weights and KV pool, under a number.
    fn add(&mut self, number: u32, adapted: &Adapted) -> Result<(), Error>;
    /// Frees what [`Self::add`] added. Steps under way are not affected.
    fn remove(&mut self, number: u32);
    /// Chooses what steps run that begin from now on: what was added under a number, or the model as it is.
    fn select(&mut self, number: Option<u32>);
    /// Begins what needs no masks of a step, which [`Self::submit`] is called with next: a device that works
    /// beside the host has it to do while the host computes masks.
    fn begin(&mut self, _: &Step<'_>) -> Result<(), Error> {
        Ok(())
    }
    /// Begins a step, or the rest of it. Steps run in the order in which they begin.
    fn submit(&mut self, step: &Step<'_>) -> Result<(), Error>;
    /// Waits for the oldest step under way. If the future is dropped before it is ready, the step stays the
    /// oldest. After an error, it counts as done.
    fn result(&mut self) -> impl Future<Output = Result<(), Error>>;
    /// Waits until no step is under way.
    fn drain(&mut self) -> impl Future<Output = Result<(), Error>>;
    /// What the step of the last [`Self::result`] says of its outputs.
    fn chosen(&self) -> &[Chosen];
    /// The logits of an output of that step; none unless it is [`crate::graph::Output::BY_HOST`].
    fn logits(&self, output: usize) -> &[f32];
    /// Dispatches of the last step that began; on the CPU, its stages.
    fn dispatches(&self) -> usize;
    /// Bytes of the KV pool.
    fn kv_bytes(&self) -> u64;
    /// Bytes of all buffers on a GPU; 0 on the CPU, where they are part of the process's memory.
    fn gpu_bytes(&self) -> u64;
}

/// What the choices of a slot's outputs depend on besides the logits and the [`crate::graph::Choice`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SlotState<'a> {
    /// For each token whether the prompt has it, and how often the answer does; empty where no logit is
    /// adjusted.
    pub seen: &'a [u32],
    /// What is added to each token's logit; empty where no logit is adjusted.
    pub bias: &'a [f32],
}

#[cfg(feature = "gpu")]
impl Device for Gpu {
    type Info = GpuInfo;
    type Model = GpuModel;

    fn info(&self) -> GpuInfo {
        self.info().clone()
    }

    fn kernels(&self) -> String {
        format!("webgpu {} {}", self.info().name, self.info().kernels)
    }

    fn allocate(&self, graph: &Graph, formats: &[Format], capacity: Capacity) -> Result<GpuModel, Error> {
        let weights = gpu::Weights::allocate(self, graph, formats)?;
        Ok(GpuModel { executor: gpu::Executor::new(self, graph, &weights, capacity)?, weights })
    }

    async fn settle(&self) -> Result<(), Error> {
        Ok(self.settle().await?)
    }

    fn max_rows(&self) -> u32 {
        if self.variants().tile { 512 } else { 32 }
    }

    fn max_buffer(&self) -> u64 {
        self.info().max_binding_size
    }

    fn destroy(&self) {
        self.destroy();
    }
}

/// A model on a GPU.
#[cfg(feature = "gpu")]
#[derive(Debug)]
pub struct GpuModel {
    executor: gpu::Executor,
    weights: gpu::Weights,
}

/// The model's numbers, without adapters.
#[cfg(feature = "gpu")]
impl AsRef<gpu::Weights> for GpuModel {
    fn as_ref(&self) -> &gpu::Weights {
        &self.weights
    }
}

#[cfg(feature = "gpu")]
impl DeviceModel for GpuModel {
    fn capacity(&self) -> Capacity {
        self.executor.capacity()
    }

    fn warm_up(&mut self) -> Result<(), Error> {
        Ok(self.executor.warm_up()?)
    }

    fn depth(&self) -> usize {
        self.executor.depth()
    }

    fn set_slot(&mut self, slot: u32, state: SlotState) {
        self.executor.set_slot(slot, state.seen, state.bias);
    }

    fn set_mask(&mut self, slot: u32, mask: &[u32]) {
        self.executor.set_mask(slot, mask);
    }

    fn begin(&mut self, step: &Step<'_>) -> Result<(), Error> {
        Ok(self.executor.begin(step)?)
    }

    fn copy_page(&mut self, from: u32, to: u32) {
        self.executor.copy_page(from, to);
    }

    async fn read_page(&mut self, page: u32) -> Result<Vec<u8>, Error> {
        Ok(self.executor.read_page(page).await?)
    }

    fn write_page(&mut self, page: u32, bytes: &[u8]) {
        self.executor.write_page(page, bytes);
    }

    fn graph(&self) -> &Graph {
        self.executor.graph()
    }

    fn add(&mut self, number: u32, adapted: &Adapted) -> Result<(), Error> {
        let mut weights = self.weights.extend(&adapted.graph, &adapted.formats())?;
        adapted.load(&mut weights);
        Ok(self.executor.add(number, &adapted.graph, weights)?)
    }

    fn remove(&mut self, number: u32) {
        self.executor.remove(number);
    }

    fn select(&mut self, number: Option<u32>) {
        self.executor.select(number);
    }

    fn submit(&mut self, step: &Step<'_>) -> Result<(), Error> {
        Ok(self.executor.submit(step)?)
    }

    async fn result(&mut self) -> Result<(), Error> {
        Ok(self.executor.result().await?)
    }

    async fn drain(&mut self) -> Result<(), Error> {
        Ok(self.executor.drain().await?)
    }

    fn chosen(&self) -> &[Chosen] {
        &self.executor.chosen
    }

    fn logits(&self, output: usize) -> &[f32] {
        self.executor.logits(output)
    }

    fn dispatches(&self) -> usize {
        self.executor.dispatches()
    }

    fn kv_bytes(&self) -> u64 {
        self.executor.kv_bytes()
    }

    fn gpu_bytes(&self) -> u64 {
        self.weights.bytes() + self.executor.bytes()
    }
}

#[cfg(feature = "gpu")]
impl Sink for GpuModel {
    fn write_blocks(&mut self, weight: WeightId, first_block: usize, quants: &[u8], scales: &[u8]) {
        self.weights.write_blocks(weight, first_block, quants, scales);
    }

    fn write_vector(&mut self, weight: WeightId, numbers: &[f32]) {
        self.weights.write_vector(weight, numbers);
    }
}

#[cfg(feature = "cpu")]
impl Device for Cpu {
    type Info = CpuInfo;
    type Model = CpuModel;

    fn info(&self) -> CpuInfo {
        self.info()
    }

    fn kernels(&self) -> String {
        let CpuInfo { simd, kernels, .. } = self.info();
        format!("cpu {simd} {kernels}")
    }

    fn allocate(&self, graph: &Graph, formats: &[Format], capacity: Capacity) -> Result<CpuModel, Error> {
        cpu::check_memory(graph, formats, capacity)?;
        let weights = cpu::Weights::allocate(graph, formats, self.int8())?;
        let executor = cpu::Executor::new(self, graph, &weights, capacity)?;
        Ok(CpuModel { executor, weights, int8: self.int8() })
    }

    async fn settle(&self) -> Result<(), Error> {
        Ok(())
    }

    fn max_rows(&self) -> u32 {
        128
    }

    fn max_buffer(&self) -> u64 {
        isize::MAX as u64
    }

    fn destroy(&self) {}
}

/// A model on the CPU. A step is done when it has been submitted.
#[cfg(feature = "cpu")]
#[derive(Debug)]
pub struct CpuModel {
    executor: cpu::Executor,
    weights: cpu::Weights,
    int8: bool,
}

/// The model's numbers, without adapters.
#[cfg(feature = "cpu")]
impl AsRef<cpu::Weights> for CpuModel {
    fn as_ref(&self) -> &cpu::Weights {
        &self.weights
    }
}

#[cfg(feature = "cpu")]
impl DeviceModel for CpuModel {
    fn capacity(&self) -> Capacity {
        self.executor.capacity()
    }

    fn warm_up(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn depth(&self) -> usize {
        1
    }

    fn set_slot(&mut self, slot: u32, state: SlotState) {
        self.executor.set_slot(slot, state.seen, state.bias);
    }

    fn set_mask(&mut self, slot: u32, mask: &[u32]) {
        self.executor.set_mask(slot, mask);
    }

    fn copy_page(&mut self, from: u32, to: u32) {
        self.executor.copy_page(from, to);
    }

    async fn read_page(&mut self, page: u32) -> Result<Vec<u8>, Error> {
        Ok(self.executor.read_page(page))
    }

    fn write_page(&mut self, page: u32, bytes: &[u8]) {
        self.executor.write_page(page, bytes);
    }

    fn graph(&self) -> &Graph {
        self.executor.graph()
    }

    fn add(&mut self, number: u32, adapted: &Adapted) -> Result<(), Error> {
        let mut weights = self.weights.extend(&adapted.graph, &adapted.formats(), self.int8)?;
        adapted.load(&mut weights);
        Ok(self.executor.add(number, &adapted.graph, weights)?)
    }

    fn remove(&mut self, number: u32) {
        self.executor.remove(number);
    }

    fn select(&mut self, number: Option<u32>) {
        self.executor.select(number);
    }

    fn submit(&mut self, step: &Step<'_>) -> Result<(), Error> {
        Ok(self.executor.step(&self.weights, step)?)
    }

    async fn result(&mut self) -> Result<(), Error> {
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn chosen(&self) -> &[Chosen] {
        &self.executor.chosen
    }

    fn logits(&self, output: usize) -> &[f32] {
        self.executor.logits(output)
    }

    fn dispatches(&self) -> usize {
        self.executor.stages()
    }

    fn kv_bytes(&self) -> u64 {
        self.executor.kv_bytes()
    }

    fn gpu_bytes(&self) -> u64 {
        0
    }
}

#[cfg(feature = "cpu")]
impl Sink for CpuModel {
    fn write_blocks(&mut self, weight: WeightId, first_block: usize, quants: &[u8], scales: &[u8]) {
        self.weights.write_blocks(weight, first_block, quants, scales);
    }

    fn write_vector(&mut self, weight: WeightId, numbers: &[f32]) {
        self.weights.write_vector(weight, numbers);
    }
}

/// Reads the CPU's words for kernels: whether activations have 8 bits for 4-bit weights.
#[cfg(feature = "cpu")]
pub fn cpu_kernels(words: &str) -> Result<bool, Error> {
    let mut int8 = false;
    for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        int8 = match word {
            "exact" => false,
            "int8" => true,
            _ => {
                let message =
                    format!("invalid kernels option: {word}: unknown; on the CPU use exact or int8");
                return Err(Error::InvalidRequest(message));
            }
        };
    }
    Ok(int8)
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_for_the_cpus_kernels() {
        for (words, int8) in [("", false), ("exact", false), ("int8", true), (" exact , int8,", true)] {
            assert_eq!(cpu_kernels(words).unwrap(), int8, "{words}");
        }
        for words in ["tile", "int8,tile", "Int8", "exact;int8"] {
            let error = cpu_kernels(words).unwrap_err();
            assert_eq!(error.code(), "invalid_request");
            let message = error.to_string();
            assert!(message.contains("exact or int8"), "{message}");
        }
    }
}
