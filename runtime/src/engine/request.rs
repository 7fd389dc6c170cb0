//! What is asked of the engine, and what it gives back.

use super::{ContextOverflow, Error, Sampling, TokenLogprob};
use crate::text::grammar::Constraint;
pub use crate::text::response::CallDelta;
pub use crate::text::{Message, Variables};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::borrow::Cow;

/// What to answer, and how.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Request {
    /// A conversation, which the model's chat template turns into a prompt.
    pub messages: Option<Vec<Message>>,
    /// What the template gets beside them: `tools`, `documents`, `chat_template_kwargs`.
    #[serde(flatten)]
    pub variables: Variables,
    /// Or a text to continue.
    pub prompt: Option<Prompt>,
    /// The text after it: the answer goes between the two.
    pub suffix: Option<String>,
    /// No answer, but the prompt's embedding: a vector of this many numbers, 0 for all that the model has.
    pub embedding: Option<usize>,
    /// Tokens of the answer at most; default: until the context is full.
    pub max_tokens: Option<usize>,
    /// What becomes of a conversation or an answer that is longer than the context.
    pub context_overflow: ContextOverflow,
    /// Tokens of reasoning at most, after which it is ended and the model answers; default: no limit. Only
    /// for templates that know reasoning.
    pub thinking_token_budget: Option<usize>,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// Say of each token of the answer how likely it was, and name so many of the likeliest in its place, up
    /// to [`super::MAX_TOP_LOGPROBS`].
    pub top_logprobs: Option<usize>,
    /// The same of the prompt's tokens, in [`Progress::Prompt`].
    pub prompt_logprobs: bool,
    /// A text that the answer is likely to repeat. Where it does, it comes faster.
    pub prediction: Option<String>,
    /// Whether tokens are guessed from what the text repeats, and several of them are computed at once. It
    /// changes no text. Default: where it is faster.
    pub speculate: Option<bool>,
    /// Tokens that the answer already has. It continues after them as if it had not been interrupted.
    pub continue_ids: Vec<u32>,
    /// Whether the answer must be JSON.
    pub response_format: ResponseFormat,
    /// Or what else it must match.
    pub grammar: Option<GrammarText>,
    /// Whether the model must call one of the tools, or may not.
    pub tool_choice: ToolChoice,
    /// Whether it may call several at once; default: yes.
    pub parallel_tool_calls: Option<bool>,
    /// The adapters that are used, each with its strength.
    pub adapters: Vec<AdapterUse>,
    /// The model's name. After a colon, it may name an adapter to use, as `base:name`.
    pub model: Option<String>,
    /// How tokens are chosen.
    #[serde(skip)]
    pub sampling: Sampling,
}

/// A text, or its tokens as they are.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Prompt {
    /// A text.
    Text(String),
    /// Vocabulary indices.
    Ids(Vec<u32>),
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// An adapter in a request.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct AdapterUse {
    /// The name that it was loaded under.
    pub name: String,
    /// Its strength: 1 as it was trained, 0 not at all.
    #[serde(default = "full")]
    pub scale: f32,
}

fn full() -> f32 {
    1.0
}

/// Whether the model must call a tool; as OpenAI's `tool_choice`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It may not.
    None,
    /// One of the tools.
    Required,
    /// The tool of this name.
    Function(String),
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let name = || value.get("function")?.get("name")?.as_str();
        match (value.as_str(), name()) {
            (Some("auto"), _) => Ok(Self::Auto),
            (Some("none"), _) => Ok(Self::None),
            (Some("required"), _) => Ok(Self::Required),
            (None, Some(name)) => Ok(Self::Function(name.to_string())),
            _ => Err(serde::de::Error::custom(
                "must be auto, none, required, or { type: \"function\", function: { name } }",
            )),
        }
    }
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
    /// A grammar in llama.cpp's format GBNF.
    Gbnf(String),
}

impl Request {
    /// What the answer must be; none: any text.
    pub fn constraint(&self) -> Result<Option<Constraint>, Error> {
        Ok(match (&self.response_format, &self.grammar) {
            (ResponseFormat::Text, None) => None,
            (ResponseFormat::Text, Some(GrammarText::Regex(regex))) => Some(Constraint::Regex(regex.clone())),
            (ResponseFormat::Text, Some(GrammarText::Lark(lark))) => Some(Constraint::Lark(lark.clone())),
            (ResponseFormat::Text, Some(GrammarText::Gbnf(gbnf))) => Some(Constraint::Gbnf(gbnf.clone())),
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

    /// Reads a request, as [`read_json`]. Sampling settings are beside the other fields.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        Ok(Self { sampling: read_json(json)?, ..read_json(json)? })
    }
}

/// Reads what is asked. An error names the field. Half a surrogate pair, such as half an emoji, becomes
/// U+FFFD.
pub fn read_json<T: DeserializeOwned>(json: &str) -> Result<T, Error> {
    let json = well_formed(json);
    let mut json = serde_json::Deserializer::from_str(&json);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (field, problem) = (error.path(), error.inner());
        let place = if field.iter().len() == 0 { String::new() } else { format!("`{field}`: ") };
        Error::InvalidRequest(format!("malformed request: {place}{problem}"))
    })
}

