//! A running answer: which tokens of its prompt and of itself are computed, and what its tokens mean.

mod draft;
mod mask;
mod reasoning;

pub(super) use reasoning::Budget;
use reasoning::spent;

use super::embed::{Pooled, Pooling};
use super::lookup::Lookup;
use super::sampler::Sampler;
use super::{FinishReason, Progress, Request, SequenceId, Timings, TokenLogprob, Usage};
use crate::graph::{Choice, Output};
use crate::text::grammar::{Grammar, GrammarError};
use crate::text::response::{Format, Parts, Separator, Tools};
use crate::text::{Detokenizer, StopMatcher, Tokenizer};
use std::ops::Range;
use web_time::Instant;

/// An answer, from the request to its last token.
#[derive(Debug)]
pub(super) struct Answer {
    pub id: SequenceId,
    /// The prompt and the request's `continue_ids`, as far as the context has room for them; later the tokens
    /// that come before the answer's next one and are known before it.
    prompt: Vec<u32>,
    /// Of them, those whose steps have begun.
    fed: usize,
    /// Steps under way that will choose tokens.
    ahead: usize,
    /// Whether one of them has a draft. There is no other then.
    has_draft: bool,
    pub lookup: Lookup,
    /// The last token of the answer, once there is one.
    last: Option<u32>,
    prompt_tokens: usize,
    cached_tokens: usize,
    completion_tokens: usize,
    max_tokens: usize,
    pub sampler: Sampler,
    /// Alternatives that are named with each token's probability; none if it is not asked for.
    top_logprobs: Option<usize>,
    /// How likely the token is that was picked last.
    picked: Option<TokenLogprob>,
    /// How likely the prompt's tokens are, as far as they are scored, if that was asked for.
    scored: Option<Vec<TokenLogprob>>,
    /// The rows of the embedding that is asked for in place of an answer.
    pooled: Option<Pooled>,
    /// What the answer must be.
    grammar: Option<Grammar>,
    /// Whether the grammar's mask is that of the next token.
    has_mask: bool,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    /// Where the template knows reasoning, or tools may be called.
    separator: Option<Separator>,
    budget: Option<Budget>,
    reasoning_tokens: usize,
    /// Whether it goes on when the context is full.
    pub shifts: bool,
    started: Instant,
    first_token: Option<Instant>,
}

/// What an answer depends on besides the request.
pub(super) struct Beginning<'a> {
    pub id: SequenceId,
    /// The prompt, and the tokens of the request's `continue_ids`.
    pub ids: &'a [u32],
    /// Those of them that are computed: where the context is too short, not all.
    pub feed: Vec<u32>,
    /// A text that the answer is likely to repeat.
    pub prediction: &'a [u32],
    /// Tokens of the prompt alone.
    pub prompt_tokens: usize,
    /// Where the request has no seed.
    pub seed: u64,
    pub tokenizer: &'a Tokenizer,
    /// What the answer must be, after the request's `continue_ids`.
    pub grammar: Option<Grammar>,
    /// How the answer marks its parts.
    pub format: Format,
    /// The tools that it may call.
    pub tools: Tools,
    /// If there is one, how much it may reason.
    pub budget: Option<Budget>,
    /// How its rows become an embedding, if that is asked for.
    pub pooling: Option<Pooling>,
}

impl Answer {
    pub fn new(request: Request, beginning: Beginning) -> Self {
        let Beginning { id, ids, prompt_tokens, seed, .. } = beginning;
        let Beginning { tokenizer, grammar, format, tools, mut budget, pooling, feed, .. } = beginning;
        let spell = &|id| tokenizer.token_bytes(id);
        let shifts = request.shifts();
        let lookup = Lookup::new(ids, beginning.prediction, request.speculate);
        let mut sampler =
            Sampler::new(&request.sampling, &ids[..prompt_tokens], seed, tokenizer.vocab_size(), spell);
        if request.top_logprobs.is_some() {
            sampler.pick_by_host(&request.sampling, &ids[..prompt_tokens], spell);
        }
        // An answer is a text of its own; a raw prompt continues in the middle of one. A grammar says itself
        // where there are spaces, but may allow any text where tools may be called.
        let is_own = request.messages.is_some() && (grammar.is_none() || !tools.is_empty());
        let mut detokenizer = if is_own { Detokenizer::new() } else { Detokenizer::continuing() };
        let mut stop = StopMatcher::new(request.stop, tokenizer);
        let prompt = ids.get(..prompt_tokens).unwrap_or_default();
        let is_single = request.parallel_tool_calls == Some(false);
        let mut separator = (format != Format::default())
            .then(|| Separator::after(format, tokenizer, prompt).with_tools(tools.into(), is_single));
        let mut reasoning_tokens = 0;
        for &id in &request.continue_ids {
            sampler.accept(id, spell);
            reasoning_tokens += spent(budget.as_mut(), separator.as_ref());
            // The text of these tokens has been given out before.
            let (text, _) = stop.push(&text_of(id, tokenizer, &mut detokenizer, separator.as_ref()));
            separated(separator.as_mut(), text);
        }
        Self {
            id,
            prompt: feed,
            fed: 0,
            ahead: 0,
            has_draft: false,
            lookup,
            last: None,
            prompt_tokens,
            cached_tokens: 0,
            completion_tokens: request.continue_ids.len(),
            // Of an embedding, there is only the prompt.
            max_tokens: if pooling.is_some() { 0 } else { request.max_tokens.unwrap_or(usize::MAX) },
            sampler,
            top_logprobs: request.top_logprobs,
            picked: None,
            scored: request.prompt_logprobs.then(|| {
                ids[..prompt_tokens].iter().take(1).map(|id| TokenLogprob::first(*id, tokenizer)).collect()
            }),
            pooled: pooling.map(|pooling| Pooled::new(pooling, request.embedding.unwrap_or(0))),
            grammar,
            has_mask: true,
            detokenizer,
            stop,
            separator,
            budget,
            reasoning_tokens,
            shifts,
            started: Instant::now(),
            first_token: None,
        }
    }

