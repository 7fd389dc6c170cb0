//! The devices that a model can run on, behind one face.

use super::Error;
use super::sampler::Sampler;
#[cfg(feature = "cpu")]
use crate::cpu::{self, Cpu};
#[cfg(feature = "gpu")]
use crate::gpu::{self, Gpu};
use crate::graph::{Best, Capacity, Feed, Graph, Step, Want, WeightId};
use crate::load::Sink;
use crate::quant::Format;
use serde::Serialize;

#[cfg(not(any(feature = "gpu", feature = "cpu")))]
compile_error!("a build needs a device: enable the feature `gpu`, `cpu` or both");

/// Where to compute.
#[derive(Clone, Debug)]
pub enum Device {
    /// A GPU.
    #[cfg(feature = "gpu")]
    Gpu(Gpu),
    /// The CPU.
    #[cfg(feature = "cpu")]
    Cpu(Cpu),
}

/// What a device is and can.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum DeviceInfo {
    /// A GPU.
    #[cfg(feature = "gpu")]
    Gpu(gpu::GpuInfo),
    /// The CPU.
    #[cfg(feature = "cpu")]
    Cpu(cpu::DeviceInfo),
}

impl Device {
    /// What the device is and can.
    pub fn info(&self) -> DeviceInfo {
        match self {
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => DeviceInfo::Gpu(gpu.info().clone()),
            #[cfg(feature = "cpu")]
            Device::Cpu(cpu) => DeviceInfo::Cpu(cpu.info()),
        }
    }

    /// Waits until the device has done all that it was given, so that its errors are known.
    pub(super) async fn settle(&self) -> Result<(), Error> {
        match self {
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => Ok(gpu.settle().await?),
            #[cfg(feature = "cpu")]
            Device::Cpu(_) => Ok(()),
        }
    }

    /// Rows of a step of prefill at most. How many there are is a matter of the device's speed, see `pace.rs`.
    pub fn chunk(&self) -> u32 {
        match self {
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) if !gpu.variants().tile => 32,
            #[cfg(feature = "gpu")]
            Device::Gpu(_) => 512,
            #[cfg(feature = "cpu")]
            Device::Cpu(_) => 128,
        }
    }

    /// Bytes of the largest buffer; a layer's keys, and its values, must fit one.
    pub(super) fn max_buffer(&self) -> u64 {
        match self {
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => gpu.info().max_binding_size,
            #[cfg(feature = "cpu")]
            Device::Cpu(_) => isize::MAX as u64,
        }
    }

    /// Gives the device up at once, with all its memory.
    pub fn destroy(&self) {
        match self {
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => gpu.destroy(),
            #[cfg(feature = "cpu")]
            Device::Cpu(_) => {}
        }
    }
}

/// A graph and its weights on a device.
// There is one, so its size is of no matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
pub(super) enum Backend {
    #[cfg(feature = "gpu")]
    Gpu { executor: gpu::Executor, weights: gpu::Weights },
    #[cfg(feature = "cpu")]
    Cpu { executor: cpu::Executor, weights: cpu::Weights },
}

impl Backend {
    pub fn new(
        device: &Device,
        graph: &Graph,
        formats: &[Format],
        capacity: Capacity,
    ) -> Result<Self, Error> {
        Ok(match device {
            #[cfg(feature = "gpu")]
            Device::Gpu(gpu) => {
                let weights = gpu::Weights::allocate(gpu, graph, formats)?;
                Backend::Gpu { executor: gpu::Executor::new(gpu, graph, &weights, capacity)?, weights }
            }
            #[cfg(feature = "cpu")]
            Device::Cpu(cpu) => {
                cpu::check_memory(graph, formats, capacity)?;
                let weights = cpu::Weights::allocate(graph, formats, cpu.int8())?;
                Backend::Cpu { executor: cpu::Executor::new(cpu, graph, &weights, capacity)?, weights }
            }
        })
    }

