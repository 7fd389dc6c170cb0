//! The runtime's errors, by cause.

use crate::adapter::AdapterError;
#[cfg(feature = "cpu")]
use crate::cpu::CpuError;
use crate::gguf::GgufError;
#[cfg(feature = "gpu")]
use crate::gpu::GpuError;
use crate::load::LoadError;
use crate::model::ModelError;
use crate::text::TextError;
use crate::text::grammar::GrammarError;
use crate::train::TrainError;
use thiserror::Error;

/// An error of the runtime.
#[derive(Debug, Error)]
pub enum Error {
    /// The file is damaged, or not a GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The model is not supported, or its metadata is inconsistent.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The file's data cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The vocabulary, the chat template or a text cannot be used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// An answer cannot be constrained as asked.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// An adapter cannot be used.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The model cannot be taught as asked.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The GPU failed.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The CPU failed.
    #[cfg(feature = "cpu")]
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// The KV pool of a context this long does not fit into the device's buffers.
    #[error(
        "a context of {wanted} tokens needs a larger buffer than the device allows; \
         set the context length to {limit} or less"
    )]
    ContextMemory {
        /// Tokens that were asked for.
        wanted: usize,
        /// Tokens that the largest buffer holds.
        limit: usize,
    },
    /// The prompt is longer than the context.
    #[error(
        "the prompt has {needed} tokens, the context holds {limit}; \
         shorten the conversation, or load the model with a longer context"
    )]
    ContextLength {
        /// Tokens of the prompt.
        needed: usize,
        /// Tokens of the context.
        limit: usize,
    },
    /// The draft model cannot guess for this model.
    #[error("the draft model cannot guess for this model: {0}; use a smaller model of the same family")]
    Draft(String),
    /// The caller's request is invalid.
    #[error("{0}")]
    InvalidRequest(String),
}

impl Error {
    /// The code by which the package chooses its error class.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Gguf(_)
            | Error::Model(ModelError::Inconsistent(_))
            | Error::Load(LoadError::Size { .. }) => "corrupt_file",
            Error::Model(ModelError::Architecture(_)) => "unsupported_architecture",
            Error::Model(ModelError::Feature(_)) => "unsupported_feature",
            Error::Load(LoadError::TensorType { .. } | LoadError::Experts { .. }) => {
                "unsupported_tensor_type"
            }
            Error::Text(error) => error.code(),
            Error::Grammar(error) => error.code(),
            Error::Adapter(error) => error.code(),
            Error::Train(error) => error.code(),
            #[cfg(feature = "gpu")]
            Error::Gpu(error) => error.code(),
            #[cfg(feature = "cpu")]
            Error::Cpu(error) => error.code(),
            Error::ContextMemory { .. } => "out_of_memory",
            Error::ContextLength { .. } => "context_length_exceeded",
            Error::Draft(_) | Error::InvalidRequest(_) => "invalid_request",
        }
    }
}
