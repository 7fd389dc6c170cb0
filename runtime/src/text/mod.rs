//! Text to tokens and back: tokenizers built from GGUF vocabularies, chat templates, the streaming detokeniser, stop strings.

mod byte_level;
mod bytes;
mod chat;
mod detokenizer;
mod pretokenize;
mod sentencepiece;
mod stop;
mod tokenizer;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use chat::{ChatTemplate, Message};
pub use detokenizer::Detokenizer;
pub use stop::StopMatcher;
pub use tokenizer::Tokenizer;

use thiserror::Error;

/// Why a vocabulary or a template cannot be used.
#[derive(Debug, Error)]
pub enum TextError {
    /// The vocabulary is of a kind without support.
    #[error("the file's tokenizer is {0}, which is not supported yet")]
    Unsupported(String),
    /// The vocabulary is absent or contradicts itself.
    #[error("the file's vocabulary is inconsistent: {0}")]
    Vocabulary(String),
    /// The chat template failed.
    #[error("the model's chat template failed: {0}")]
    Template(String),
    /// A text cannot be tokenised.
    #[error("the text cannot be tokenised: {0}")]
    Encode(String),
}

impl TextError {
    /// The cause, as the package's error classes know it.
    pub fn code(&self) -> &'static str {
        match self {
            TextError::Unsupported(_) => "unsupported_feature",
            TextError::Vocabulary(_) => "corrupt_file",
            TextError::Template(_) => "template",
            TextError::Encode(_) => "invalid_request",
        }
    }
}