    /// What a step may hold.
    pub fn capacity(&self) -> Capacity {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => executor.capacity(),
            #[cfg(feature = "cpu")]
            Backend::Cpu { executor, .. } => executor.capacity(),
        }
    }

    /// Has the device compile what steps run, without waiting for it.
    pub fn warm_up(&mut self) -> Result<(), Error> {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => Ok(executor.warm_up()?),
            #[cfg(feature = "cpu")]
            Backend::Cpu { .. } => Ok(()),
        }
    }

    /// Steps that it pays to have under way at once.
    pub fn depth(&self) -> usize {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => executor.depth(),
            #[cfg(feature = "cpu")]
            Backend::Cpu { .. } => 1,
        }
    }

    /// Whether the device chooses tokens itself; else the host does, of all logits.
    pub fn chooses(&self) -> bool {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { .. } => true,
            #[cfg(feature = "cpu")]
            Backend::Cpu { .. } => false,
        }
    }

    /// Before an answer whose tokens the device chooses, see [`gpu::Executor::adjust`].
    pub fn adjust(&self, sampler: &Sampler) {
        let (seen, bias) = sampler.adjustments();
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => executor.adjust(seen, bias),
            #[cfg(feature = "cpu")]
            Backend::Cpu { .. } => {
                let _ = (seen, bias);
            }
        }
    }

    /// Begins a step; [`Self::result`] waits for it. The CPU is done with it when this returns.
    pub fn submit(&mut self, step: &Step<'_>, want: Want, feed: Feed) -> Result<(), Error> {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => Ok(executor.submit(step, want, feed)?),
            #[cfg(feature = "cpu")]
            Backend::Cpu { executor, weights } => {
                debug_assert_eq!(feed, Feed::Host, "the CPU has no step before that is under way");
                Ok(executor.step(weights, step, want)?)
            }
        }
    }

    /// Waits for the oldest step under way; what is wanted of it is then in [`Self::best`] and [`Self::logits`].
    pub async fn result(&mut self) -> Result<(), Error> {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => Ok(executor.result().await?),
            #[cfg(feature = "cpu")]
            Backend::Cpu { .. } => Ok(()),
        }
    }

    /// Waits until no step is under way.
    pub async fn drain(&mut self) -> Result<(), Error> {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => Ok(executor.drain().await?),
            #[cfg(feature = "cpu")]
            Backend::Cpu { .. } => Ok(()),
        }
    }

    /// Of each output row of the last step.
    pub fn best(&self) -> &[Best] {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => &executor.best,
            #[cfg(feature = "cpu")]
            Backend::Cpu { executor, .. } => &executor.best,
        }
    }

    /// Of the last step's output row, if wanted; the sampler may write over them.
    pub fn logits(&mut self) -> &mut [f32] {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => &mut executor.logits,
            #[cfg(feature = "cpu")]
            Backend::Cpu { executor, .. } => executor.logits(),
        }
    }

    /// Dispatches of the last step; on the CPU, parts of it that threads wait for each other between.
    pub fn dispatches(&self) -> usize {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => executor.dispatches(),
            #[cfg(feature = "cpu")]
            Backend::Cpu { executor, .. } => executor.stages(),
        }
    }

    /// Bytes of the KV pool.
    pub fn kv_bytes(&self) -> u64 {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, .. } => executor.kv_bytes(),
            #[cfg(feature = "cpu")]
            Backend::Cpu { executor, .. } => executor.kv_bytes(),
        }
    }

    /// Bytes of all buffers on the GPU; 0 on the CPU, where they are part of the process's own memory.
    pub fn gpu_bytes(&self) -> u64 {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { executor, weights } => weights.bytes() + executor.bytes(),
            #[cfg(feature = "cpu")]
            Backend::Cpu { .. } => 0,
        }
    }
}

impl Sink for Backend {
    fn write_blocks(&mut self, weight: WeightId, first_block: usize, quants: &[u8], scales: &[u8]) {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { weights, .. } => weights.write_blocks(weight, first_block, quants, scales),
            #[cfg(feature = "cpu")]
            Backend::Cpu { weights, .. } => weights.write_blocks(weight, first_block, quants, scales),
        }
    }

    fn write_vector(&mut self, weight: WeightId, numbers: &[f32]) {
        match self {
            #[cfg(feature = "gpu")]
            Backend::Gpu { weights, .. } => weights.write_vector(weight, numbers),
            #[cfg(feature = "cpu")]
            Backend::Cpu { weights, .. } => weights.write_vector(weight, numbers),
        }
    }
}
