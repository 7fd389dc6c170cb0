//! Models that run: sequences that share the weights on a device and a KV pool, and the requests that they
//! answer.

mod adapters;
mod answer;
mod cache;
mod device;
mod draft_model;
mod embed;
mod error;
mod inspection;
mod kept;
mod loading;
mod logprobs;
mod lookup;
mod mix;
mod overflow;
mod pace;
mod pool;
mod quantization;
mod recommended;
mod request;
mod sampler;
mod scheduler;
mod sequence;
mod speed;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
mod tools;
mod training;

#[cfg(feature = "cpu")]
pub use device::cpu_kernels;
pub use device::{Device, DeviceModel, SlotState};
pub use embed::Pooling;
pub use error::Error;
pub use inspection::{Inspection, Problem, inspect};
pub use kept::PromptPages;
pub use loading::{Headers, LoadOptions, Loading, ModelInfo};
pub use logprobs::{MAX_TOP_LOGPROBS, Spelled, TokenLogprob, TopLogprob};
pub use overflow::ContextOverflow;
pub use recommended::Recommended;
pub use request::{
    AdapterUse, CallDelta, Event, FinishReason, GrammarText, Message, NamedSchema, Progress, Prompt, Request,
    ResponseFormat, SequenceId, Started, Timings, ToolChoice, Usage, Variables, read_json,
};
pub use sampler::Sampling;
pub use speed::{Speed, measure_speed};

use crate::graph::Output;
use crate::text::grammar::{Constraint, Grammar, GrammarError, Grammars, grammars_of};
use crate::text::response::Format;
use crate::text::{ChatTemplate, Tokenizer, ToolUse};
use adapters::Adapters;
use answer::{Answer, Beginning, Budget};
use draft_model::DraftModel;
use scheduler::{Scheduler, UnderWay, Waiting};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::Arc;

/// A loaded model.
pub struct Engine<D: Device> {
    model: D::Model,
    /// Guesses what the model will say.
    draft: Option<DraftModel<D::Model>>,
    tokenizer: Arc<Tokenizer>,
    /// From the first constraint on.
    grammars: Option<Grammars>,
    template: Option<ChatTemplate>,
    /// How its answers mark their reasoning.
    format: Format,
    /// How its template handles tools; none without a template.
    tool_use: Option<ToolUse>,
    /// How rows become an embedding.
    pooling: Pooling,
    /// The number of the model without its head, from the first embedding on.
    embedder: Option<u32>,
    info: ModelInfo,
    /// See `kept.rs`.
    page_root: kept::Name,
    scheduler: Scheduler,
    adapters: Adapters,
    /// Events of steps that are done, for the next calls of [`Self::advance`].
    events: VecDeque<Event>,
    /// Requests so far.
    n_requests: u64,
}

/// How likely the tokens of a sequence are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// ln p(ids[i+1] | ids[..=i]), one less than there are tokens.
    pub logprobs: Vec<f32>,
    /// The likeliest token in each of those places.
    pub top: Vec<u32>,
}