    /// The whole prompt, as long as the answer has no token; none after that.
    pub fn prompt(&self) -> Option<&[u32]> {
        self.first_token.is_none().then_some(self.prompt.as_slice())
    }

    /// Tokens of prompt and answer, at most.
    pub fn most_tokens(&self) -> usize {
        self.prompt.len().saturating_add(self.max_tokens.saturating_sub(self.completion_tokens))
    }

    /// Begins after the first `n` tokens of the prompt, which are in the KV pool.
    pub fn begin(&mut self, n: usize) {
        (self.fed, self.cached_tokens) = (n, n.min(self.prompt_tokens));
        self.started = Instant::now();
    }

    /// What comes before the next token and is still to be computed. Nothing is under way.
    pub fn upcoming(&self) -> &[u32] {
        if self.unfed() > 0 { &self.prompt[self.fed..] } else { self.last.as_slice() }
    }

    /// These are all tokens before the answer's next one. They are computed from the first on.
    pub fn feed_again(&mut self, ids: Vec<u32>) {
        (self.prompt, self.fed) = (ids, 0);
    }

    /// Tokens of the prompt whose steps have not begun.
    pub fn unfed(&self) -> usize {
        self.prompt.len() - self.fed
    }

    /// The prompt's next tokens, for a step that is about to begin.
    pub fn feed(&mut self, n: usize) -> &[u32] {
        self.fed += n;
        &self.prompt[self.fed - n..self.fed]
    }

    /// Whether an embedding is asked for, and no answer.
    pub fn is_embedding(&self) -> bool {
        self.pooled.is_some()
    }

    /// Whether rows of the prompt are read.
    pub fn reads_prompt(&self) -> bool {
        self.scored.is_some() || self.pooled.is_some()
    }

    /// Which of the rows of the prompt's next `n` tokens are read: those that an embedding is made of, or
    /// whose logits score the token after them.
    pub fn to_read(&self, n: usize) -> Range<usize> {
        let wanted = match (&self.pooled, &self.scored) {
            (Some(pooled), _) => pooled.rows(self.prompt_tokens),
            (None, Some(_)) => 0..self.prompt_tokens.saturating_sub(1),
            (None, None) => 0..0,
        };
        let within = |row: usize| row.clamp(self.fed, self.fed + n) - self.fed;
        within(wanted.start)..within(wanted.end)
    }

    /// Takes a row that was read: it is part of the embedding, or scores the prompt's next token.
    pub fn read_row(&mut self, logits: &[f32], tokenizer: &Tokenizer) {
        if let Some(pooled) = &mut self.pooled {
            pooled.add(logits);
        } else if let Some(scored) = &mut self.scored
            && let Some(&id) = self.prompt.get(scored.len())
        {
            scored.push(TokenLogprob::of(id, logits, self.top_logprobs.unwrap_or(0), tokenizer));
        }
    }

    /// The embedding, or how likely the prompt's tokens are, once all its rows are read. `computed` tokens
    /// of the sequence are.
    pub fn told_of_prompt(&mut self, computed: usize) -> Option<Progress> {
        if let Some(pooled) = self.pooled.as_ref().filter(|_| computed >= self.prompt_tokens) {
            return Some(Progress::Embedding {
                embedding: pooled.vector(),
                prompt_tokens: self.prompt_tokens,
            });
        }
        let is_whole = self.scored.as_ref().is_some_and(|scored| scored.len() == self.prompt_tokens);
        let logprobs = if is_whole { self.scored.take() } else { None };
        logprobs.map(|logprobs| Progress::Prompt { logprobs })
    }

