//! Steps of learning: supervised fine-tuning (SFT) on examples, and direct preference optimisation (DPO,
//! arXiv 2305.18290) on pairs of answers.

use super::{Batch, Gradients, Kind, Learnt, Optimiser, TrainError, TrainingGraph};
use std::borrow::Cow;

/// Rows that run together. Attention is over these, and values of as many are kept.
const MAX_ROWS: usize = 512;

/// Tokens of which some are to be learnt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Example {
    /// The tokens.
    pub ids: Vec<u32>,
    /// Whether each is to be predicted; the first cannot be.
    pub learnt: Vec<bool>,
}

impl Example {
    fn n_learnt(&self) -> usize {
        self.learnt.iter().skip(1).filter(|learnt| **learnt).count()
    }

    fn push_to(&self, batch: &mut Batch) {
        batch.push(&self.ids, |i| self.learnt.get(i).copied().unwrap_or(false));
    }
}

/// Two answers to one question, of which one is better.
#[derive(Clone, Debug, PartialEq)]
pub struct Preference {
    /// The better one.
    pub chosen: Example,
    /// The other one.
    pub rejected: Example,
}

/// What a step says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// The mean loss of the step's examples or pairs, before the step.
    pub loss: f64,
    /// The norm of the gradient, before clipping.
    pub norm: f32,
    /// Rows that were computed.
    pub rows: usize,
    /// DPO: the mean margin, and the share of pairs whose margin is above 0.
    pub margin: Option<(f64, f64)>,
}

/// LoRA's parameters while they learn, where a device has them.
#[derive(Debug)]
pub struct Trainer<L> {
    /// The parameters and what AdamW keeps of them.
    pub learnt: L,
    optimiser: Optimiser,
    /// How many steps there will be.
    steps: usize,
}

/// Random A within ±1/√n_in and B = 0, as PEFT begins.
pub(super) fn start(graph: &TrainingGraph, seed: u64) -> Vec<f32> {
    let mut parameters = vec![0.0; graph.n_parameters];
    // SplitMix64 (Steele, Lea and Flood 2014).
    let mut state = seed;
    let mut random = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    for lora in &graph.loras {
        let limit = 1.0 / (lora.n_in as f32).sqrt();
        parameters[lora.a()].iter_mut().for_each(|a| *a = limit * (2.0 * random() - 1.0));
    }
    parameters
}

/// The numbers from 0 to n in an order that the seed and the epoch give (Fisher and Yates).
pub(super) fn order(n: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut state = seed ^ (epoch as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for i in (1..n).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(i, ((state >> 33) % (i as u64 + 1)) as usize);
    }
    order
}

impl<L: Learnt> Trainer<L> {
    /// Begins, or goes on, with these parameters.
    pub fn new(learnt: L, optimiser: Optimiser, steps: usize) -> Self {
        Self { learnt, optimiser, steps }
    }

    /// The optimiser, and how many steps it has made.
    pub fn optimiser(&self) -> &Optimiser {
        &self.optimiser
    }

    /// Goes on from another step.
    pub(super) fn set_optimiser(&mut self, optimiser: Optimiser) {
        self.optimiser = optimiser;
    }

