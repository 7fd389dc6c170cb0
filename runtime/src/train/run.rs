//! A whole training, one short part after another, so that a model can answer in between. It can be stored
//! after any part and goes on later with the same numbers.

use super::trainer::{order, parts, start};
use super::{
    AdamW, Example, Files, Gradients, Learnt, LoraSpec, Optimiser, Preference, Schedule, StepResult, Teaches,
    Texts, TrainError, Trainer, TrainingGraph,
};
use crate::graph::Graph;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// What a model is taught by, and how.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Rank of LoRA's matrices.
    pub rank: usize,
    /// What LoRA adds is multiplied by `alpha / rank`; none: twice the rank.
    pub alpha: Option<f32>,
    /// Projections that learn, such as `attn_q`; none: all.
    pub targets: Vec<String>,
    /// Learn from preferences by DPO, and not from examples.
    pub dpo: bool,
    /// DPO: how strongly to stay near the base model.
    pub beta: f64,
    /// The highest learning rate.
    pub learning_rate: f32,
    /// Steps in which the rate rises from 0.
    pub warm_up: usize,
    /// How the rate goes on.
    pub schedule: Schedule,
    /// Share of each parameter that is lost per step, times the rate.
    pub weight_decay: f32,
    /// The largest norm of a step's gradient.
    pub clip: f32,
    /// Times that all examples are used.
    pub epochs: usize,
    /// Examples per step.
    pub batch: usize,
    /// Most tokens of an example; longer ones are left out.
    pub max_tokens: usize,
    /// Share of the examples that are not learnt from: the loss on them is shown.
    pub validation: f32,
    /// Ends when the loss on those has not fallen for so many epochs, and keeps the best parameters; 0:
    /// never.
    pub patience: usize,
    /// Seed of the start and of the examples' order.
    pub seed: u64,
    /// Bytes for what layers compute; less is slower.
    pub kept_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: None,
            targets: Vec::new(),
            dpo: false,
            beta: 0.1,
            learning_rate: 5e-4,
            warm_up: 0,
            schedule: Schedule::default(),
            weight_decay: 0.0,
            clip: 1.0,
            epochs: 3,
            batch: 1,
            max_tokens: 1024,
            validation: 0.0,
            patience: 0,
            seed: 0,
            kept_bytes: 256 << 20,
        }
    }
}

impl Settings {
    pub(super) fn adam(&self) -> AdamW {
        AdamW {
            rate: self.learning_rate,
            decay: self.weight_decay,
            clip: Some(self.clip),
            warm_up: self.warm_up,
            schedule: self.schedule,
            ..AdamW::default()
        }
    }

    fn check(&self) -> Result<(), TrainError> {
        let wrong = if self.epochs == 0 || self.batch == 0 {
            "use at least one epoch and one example per step".to_string()
        } else if !(0.0..1.0).contains(&self.validation) {
            format!("a share of {} for validation; use 0 to below 1", self.validation)
        } else if !(self.beta.is_finite() && self.beta > 0.0) {
            format!("a beta of {}; use one above 0, such as 0.1", self.beta)
        } else if self.max_tokens < 2 {
            "examples have at least 2 tokens".to_string()
        } else {
            return self.adam().check();
        };
        Err(TrainError::Setting(wrong))
    }
}

/// The model that is taught.
#[derive(Clone, Copy, Debug)]
pub struct Student<'a> {
    /// Its name: what it learnt goes on with the same model only.
    pub name: &'a str,
    /// `general.architecture`.
    pub architecture: &'a str,
    /// Its graph, without adapters.
    pub graph: &'a Graph,
    /// Its text side.
    pub texts: Texts<'a>,
    /// Most tokens that it reads.
    pub context_length: usize,
}

/// A point of the curve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Point {
    /// Steps that are done.
    pub step: usize,
    /// The step's loss; none for a point of validation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f32>,
    /// The mean loss of the examples that are not learnt from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<f32>,
    /// DPO: the mean margin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f32>,
    /// DPO: the share of pairs whose better answer gained.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f32>,
}

