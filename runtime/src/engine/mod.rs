//! Models that run: weights on a device, the KV pool, one live sequence with prefix reuse, and generation.

mod backend;
mod error;
mod generation;
mod loading;
mod pace;
mod pool;
mod sampler;

pub use backend::{Device, DeviceInfo};
pub use error::Error;
pub use generation::{Event, FinishReason, Message, Request, Started, Timings, Usage};
pub use loading::{LoadOptions, Loading, ModelInfo};
pub use sampler::Sampling;

use crate::graph::{Feed, Output, Step, Token, Want};
use crate::text::{ChatTemplate, Tokenizer};
use backend::Backend;
use generation::Generation;
use pace::Pace;
use pool::{Pool, Sequence};
use serde::Serialize;

/// A loaded model.
pub struct Engine {
    backend: Backend,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    info: ModelInfo,
    pool: Pool,
    /// What the KV pool holds; the next prompt continues it where it begins alike.
    sequence: Sequence,
    running: Option<Generation>,
    pace: Pace,
    /// Rows of the step being put together.
    rows: Vec<Token>,
    outputs: Vec<Output>,
}

/// What [`Engine::score`] says of a token sequence.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// ln p(ids[i+1] | ids[..=i]), one less than there are tokens.
    pub logprobs: Vec<f32>,
    /// The likeliest token in each of those places.
    pub top: Vec<u32>,
}

impl Engine {
    /// What was loaded.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Dispatches of the last step.
    pub fn dispatches(&self) -> usize {
        self.backend.dispatches()
    }

    /// Log-probabilities of a token sequence, in prefill chunks or, with `one_by_one`, as decoding sees it. Starts afresh: nothing
    /// of what the KV pool holds is used, and a running generation ends.
    pub async fn score(&mut self, ids: &[u32], one_by_one: bool) -> Result<Score, Error> {
        self.check_ids(ids)?;
        if ids.len() > self.info.context_length {
            return Err(Error::ContextLength { needed: ids.len(), limit: self.info.context_length });
        }
        self.cancel();
        self.backend.drain().await?;
        self.sequence.truncate(0, &mut self.pool);
        let capacity = self.backend.capacity();
        let chunk = if one_by_one { 1 } else { capacity.tokens.min(capacity.outputs) as usize };
        let mut score = Score::default();
        for (at, chunk) in ids.chunks(chunk).enumerate().map(|(i, c)| (i * chunk, c)) {
            // The last token predicts nothing that is asked for.
            let targets = ids[at + 1..].iter().take(chunk.len());
            self.outputs.clear();
            self.outputs.extend(targets.enumerate().map(|(row, &target)| Output { row: row as u32, target }));
            self.submit(chunk, Want::Best, Feed::Host)?;
            if let Err(error) = self.backend.result().await {
                self.sequence.truncate(at, &mut self.pool);
                return Err(error);
            }
            for best in self.backend.best() {
                score.logprobs.push(best.target_logprob());
                score.top.push(best.id);
            }
        }
        Ok(score)
    }

    /// Appends tokens to the sequence, at most a chunk of them, and begins a step with the outputs that were put down before.
    fn submit(&mut self, ids: &[u32], want: Want, feed: Feed) -> Result<(), Error> {
        let first = self.sequence.len();
        self.sequence.extend(ids, &mut self.pool)?;
        self.rows.clear();
        self.rows.extend(ids.iter().enumerate().map(|(i, &id)| {
            let position = (first + i) as u32;
            Token { id, position, sequence: 0, cell: self.sequence.cell(position) }
        }));
        let step = Step {
            tokens: &self.rows,
            outputs: &self.outputs,
            pages: self.sequence.pages(),
            max_pages: self.backend.capacity().max_pages,
        };
        let result = self.backend.submit(&step, want, feed);
        if result.is_err() {
            self.sequence.truncate(first, &mut self.pool);
        }
        result
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), Error> {
        match ids.iter().find(|id| **id as usize >= self.info.vocab_size) {
            Some(id) => Err(Error::InvalidRequest(format!("there is no token {id}"))),
            None => Ok(()),
        }
    }
}