/// Replaces the escapes of lone surrogates, which JavaScript's texts may hold and Rust's may not.
fn well_formed(json: &str) -> Cow<'_, str> {
    let mut result = String::new();
    // Everything before this is in `result`.
    let (mut copied, mut at) = (0, 0);
    while let Some(next) = json.get(at..).and_then(|rest| rest.find('\\')) {
        let escape = at + next;
        let Some(unit) = surrogate(json, escape) else {
            // Another escape: its second character is no beginning of one.
            at = escape + 2;
            continue;
        };
        let pair = matches!(unit, 0xd800..0xdc00)
            && surrogate(json, escape + 6).is_some_and(|low| matches!(low, 0xdc00..0xe000));
        at = escape + if pair { 12 } else { 6 };
        if !pair {
            result.push_str(json.get(copied..escape).unwrap_or_default());
            result.push('\u{fffd}');
            copied = at;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    result.push_str(json.get(copied..).unwrap_or_default());
    Cow::Owned(result)
}

/// The surrogate whose escape, such as `\ud83d`, is at this byte.
fn surrogate(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    let unit = u16::from_str_radix(digits, 16).ok()?;
    matches!(unit, 0xd800..0xe000).then_some(unit)
}

/// Names a sequence while a request is answered. Each request gets another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SequenceId(pub(super) u64);

impl SequenceId {
    /// The id that is written as this number.
    pub fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// What [`super::Engine::start`] gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Started {
    /// The sequence that answers.
    pub sequence: SequenceId,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Messages that are left out of it, because the context has no room for them.
    pub omitted_messages: usize,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// `max_tokens` is reached or the context is full.
    Length,
    /// The model called tools.
    ToolCalls,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer, its end-of-turn token included.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
    /// Tokens of the prompt that were not computed again.
    pub cached_tokens: usize,
    /// Tokens of the answer in which the model was thinking, with those that end it.
    pub reasoning_tokens: usize,
    /// Tokens that were guessed, see [`Request::speculate`].
    pub drafted_tokens: usize,
    /// Those of them that were right.
    pub accepted_tokens: usize,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Timings {
    /// From the first step of the prompt to the first token, in milliseconds.
    pub prefill_ms: f64,
    /// From the first token to the end, in milliseconds.
    pub decode_ms: f64,
    /// Dispatches of the last step.
    pub dispatches_per_token: usize,
}

/// What a step did for a sequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// The sequence.
    pub sequence: SequenceId,
    /// What happened to it.
    #[serde(flatten)]
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
    /// How likely the prompt's tokens are, if that was asked for. Comes before the first token.
    Prompt {
        /// Of each token.
        logprobs: Vec<TokenLogprob>,
    },
    /// The embedding that was asked for; nothing comes after it.
    Embedding {
        /// A vector of length 1.
        embedding: Vec<f32>,
        /// Tokens of the prompt.
        prompt_tokens: usize,
    },
    /// A token of the answer.
    Token {
        /// Vocabulary index.
        id: u32,
        /// Text that is certain now; empty while a character or a stop string may be incomplete.
        text: String,
        /// Text of the model's reasoning that is certain now.
        #[serde(skip_serializing_if = "String::is_empty")]
        reasoning: String,
        /// Pieces of tool calls.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        calls: Vec<CallDelta>,
        /// How likely it was, if that was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        logprob: Option<TokenLogprob>,
    },
    /// The answer is complete.
    End {
        /// Text that was held back.
        text: String,
        /// Reasoning that was held back.
        #[serde(skip_serializing_if = "String::is_empty")]
        reasoning: String,
        /// Pieces of tool calls that were held back.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        calls: Vec<CallDelta>,
        /// How likely the last token was, if that was asked for; none for a token that ends a turn.
        #[serde(skip_serializing_if = "Option::is_none")]
        logprob: Option<TokenLogprob>,
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

impl Progress {
    /// Whether nothing comes after it.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::End { .. } | Self::Embedding { .. })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn half_an_emoji_becomes_a_replacement_character() {
        // What `JSON.stringify` makes of "nice 😀".slice(0, 6), of its other half, and of the whole.
        let stop = r#"["\uDE00!", "\ud83d\ude00", "\\ud83d", "\ud83d\ud83d\ude00"]"#;
        let json = &format!(r#"{{"prompt": "nice \ud83d", "stop": {stop}}}"#);
        let request = Request::from_json(json).unwrap();
        assert_eq!(request.prompt.unwrap(), "nice \u{fffd}".into());
        assert_eq!(request.stop, ["\u{fffd}!", "😀", "\\ud83d", "\u{fffd}😀"]);
        let message = r#"{"messages": [{"role": "user", "content": "\ud83d\n\u00e9\\"}]}"#;
        let messages = Request::from_json(message).unwrap().messages.unwrap();
        assert_eq!(format!("{:?}", messages[0]).matches("\u{fffd}").count(), 1);
        for cut in [r#"{"prompt": "\ud83"#, r#"{"prompt": "\u"}"#, r#"{"prompt": "\"#, "\\é", "\\u+d8é"] {
            assert!(Request::from_json(cut).is_err(), "{cut}");
        }
    }

    #[test]
    fn errors_name_the_field() {
        for (json, words) in [
            (r#"{"logit_bias": {"4294967296": 1}}"#, "`logit_bias"),
            (r#"{"logit_bias": {"7": "much"}}"#, "`logit_bias.7`"),
            (r#"{"stop": [1]}"#, "`stop[0]`"),
            (r#"{"messages": [{"role": "user", "content": "a"}, {"content": "b"}]}"#, "`messages[1]`"),
            (r#"{"max_tokens": -1}"#, "`max_tokens`"),
            (r#"{"temperature": "warm"}"#, "`temperature`"),
            ("[", "malformed request"),
        ] {
            let error = Request::from_json(json).unwrap_err();
            let message = error.to_string();
            assert_eq!(error.code(), "invalid_request");
            assert!(message.contains(words), "{message:?} does not say {words:?}");
        }
    }
}
