//! OpenAI's parameters as the runtime's requests.

use super::check;
use super::error::ApiError;
use super::worker::Failure;
use nomoat_runtime::engine::{Error, MAX_TOP_LOGPROBS, Prompt, Request, read_json};
use serde_json::{Map, Value, json};

/// A checked body: the runtime's requests, one for each choice, and how to reply.
#[derive(Debug)]
pub struct Params {
    pub requests: Vec<Request>,
    /// Choices of each prompt.
    pub n: usize,
    /// What each choice begins with: the prompt, if it is echoed.
    pub beginnings: Vec<String>,
    pub stream: bool,
    pub include_usage: bool,
}

/// What the runtime takes as it is.
const TAKEN: [&str; 36] = [
    "max_tokens",
    "context_overflow",
    "prediction",
    "thinking_token_budget",
    "temperature",
    "dynatemp_range",
    "dynatemp_exponent",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "xtc_probability",
    "xtc_threshold",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "dry_sequence_breakers",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "seed",
    "stop",
    "response_format",
    "grammar",
    "chat_template_kwargs",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "messages",
    "prompt",
];
/// What does not change the answer.
pub const IGNORED: [&str; 9] = [
    "model",
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
];
/// Choices of one request at most.
const MAX_CHOICES: usize = 128;
const MAX_STOPS: usize = 16;
/// OpenAI's default for `completions`.
const COMPLETION_TOKENS: u64 = 16;

/// Reads the body of `/v1/chat/completions`.
pub fn chat(body: &[u8]) -> Result<Params, ApiError> {
    chat_of(object(body)?)
}

/// Reads the parameters of a chat, none of which is null.
pub fn chat_of(mut given: Map<String, Value>) -> Result<Params, ApiError> {
    if given.contains_key("prompt") {
        let message = "`prompt` is for /v1/completions; send `messages`.";
        return Err(ApiError::coded("prompt", "unsupported_parameter", message));
    }
    check::messages(given.get("messages"))?;
    let messages = given.get_mut("messages").and_then(Value::as_array_mut);
    for (i, message) in messages.into_iter().flatten().enumerate() {
        if message.get("role").is_some_and(|role| role == "developer") {
            message["role"] = "system".into();
        }
        if let Some(parts) = message.get("content").and_then(Value::as_array) {
            message["content"] = joined(parts, &format!("messages[{i}].content"))?.into();
        }
    }
    check::tools(given.get("tools"))?;
    let is_asked = flag(&mut given, "logprobs")?;
    let top = top_logprobs(&mut given, "top_logprobs")?;
    if top.is_some() && !is_asked {
        return Err(ApiError::field("top_logprobs", "`top_logprobs` needs `logprobs: true`."));
    }
    let head = Head::take(&mut given)?;
    if is_asked {
        given.insert("top_logprobs".into(), top.unwrap_or(0).into());
    }
    let requests = head.requests(given)?;
    Ok(head.params(requests, Vec::new()))
}

/// The text of a message's content parts. Many templates take a text only.
fn joined(parts: &[Value], place: &str) -> Result<String, ApiError> {
    let text = |part: &Value| match (part["type"].as_str(), part["text"].as_str()) {
        (Some("text"), Some(text)) => Some(text.to_owned()),
        _ => None,
    };
    let texts = parts.iter().enumerate().map(|(i, part)| {
        let place = format!("{place}[{i}]");
        let message = format!("`{place}` must be {{ type: \"text\", text }}.");
        text(part).ok_or_else(|| ApiError::field(&place, message))
    });
    texts.collect()
}