impl<D: Device> Engine<D> {
    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Takes up a request. Computes nothing yet: it waits for its turn, which comes when a sequence is free
    /// and the KV pool has room for it.
    pub fn start(&mut self, mut request: Request) -> Result<Started, Error> {
        request.sampling.check()?;
        let n_vocab = self.info.vocab_size;
        if let Some(id) = request.sampling.logit_bias.keys().find(|id| **id as usize >= n_vocab) {
            let message = format!("`logit_bias.{id}`: the vocabulary has {n_vocab} tokens, numbered from 0");
            return Err(Error::InvalidRequest(message));
        }
        if request.top_logprobs.is_some_and(|top| top > MAX_TOP_LOGPROBS) {
            let message = format!("`top_logprobs`: at most {MAX_TOP_LOGPROBS} alternatives are given");
            return Err(Error::InvalidRequest(message));
        }
        let tools = request.callable()?;
        let (mut ids, omitted_messages) = self.fitting_prompt(&request, tools.is_some())?;
        let prompt_tokens = ids.len();
        self.check_ids(&request.continue_ids)?;
        let constraint = self.constraint(&request, tools.as_ref(), &ids)?;
        let is_constrained = constraint.is_some();
        // What a grammar allows besides calls is content.
        let may_reason = !is_constrained || tools.is_some();
        let budget = if may_reason { self.budget(&request)? } else { None };
        if let Some(Budget { left: 0, ending }) = &budget
            && self.format.opens_reasoning(&self.tokenizer, &ids)
        {
            // The prompt has opened a reasoning that must be empty.
            request.continue_ids.splice(0..0, ending.iter().copied());
        }
        let feed = self.with_answer(&request, ids.clone());
        ids.extend_from_slice(&request.continue_ids);
        if ids.is_empty() {
            return Err(Error::InvalidRequest("the prompt is empty".into()));
        }
        self.check_length(&feed)?;
        if request.max_tokens == Some(0) {
            return Err(Error::InvalidRequest("max_tokens is 0".into()));
        }
        let prediction = match &request.prediction {
            Some(text) => self.tokenizer.encode_middle(text)?,
            None => Vec::new(),
        };
        let grammar = match (constraint, &tools) {
            (Some(constraint), Some(tools)) => Some(self.grammar_of_calls(&constraint, tools, &request)?),
            (Some(constraint), None) => Some(self.grammar(&constraint, &request.continue_ids)?),
            (None, _) => None,
        };
        let uses = self.uses(&request)?;
        let pooling = self.pooling_of(&request, &uses)?;
        let adapters = self.parts_of(&uses)?;
        self.n_requests += 1;
        let id = SequenceId(self.n_requests);
        let seed = getrandom::u64().unwrap_or(0);
        let format = self.format_of(&request, tools.is_some(), is_constrained);
        let (tokenizer, tools) = (&self.tokenizer, tools.unwrap_or_default());
        let answer = Answer::new(
            request,
            Beginning {
                id,
                ids: &ids,
                feed,
                prediction: &prediction,
                prompt_tokens,
                seed,
                tokenizer,
                grammar,
                format,
                tools,
                budget,
                pooling,
            },
        );
        self.scheduler.waiting.push_back(Waiting { answer, adapters });
        Ok(Started { sequence: id, prompt_tokens, omitted_messages })
    }

    /// Gives sequences to requests that wait, the first first, as long as there is room. A request fails if
    /// its adapters cannot be made ready.
    fn admit(&mut self) -> Result<(), Error> {
        while let Some(Waiting { answer, adapters }) = self.scheduler.next_waiting() {
            let set = if answer.is_embedding() {
                self.embedder()?
            } else {
                let set = self.set_of(adapters)?;
                self.mix(set);
                set
            };
            self.scheduler.claim(set, answer, &mut self.model);
        }
        Ok(())
    }

    /// What the answer must be, after the tokens that it already has.
    fn grammar(&mut self, constraint: &Constraint, continue_ids: &[u32]) -> Result<Grammar, Error> {
        let grammars = match self.grammars.take() {
            Some(grammars) => grammars,
            None => grammars_of(&self.tokenizer)?,
        };
        let mut grammar = self.grammars.insert(grammars).compile(constraint)?;
        for id in continue_ids {
            grammar.accept(*id).map_err(|error| match error {
                GrammarError::Token(id) => {
                    Error::InvalidRequest(format!("continue_ids: token {id} does not fit the constraint"))
                }
                other => other.into(),
            })?;
        }
        grammar.prepare()?;
        Ok(grammar)
    }

    /// How much an answer may reason; none: as much as it likes.
    fn budget(&self, request: &Request) -> Result<Option<Budget>, Error> {
        let (Some(left), Some(reasoning)) = (request.thinking_token_budget, &self.format.reasoning) else {
            return Ok(None);
        };
        if request.messages.is_none() {
            return Ok(None);
        }
        Ok(Some(Budget { left, ending: self.tokenizer.encode_middle(&reasoning.ending())? }))
    }

