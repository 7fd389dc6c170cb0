//! Everything that can go wrong between a file and an answer, by cause.

use crate::gguf::GgufError;
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
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
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
            Error::Gpu(GpuError::NoAdapter(_)) => "no_webgpu",
            Error::Gpu(GpuError::Wrong { .. }) => "device_wrong",
            Error::Gpu(GpuError::OutOfMemory(_)) => "out_of_memory",
            Error::Gpu(GpuError::Lost(_)) => "device_lost",
            Error::Gpu(GpuError::Internal(_)) => "internal",
            Error::ContextLength { .. } => "context_length_exceeded",
            Error::InvalidRequest(_) => "invalid_request",
        }
    }
}