/// How far a run is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advance {
    /// Steps that are done.
    pub step: usize,
    /// Steps in all.
    pub steps: usize,
    /// Rows that this part computed.
    pub rows: usize,
    /// A new point of the curve.
    pub point: Option<Point>,
    /// Nothing is left to do.
    pub is_done: bool,
}

/// What a run will take.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Examples or pairs to learn from.
    pub examples: usize,
    /// Those that are kept for validation.
    pub validation: usize,
    /// Lines that are left out, by number from 1, and why.
    pub refused: Vec<(usize, String)>,
    /// Steps in all.
    pub steps: usize,
    /// Steps that are done.
    pub step: usize,
    /// Times that all examples are used.
    pub epochs: usize,
    /// Numbers that are learnt.
    pub parameters: usize,
    /// Rows of all examples together.
    pub tokens: usize,
    /// Memory beside the model, at most.
    pub bytes: u64,
    /// The curve so far.
    pub curve: Vec<Point>,
}

/// What a run learns from.
#[derive(Debug)]
enum Lessons {
    Examples(Vec<Example>),
    Preferences(Vec<Preference>),
}

impl Lessons {
    /// Tokens of each.
    fn lengths(&self) -> Vec<usize> {
        match self {
            Self::Examples(all) => all.iter().map(|one| one.ids.len()).collect(),
            Self::Preferences(all) => {
                all.iter().map(|one| one.chosen.ids.len() + one.rejected.ids.len()).collect()
            }
        }
    }
}

/// The order whose first examples are for validation; no epoch has its number.
const VALIDATION: usize = u32::MAX as usize;

/// See the module. `L` is what is learnt, where a device has it.
#[derive(Debug)]
pub struct TrainingRun<L> {
    pub(super) settings: Settings,
    /// JSONL, as it was given.
    pub(super) data: String,
    pub(super) model: String,
    architecture: String,
    graph: Arc<TrainingGraph>,
    lessons: Lessons,
    /// Lessons to learn from and those for validation, by index.
    learnt: Vec<usize>,
    held_out: Vec<usize>,
    refused: Vec<(usize, String)>,
    pub(super) trainer: Trainer<L>,
    pub(super) curve: Vec<Point>,
    /// DPO: what the base model says of the first pairs; complete before the first step.
    pub(super) references: Vec<[f64; 2]>,
    /// With patience: the parameters whose validation was best.
    pub(super) best: Option<Vec<f32>>,
    /// The step that is under way, and how many of its lessons are done.
    under_way: Option<(StepResult, usize)>,
    /// The sum of losses of the validation that is under way, and how many lessons it has.
    validation: (f64, usize),
}

impl<L: Learnt> TrainingRun<L> {
    /// Reads examples as JSONL; nothing is computed yet.
    pub fn new(
        device: &impl Teaches<Learnt = L>,
        student: Student,
        settings: Settings,
        data: String,
    ) -> Result<Self, TrainError> {
        settings.check()?;
        let alpha = settings.alpha.unwrap_or(2.0 * settings.rank as f32);
        let spec = LoraSpec { rank: settings.rank, alpha, targets: settings.targets.clone() };
        let graph = TrainingGraph::new(student.graph, &spec)?;
        let read = student.texts.read(&data, settings.max_tokens.min(student.context_length));
        let lessons = match settings.dpo {
            true => Lessons::Preferences(read.preferences),
            false => Lessons::Examples(read.examples),
        };
        let n = lessons.lengths().len();
        if n == 0 {
            let what = if settings.dpo { "preferences" } else { "examples" };
            return Err(TrainError::Empty { what, refused: read.refused });
        }
        let n_held_out = ((n as f32 * settings.validation).round() as usize).min(n - 1);
        if settings.patience > 0 && n_held_out == 0 {
            return Err(TrainError::Setting(format!(
                "a patience of {} needs a share for validation that keeps at least one of {n} examples out",
                settings.patience
            )));
        }
        let mut held_out = order(n, settings.seed, VALIDATION);
        let mut learnt = held_out.split_off(n_held_out);
        learnt.sort_unstable();
        let steps = learnt.len().div_ceil(settings.batch).saturating_mul(settings.epochs);
        let parameters = device.learnt(start(&graph, settings.seed))?;
        let trainer = Trainer::new(parameters, Optimiser::new(settings.adam(), 0)?, steps);
        Ok(Self {
            settings,
            data,
            model: student.name.to_string(),
            architecture: student.architecture.to_string(),
            graph: Arc::new(graph),
            lessons,
            learnt,
            held_out,
            refused: read.refused,
            trainer,
            curve: Vec::new(),
            references: Vec::new(),
            best: None,
            under_way: None,
            validation: (0.0, 0),
        })
    }