/// Reads the body of `/v1/completions`.
pub fn completions(body: &[u8]) -> Result<Params, ApiError> {
    let mut given = object(body)?;
    let prompts = prompts(&mut given, "prompt", MAX_CHOICES)?;
    for name in ["messages", "max_completion_tokens"] {
        if given.contains_key(name) {
            let message = format!("`{name}` is for /v1/chat/completions.");
            return Err(ApiError::coded(name, "unknown_parameter", message));
        }
    }
    let echo = flag(&mut given, "echo")?;
    if given.get("best_of") == Some(&Value::from(1)) {
        given.remove("best_of");
    }
    let suffix = suffix(&mut given, echo)?;
    given.entry("max_tokens").or_insert(COMPLETION_TOKENS.into());
    let top = top_logprobs(&mut given, "logprobs")?;
    let head = Head::take(&mut given)?;
    given.extend(suffix.map(|suffix| ("suffix".into(), suffix.into())));
    if let Some(top) = top {
        given.insert("top_logprobs".into(), top.into());
        given.insert("prompt_logprobs".into(), echo.into());
    }
    let mut requests = Vec::new();
    let mut beginnings = Vec::new();
    for prompt in prompts {
        given.insert("prompt".into(), json!(prompt));
        requests.extend(head.requests(given.clone())?);
        let beginning = match prompt {
            Prompt::Text(text) if echo => text,
            Prompt::Ids(_) if echo => {
                return Err(ApiError::field("echo", "`echo` needs prompts that are texts."));
            }
            _ => String::new(),
        };
        beginnings.resize(requests.len(), beginning);
    }
    Ok(head.params(requests, beginnings))
}

/// The text after the answer; none if it is empty.
fn suffix(given: &mut Map<String, Value>, echo: bool) -> Result<Option<String>, ApiError> {
    match given.remove("suffix") {
        None => Ok(None),
        Some(Value::String(suffix)) if suffix.is_empty() => Ok(None),
        Some(Value::String(_)) if echo => {
            Err(ApiError::field("suffix", "`suffix` and `echo` exclude each other."))
        }
        Some(Value::String(suffix)) => Ok(Some(suffix)),
        other => Err(ApiError::mistyped("suffix", other.as_ref(), "`suffix` must be a text.")),
    }
}

/// What is about the reply, not about the answer.
struct Head {
    n: usize,
    stream: bool,
    include_usage: bool,
}

impl Head {
    /// Takes it from the parameters, and checks that the runtime knows all others.
    fn take(given: &mut Map<String, Value>) -> Result<Self, ApiError> {
        let stream = flag(given, "stream")?;
        let include_usage = match given.remove("stream_options") {
            None => false,
            Some(_) if !stream => {
                let message = "`stream_options` needs `stream: true`.";
                return Err(ApiError::field("stream_options", message));
            }
            Some(Value::Object(mut options)) => flag(&mut options, "include_usage")?,
            other => {
                let message = "`stream_options` must be an object.";
                return Err(ApiError::mistyped("stream_options", other.as_ref(), message));
            }
        };
        check::integer(given, "n", 1, Some(MAX_CHOICES as i64))?;
        let n = given.remove("n").and_then(|n| usize::try_from(n.as_u64()?).ok()).unwrap_or(1);
        check::numbers(given)?;
        if let Some(most) = given.remove("max_completion_tokens") {
            given.insert("max_tokens".into(), most);
        }
        if let Some(effort) = given.remove("reasoning_effort") {
            if !effort.is_string() {
                let message = "`reasoning_effort` must be a text.";
                return Err(ApiError::mistyped("reasoning_effort", Some(&effort), message));
            }
            let variables = given.entry("chat_template_kwargs").or_insert_with(|| Map::new().into());
            let message = "`chat_template_kwargs` must be an object.";
            let wrong = || ApiError::coded("chat_template_kwargs", "invalid_type", message);
            variables.as_object_mut().ok_or_else(wrong)?.insert("reasoning_effort".into(), effort);
        }
        if let Some(prediction) = given.remove("prediction") {
            given.insert("prediction".into(), predicted(&prediction)?.into());
        }
        if let Some(stop) = given.remove("stop") {
            given.insert("stop".into(), stops(stop)?);
        }
        given.retain(|name, _| !IGNORED.contains(&name.as_str()));
        if let Some(name) = given.keys().find(|name| !TAKEN.contains(&name.as_str())) {
            return Err(ApiError::unknown(name));
        }
        Ok(Self { n, stream, include_usage })
    }