    /// The parameters.
    pub async fn parameters(&self) -> Result<Cow<'_, [f32]>, TrainError> {
        self.learnt.read(Kind::Parameters).await
    }

    /// A step on some examples. Each counts the same, and within it each token that is learnt.
    pub async fn sft(
        &mut self,
        device: &mut impl Gradients<Learnt = L>,
        examples: &[&Example],
    ) -> Result<StepResult, TrainError> {
        let mut sum = self.begin();
        for part in parts(examples, |example| example.ids.len()) {
            self.add_examples(device, part, examples.len(), &mut sum).await?;
        }
        self.finish(sum).await
    }

    /// A step on some pairs, of each of which `reference` is [`reference`].
    pub async fn dpo(
        &mut self,
        device: &mut impl Gradients<Learnt = L>,
        pairs: &[(&Preference, [f64; 2])],
        beta: f64,
    ) -> Result<StepResult, TrainError> {
        let mut sum = self.begin();
        for (pair, reference) in pairs {
            self.add_pair(device, pair, *reference, beta, pairs.len(), &mut sum).await?;
        }
        self.finish(sum).await
    }

    /// Begins a step that is computed in parts: then follow [`Self::add_examples`] or [`Self::add_pair`], and
    /// [`Self::finish`].
    pub fn begin(&mut self) -> StepResult {
        self.learnt.clear();
        StepResult { loss: 0.0, norm: 0.0, rows: 0, margin: None }
    }

    /// Some of the `of` examples of a step, all together.
    pub async fn add_examples(
        &mut self,
        device: &mut impl Gradients<Learnt = L>,
        examples: &[&Example],
        of: usize,
        sum: &mut StepResult,
    ) -> Result<(), TrainError> {
        let (mut batch, mut weights) = (Batch::default(), Vec::new());
        for example in examples {
            example.push_to(&mut batch);
            let n = example.n_learnt();
            weights.extend(std::iter::repeat_n(1.0 / (n * of).max(1) as f32, n));
        }
        device.forward(&batch, &self.learnt)?;
        let logprobs = device.backward(&mut self.learnt, &weights).await?;
        sum.loss -= logprobs.iter().zip(&weights).map(|(l, w)| l * f64::from(*w)).sum::<f64>();
        sum.rows += batch.tokens.len();
        Ok(())
    }

    /// One of the `of` pairs of a step.
    pub async fn add_pair(
        &mut self,
        device: &mut impl Gradients<Learnt = L>,
        pair: &Preference,
        reference: [f64; 2],
        beta: f64,
        of: usize,
        sum: &mut StepResult,
    ) -> Result<(), TrainError> {
        let n = of.max(1) as f64;
        let (batch, n_chosen) = both(pair);
        device.forward(&batch, &self.learnt)?;
        let margin = margin_of(&device.logprobs().await?, n_chosen, reference, beta);
        sum.loss += loss_of(margin) / n;
        let slope = (beta / (1.0 + margin.exp()) / n) as f32;
        let weights: Vec<f32> =
            (0..batch.targets.len()).map(|i| if i < n_chosen { slope } else { -slope }).collect();
        device.backward(&mut self.learnt, &weights).await?;
        sum.rows += batch.tokens.len();
        let (margins, right) = sum.margin.unwrap_or_default();
        sum.margin = Some((margins + margin / n, right + f64::from(u8::from(margin > 0.0)) / n));
        Ok(())
    }

    /// Ends a step: changes the parameters.
    pub async fn finish(&mut self, sum: StepResult) -> Result<StepResult, TrainError> {
        if !sum.loss.is_finite() {
            return Err(TrainError::Diverged);
        }
        let norm = self.learnt.update(&self.optimiser.next(self.steps)).await?;
        if !norm.is_finite() {
            return Err(TrainError::Diverged);
        }
        self.optimiser.advance();
        Ok(StepResult { norm, ..sum })
    }

    /// The mean loss of examples, without learning from them.
    pub async fn loss(
        &self,
        device: &mut impl Gradients<Learnt = L>,
        examples: &[&Example],
    ) -> Result<f64, TrainError> {
        let mut loss = 0.0;
        for example in examples {
            let mut batch = Batch::default();
            example.push_to(&mut batch);
            device.forward(&batch, &self.learnt)?;
            let logprobs = device.logprobs().await?;
            loss -= logprobs.iter().sum::<f64>() / (logprobs.len() * examples.len()).max(1) as f64;
        }
        Ok(loss)
    }

    /// The loss of a pair, without learning from it.
    pub async fn pair_loss(
        &self,
        device: &mut impl Gradients<Learnt = L>,
        pair: &Preference,
        reference: [f64; 2],
        beta: f64,
    ) -> Result<f64, TrainError> {
        let (batch, n_chosen) = both(pair);
        device.forward(&batch, &self.learnt)?;
        Ok(loss_of(margin_of(&device.logprobs().await?, n_chosen, reference, beta)))
    }

    /// What the base model says of a pair: the sums of log-probabilities of both answers.
    pub async fn reference(
        &self,
        device: &mut impl Gradients<Learnt = L>,
        pair: &Preference,
    ) -> Result<[f64; 2], TrainError> {
        let (batch, n_chosen) = both(pair);
        device.set_strength(0.0);
        let result = match device.forward(&batch, &self.learnt) {
            Ok(()) => device.logprobs().await,
            Err(error) => Err(error),
        };
        device.set_strength(1.0);
        Ok(sums(&result?, n_chosen))
    }
}

/// Both answers of a pair as a batch, and the targets of the first.
fn both(pair: &Preference) -> (Batch, usize) {
    let mut batch = Batch::default();
    pair.chosen.push_to(&mut batch);
    let n_chosen = batch.targets.len();
    pair.rejected.push_to(&mut batch);
    (batch, n_chosen)
}

/// How much more a pair's better answer gained over the base model than the other, times beta.
fn margin_of(logprobs: &[f64], n_chosen: usize, [of_chosen, of_rejected]: [f64; 2], beta: f64) -> f64 {
    let [chosen, rejected] = sums(logprobs, n_chosen);
    beta * ((chosen - of_chosen) - (rejected - of_rejected))
}

/// -ln σ(m) = ln(1 + e^-m); its slope is -σ(-m).
fn loss_of(margin: f64) -> f64 {
    (-margin.abs()).exp().ln_1p() + (-margin).max(0.0)
}

fn sums(logprobs: &[f64], n_chosen: usize) -> [f64; 2] {
    let (chosen, rejected) = logprobs.split_at(n_chosen.min(logprobs.len()));
    [chosen.iter().sum(), rejected.iter().sum()]
}

/// Runs of as many as may run together, at least one.
pub(super) fn parts<T>(all: &[T], rows: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut parts = Vec::new();
    let (mut first, mut sum) = (0, 0);
    for (i, one) in all.iter().enumerate() {
        if i > first && sum + rows(one) > MAX_ROWS {
            parts.push(&all[first..i]);
            (first, sum) = (i, 0);
        }
        sum += rows(one);
    }
    parts.push(&all[first..]);
    parts
}
