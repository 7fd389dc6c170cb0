//! WebGPU through wgpu: lowers a graph's ops to dispatches of [`nomoat_shaders`] kernels and runs them in
//! steps.
//!
//! [`Gpu`] is a device, [`Weights`] holds a model's weights on it, and [`Executor`] runs a graph.

mod accepts;
mod buffers;
mod device;
mod executor;
mod kernels;
mod lower;
#[cfg(feature = "cli")]
mod meter;
pub mod self_test;
pub mod train;
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
    #[error("no usable WebGPU adapter ({0}); update the browser or the driver, or use the CPU")]
    NoAdapter(String),
    /// A kernel's result differs from the known answer.
    #[error(
        "{device} failed the self-test ({kernel}: off by {error:.2e}); \
         update the browser or the driver, or use the CPU"
    )]
    Wrong {
        /// The adapter's name.
        device: String,
        /// The kernel.
        kernel: String,
        /// The largest deviation from the reference.
        error: f32,
    },
    /// The kernels option has an invalid word, or the device does not support the kernels.
    #[error("invalid kernels option: {0}")]
    Kernels(String),
    /// The step is not valid.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A shape that no kernel supports.
    #[error("the GPU kernels do not support {0}; use the CPU, or another model")]
    Unsupported(String),
    /// A buffer could not be allocated.
    #[error("the GPU does not have enough memory ({0}); use a smaller model or a shorter context")]
    OutOfMemory(String),
    /// The device was reset, unplugged, or taken away by the system.
    #[error("the GPU device was lost ({0}); load the model again")]
    Lost(String),
    /// A bug in Nomoat or in the driver.
    #[error("unexpected GPU error, please report it: {0}")]
    Internal(String),
}

impl GpuError {
    /// The code by which the package chooses its error class.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoAdapter(_) => "no_webgpu",
            Self::Wrong { .. } => "device_wrong",
            Self::OutOfMemory(_) => "out_of_memory",
            Self::Lost(_) => "device_lost",
            Self::Unsupported(_) => "unsupported_feature",
            Self::Kernels(_) => "invalid_request",
            Self::Step(_) | Self::Internal(_) => "internal",
        }
    }
}
