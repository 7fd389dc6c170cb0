//! Answers in OpenAI's shapes, streamed and whole.

use super::error::ApiError;
use super::params::Params;
use super::worker::{Failure, Sender, Step, Told};
use axum::Json;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use nomoat_runtime::engine::{CallDelta, FinishReason, Progress, Timings, TokenLogprob, Usage};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedReceiver;

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Which of OpenAI's addresses is answered.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Chat,
    Text,
}

/// An answer under way, of one or more choices.
pub struct Reply {
    kind: Kind,
    id: String,
    created: u64,
    model: String,
    beginnings: Vec<String>,
    include_usage: bool,
    steps: UnboundedReceiver<Step>,
    /// Choices that have not ended.
    open: usize,
    n_choices: usize,
    /// Choices of each prompt, whose tokens count once.
    per_prompt: usize,
    usage: Usage,
    /// Messages that the prompt lacks because the context is full.
    omitted_messages: usize,
    /// Characters of each choice whose tokens have been told.
    offsets: Vec<usize>,
}

/// What a step added to a choice.
pub struct Piece {
    pub choice: usize,
    pub text: String,
    pub reasoning: String,
    pub calls: Vec<CallDelta>,
    /// How likely its tokens were, if that was asked for.
    pub logprobs: Vec<TokenLogprob>,
    /// How the choice ended, if it did.
    pub end: Option<End>,
}

/// How a choice ended.
pub struct End {
    pub finish_reason: FinishReason,
    pub context_full: bool,
    pub usage: Usage,
    pub timings: Timings,
}

impl Reply {
    /// Asks for the choices of a reply.
    pub fn new(kind: Kind, model: &str, params: Params, requests: &Sender) -> Self {
        let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        let n_choices = params.requests.len();
        Self {
            kind,
            id: format!("{prefix}-{:016x}", getrandom::u64().unwrap_or(0)),
            created: now(),
            model: model.to_owned(),
            beginnings: params.beginnings,
            include_usage: params.include_usage,
            steps: requests.ask(params.requests),
            open: n_choices,
            n_choices,
            per_prompt: params.n,
            usage: Usage::default(),
            omitted_messages: 0,
            offsets: vec![0; n_choices],
        }
    }

    /// All choices in one object.
    pub async fn whole(mut self) -> Result<Response, ApiError> {
        let mut texts: Vec<String> =
            (0..self.n_choices).map(|choice| self.beginning(choice).to_owned()).collect();
        let mut reasonings = vec![String::new(); self.n_choices];
        let mut calls = vec![Vec::new(); self.n_choices];
        let mut logprobs = vec![Vec::new(); self.n_choices];
        let mut ends: Vec<Option<End>> = (0..self.n_choices).map(|_| None).collect();
        while let Some(piece) = self.next().await? {
            texts[piece.choice].push_str(&piece.text);
            reasonings[piece.choice].push_str(&piece.reasoning);
            for call in piece.calls {
                add_call(&mut calls[piece.choice], call);
            }
            logprobs[piece.choice].extend(piece.logprobs);
            ends[piece.choice] = piece.end;
        }
        let parts = texts.into_iter().zip(reasonings).zip(calls).zip(logprobs).zip(&ends).enumerate();
        let choices = parts.map(|(choice, ((((text, reasoning), calls), logprobs), end))| {
            let content = match self.kind {
                Kind::Chat => {
                    let text_is_empty = text.is_empty();
                    let mut message = json!({ "role": "assistant", "content": text, "refusal": null });
                    if !reasoning.is_empty() {
                        message["reasoning_content"] = reasoning.into();
                    }
                    if !calls.is_empty() {
                        message["content"] =
                            if text_is_empty { Value::Null } else { message["content"].take() };
                        message["tool_calls"] = calls.into();
                    }
                    ("message", message)
                }
                Kind::Text => ("text", text.into()),
            };
            let mut choice_object = choice_of(choice, content, end.as_ref());
            choice_object["logprobs"] = logprobs_of(self.kind, &logprobs, &mut 0);
            choice_object
        });
        let mut object = self.object("chat.completion", choices.collect());
        object.insert("usage".into(), self.usage());
        if self.omitted_messages > 0 {
            object.insert("omitted_messages".into(), self.omitted_messages.into());
        }
        if let (Kind::Chat, Some(Some(end))) = (self.kind, ends.first()) {
            object.insert("timings".into(), timings_of(end));
        }
        Ok(Json(object).into_response())
    }

