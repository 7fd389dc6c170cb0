//! From logits to a token: penalties and biases, then temperature, top-k, top-p and min-p, then chance.
//!
//! Random numbers depend on the seed and on the token's number in the answer only, so that an answer interrupted and taken up
//! again goes on as it would have.

use super::Error;
use serde::Deserialize;
use std::collections::HashMap;

/// How tokens are chosen. The defaults are OpenAI's: the model's own distribution.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token always.
    pub temperature: f32,
    /// Keep the likeliest tokens that together have this probability (arXiv 1904.09751).
    pub top_p: f32,
    /// Keep this many of the likeliest tokens; 0: all.
    pub top_k: usize,
    /// Keep tokens at least this likely relative to the likeliest (arXiv 2407.01082).
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in prompt or answer (arXiv 1909.05858); 1: off.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of a token that the answer has.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token for each time that the answer has it.
    pub frequency_penalty: f32,
    /// Added to the logit of a token.
    pub logit_bias: HashMap<u32, f32>,
    /// Makes the choice repeatable.
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
    /// Refuses values outside of what each means.
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

    /// Whether the choice is the argmax of the model's own logits, which the device has already made.
    pub fn is_argmax(&self) -> bool {
        self.temperature == 0.0
            && self.repetition_penalty == 1.0
            && self.presence_penalty == 0.0
            && self.frequency_penalty == 0.0
            && self.logit_bias.is_empty()
    }
}

/// Chooses the tokens of one answer.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    seed: u64,
    /// Tokens of the answer, with how often.
    counts: HashMap<u32, u32>,
    /// Tokens of the prompt, of which only the repetition penalty takes notice.
    prompt: Vec<u32>,
    /// (probability, token), kept for its memory.
    candidates: Vec<(f32, u32)>,
    n_chosen: u64,
}

impl Sampler {
    /// `seed` is used where the request brings none.
    pub fn new(sampling: Sampling, prompt: &[u32], seed: u64) -> Self {
        let seed = sampling.seed.unwrap_or(seed);
        let mut prompt = if sampling.repetition_penalty == 1.0 { Vec::new() } else { prompt.to_vec() };
        prompt.sort_unstable();
        prompt.dedup();
        Self { sampling, seed, counts: HashMap::new(), prompt, candidates: Vec::new(), n_chosen: 0 }
    }

    /// Takes a token into the answer, chosen here or elsewhere.
    pub fn accept(&mut self, id: u32) {
        *self.counts.entry(id).or_default() += 1;
        self.n_chosen += 1;
    }

    /// Chooses a token; the logits are changed in the course of it.
    pub fn choose(&mut self, logits: &mut [f32]) -> u32 {
        self.penalise(logits);
        let s = &self.sampling;
        if s.temperature == 0.0 {
            return argmax(logits);
        }
        let candidates = &mut self.candidates;
        candidates.clear();
        candidates.extend(logits.iter().enumerate().map(|(i, &logit)| (logit, i as u32)));
        let descending = |a: &(f32, u32), b: &(f32, u32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if s.top_k > 0 && s.top_k < candidates.len() {
            candidates.select_nth_unstable_by(s.top_k - 1, descending);
            candidates.truncate(s.top_k);
        }
        candidates.sort_unstable_by(descending);
        let top = candidates.first().map_or(0.0, |c| c.0);
        let mut total = 0.0;
        for (p, _) in candidates.iter_mut() {
            *p = ((*p - top) / s.temperature).exp();
            total += *p;
        }
        let mut kept = 0;
        let mut mass = 0.0;
        for (p, _) in candidates.iter() {
            // The likeliest is always kept; it has p = 1 before normalisation.
            if kept > 0 && (mass >= s.top_p * total || *p < s.min_p) {
                break;
            }
            mass += p;
            kept += 1;
        }
        let mut left = uniform(self.seed, self.n_chosen) * mass;
        for &(p, id) in &candidates[..kept] {
            left -= p;
            if left < 0.0 {
                return id;
            }
        }
        candidates.get(kept.saturating_sub(1)).map_or(0, |c| c.1)
    }

    fn penalise(&self, logits: &mut [f32]) {
        let s = &self.sampling;
        if s.repetition_penalty != 1.0 {
            let unseen = self.counts.keys().filter(|id| self.prompt.binary_search(id).is_err());
            for &id in self.prompt.iter().chain(unseen) {
                if let Some(logit) = logits.get_mut(id as usize) {
                    *logit = if *logit > 0.0 {
                        *logit / s.repetition_penalty
                    } else {
                        *logit * s.repetition_penalty
                    };
                }
            }
        }
        for (&id, &count) in &self.counts {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit -= s.presence_penalty + s.frequency_penalty * count as f32;
            }
        }
        for (&id, &bias) in &s.logit_bias {
            if let Some(logit) = logits.get_mut(id as usize) {
                *logit += bias;
            }
        }
    }
}

fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best as u32
}

/// The counter-based generator SplitMix64 at this place of its stream, as a number in [0, 1).
fn uniform(seed: u64, counter: u64) -> f32 {
    let z = seed.wrapping_add((counter + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each token is chosen from these logits, of 20,000 tries with consecutive counters.
    fn shares(sampling: Sampling, logits: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(sampling, &[], 7);
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            let id = sampler.choose(&mut logits.to_vec());
            sampler.n_chosen += 1;
            counts[id as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn close(found: &[f64], expected: &[f64]) {
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 0.015, "{found:?}, not {expected:?}");
        }
    }

    #[test]
    fn the_models_own_distribution() {
        let logits = [0.5_f32.ln(), 0.3_f32.ln(), 0.2_f32.ln()];
        close(&shares(Sampling::default(), &logits), &[0.5, 0.3, 0.2]);
        // p^(1/0.5), normalised: 0.25, 0.09, 0.04 of 0.38.
        let cold = Sampling { temperature: 0.5, ..Default::default() };
        close(&shares(cold, &logits), &[0.658, 0.237, 0.105]);
    }

    #[test]
    fn truncation() {
        let logits = [0.4_f32, 0.3, 0.2, 0.1].map(f32::ln);
        let top_k = Sampling { top_k: 2, ..Default::default() };
        close(&shares(top_k, &logits), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        let top_p = Sampling { top_p: 0.6, ..Default::default() };
        close(&shares(top_p, &logits), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        let min_p = Sampling { min_p: 0.45, ..Default::default() };
        close(&shares(min_p, &logits), &[4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 0.0]);
        let none = Sampling { top_p: 0.0, ..Default::default() };
        close(&shares(none, &logits), &[1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn penalties_and_bias() {
        let greedy = Sampling { temperature: 0.0, ..Default::default() };
        let choose = |sampling: Sampling, prompt: &[u32], answer: &[u32]| {
            let mut sampler = Sampler::new(sampling, prompt, 0);
            answer.iter().for_each(|id| sampler.accept(*id));
            sampler.choose(&mut [2.0, 1.5, -1.0])
        };
        assert_eq!(choose(greedy.clone(), &[0], &[0]), 0);
        assert_eq!(choose(Sampling { repetition_penalty: 1.5, ..greedy.clone() }, &[0], &[]), 1);
        assert_eq!(choose(Sampling { presence_penalty: 0.6, ..greedy.clone() }, &[0], &[]), 0);
        assert_eq!(choose(Sampling { presence_penalty: 0.6, ..greedy.clone() }, &[], &[0, 0]), 1);
        assert_eq!(choose(Sampling { frequency_penalty: 0.3, ..greedy.clone() }, &[], &[0]), 0);
        assert_eq!(choose(Sampling { frequency_penalty: 0.3, ..greedy.clone() }, &[], &[0, 0]), 1);
        let logit_bias = HashMap::from([(2, 4.0), (900, 1.0)]);
        assert_eq!(choose(Sampling { logit_bias, ..greedy }, &[], &[]), 2);
    }

    #[test]
    fn a_seed_repeats_and_a_resumed_answer_goes_on() {
        let run = |seed, skip: usize| -> Vec<u32> {
            let sampling = Sampling { seed: Some(seed), ..Default::default() };
            let mut sampler = Sampler::new(sampling, &[], 0);
            (0..skip).for_each(|_| sampler.accept(0));
            (skip..50)
                .map(|_| {
                    let id = sampler.choose(&mut [0.0; 100]);
                    sampler.accept(id);
                    id
                })
                .collect()
        };
        assert_eq!(run(1, 0), run(1, 0));
        assert_ne!(run(1, 0), run(2, 0));
        assert_eq!(run(1, 20), run(1, 0)[20..]);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Sampling { temperature: f32::NAN, ..Default::default() }.check().is_err());
        assert!(Sampling { top_p: 1.1, ..Default::default() }.check().is_err());
        assert!(Sampling { repetition_penalty: 0.0, ..Default::default() }.check().is_err());
        assert!(Sampling::default().check().is_ok());
    }
}