    fn prompt_ids(&self, request: &Request, has_tools: bool) -> Result<Vec<u32>, Error> {
        let no_infill =
            || Error::InvalidRequest("`suffix`: this model has no tokens to fill in the middle".into());
        match (&request.messages, &request.prompt, &request.suffix) {
            (Some(messages), None, None) => self.chat_ids(request, messages, has_tools),
            (None, Some(Prompt::Text(prompt)), None) => Ok(self.tokenizer.encode(prompt, true)?),
            (None, Some(Prompt::Text(prompt)), Some(suffix)) => {
                self.tokenizer.encode_infill(prompt, suffix)?.ok_or_else(no_infill)
            }
            (None, Some(Prompt::Ids(ids)), None) => {
                self.check_ids(ids)?;
                Ok(ids.clone())
            }
            (_, _, Some(_)) => Err(Error::InvalidRequest("`suffix` needs a prompt that is a text".into())),
            _ => Err(Error::InvalidRequest("a request has either messages or a prompt".into())),
        }
    }

    /// The next event of any sequence; waits for a step of the device if there is none yet. An error of the
    /// device ends all answers, one of a constraint ([`Error::Grammar`]) or of adapters only its own:
    /// [`Self::is_running`] tells which are left. The future may be dropped: the next call continues.
    pub async fn advance(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            self.admit()?;
            if self.scheduler.sequences.iter().all(|sequence| sequence.answer.is_none()) {
                return Err(Error::InvalidRequest("nothing is running".into()));
            }
            match self.step().await {
                Ok(step) => self.collect(&step)?,
                Err(error) => {
                    self.scheduler.end_answers();
                    return Err(error);
                }
            }
        }
    }

    /// Begins the steps that can begin, and waits for the oldest.
    async fn step(&mut self) -> Result<UnderWay, Error> {
        if self.guess().await? {
            self.scheduler.begin_steps(&mut self.model)?;
        }
        let step = self.scheduler.result(&mut self.model).await?;
        step.ok_or_else(|| Error::InvalidRequest("an answer has no step".into()))
    }

    /// Takes the results of a step. Those for answers that have ended since are dropped. An answer whose
    /// constraint fails ends; the first such error is returned.
    fn collect(&mut self, step: &UnderWay) -> Result<(), Error> {
        let dispatches = self.model.dispatches();
        let mut failed = Ok(());
        for share in &step.shares {
            let sequence = &mut self.scheduler.sequences[share.sequence];
            let mut end = share.end - share.n_draft;
            let draft = sequence.ids(end..share.end).to_vec();
            let Some(answer) = sequence.answer.as_mut().filter(|answer| Some(answer.id) == share.answer)
            else {
                continue;
            };
            let id = answer.id;
            let mut events = Vec::new();
            for output in share.read.clone() {
                answer.read_row(self.model.logits(output), &self.tokenizer);
            }
            events.extend(answer.told_of_prompt(share.end));
            let mut chosen = None;
            let mut result = Ok(false);
            for (i, output) in
                share.output.iter().flat_map(|first| *first..=first + share.n_draft).enumerate()
            {
                let Some(of_device) = self.model.chosen().get(output) else { break };
                let picked = match answer.pick(of_device.id, self.model.logits(output), &self.tokenizer) {
                    Ok(picked) => picked,
                    Err(error) => {
                        result = Err(error);
                        break;
                    }
                };
                let room = match answer.shifts {
                    true => usize::MAX,
                    false => self.info.context_length.saturating_sub(end),
                };
                chosen = Some(picked);
                let is_right = draft.get(i) == Some(&picked);
                answer.lookup.accepted += usize::from(is_right);
                result = answer.take(picked, &self.tokenizer, room, dispatches, &mut events);
                let goes_on = matches!(result, Ok(false)) && !events.last().is_some_and(Progress::is_last);
                if !goes_on || !is_right {
                    break;
                }
                end += 1;
            }
            match chosen {
                Some(_) => {
                    let gains = self.draft.as_mut().map(|draft| &mut draft.gains);
                    answer.end_step(end + share.n_draft + 1 - share.end, gains);
                }
                // Nothing comes after an embedding.
                None if events.is_empty() => events.extend(answer.prefilled(share.end)),
                None => {}
            }
            let has_forced = matches!(result, Ok(true));
            if share.n_draft > 0 {
                sequence.shorten(end, &mut self.scheduler.cache);
            }
            sequence.set_computed(end, chosen, &mut self.scheduler.cache);
            if result.is_err() || events.last().is_some_and(Progress::is_last) {
                sequence.end(&mut self.scheduler.cache);
            } else if chosen.is_some() {
                sequence.shift(self.info.context_length, &mut self.scheduler.cache);
            }
            self.events.extend(events.into_iter().map(|progress| Event { sequence: id, progress }));
            if has_forced || share.n_draft > 0 {
                // The device counts only the tokens that it chose.
                self.scheduler.set_slot(share.sequence, &mut self.model);
            }
            failed = failed.and(result.map(drop));
        }
        Ok(failed?)
    }

    /// Whether an answer has not ended, or has events that [`Self::advance`] has not given out yet.
    pub fn is_running(&self, id: SequenceId) -> bool {
        self.events.iter().any(|event| event.sequence == id)
            || self.scheduler.answers().any(|answer| answer.id == id)
    }

    /// Ends an answer, if it is running or waits for its turn. Its computed tokens stay, for prompts that
    /// begin alike.
    pub fn cancel(&mut self, id: SequenceId) {
        self.events.retain(|event| event.sequence != id);
        self.scheduler.end_answer(id);
    }

    /// Ends all answers.
    pub fn cancel_all(&mut self) {
        self.events.clear();
        self.scheduler.end_answers();
    }

    /// Log-probabilities of a token sequence, in chunks as in prefill or, with `one_by_one`, in single tokens
    /// as in decoding. All answers end. Computes all tokens again, also those in the KV pool.
    pub async fn score(&mut self, ids: &[u32], one_by_one: bool) -> Result<Score, Error> {
        self.score_with(ids, one_by_one, &[]).await
    }

    /// The same with adapters.
    pub async fn score_with(
        &mut self,
        ids: &[u32],
        one_by_one: bool,
        adapters: &[AdapterUse],
    ) -> Result<Score, Error> {
        self.check_ids(ids)?;
        self.check_length(ids)?;
        self.cancel_all();
        self.scheduler.drain(&mut self.model).await?;
        let set = self.set_of(self.parts_of(adapters)?)?;
        self.scheduler.clear_first(set);
        let score = self.score_chunks(ids, one_by_one).await;
        self.scheduler.end_answers();
        score
    }

    async fn score_chunks(&mut self, ids: &[u32], one_by_one: bool) -> Result<Score, Error> {
        let capacity = self.model.capacity();
        let chunk = if one_by_one { 1 } else { capacity.tokens.min(capacity.outputs) as usize };
        let mut score = Score::default();
        for (i, rows) in ids.chunks(chunk).enumerate() {
            // The last token predicts nothing that is asked for.
            let targets = ids[i * chunk + 1..].iter().take(rows.len());
            let outputs = (0..).zip(targets).map(|(row, target)| Output::likeliest(row, *target));
            self.scheduler.begin_score(&mut self.model, rows, outputs)?;
            if let Some(step) = self.scheduler.result(&mut self.model).await? {
                self.scheduler.end_score(&step);
            }
            for chosen in self.model.chosen() {
                score.logprobs.push(chosen.target_logprob());
                score.top.push(chosen.id);
            }
        }
        Ok(score)
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), Error> {
        match ids.iter().find(|id| **id as usize >= self.info.vocab_size) {
            Some(id) => Err(Error::InvalidRequest(format!("there is no token {id}"))),
            None => Ok(()),
        }
    }

    fn check_length(&self, ids: &[u32]) -> Result<(), Error> {
        let (needed, limit) = (ids.len(), self.info.context_length);
        if needed > limit { Err(Error::ContextLength { needed, limit }) } else { Ok(()) }
    }
}
