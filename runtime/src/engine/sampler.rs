//! How a request wants tokens to be chosen, and what the choice depends on as an answer grows. [`Choice`] is
//! how a token is chosen.

use super::Error;
use crate::graph::{Choice, IN_PROMPT};
use serde::Deserialize;
use std::collections::HashMap;

/// How tokens are chosen. The defaults are OpenAI's: the model's own distribution.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Keep the likeliest tokens that together have this probability (arXiv 1904.09751).
    pub top_p: f32,
    /// Keep this many of the likeliest tokens, and those as likely as the last of them to a hundredth; 0:
    /// all.
    pub top_k: usize,
    /// Keep tokens at least this likely relative to the likeliest (arXiv 2407.01082).
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer (arXiv 1909.05858);
    /// 1: off.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of a token that the answer has.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token for each time that the answer has it.
    pub frequency_penalty: f32,
    /// Added to the logit of a token.
    pub logit_bias: HashMap<u32, f32>,
    /// The same seed gives the same choices.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: HashMap::new(),
            seed: None,
        }
    }
}

impl Sampling {
    /// An error for a value out of its range.
    pub fn check(&self) -> Result<(), Error> {
        let within = |name: &str, value: f32, low: f32, high: f32| match value >= low && value <= high {
            true => Ok(()),
            false => {
                Err(Error::InvalidRequest(format!("{name} is {value}; it must be from {low} to {high}")))
            }
        };
        within("temperature", self.temperature, 0.0, 100.0)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.01, 100.0)?;
        within("presence_penalty", self.presence_penalty, -100.0, 100.0)?;
        within("frequency_penalty", self.frequency_penalty, -100.0, 100.0)?;
        self.logit_bias.values().try_for_each(|bias| within("logit_bias", *bias, -1000.0, 1000.0))
    }

    /// Whether the choice is the argmax of the model's own logits.
    pub fn is_argmax(&self) -> bool {
        (self.temperature == 0.0 || self.top_k == 1) && !self.adjusts()
    }

    /// Whether any logit is changed before the choice.
    fn adjusts(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
            || !self.logit_bias.is_empty()
    }
}

/// What the choice of the next token depends on, as an answer grows.
#[derive(Debug)]
pub(super) struct Sampler {
    choice: Choice,
    is_argmax: bool,
    /// For each token whether the prompt has it and how often the answer does; empty where no logit is
    /// adjusted.
    seen: Vec<u32>,
    /// What is added to each token's logit; empty where no logit is adjusted.
    bias: Vec<f32>,
}

impl Sampler {
    /// `seed` is used if the request has none.
    pub fn new(sampling: &Sampling, prompt: &[u32], seed: u64, n_vocab: usize) -> Self {
        let seed = sampling.seed.unwrap_or(seed);
        let adjusts = sampling.adjusts();
        let choice = Choice {
            // One token is kept: the likeliest.
            temperature: if sampling.top_k == 1 { 0.0 } else { sampling.temperature },
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            top_k: sampling.top_k.min(n_vocab) as u32,
            repetition_penalty: sampling.repetition_penalty,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
            adjusts: u32::from(adjusts),
            seed: [seed as u32, (seed >> 32) as u32],
            counter: 0,
            masked: 0,
        };
        let n = if adjusts { n_vocab } else { 0 };
        let (mut seen, mut bias) = (vec![0; n], vec![0.0; n]);
        for id in prompt {
            seen.get_mut(*id as usize).into_iter().for_each(|seen| *seen |= IN_PROMPT);
        }
        for (id, value) in &sampling.logit_bias {
            bias.get_mut(*id as usize).into_iter().for_each(|bias| *bias = *value);
        }
        Self { choice, is_argmax: sampling.is_argmax(), seen, bias }
    }

    /// Appends a token to the answer.
    pub fn accept(&mut self, id: u32) {
        self.seen.get_mut(id as usize).into_iter().for_each(|seen| *seen += 1);
        self.choice.counter += 1;
    }

    /// Whether the likeliest token is always taken, and no logit is adjusted.
    pub fn is_argmax(&self) -> bool {
        self.is_argmax
    }

    /// How the next token but `ahead` is chosen: those before it are not accepted yet.
    pub fn choice(&self, ahead: usize) -> Choice {
        Choice { counter: self.choice.counter + ahead as u32, ..self.choice }
    }

    /// For each token whether and how often it is seen, and its bias. Empty where no logit is adjusted.
    pub fn adjustments(&self) -> (&[u32], &[f32]) {
        (&self.seen, &self.bias)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a device chooses.
    fn choose_from(sampler: &Sampler, logits: &mut [f32]) -> u32 {
        let (seen, bias) = sampler.adjustments();
        sampler.choice(0).choose(logits, seen, bias, &[])
    }

    #[test]
    fn what_is_seen_counts() {
        let choose = |sampling: Sampling, prompt: &[u32], answer: &[u32]| {
            let sampling = Sampling { temperature: 0.0, ..sampling };
            let mut sampler = Sampler::new(&sampling, prompt, 0, 3);
            answer.iter().for_each(|id| sampler.accept(*id));
            choose_from(&sampler, &mut [2.0, 1.5, -1.0])
        };
        let of = |change: fn(&mut Sampling)| {
            let mut sampling = Sampling::default();
            change(&mut sampling);
            sampling
        };
        assert_eq!(choose(Sampling::default(), &[0], &[0]), 0);
        assert_eq!(choose(of(|s| s.repetition_penalty = 1.5), &[0], &[]), 1);
        assert_eq!(choose(of(|s| s.presence_penalty = 0.6), &[0], &[]), 0);
        assert_eq!(choose(of(|s| s.presence_penalty = 0.6), &[], &[0, 0]), 1);
        assert_eq!(choose(of(|s| s.frequency_penalty = 0.3), &[], &[0]), 0);
        assert_eq!(choose(of(|s| s.frequency_penalty = 0.3), &[], &[0, 0]), 1);
        assert_eq!(choose(of(|s| s.logit_bias = HashMap::from([(2, 4.0), (900, 1.0)])), &[], &[]), 2);
    }

    #[test]
    fn a_seed_repeats_and_a_resumed_answer_goes_on() {
        let run = |seed, skip: usize| -> Vec<u32> {
            let sampling = Sampling { seed: Some(seed), ..Default::default() };
            let mut sampler = Sampler::new(&sampling, &[], 0, 100);
            (0..skip).for_each(|_| sampler.accept(0));
            (skip..50)
                .map(|_| {
                    let id = choose_from(&sampler, &mut [0.0; 100]);
                    sampler.accept(id);
                    id
                })
                .collect()
        };
        assert_eq!(run(1, 0), run(1, 0));
        assert_ne!(run(1, 0), run(2, 0));
        assert_ne!(run(1, 0), run(1 << 32, 0));
        assert_eq!(run(1, 20), run(1, 0)[20..]);
    }

    #[test]
    fn one_of_the_likeliest_is_the_likeliest() {
        let sampling = Sampling { top_k: 1, ..Default::default() };
        assert!(sampling.is_argmax());
        let sampler = Sampler::new(&sampling, &[], 3, 3);
        assert_eq!(choose_from(&sampler, &mut [1.0, 1.001, 0.9]), 1);
    }

    #[test]
    fn values_out_of_range_are_errors() {
        assert!(Sampling { temperature: f32::NAN, ..Default::default() }.check().is_err());
        assert!(Sampling { top_p: 1.1, ..Default::default() }.check().is_err());
        assert!(Sampling { repetition_penalty: 0.0, ..Default::default() }.check().is_err());
        assert!(Sampling::default().check().is_ok());
    }
}
