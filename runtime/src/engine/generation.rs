//! One answer: prompt in, events out, one a step of the device, so that a caller can stop between any two.
//!
//! Where it pays, steps are begun before the results of those before are known: the device feeds the token that it chose to the next step
//! itself. What it computes past an answer's end is forgotten.

use super::sampler::Sampler;
use super::{Engine, Error, Sampling};
use crate::graph::{Feed, Output, Want};
pub use crate::text::Message;
use crate::text::{Detokenizer, StopMatcher};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use web_time::Instant;

/// What to answer, and how.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Request {
    /// A conversation, put into words by the model's chat template.
    pub messages: Option<Vec<Message>>,
    /// Or a raw text to go on with.
    pub prompt: Option<String>,
    /// Tokens of the answer at most; default: until the context is full.
    pub max_tokens: Option<usize>,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// Tokens that this answer already has: it goes on after them as if it had never been interrupted.
    pub continue_ids: Vec<u32>,
    /// How tokens are chosen.
    #[serde(skip)]
    pub sampling: Sampling,
}

impl Request {
    /// Reads a request whose sampling settings stand beside the other fields.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let invalid = |e: serde_json::Error| Error::InvalidRequest(format!("malformed request: {e}"));
        let sampling = serde_json::from_str(json).map_err(invalid)?;
        Ok(Self { sampling, ..serde_json::from_str(json).map_err(invalid)? })
    }
}

/// What [`Engine::start`] found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Started {
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
    /// Of the prompt.
    pub prompt_tokens: usize,
    /// Of the answer, its end-of-turn token included.
    pub completion_tokens: usize,
    /// Both.
    pub total_tokens: usize,
    /// Of the prompt, those that needed no computing.
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

/// What one step brought.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Part of the prompt is computed.
    Prefill {
        /// Tokens of the prompt that are done.
        done: usize,
        /// All of them.
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
        /// What was held back.
        text: String,
        /// Why.
        finish_reason: FinishReason,
        /// The context had no room for another token.
        context_full: bool,
        /// Tokens.
        usage: Usage,
        /// Times.
        timings: Timings,
    },
}

/// A running answer.
pub(super) struct Generation {
    /// Tokens of the prompt that are to be computed.
    prompt: Vec<u32>,
    /// Of them, those whose steps have begun.
    fed: usize,
    /// Steps that have begun, the oldest first.
    under_way: VecDeque<UnderWay>,
    /// Tokens of the sequence that are known and computed.
    known: usize,
    /// The last token of the answer, once there is one.
    last: Option<u32>,
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
    max_tokens: usize,
    sampler: Sampler,
    argmax: bool,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    started: Instant,
    first_token: Option<Instant>,
}

/// A step that has begun.
struct UnderWay {
    /// Tokens of the sequence at its end.
    end: usize,
    /// Rows of the prompt; none where it computes the answer's last token.
    prompt_rows: usize,
    /// Whether it brings a token.
    is_token: bool,
    begun: Instant,
}

impl Engine {
    /// Takes up a request; a running one is dropped. Computes nothing yet.
    pub fn start(&mut self, request: Request) -> Result<Started, Error> {
        self.cancel();
        request.sampling.check()?;
        let mut ids = self.prompt_ids(&request)?;
        let prompt_tokens = ids.len();
        self.check_ids(&request.continue_ids)?;
        ids.extend_from_slice(&request.continue_ids);
        let limit = self.info.context_length;
        if ids.is_empty() {
            return Err(Error::InvalidRequest("the prompt is empty".into()));
        }
        if ids.len() > limit {
            return Err(Error::ContextLength { needed: ids.len(), limit });
        }
        if request.max_tokens == Some(0) {
            return Err(Error::InvalidRequest("max_tokens is 0".into()));
        }
        // At least one token must run, for its logits.
        let cached = self.sequence.common_prefix(&ids).min(ids.len() - 1);
        self.sequence.truncate(cached, &mut self.pool);

        let argmax = request.sampling.is_argmax();
        let seed = getrandom::u64().unwrap_or(0);
        let n_vocab = self.info.vocab_size;
        let mut sampler = Sampler::new(&request.sampling, &ids[..prompt_tokens], seed, n_vocab);
        // An answer is a text of its own; a raw prompt goes on in the middle of one.
        let is_chat = request.messages.is_some();
        let mut detokenizer = if is_chat { Detokenizer::new() } else { Detokenizer::continuing() };
        let mut stop = StopMatcher::new(request.stop);
        for &id in &request.continue_ids {
            sampler.accept(id);
            // What these tokens say has been said.
            let text = detokenizer.push(&self.tokenizer, id);
            stop.push(&text);
        }
        if !argmax && self.backend.chooses() {
            self.backend.adjust(&sampler);
        }
        let cached_tokens = cached.min(prompt_tokens);
        self.running = Some(Generation {
            prompt: ids.split_off(cached),
            fed: 0,
            under_way: VecDeque::new(),
            known: cached,
            last: None,
            prompt_tokens,
            cached_tokens,
            completion_tokens: request.continue_ids.len(),
            max_tokens: request.max_tokens.unwrap_or(usize::MAX),
            sampler,
            argmax,
            detokenizer,
            stop,
            started: Instant::now(),
            first_token: None,
        });
        Ok(Started { prompt_tokens, cached_tokens })
    }

    fn prompt_ids(&self, request: &Request) -> Result<Vec<u32>, Error> {
        match (&request.messages, &request.prompt) {
            (Some(messages), None) => {
                let template = self.template.as_ref().ok_or_else(|| {
                    Error::InvalidRequest(
                        "this is a base model without a chat template: give it a raw `prompt`".into(),
                    )
                })?;
                Ok(template.encode_chat(&self.tokenizer, messages)?)
            }
            (None, Some(prompt)) => Ok(self.tokenizer.encode(prompt, true)?),
            _ => Err(Error::InvalidRequest("a request has either messages or a prompt".into())),
        }
    }

