//! Everything that can go wrong between a file and an answer, by cause.

#[cfg(feature = "cpu")]
use crate::cpu::CpuError;
use crate::gguf::GgufError;
#[cfg(feature = "gpu")]
use crate::gpu::GpuError;
use crate::load::LoadError;
use crate::model::ModelError;
use crate::text::TextError;
use thiserror::Error;

/// An error of the runtime.
#[derive(Debug, Error)]
pub enum Error {
    /// The container is malformed.
    #[error("the file is not a valid GGUF model: {0}")]
    Gguf(#[from] GgufError),
    /// The model cannot be run.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its data cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its vocabulary or template cannot be used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The GPU failed.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The CPU cannot run it.
    #[cfg(feature = "cpu")]
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The context is too long for the device.
    #[error("a context of {wanted} needs a larger buffer than the device has; ask for {limit} or fewer")]
    ContextMemory {
        /// Positions that were asked for.
        wanted: usize,
        /// Positions that a buffer holds.
        limit: usize,
    },
    /// More tokens than the context holds.
    #[error(
        "{needed} tokens do not fit the context of {limit}; shorten the conversation or load the model with a longer one"
    )]
    ContextLength {
        /// Tokens of the prompt.
        needed: usize,
        /// Tokens of the context.
        limit: usize,
    },
    /// The caller asked for what cannot be.
    #[error("{0}")]
    InvalidRequest(String),
}

impl Error {
    /// The cause, as the package's error classes know it.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Gguf(_)
            | Error::Model(ModelError::Inconsistent(_))
            | Error::Load(LoadError::Size { .. }) => "corrupt_file",
            Error::Model(ModelError::Architecture(_)) => "unsupported_architecture",
            Error::Model(ModelError::Feature(_)) => "unsupported_feature",
            Error::Load(LoadError::TensorType { .. }) => "unsupported_tensor_type",
            Error::Text(error) => error.code(),
            #[cfg(feature = "gpu")]
            Error::Gpu(error) => match error {
                GpuError::NoAdapter(_) => "no_webgpu",
                GpuError::Wrong { .. } => "device_wrong",
                GpuError::OutOfMemory(_) => "out_of_memory",
                GpuError::Lost(_) => "device_lost",
                GpuError::Unsupported(_) => "unsupported_feature",
                GpuError::Kernels(_) => "invalid_request",
                GpuError::Internal(_) => "internal",
            },
            #[cfg(feature = "cpu")]
            Error::Cpu(error) => match error {
                CpuError::OutOfMemory(_) => "out_of_memory",
                CpuError::Wrong { .. } => "device_wrong",
                CpuError::Internal(_) => "internal",
            },
            Error::ContextMemory { .. } => "out_of_memory",
            Error::ContextLength { .. } => "context_length_exceeded",
            Error::InvalidRequest(_) => "invalid_request",
        }
    }
}