    /// Whether a step may compute the answer's last token, which is the next of `n` tokens of its sequence.
    pub fn continues(&self, n: usize, context_length: usize) -> bool {
        // What a grammar allows next depends on the token before, and the host picks a token after a step.
        let may_run_ahead =
            self.grammar.is_none() && !self.sampler.is_by_host() && !self.may_end_reasoning_after(self.ahead);
        let may_run_ahead = may_run_ahead && !self.has_draft;
        let is_known = self.ahead == 0 || may_run_ahead;
        let has_room = n < context_length && self.completion_tokens + self.ahead < self.max_tokens;
        self.unfed() == 0 && has_room && is_known
    }

    /// Whether steps under way will choose tokens.
    pub fn is_ahead(&self) -> bool {
        self.ahead > 0
    }

    /// The answer's last token; none while a step that chooses it is under way.
    pub fn last(&self) -> Option<u32> {
        self.last.filter(|_| self.ahead == 0)
    }

    /// Whether the device always takes the likeliest token.
    fn is_argmax(&self) -> bool {
        self.sampler.is_argmax() && self.grammar.is_none() && !self.sampler.is_by_host()
    }

    /// How the next token is chosen, in a step that is about to begin: [`Output::by_choice`], and the choice.
    pub fn next_choice(&mut self) -> (u32, Choice) {
        self.ahead += 1;
        let masked = u32::from(self.grammar.is_some());
        let choice = Choice { masked, ..self.sampler.choice(self.ahead - 1) };
        let by_choice =
            if self.sampler.is_by_host() { Output::BY_HOST } else { u32::from(!self.is_argmax()) };
        (by_choice, choice)
    }

    /// The token of a step's output: the one that the device chose, or one that is picked here.
    pub fn pick(&mut self, chosen: u32, logits: &[f32], tokenizer: &Tokenizer) -> Result<u32, GrammarError> {
        self.prepare_mask()?;
        let by_host = self.sampler.is_by_host() || self.has_draft && !self.is_argmax();
        let mask = self.grammar.as_ref().map(Grammar::mask);
        let id = match by_host {
            true => self.sampler.pick(logits, mask, &|id| tokenizer.token_bytes(id)),
            false => chosen,
        };
        self.picked = self.top_logprobs.map(|top| TokenLogprob::of(id, logits, top, tokenizer));
        Ok(id)
    }

    /// How much of the prompt is computed, when `computed` tokens of the sequence are; none if the answer has
    /// begun.
    pub fn prefilled(&self, computed: usize) -> Option<Progress> {
        let (done, total) = (computed.min(self.prompt_tokens), self.prompt_tokens);
        self.first_token.is_none().then_some(Progress::Prefill { done, total })
    }

    /// Takes a token that a step has chosen, and those that a grammar leaves no choice about or that end the
    /// reasoning. `room` is how many more the context has room for. Tells whether there were such tokens:
    /// they are then fed like a prompt.
    pub fn take(
        &mut self,
        id: u32,
        tokenizer: &Tokenizer,
        room: usize,
        dispatches: usize,
        events: &mut Vec<Progress>,
    ) -> Result<bool, GrammarError> {
        // All tokens after a draft come from one step.
        self.ahead = self.ahead.saturating_sub(1);
        if self.grammar.as_ref().is_some_and(|grammar| !grammar.allows(id)) {
            return Err(GrammarError::Token(id));
        }
        self.append(id, tokenizer, room == 0, dispatches, events)?;
        if has_ended(events) {
            return Ok(false);
        }
        let forced = match &mut self.grammar {
            // Where probabilities are asked for, each token is picked from its own logits.
            Some(_) if self.top_logprobs.is_some() => Vec::new(),
            Some(grammar) => grammar.forced(),
            None => Vec::new(),
        };
        let forced = if forced.is_empty() { self.end_of_reasoning() } else { forced };
        for (i, &id) in forced.iter().enumerate() {
            self.append(id, tokenizer, room == i + 1, dispatches, events)?;
            if has_ended(events) {
                return Ok(false);
            }
        }
        if !forced.is_empty() {
            self.prompt = [&[id], &forced[..]].concat();
            self.fed = 0;
        }
        Ok(!forced.is_empty())
    }