    /// The training graph, for the device.
    pub fn graph(&self) -> Arc<TrainingGraph> {
        self.graph.clone()
    }

    /// What is learnt, where the device has it.
    pub fn learnt(&self) -> &L {
        &self.trainer.learnt
    }

    /// Bytes that the device may keep of what layers compute.
    pub fn kept_bytes(&self) -> usize {
        self.settings.kept_bytes
    }

    fn per_epoch(&self) -> usize {
        self.learnt.len().div_ceil(self.settings.batch)
    }

    pub(super) fn steps(&self) -> usize {
        self.per_epoch().saturating_mul(self.settings.epochs)
    }

    /// How many lessons there are, those for validation included.
    pub(super) fn n_lessons(&self) -> usize {
        self.learnt.len() + self.held_out.len()
    }

    /// What the run will take.
    pub fn plan(&self) -> Plan {
        let lengths = self.lessons.lengths();
        let together = parts(&lengths, |n| *n).iter().map(|part| part.iter().sum()).max();
        Plan {
            examples: self.learnt.len(),
            validation: self.held_out.len(),
            refused: self.refused.clone(),
            steps: self.steps(),
            step: self.trainer.optimiser().steps(),
            epochs: self.settings.epochs,
            parameters: self.graph.n_parameters,
            tokens: lengths.iter().sum(),
            bytes: self.graph.bytes(together.unwrap_or(0), self.settings.kept_bytes),
            curve: self.curve.clone(),
        }
    }

    /// Computes the next part: a few hundred rows at most, unless an example is longer.
    pub async fn advance(&mut self, device: &mut impl Gradients<Learnt = L>) -> Result<Advance, TrainError> {
        if let Lessons::Preferences(pairs) = &self.lessons
            && let Some(pair) = pairs.get(self.references.len())
        {
            let rows = pair.chosen.ids.len() + pair.rejected.ids.len();
            self.references.push(self.trainer.reference(device, pair).await?);
            return Ok(self.advanced(rows, None));
        }
        if self.validates() {
            return self.validate(device).await;
        }
        if self.is_done() {
            return Ok(self.advanced(0, None));
        }
        let chosen = self.chosen();
        let (mut sum, done) = match self.under_way.take() {
            Some(under_way) => under_way,
            None => (self.trainer.begin(), 0),
        };
        let before = sum.rows;
        let n_part = match &self.lessons {
            Lessons::Examples(examples) => {
                let rest: Vec<&Example> = chosen[done..].iter().map(|i| &examples[*i]).collect();
                let part = parts(&rest, |example| example.ids.len())[0];
                self.trainer.add_examples(device, part, chosen.len(), &mut sum).await?;
                part.len()
            }
            Lessons::Preferences(pairs) => {
                let i = chosen[done];
                let (reference, beta) = (self.references[i], self.settings.beta);
                self.trainer.add_pair(device, &pairs[i], reference, beta, chosen.len(), &mut sum).await?;
                1
            }
        };
        let rows = sum.rows - before;
        if done + n_part < chosen.len() {
            self.under_way = Some((sum, done + n_part));
            return Ok(self.advanced(rows, None));
        }
        let StepResult { loss, margin, .. } = self.trainer.finish(sum).await?;
        let point = Point {
            step: self.trainer.optimiser().steps(),
            loss: Some(loss as f32),
            validation: None,
            margin: margin.map(|(margin, _)| margin as f32),
            accuracy: margin.map(|(_, accuracy)| accuracy as f32),
        };
        self.curve.push(point);
        Ok(self.advanced(rows, Some(point)))
    }

