//! WebGPU through wgpu: lowers a graph's ops to dispatches of [`nomoat_shaders`] kernels and runs steps of
//! them.
//!
//! [`Gpu`] is a device, [`Weights`] a model's numbers on it, [`Executor`] a graph ready to run over them.

mod accepts;
mod buffers;
mod device;
mod executor;
mod kernels;
mod lower;
#[cfg(feature = "cli")]
mod meter;
pub mod self_test;
pub mod tune;
mod variants;
mod weights;
#[cfg(feature = "cli")]
mod work;

pub use device::{Gpu, GpuInfo, Options};
pub use executor::Executor;
#[cfg(feature = "cli")]
pub use meter::{Arithmetic, Limits, Meter, OpTime, Subject};
pub use variants::{Accuracy, Lanes, Variants};
pub use weights::Weights;

use crate::graph::step::StepError;
use thiserror::Error;

/// Errors of a GPU.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum GpuError {
    /// No adapter.
    #[error("no usable WebGPU adapter: {0}")]
    NoAdapter(String),
    /// A kernel's result differs from the known answer.
    #[error(
        "{device} gave a wrong result in the self-test ({kernel}: off by {error:.2e}) and is not used; \
         a newer browser or driver may help"
    )]
    Wrong {
        /// The adapter's name.
        device: String,
        /// Which kernel.
        kernel: String,
        /// Largest deviation from the reference.
        error: f32,
    },
    /// The words for kernels are wrong, or the device cannot run these kernels.
    #[error("invalid kernels option: {0}")]
    Kernels(String),
    /// A step that the plan cannot run.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A shape that no kernel covers.
    #[error("the GPU's kernels do not support {0}")]
    Unsupported(String),
    /// A buffer could not be allocated.
    #[error("the GPU does not have enough memory: {0}")]
    OutOfMemory(String),
    /// The device was reset, unplugged, or taken away by the system.
    #[error("the GPU device was lost: {0}")]
    Lost(String),
    /// A bug in Nomoat or in the driver.
    #[error("GPU error: {0}")]
    Internal(String),
}