    /// Waits for one step of the device: a chunk of the prompt, or one token.
    pub async fn advance(&mut self) -> Result<Event, Error> {
        let mut running =
            self.running.take().ok_or_else(|| Error::InvalidRequest("nothing is running".into()))?;
        let event = self.advance_with(&mut running).await;
        if matches!(event, Ok(Event::Prefill { .. } | Event::Token { .. })) {
            self.running = Some(running);
        } else {
            self.sequence.truncate(running.known, &mut self.pool);
        }
        event
    }

    /// Drops the running answer, if any; what it computed stays for prompts that begin alike.
    pub fn cancel(&mut self) {
        if let Some(running) = self.running.take() {
            self.sequence.truncate(running.known, &mut self.pool);
        }
    }

    async fn advance_with(&mut self, g: &mut Generation) -> Result<Event, Error> {
        if g.under_way.is_empty() {
            // Of an answer that ended while steps were under way.
            self.backend.drain().await?;
        }
        while g.under_way.len() < self.depth(g) && self.begin_step(g)? {}
        let Some(step) = g.under_way.pop_front() else {
            return Err(Error::InvalidRequest("an answer without a step".into()));
        };
        self.backend.result().await?;
        g.known = step.end;
        if step.prompt_rows > 0 {
            self.pace.ended(step.prompt_rows, step.begun);
        }
        if !step.is_token {
            let done = g.known.min(g.prompt_tokens);
            return Ok(Event::Prefill { done, total: g.prompt_tokens });
        }
        g.first_token.get_or_insert_with(Instant::now);
        let id = match self.backend.best().first() {
            _ if self.host_chooses(g) => g.sampler.choose(self.backend.logits()),
            Some(best) => best.id,
            None => return Err(Error::InvalidRequest("a step brought no result".into())),
        };
        // The step that it is fed to may have begun.
        self.sequence.set(g.known, id);
        g.sampler.accept(id);
        g.completion_tokens += 1;
        g.last = Some(id);
        Ok(self.take(g, id))
    }

    fn host_chooses(&self, g: &Generation) -> bool {
        !g.argmax && !self.backend.chooses()
    }

    /// Steps that may be under way.
    fn depth(&self, g: &Generation) -> usize {
        if self.host_chooses(g) { 1 } else { self.backend.depth() }
    }

    /// Begins the answer's next step if there is one to begin.
    fn begin_step(&mut self, g: &mut Generation) -> Result<bool, Error> {
        let tokens_ahead = g.under_way.iter().filter(|step| step.is_token).count();
        let rows = self.pace.rows().min(g.prompt.len() - g.fed);
        let is_token = g.fed + rows == g.prompt.len();
        self.outputs.clear();
        if is_token {
            self.outputs.push(Output { row: rows.max(1) as u32 - 1, target: 0 });
        }
        let want = match is_token && !g.argmax {
            true if self.host_chooses(g) => Want::Logits,
            true => Want::Choice(g.sampler.choice(tokens_ahead)),
            false => Want::Best,
        };
        let begun = Instant::now();
        if rows > 0 {
            self.submit(&g.prompt[g.fed..g.fed + rows], want, Feed::Host)?;
            g.fed += rows;
        } else {
            let is_full = self.sequence.len() >= self.info.context_length;
            if is_full || g.completion_tokens + tokens_ahead >= g.max_tokens {
                return Ok(false);
            }
            let feed = if tokens_ahead > 0 { Feed::Previous } else { Feed::Host };
            self.submit(&[g.last.filter(|_| feed == Feed::Host).unwrap_or(0)], want, feed)?;
        }
        let end = self.sequence.len();
        g.under_way.push_back(UnderWay { end, prompt_rows: rows, is_token, begun });
        Ok(true)
    }

    /// What a chosen token means for the answer.
    fn take(&self, g: &mut Generation, id: u32) -> Event {
        if self.tokenizer.stop_ids().contains(&id) {
            let held = g.detokenizer.flush();
            let (mut text, _) = g.stop.push(&held);
            text.push_str(&g.stop.flush());
            return self.end(g, text, FinishReason::Stop, false);
        }
        let piece = g.detokenizer.push(&self.tokenizer, id);
        let (mut text, stopped) = g.stop.push(&piece);
        if stopped {
            return self.end(g, text, FinishReason::Stop, false);
        }
        let context_full = g.known >= self.info.context_length;
        if context_full || g.completion_tokens >= g.max_tokens {
            let held = g.detokenizer.flush();
            text.push_str(&g.stop.push(&held).0);
            text.push_str(&g.stop.flush());
            return self.end(g, text, FinishReason::Length, context_full);
        }
        Event::Token { id, text }
    }

    fn end(&self, g: &Generation, text: String, finish_reason: FinishReason, context_full: bool) -> Event {
        let first = g.first_token.unwrap_or(g.started);
        Event::End {
            text,
            finish_reason,
            context_full,
            usage: Usage {
                prompt_tokens: g.prompt_tokens,
                completion_tokens: g.completion_tokens,
                total_tokens: g.prompt_tokens + g.completion_tokens,
                cached_tokens: g.cached_tokens,
            },
            timings: Timings {
                prefill_ms: first.duration_since(g.started).as_secs_f64() * 1e3,
                decode_ms: first.elapsed().as_secs_f64() * 1e3,
                dispatches_per_token: self.backend.dispatches(),
            },
        }
    }
}
