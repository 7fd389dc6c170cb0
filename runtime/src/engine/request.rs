//! What is asked of the engine, and what it gives back.

use super::{Error, Sampling};
pub use crate::text::Message;
use crate::text::grammar::Constraint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What to answer, and how.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Request {
    /// A conversation, which the model's chat template turns into a prompt.
    pub messages: Option<Vec<Message>>,
    /// Or a text to continue.
    pub prompt: Option<String>,
    /// Tokens of the answer at most; default: until the context is full.
    pub max_tokens: Option<usize>,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// Tokens that the answer already has. It continues after them as if it had not been interrupted.
    pub continue_ids: Vec<u32>,
    /// Whether the answer must be JSON.
    pub response_format: ResponseFormat,
    /// Or what else it must match.
    pub grammar: Option<GrammarText>,
    /// How tokens are chosen.
    #[serde(skip)]
    pub sampling: Sampling,
}

/// Whether an answer must be JSON; as OpenAI's `response_format`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat {
    /// Any text.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that fits a schema.
    JsonSchema {
        /// The schema.
        json_schema: NamedSchema,
    },
}

/// A JSON Schema as in OpenAI's `response_format`. Its name, description and `strict` change nothing: answers
/// always fit.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct NamedSchema {
    /// The schema.
    pub schema: Value,
}

/// What an answer must match.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum GrammarText {
    /// A regular expression, from beginning to end.
    Regex(String),
    /// A grammar in llguidance's dialect of Lark.
    Lark(String),
}

impl Request {
    /// What the answer must be; none: any text.
    pub fn constraint(&self) -> Result<Option<Constraint>, Error> {
        Ok(match (&self.response_format, &self.grammar) {
            (ResponseFormat::Text, None) => None,
            (ResponseFormat::Text, Some(GrammarText::Regex(regex))) => Some(Constraint::Regex(regex.clone())),
            (ResponseFormat::Text, Some(GrammarText::Lark(lark))) => Some(Constraint::Lark(lark.clone())),
            (ResponseFormat::JsonObject, None) => Some(Constraint::JsonObject),
            (ResponseFormat::JsonSchema { json_schema }, None) => {
                Some(Constraint::JsonSchema(json_schema.schema.clone()))
            }
            (_, Some(_)) => {
                let message = "a request has either a response_format of JSON or a grammar";
                return Err(Error::InvalidRequest(message.into()));
            }
        })
    }

    /// Reads a request. Sampling settings are beside the other fields.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let invalid = |e: serde_json::Error| Error::InvalidRequest(format!("malformed request: {e}"));
        let sampling = serde_json::from_str(json).map_err(invalid)?;
        Ok(Self { sampling, ..serde_json::from_str(json).map_err(invalid)? })
    }
}

/// Names a sequence while a request is answered. Each request gets another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId(pub(super) u64);

/// What [`super::Engine::start`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Started {
    /// The sequence that answers.
    #[serde(skip)]
    pub sequence: SequenceId,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of them, those whose keys and values are still in the KV pool.
    pub cached_tokens: usize,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// `max_tokens` is reached or the context is full.
    Length,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer, its end-of-turn token included.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
    /// Tokens of the prompt that were not computed again.
    pub cached_tokens: usize,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Timings {
    /// From the start to the first token, in milliseconds.
    pub prefill_ms: f64,
    /// From the first token to the end, in milliseconds.
    pub decode_ms: f64,
    /// Dispatches of the last step.
    pub dispatches_per_token: usize,
}

/// What a step did for a sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The sequence.
    pub sequence: SequenceId,
    /// What happened to it.
    pub progress: Progress,
}

/// How far an answer is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Progress {
    /// Part of the prompt is computed.
    Prefill {
        /// Tokens of the prompt that are done.
        done: usize,
        /// Tokens of the prompt.
        total: usize,
    },
    /// A token of the answer.
    Token {
        /// Vocabulary index.
        id: u32,
        /// Text that is certain now; empty while a character or a stop string may be incomplete.
        text: String,
    },
    /// The answer is complete.
    End {
        /// Text that was held back.
        text: String,
        /// Why it ended.
        finish_reason: FinishReason,
        /// The context had no room for another token.
        context_full: bool,
        /// Tokens.
        usage: Usage,
        /// Times.
        timings: Timings,
    },
}