    fn params(self, requests: Vec<Request>, beginnings: Vec<String>) -> Params {
        let Self { n, stream, include_usage } = self;
        Params { requests, n, beginnings, stream, include_usage }
    }

    /// The runtime's request, once for each choice. With a seed, each choice has the next one.
    fn requests(&self, given: Map<String, Value>) -> Result<Vec<Request>, ApiError> {
        let mut request = Request::from_json(&Value::Object(given).to_string()).map_err(invalid)?;
        let seed = request.sampling.seed;
        Ok((0..self.n as u64)
            .map(|i| {
                request.sampling.seed = seed.map(|seed| seed.wrapping_add(i));
                request.clone()
            })
            .collect())
    }
}

/// A text or several, or their tokens.
pub fn prompts(given: &mut Map<String, Value>, name: &str, most: usize) -> Result<Vec<Prompt>, ApiError> {
    let value = given.remove(name);
    let message =
        format!("`{name}` must be a text, a list of up to {most} texts, or their tokens; none may be empty.");
    let wrong = match &value {
        Some(Value::String(_)) => ApiError::field(name, message),
        other => ApiError::list(name, other.as_ref(), message),
    };
    let list = match value {
        Some(Value::Array(list)) if !list.iter().all(Value::is_number) => list,
        Some(one) => vec![one],
        None => Vec::new(),
    };
    if list.is_empty() || list.len() > most {
        return Err(wrong);
    }
    let prompts = list.into_iter().map(|item| {
        let prompt: Prompt = serde_json::from_value(item).ok()?;
        let is_empty = match &prompt {
            Prompt::Text(text) => text.is_empty(),
            Prompt::Ids(ids) => ids.is_empty(),
        };
        (!is_empty).then_some(prompt)
    });
    prompts.collect::<Option<_>>().ok_or(wrong)
}

/// How many of the likeliest tokens are named.
fn top_logprobs(given: &mut Map<String, Value>, name: &str) -> Result<Option<usize>, ApiError> {
    check::integer(given, name, 0, Some(MAX_TOP_LOGPROBS as i64))?;
    Ok(given.remove(name).and_then(|top| usize::try_from(top.as_u64()?).ok()))
}

/// The text of a prediction: a text, or its parts.
fn predicted(prediction: &Value) -> Result<String, ApiError> {
    let is_content = prediction.get("type").is_some_and(|kind| kind == "content");
    match prediction.get("content").filter(|_| is_content) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Array(parts)) => joined(parts, "prediction.content"),
        _ => {
            let message = "`prediction` must be { type: \"content\", content }, with a text or text parts.";
            Err(ApiError::field("prediction", message))
        }
    }
}

/// A list of stop texts from a text or a list.
fn stops(value: Value) -> Result<Value, ApiError> {
    let list = match value {
        Value::Array(list) => list,
        other => vec![other],
    };
    let is_text = |stop: &Value| stop.as_str().is_some_and(|stop| !stop.is_empty());
    if list.len() <= MAX_STOPS && list.iter().all(is_text) {
        return Ok(list.into());
    }
    let message = format!("`stop` must be a text or up to {MAX_STOPS} texts, none of them empty.");
    Err(ApiError::field("stop", message))
}

/// A JSON object without its nulls.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::field("body", "The body is not UTF-8."))?;
    match read_json(text).map_err(invalid)? {
        Value::Object(mut given) => {
            given.retain(|_, value| !value.is_null());
            Ok(given)
        }
        _ => Err(ApiError::field("body", "The body must be a JSON object.")),
    }
}

fn invalid(error: Error) -> ApiError {
    Failure::from(&error).into()
}

/// Takes a parameter that is true or false.
pub fn flag(given: &mut Map<String, Value>, name: &str) -> Result<bool, ApiError> {
    match given.remove(name) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(value),
        other => Err(ApiError::mistyped(name, other.as_ref(), format!("`{name}` must be true or false."))),
    }
}
