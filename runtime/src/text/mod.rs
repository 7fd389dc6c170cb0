//! Text to tokens and back: tokenizers from GGUF vocabularies, chat templates, the streaming detokeniser,
//! stop strings, constraints on answers.

mod bpe;
mod bytes;
mod charsmap;
mod chat;
mod cutter;
mod detokenizer;
pub mod grammar;
mod pretokenize;
pub mod response;
mod rwkv;
mod sentencepiece;
mod special;
mod stop;
mod tokenizer;
mod unigram;
mod vocabulary;
mod wordpiece;

#[cfg(test)]
mod special_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use chat::{ChatTemplate, Message, ToolPrompt, ToolUse, Variables};
pub use detokenizer::Detokenizer;
pub use stop::StopMatcher;
pub use tokenizer::Tokenizer;

use thiserror::Error;

/// Why a vocabulary, a chat template or a text cannot be used.
#[derive(Debug, Error)]
pub enum TextError {
    /// The kind of vocabulary is not supported.
    #[error("the model's tokenizer is not supported: {0}")]
    Unsupported(String),
    /// The vocabulary is missing or inconsistent.
    #[error("the model's vocabulary is invalid: {0}")]
    Vocabulary(String),
    /// A key of the vocabulary has a wrong type.
    #[error(transparent)]
    Metadata(#[from] crate::gguf::GgufError),
    /// The chat template failed.
    #[error("the model's chat template failed: {0}")]
    Template(String),
    /// A response template is wrong, or asks for what is not supported.
    #[error(transparent)]
    ResponseTemplate(#[from] response::GivenProblem),
    /// No built-in template has this name.
    #[error("{0}")]
    UnknownTemplate(String),
    /// A text cannot be tokenised.
    #[error("the text cannot be tokenised: {0}")]
    Encode(String),
}

impl TextError {
    /// The code by which the package chooses its error class.
    pub fn code(&self) -> &'static str {
        match self {
            TextError::Unsupported(_) => "unsupported_feature",
            TextError::Vocabulary(_) | TextError::Metadata(_) => "corrupt_file",
            TextError::Template(_) => "template",
            TextError::UnknownTemplate(_) | TextError::ResponseTemplate(_) | TextError::Encode(_) => {
                "invalid_request"
            }
        }
    }
}