    /// The lessons of the next step.
    fn chosen(&self) -> Vec<usize> {
        let (step, per_epoch) = (self.trainer.optimiser().steps(), self.per_epoch());
        let order = order(self.learnt.len(), self.settings.seed, step / per_epoch);
        let chosen = order.chunks(self.settings.batch).nth(step % per_epoch).unwrap_or_default();
        chosen.iter().map(|i| self.learnt[*i]).collect()
    }

    fn validations(&self) -> impl Iterator<Item = (usize, f32)> {
        self.curve.iter().filter_map(|point| Some((point.step, point.validation?)))
    }

    /// Whether the loss on what is held out is wanted now: before the first step and after each epoch.
    fn validates(&self) -> bool {
        let step = self.trainer.optimiser().steps();
        let is_due = self.under_way.is_none() && step.is_multiple_of(self.per_epoch());
        is_due && !self.held_out.is_empty() && self.validations().all(|(at, _)| at != step)
    }

    async fn validate(&mut self, device: &mut impl Gradients<Learnt = L>) -> Result<Advance, TrainError> {
        let (sum, n) = self.validation;
        let i = self.held_out[n];
        let (loss, rows) = match &self.lessons {
            Lessons::Examples(examples) => {
                (self.trainer.loss(device, &[&examples[i]]).await?, examples[i].ids.len())
            }
            Lessons::Preferences(pairs) => {
                let (pair, beta) = (&pairs[i], self.settings.beta);
                let rows = pair.chosen.ids.len() + pair.rejected.ids.len();
                (self.trainer.pair_loss(device, pair, self.references[i], beta).await?, rows)
            }
        };
        if n + 1 < self.held_out.len() {
            self.validation = (sum + loss, n + 1);
            return Ok(self.advanced(rows, None));
        }
        self.validation = (0.0, 0);
        let mean = ((sum + loss) / self.held_out.len() as f64) as f32;
        let is_best = self.validations().all(|(_, before)| mean < before);
        if self.settings.patience > 0 && is_best {
            self.best = Some(self.trainer.parameters().await?.into_owned());
        }
        let step = self.trainer.optimiser().steps();
        let point = Point { step, validation: Some(mean), ..Point::default() };
        self.curve.push(point);
        Ok(self.advanced(rows, Some(point)))
    }

    /// Whether the loss of validation has not fallen for too long.
    fn is_out_of_patience(&self) -> bool {
        let all: Vec<f32> = self.validations().map(|(_, loss)| loss).collect();
        let best = all.iter().enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(at, _)| at);
        self.settings.patience > 0 && all.len() > best + self.settings.patience
    }

    fn is_done(&self) -> bool {
        self.trainer.optimiser().steps() >= self.steps() || self.is_out_of_patience()
    }

    fn advanced(&self, rows: usize, point: Option<Point>) -> Advance {
        let is_done = self.is_done() && !self.validates();
        Advance { step: self.trainer.optimiser().steps(), steps: self.steps(), rows, point, is_done }
    }

    /// What has been learnt so far: with patience, the best of it.
    pub async fn parameters(&self) -> Result<Cow<'_, [f32]>, TrainError> {
        match &self.best {
            Some(best) => Ok(Cow::Borrowed(best)),
            None => self.trainer.parameters().await,
        }
    }

    /// For saving what has been learnt.
    pub fn files(&self) -> Files<'_> {
        Files { graph: &self.graph, architecture: &self.architecture }
    }
}