    /// Appends a token to the answer. It is the last one if the context is full.
    fn append(
        &mut self,
        id: u32,
        tokenizer: &Tokenizer,
        context_full: bool,
        dispatches: usize,
        events: &mut Vec<Progress>,
    ) -> Result<(), GrammarError> {
        if self.first_token.is_none() {
            self.first_token = Some(Instant::now());
            self.lookup.prompt_took(self.started.elapsed());
        }
        self.sampler.accept(id, &|id| tokenizer.token_bytes(id));
        self.lookup.push(id);
        self.completion_tokens += 1;
        self.last = Some(id);
        self.reasoning_tokens += spent(self.budget.as_mut(), self.separator.as_ref());
        let is_end = tokenizer.stop_ids().contains(&id) || self.stop.is_stop_token(id);
        let mut is_complete = false;
        if let Some(grammar) = self.grammar.as_mut().filter(|_| !is_end) {
            self.has_mask = false;
            grammar.accept(id)?;
            is_complete = grammar.is_complete();
        }
        events.push(self.progress(id, tokenizer, is_end, is_complete, context_full, dispatches));
        Ok(())
    }

    fn progress(
        &mut self,
        id: u32,
        tokenizer: &Tokenizer,
        is_end: bool,
        is_complete: bool,
        context_full: bool,
        dispatches: usize,
    ) -> Progress {
        let piece = match is_end {
            true => self.detokenizer.flush(),
            false => text_of(id, tokenizer, &mut self.detokenizer, self.separator.as_ref()),
        };
        let (mut text, stopped) = self.stop.push(&piece);
        if is_end {
            text.push_str(&self.stop.flush());
            self.picked = None;
        }
        if is_end || stopped {
            return self.end(text, FinishReason::Stop, false, dispatches);
        }
        if is_complete {
            let held = self.detokenizer.flush();
            text.push_str(&self.stop.push(&held).0);
            text.push_str(&self.stop.flush());
            return self.end(text, FinishReason::Stop, false, dispatches);
        }
        if context_full || self.completion_tokens >= self.max_tokens {
            let held = self.detokenizer.flush();
            text.push_str(&self.stop.push(&held).0);
            text.push_str(&self.stop.flush());
            return self.end(text, FinishReason::Length, context_full, dispatches);
        }
        let parts = separated(self.separator.as_mut(), text);
        if self.separator.as_ref().is_some_and(Separator::is_complete) {
            return self.end_with(parts, FinishReason::Stop, false, dispatches);
        }
        let Parts { content, reasoning, calls } = parts;
        Progress::Token { id, text: content, reasoning, calls, logprob: self.picked.take() }
    }

    fn end(
        &mut self,
        text: String,
        finish_reason: FinishReason,
        context_full: bool,
        dispatches: usize,
    ) -> Progress {
        let parts = separated(self.separator.as_mut(), text);
        self.end_with(parts, finish_reason, context_full, dispatches)
    }

    fn end_with(
        &mut self,
        mut parts: Parts,
        finish_reason: FinishReason,
        context_full: bool,
        dispatches: usize,
    ) -> Progress {
        let first = self.first_token.unwrap_or(self.started);
        parts.append(self.separator.as_mut().map(Separator::flush).unwrap_or_default());
        let has_calls = self.separator.as_ref().is_some_and(|separator| separator.n_calls() > 0);
        let finish_reason = match finish_reason {
            FinishReason::Stop if has_calls => FinishReason::ToolCalls,
            other => other,
        };
        Progress::End {
            text: parts.content,
            reasoning: parts.reasoning,
            calls: parts.calls,
            logprob: self.picked.take(),
            finish_reason,
            context_full,
            usage: Usage {
                prompt_tokens: self.prompt_tokens,
                completion_tokens: self.completion_tokens,
                total_tokens: self.prompt_tokens + self.completion_tokens,
                cached_tokens: self.cached_tokens,
                reasoning_tokens: self.reasoning_tokens,
                drafted_tokens: self.lookup.drafted,
                accepted_tokens: self.lookup.accepted,
            },
            timings: Timings {
                prefill_ms: first.duration_since(self.started).as_secs_f64() * 1e3,
                decode_ms: first.elapsed().as_secs_f64() * 1e3,
                dispatches_per_token: dispatches,
            },
        }
    }
}

/// The text of a token; that of a control token, if it belongs to a marker.
fn text_of(
    id: u32,
    tokenizer: &Tokenizer,
    detokenizer: &mut Detokenizer,
    separator: Option<&Separator>,
) -> String {
    match separator.and_then(|separator| separator.spelling(tokenizer, id)) {
        Some(spelled) => detokenizer.flush() + &spelled,
        None => detokenizer.push(tokenizer, id),
    }
}

fn separated(separator: Option<&mut Separator>, text: String) -> Parts {
    match separator {
        Some(separator) => separator.push(&text),
        None => Parts { content: text, ..Parts::default() },
    }
}

fn has_ended(events: &[Progress]) -> bool {
    events.last().is_some_and(Progress::is_last)
}
