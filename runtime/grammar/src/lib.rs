//! Constrained generation: which tokens may come next, so that an answer is JSON, fits a JSON Schema, or
//! matches a regular expression or a grammar.
//!
//! [`Grammars`] belongs to a model's vocabulary; it compiles a [`Constraint`] to a [`Grammar`], which follows
//! one answer. The parser is the crate `llguidance`. It is a fifth of what a browser would download for the
//! first answer, and most answers do not need it. So in browsers it is a wasm module of its own, which is
//! loaded for the first constraint, and the runtime has only the types of this crate.

#[cfg(feature = "parser")]
mod compile;
#[cfg(feature = "parser")]
mod gbnf;
#[cfg(all(feature = "module", target_arch = "wasm32"))]
mod module;
#[cfg(feature = "parser")]
mod schema;

#[cfg(all(test, feature = "parser"))]
#[allow(clippy::unwrap_used, clippy::panic)]
mod suite_tests;

#[cfg(feature = "parser")]
pub use compile::{Encode, Grammar, Grammars};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Bytes of a constraint's text at most.
pub const MAX_BYTES: usize = 1 << 20;

/// A token that must be named to be allowed begins with this byte, which no text has.
pub const MARK: u8 = 0xFF;

/// White space between two tokens of JSON: a space, or a new line with its indentation. With more, an unsure
/// model can write blanks for ever.
pub const WHITE_SPACE: &str = r" |\n[ \t]{0,16}";

/// What an answer must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
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
        kind: String,
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
    /// In a browser: the parser's module must be loaded first.
    #[error("the parser for constraints has not been loaded")]
    NotLoaded,
}

impl GrammarError {
    /// The code by which the package chooses its error class.
    pub fn code(&self) -> &'static str {
        match self {
            GrammarError::Schema { .. }
            | GrammarError::Text { .. }
            | GrammarError::TooLong(_)
            | GrammarError::Stuck(_) => "invalid_request",
            GrammarError::Vocabulary(_) => "unsupported_feature",
            GrammarError::Token(_) => "internal",
            GrammarError::NotLoaded => "parser_not_loaded",
        }
    }
}
