//! WebGPU through wgpu: lowers a graph's ops to dispatches of [`nomoat_shaders`] kernels and runs steps of them.
//!
//! [`Gpu`] is a device, [`Weights`] a model's numbers on it, [`Executor`] a graph ready to run over them.

mod buffers;
mod device;
mod executor;
mod fuse;
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

use thiserror::Error;

/// What goes wrong on a GPU.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum GpuError {
    /// No adapter.
    #[error("no usable WebGPU adapter: {0}")]
    NoAdapter(String),
    /// A kernel's result differs from the known answer.
    #[error(
        "{device} computes wrongly ({kernel}: off by {error:.2e}); it is not used. A newer browser or driver may help."
    )]
    Wrong {
        /// The adapter's name.
        device: String,
        /// Which kernel.
        kernel: String,
        /// Largest deviation from the reference.
        error: f32,
    },
    /// Kernels were asked for that the device cannot run.
    #[error("kernels cannot be chosen so: {0}")]
    Kernels(String),
    /// A shape that no kernel covers.
    #[error("the GPU's kernels do not support {0}")]
    Unsupported(String),
    /// A buffer could not be had.
    #[error("the GPU has not enough memory: {0}")]
    OutOfMemory(String),
    /// The device is gone: reset, unplugged, or taken by the system.
    #[error("the GPU device was lost: {0}")]
    Lost(String),
    /// A fault of ours or of the driver.
    #[error("GPU error: {0}")]
    Internal(String),
}
