//! Learning: turns a model's graph into one that can be trained, with LoRA on its projections
//! (arXiv 2106.09685).
//!
//! [`TrainingGraph`] is the pass, as plain data that knows no device. [`reference`] computes values and
//! gradients one scalar at a time in f64 and is what devices are compared with. A device implements
//! [`Teaches`], with [`Gradients`] and [`Learnt`]; [`Trainer`] builds on those alone. `docs/learning.md` has
//! the mathematics.

mod checkpoint;
mod data;
mod files;
mod graph;
pub(crate) mod learnt;
mod optimiser;
pub mod reference;
mod run;
mod trainer;
mod walk;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;

pub use data::{Data, Texts};
pub use files::{Files, target_of_module};
pub use graph::{Lora, LoraSpec, Part, Segment, TrainingGraph};
pub use learnt::{Kind, Learnt, OnHost};
pub use optimiser::{AdamW, Optimiser, Schedule, Update};
pub use run::{Advance, Plan, Point, Settings, Student, TrainingRun};
pub use trainer::{Example, Preference, StepResult, Trainer};
pub use walk::Walk;

use crate::graph::Token;
use thiserror::Error;

/// Why something cannot be trained.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum TrainError {
    /// A mixture of experts.
    #[error("the model is a mixture of experts, which cannot be taught; teach a model without experts")]
    Experts,
    /// The graph has no logits, or computes them in a way that cannot be taken in slices.
    #[error("the model cannot be trained: {0}")]
    Graph(String),
    /// No projection has a name that was asked for.
    #[error("no projection is called {name:?}; this model has {known}")]
    Target {
        /// What was asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A rank, a rate or another setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The rows or the targets of a step do not fit the model.
    #[error("an example does not fit the model: {0}")]
    Example(String),
    /// Nothing that was given can be learnt from.
    #[error("there are no {what}{}", first_of(refused))]
    Empty {
        /// Examples or preferences.
        what: &'static str,
        /// Lines that are left out, by number from 1, and why.
        refused: Vec<(usize, String)>,
    },
    /// The loss is not a number: the learning rate is too high, or the model is damaged.
    #[error("the loss is no longer a number; use a lower learning rate")]
    Diverged,
    /// The device failed.
    #[error("{message}")]
    Device {
        /// The device's own code, see [`Self::code`].
        code: &'static str,
        /// What it says.
        message: String,
    },
}

impl TrainError {
    /// The code by which the package chooses its error class.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Experts | Self::Graph(_) => "unsupported_feature",
            Self::Device { code, .. } => code,
            Self::Target { .. }
            | Self::Setting(_)
            | Self::Example(_)
            | Self::Empty { .. }
            | Self::Diverged => "invalid_request",
        }
    }
}

/// The first of the lines that are left out, as the end of a sentence.
fn first_of(refused: &[(usize, String)]) -> String {
    refused.first().map(|(line, why)| format!(": line {line}: {why}")).unwrap_or_default()
}

/// A token that is to be predicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The row that predicts it.
    pub row: u32,
    /// The token.
    pub id: u32,
}

/// What a step computes: rows of one or several sequences, which see only themselves, and what they are to
/// predict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The rows. A sequence's rows follow each other, their positions count from 0. Cells are not used.
    pub tokens: Vec<Token>,
    /// The targets, in the order of their rows.
    pub targets: Vec<Target>,
}

impl Batch {
    /// Adds a sequence of tokens as rows; `is_target(i)` says whether token i is to be predicted from those
    /// before it. The last token predicts nothing and takes no row.
    pub fn push(&mut self, ids: &[u32], is_target: impl Fn(usize) -> bool) {
        let first = self.tokens.len() as u32;
        let sequence = self.tokens.last().map_or(0, |token| token.sequence + 1);
        for (i, pair) in ids.windows(2).enumerate() {
            let position = i as u32;
            self.tokens.push(Token { id: pair[0], position, sequence, cell: 0, ..Token::default() });
            if is_target(i + 1) {
                self.targets.push(Target { row: first + position, id: pair[1] });
            }
        }
    }

    /// Checks ids, rows and the order of positions.
    pub fn check(&self, graph: &TrainingGraph) -> Result<(), TrainError> {
        let bad = |what: String| Err(TrainError::Example(what));
        let mut before: Option<&Token> = None;
        for (row, token) in self.tokens.iter().enumerate() {
            let follows = match before {
                Some(b) if b.sequence == token.sequence => token.position == b.position + 1,
                Some(b) => token.sequence > b.sequence && token.position == 0,
                None => token.position == 0,
            };
            if !follows {
                return bad(format!("row {row} is at position {} out of order", token.position));
            }
            if token.id as usize >= graph.n_tokens || token.position as usize >= graph.n_positions {
                return bad(format!("row {row} has token {} at position {}", token.id, token.position));
            }
            before = Some(token);
        }
        match self.targets.iter().find(|target| {
            target.row as usize >= self.tokens.len() || target.id as usize >= graph.graph.n_vocab()
        }) {
            Some(target) => bad(format!("row {} cannot predict token {}", target.row, target.id)),
            None => Ok(()),
        }
    }
}

/// A device that models can be taught on.
pub trait Teaches {
    /// A model's weights.
    type Weights;
    /// What is learnt, where the device has it.
    type Learnt: Learnt;
    /// A training graph over a model's weights.
    type Training<'a>: Gradients<Learnt = Self::Learnt>;

    /// These parameters and what AdamW keeps of each of them: so far nothing.
    fn learnt(&self, parameters: Vec<f32>) -> Result<Self::Learnt, TrainError>;

    /// `kept_bytes` is how much may be kept of what layers compute: more is faster, and the result is the
    /// same.
    fn training<'a>(
        &self,
        learnt: &Self::Learnt,
        graph: &'a TrainingGraph,
        weights: &'a Self::Weights,
        kept_bytes: usize,
    ) -> Result<Self::Training<'a>, TrainError>;
}

/// Computes a training graph on a device.
#[allow(async_fn_in_trait)]
pub trait Gradients {
    /// What is learnt, where the device has it.
    type Learnt: Learnt;

    /// Computes the rows up to what the logits are computed from.
    fn forward(&mut self, batch: &Batch, learnt: &Self::Learnt) -> Result<(), TrainError>;

    /// The natural logarithm of each target's probability, after [`Self::forward`].
    async fn logprobs(&mut self) -> Result<Vec<f64>, TrainError>;

    /// After [`Self::forward`]: adds the gradient of `-Σ weights[i] * logprob[i]` to that of `learnt`.
    /// Returns what [`Self::logprobs`] does.
    async fn backward(&mut self, learnt: &mut Self::Learnt, weights: &[f32]) -> Result<Vec<f64>, TrainError>;

    /// A factor on what LoRA adds; 0 is the base model. It holds until it is set again.
    fn set_strength(&mut self, strength: f32);

    /// The likeliest token of each target's row, after [`Self::forward`].
    async fn likeliest(&mut self) -> Result<Vec<u32>, TrainError>;
}
