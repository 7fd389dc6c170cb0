//! Steps of learning: supervised fine-tuning (SFT) on examples, and direct preference optimisation (DPO,
//! arXiv 2305.18290) on pairs of answers.

use super::{AdamW, Batch, Gradients, Optimiser, TrainError, TrainingGraph};

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

/// LoRA's parameters while they learn.
#[derive(Debug)]
pub struct Trainer {
    /// LoRA's matrices, see [`super::Lora::start`].
    pub parameters: Vec<f32>,
    gradient: Vec<f32>,
    optimiser: Optimiser,
    /// How many steps there will be.
    steps: usize,
}

/// Random A within ±1/√n_in and B = 0, as PEFT begins.
pub fn start(graph: &TrainingGraph, seed: u64) -> Vec<f32> {
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
pub fn order(n: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut state = seed ^ (epoch as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for i in (1..n).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(i, ((state >> 33) % (i as u64 + 1)) as usize);
    }
    order
}

impl Trainer {
    /// Begins with these parameters.
    pub fn new(parameters: Vec<f32>, settings: AdamW, steps: usize) -> Result<Self, TrainError> {
        let n = parameters.len();
        Ok(Self { parameters, gradient: vec![0.0; n], optimiser: Optimiser::new(settings, n)?, steps })
    }

    /// The gradient of the last step, after clipping.
    pub fn gradient(&self) -> &[f32] {
        &self.gradient
    }

    /// A step on some examples. Each counts the same, and within it each token that is learnt.
    pub fn sft(
        &mut self,
        device: &mut impl Gradients,
        examples: &[&Example],
    ) -> Result<StepResult, TrainError> {
        self.gradient.fill(0.0);
        let (mut loss, mut rows) = (0.0, 0);
        for part in parts(examples, |example| example.ids.len()) {
            let (mut batch, mut weights) = (Batch::default(), Vec::new());
            for example in part {
                example.push_to(&mut batch);
                let n = example.n_learnt();
                let weight = 1.0 / (n * examples.len()).max(1) as f32;
                weights.extend(std::iter::repeat_n(weight, n));
            }
            device.forward(&batch, &self.parameters)?;
            let logprobs = device.backward(&self.parameters, &weights, &mut self.gradient)?;
            loss -= logprobs.iter().zip(&weights).map(|(l, w)| l * f64::from(*w)).sum::<f64>();
            rows += batch.tokens.len();
        }
        self.finish(loss, rows, None)
    }

    /// A step on some pairs, of each of which `reference` is [`reference`].
    pub fn dpo(
        &mut self,
        device: &mut impl Gradients,
        pairs: &[(&Preference, [f64; 2])],
        beta: f64,
    ) -> Result<StepResult, TrainError> {
        self.gradient.fill(0.0);
        let (mut loss, mut rows, mut margins, mut right) = (0.0, 0, 0.0, 0.0);
        let n = pairs.len().max(1) as f64;
        for (pair, [of_chosen, of_rejected]) in pairs {
            let (batch, n_chosen) = both(pair);
            device.forward(&batch, &self.parameters)?;
            let [chosen, rejected] = sums(&device.logprobs()?, n_chosen);
            let margin = beta * ((chosen - of_chosen) - (rejected - of_rejected));
            // -ln σ(m) = ln(1 + e^-m), and its slope is -σ(-m).
            loss += ((-margin.abs()).exp().ln_1p() + (-margin).max(0.0)) / n;
            let slope = (beta / (1.0 + margin.exp()) / n) as f32;
            let weights: Vec<f32> =
                (0..batch.targets.len()).map(|i| if i < n_chosen { slope } else { -slope }).collect();
            device.backward(&self.parameters, &weights, &mut self.gradient)?;
            rows += batch.tokens.len();
            margins += margin / n;
            right += f64::from(u8::from(margin > 0.0)) / n;
        }
        self.finish(loss, rows, Some((margins, right)))
    }

    fn finish(
        &mut self,
        loss: f64,
        rows: usize,
        margin: Option<(f64, f64)>,
    ) -> Result<StepResult, TrainError> {
        if !loss.is_finite() {
            return Err(TrainError::Diverged);
        }
        let norm = self.optimiser.step(&mut self.parameters, &mut self.gradient, self.steps)?;
        Ok(StepResult { loss, norm, rows, margin })
    }

    /// The mean loss of examples, without learning from them.
    pub fn loss(&self, device: &mut impl Gradients, examples: &[&Example]) -> Result<f64, TrainError> {
        let mut loss = 0.0;
        for example in examples {
            let mut batch = Batch::default();
            example.push_to(&mut batch);
            device.forward(&batch, &self.parameters)?;
            let logprobs = device.logprobs()?;
            loss -= logprobs.iter().sum::<f64>() / (logprobs.len() * examples.len()).max(1) as f64;
        }
        Ok(loss)
    }

    /// What the base model says of a pair: the sums of log-probabilities of both answers.
    pub fn reference(&self, device: &mut impl Gradients, pair: &Preference) -> Result<[f64; 2], TrainError> {
        let (batch, n_chosen) = both(pair);
        device.set_strength(0.0);
        let result = device.forward(&batch, &self.parameters).and_then(|()| device.logprobs());
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

fn sums(logprobs: &[f64], n_chosen: usize) -> [f64; 2] {
    let (chosen, rejected) = logprobs.split_at(n_chosen.min(logprobs.len()));
    [chosen.iter().sum(), rejected.iter().sum()]
}

/// Runs of as many as may run together, at least one.
fn parts<T>(all: &[T], rows: impl Fn(&T) -> usize) -> Vec<&[T]> {
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
