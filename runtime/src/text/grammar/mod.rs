//! Constrained generation: which tokens may come next, so that an answer is JSON, fits a JSON Schema, or
//! matches a regular expression or a grammar.
//!
//! [`Grammars`] belongs to a model's tokenizer; it compiles a [`Constraint`] to a [`Grammar`], which follows
//! one answer. The parser is the crate `llguidance`. A build without the feature `grammar` refuses every
//! constraint. Nothing is generated without its constraint instead.

#[cfg(feature = "grammar")]
mod compile;
#[cfg(feature = "grammar")]
mod gbnf;
#[cfg(feature = "grammar")]
mod schema;
#[cfg(all(test, feature = "grammar"))]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
#[cfg(not(feature = "grammar"))]
mod without;

#[cfg(feature = "grammar")]
pub use compile::{Grammar, Grammars};
#[cfg(not(feature = "grammar"))]
pub use without::{Grammar, Grammars};

use serde_json::Value;
use thiserror::Error;

/// Bytes of a constraint's text at most.
pub const MAX_BYTES: usize = 1 << 20;

/// White space between two tokens of JSON: a space, or a new line with its indentation. With more, an unsure
/// model can write blanks for ever.
pub const WHITE_SPACE: &str = r" |\n[ \t]{0,16}";

/// What an answer must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// A JSON object.
    JsonObject,
    /// JSON that fits this schema.
    JsonSchema(Value),
    /// A match of this regular expression, from beginning to end; in the syntax of the crate `regex`.
    Regex(String),
    /// A sentence of this grammar, in llguidance's dialect of Lark.
    Lark(String),
    /// A sentence of this grammar, in llama.cpp's format GBNF.
    Gbnf(String),
}

/// Why a constraint cannot be used, or can no longer be followed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GrammarError {
    /// A JSON Schema that is invalid, unsatisfiable, or uses what is not supported.
    #[error("the JSON Schema cannot be used: {path}: {problem}")]
    Schema {
        /// The keyword, as a JSON Pointer in a URI fragment (RFC 6901), such as `#/properties/a/not`.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// A regular expression or a grammar that is invalid or too complex.
    #[error("the {kind} cannot be used: {problem}")]
    Text {
        /// "regular expression" or "grammar".
        kind: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The constraint is longer than [`MAX_BYTES`].
    #[error("the constraint has {0} bytes; at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// The vocabulary cannot be searched for tokens that match.
    #[error("answers of this model cannot be constrained: {0}")]
    Vocabulary(String),
    /// A token came that the constraint does not allow.
    #[error(
        "token {0} does not fit the constraint: \
         the vocabulary may lack a character that it needs, or the device may be faulty"
    )]
    Token(u32),
    /// The constraint became too complex during the answer.
    #[error("the answer's constraint cannot be followed any further: {0}; simplify it")]
    Stuck(String),
    /// This build has no parser for constraints.
    #[error("this build of the runtime cannot constrain answers: build it with the feature `grammar`")]
    NotBuilt,
}

impl GrammarError {
    /// The code by which the package chooses its error class.
    pub fn code(&self) -> &'static str {
        match self {
            GrammarError::Schema { .. }
            | GrammarError::Text { .. }
            | GrammarError::TooLong(_)
            | GrammarError::Stuck(_) => "invalid_request",
            GrammarError::NotBuilt | GrammarError::Vocabulary(_) => "unsupported_feature",
            GrammarError::Token(_) => "internal",
        }
    }
}