    /// The pieces of all choices as server-sent events. The first step is awaited before, so that a wrong
    /// request is answered with its status.
    pub async fn streamed(mut self) -> Result<Response, ApiError> {
        let piece = self.next().await?;
        let mut pieces: VecDeque<String> =
            (0..self.n_choices).filter_map(|choice| Some(self.first(choice)?.to_string())).collect();
        if let Some(piece) = piece {
            pieces.extend(self.pieces(piece));
        }
        let events = stream::unfold(Some((self, pieces)), |state| async {
            let (mut reply, mut pieces) = state?;
            let data = loop {
                if let Some(piece) = pieces.pop_front() {
                    break piece;
                }
                match reply.next().await {
                    Ok(Some(piece)) => pieces.extend(reply.pieces(piece)),
                    Ok(None) => return Some((Ok::<_, Infallible>(Event::default().data("[DONE]")), None)),
                    Err(error) => return Some((Ok(Event::default().data(error.body().to_string())), None)),
                }
            };
            Some((Ok(Event::default().data(data)), Some((reply, pieces))))
        });
        Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
    }

    /// What comes next; none when all choices have ended.
    pub async fn next(&mut self) -> Result<Option<Piece>, ApiError> {
        if self.open == 0 {
            return Ok(None);
        }
        let stopping = || Failure { code: "internal", message: "the server is stopping".into() };
        let (choice, progress) = loop {
            let (choice, told) = self.steps.recv().await.ok_or_else(stopping)?;
            match told? {
                Told::Started { omitted_messages } => self.omitted_messages = omitted_messages,
                Told::Progress(progress) => break (choice, *progress),
            }
        };
        Ok(Some(match progress {
            Progress::Prefill { .. } => Piece::new(choice, Vec::new()),
            // No chat and no completion asks for one.
            Progress::Embedding { .. } => Piece::new(choice, Vec::new()),
            Progress::Prompt { logprobs } => Piece::new(choice, logprobs),
            Progress::Token { text, reasoning, calls, logprob, .. } => {
                Piece { text, reasoning, calls, ..Piece::new(choice, logprob.into_iter().collect()) }
            }
            Progress::End {
                text,
                reasoning,
                calls,
                logprob,
                finish_reason,
                context_full,
                usage,
                timings,
            } => {
                self.open -= 1;
                self.usage.completion_tokens += usage.completion_tokens;
                self.usage.reasoning_tokens += usage.reasoning_tokens;
                self.usage.drafted_tokens += usage.drafted_tokens;
                self.usage.accepted_tokens += usage.accepted_tokens;
                if choice % self.per_prompt == 0 {
                    self.usage.prompt_tokens += usage.prompt_tokens;
                    self.usage.cached_tokens += usage.cached_tokens;
                }
                let end = Some(End { finish_reason, context_full, usage, timings });
                Piece { text, reasoning, calls, end, ..Piece::new(choice, logprob.into_iter().collect()) }
            }
        }))
    }

    fn beginning(&self, choice: usize) -> &str {
        self.beginnings.get(choice).map_or("", String::as_str)
    }

    /// What a choice begins with.
    fn first(&self, choice: usize) -> Option<Value> {
        match (self.kind, self.beginning(choice)) {
            (Kind::Chat, _) => {
                let mut first = self.piece(choice, json!({ "role": "assistant", "content": "" }), None);
                if self.omitted_messages > 0 {
                    first["omitted_messages"] = self.omitted_messages.into();
                }
                Some(first)
            }
            (Kind::Text, "") => None,
            (Kind::Text, beginning) => Some(self.piece(choice, beginning.into(), None)),
        }
    }

    /// What is sent for a piece.
    fn pieces(&mut self, piece: Piece) -> Vec<String> {
        let Piece { choice, text, reasoning, calls, logprobs, end } = piece;
        let mut objects = Vec::new();
        if !reasoning.is_empty() && self.kind == Kind::Chat {
            let delta = json!({ "reasoning_content": reasoning });
            objects.push(self.piece(choice, delta, None));
        }
        let content = |text: String| match self.kind {
            Kind::Chat => json!({ "content": text }),
            Kind::Text => text.into(),
        };
        if !text.is_empty() {
            objects.push(self.piece(choice, content(text), None));
        }
        for call in calls {
            let delta = json!({ "tool_calls": [call_of(call)] });
            objects.push(self.piece(choice, delta, None));
        }
        // A token may have no text of its own yet.
        if objects.is_empty() && !logprobs.is_empty() {
            objects.push(self.piece(choice, content(String::new()), None));
        }
        if let (Some(last), Some(offset)) = (objects.last_mut(), self.offsets.get_mut(choice)) {
            last["choices"][0]["logprobs"] = logprobs_of(self.kind, &logprobs, offset);
        }
        let mut pieces: Vec<String> = objects.iter().map(Value::to_string).collect();
        if let Some(end) = end {
            let nothing = if self.kind == Kind::Chat { json!({}) } else { "".into() };
            let mut last = self.piece(choice, nothing, Some(&end));
            if self.kind == Kind::Chat {
                last["timings"] = timings_of(&end);
            }
            pieces.push(last.to_string());
            if self.open == 0 && self.include_usage {
                let mut object = self.object("chat.completion.chunk", Vec::new());
                object.insert("usage".into(), self.usage());
                if self.kind == Kind::Chat {
                    object.insert("timings".into(), timings_of(&end));
                }
                pieces.push(Value::from(object).to_string());
            }
        }
        pieces
    }

    fn piece(&self, choice: usize, content: Value, end: Option<&End>) -> Value {
        let name = if self.kind == Kind::Chat { "delta" } else { "text" };
        let mut object = self.object("chat.completion.chunk", vec![choice_of(choice, (name, content), end)]);
        if self.include_usage {
            object.insert("usage".into(), Value::Null);
        }
        object.into()
    }

    /// An object with these choices; a chat's is called `chat_object`.
    fn object(&self, chat_object: &str, choices: Vec<Value>) -> Map<String, Value> {
        let object = if self.kind == Kind::Chat { chat_object } else { "text_completion" };
        Map::from_iter([
            ("id".to_owned(), self.id.clone().into()),
            ("object".to_owned(), object.into()),
            ("created".to_owned(), self.created.into()),
            ("model".to_owned(), self.model.clone().into()),
            ("choices".to_owned(), choices.into()),
        ])
    }

    /// The tokens of all choices that have ended.
    pub fn counts(&self) -> Usage {
        self.usage
    }

    fn usage(&self) -> Value {
        let Usage {
            prompt_tokens,
            completion_tokens,
            cached_tokens,
            reasoning_tokens,
            drafted_tokens,
            accepted_tokens,
            ..
        } = self.usage;
        json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": { "cached_tokens": cached_tokens },
            "completion_tokens_details": {
                "reasoning_tokens": reasoning_tokens,
                "accepted_prediction_tokens": accepted_tokens,
                "rejected_prediction_tokens": drafted_tokens - accepted_tokens,
            },
        })
    }
}

impl Piece {
    /// Without text.
    pub fn new(choice: usize, logprobs: Vec<TokenLogprob>) -> Self {
        Self { choice, text: String::new(), reasoning: String::new(), calls: Vec::new(), logprobs, end: None }
    }
}

/// `logprobs` of a choice; null if none were asked for. `offset` is where the first token begins in the
/// choice's text, in characters, and then where the next one does.
fn logprobs_of(kind: Kind, list: &[TokenLogprob], offset: &mut usize) -> Value {
    if list.is_empty() {
        return Value::Null;
    }
    if kind == Kind::Chat {
        return json!({ "content": list, "refusal": null });
    }
    let offsets = list.iter().map(|token| {
        let begins = *offset;
        *offset += token.token.token.chars().count();
        begins
    });
    let offsets: Vec<usize> = offsets.collect();
    let top = list.iter().map(|token| {
        let chosen = token.logprob.map(|logprob| (token.token.token.clone(), logprob.into()));
        let others = token.top_logprobs.iter().map(|top| (top.token.token.clone(), top.logprob.into()));
        chosen.map(|chosen| others.chain([chosen]).collect::<Map<String, Value>>())
    });
    json!({
        "tokens": list.iter().map(|token| &token.token.token).collect::<Vec<_>>(),
        "token_logprobs": list.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "top_logprobs": top.collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

/// A piece of a call as in OpenAI's API; the first one has the name and an id.
fn call_of(CallDelta { index, name, arguments }: CallDelta) -> Value {
    match name {
        None => json!({ "index": index, "function": { "arguments": arguments } }),
        Some(name) => {
            let function = json!({ "name": name, "arguments": arguments });
            json!({ "index": index, "id": call_id(), "type": "function", "function": function })
        }
    }
}

/// Nine letters and digits: templates of Mistral's models take nothing else.
pub fn call_id() -> String {
    format!("{:09x}", getrandom::u64().unwrap_or(0) >> 28)
}

/// Adds a piece to whole calls.
pub fn add_call(calls: &mut Vec<Value>, call: CallDelta) {
    let Some(last) = calls.last_mut().filter(|_| call.name.is_none()) else {
        let mut call = call_of(call);
        call.as_object_mut().map(|call| call.remove("index"));
        return calls.push(call);
    };
    let before = last["function"]["arguments"].as_str().unwrap_or_default();
    last["function"]["arguments"] = format!("{before}{}", call.arguments).into();
}

fn choice_of(index: usize, (name, content): (&str, Value), end: Option<&End>) -> Value {
    let finish_reason = end.map(|end| end.finish_reason);
    let mut choice = json!({ "index": index, "finish_reason": finish_reason, "logprobs": null });
    choice[name] = content;
    if end.is_some_and(|end| end.context_full) {
        choice["context_full"] = true.into();
    }
    choice
}

fn timings_of(End { usage, timings, .. }: &End) -> Value {
    let rate = |tokens: usize, ms: f64| if ms > 0.0 { tokens as f64 / ms * 1000.0 } else { 0.0 };
    json!({
        "prefill_ms": timings.prefill_ms,
        "decode_ms": timings.decode_ms,
        "prefill_tokens_per_second": rate(usage.prompt_tokens - usage.cached_tokens, timings.prefill_ms),
        // The first token comes out of the prefill.
        "decode_tokens_per_second": rate(usage.completion_tokens.saturating_sub(1), timings.decode_ms),
        "dispatches_per_token": timings.dispatches_per_token,
    })
}
