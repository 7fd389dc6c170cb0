//! How a request wants tokens to be chosen, and what the choice depends on as an answer grows. [`Choice`] is
//! how a device chooses a token; where a request asks for more, [`chain`] does it on the host.

mod chain;
mod dry;

use super::Error;
use crate::graph::{Choice, IN_PROMPT};
use chain::Chain;
use serde::Deserialize;
use std::collections::HashMap;

/// Gives the bytes of a token.
pub(super) type Spell<'a> = &'a dyn Fn(u32) -> Vec<u8>;

/// Longest breaker of DRY, in bytes.
const MAX_BREAKER: usize = 40;
/// Most breakers of DRY.
const MAX_BREAKERS: usize = 32;

/// How tokens are chosen. The defaults are OpenAI's: the model's own distribution.
///
/// Samplers come in llama.cpp's order: penalties, bias, constraint, DRY, top-n-sigma, top-k, typical-p,
/// top-p, min-p, XTC, temperature. With mirostat, only the temperature and mirostat follow DRY.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Keep the likeliest tokens that together have this probability (arXiv 1904.09751).
    pub top_p: f32,
    /// Keep this many of the likeliest tokens, and on a device those as likely as the last of them to a
    /// hundredth; 0: all.
    pub top_k: usize,
    /// Keep tokens at least this likely relative to the likeliest (arXiv 2407.01082).
    pub min_p: f32,
    /// Keep the tokens that are nearest to being as likely as the distribution makes one expect, until they
    /// have this probability (locally typical sampling, arXiv 2202.00666); 1: all.
    pub typical_p: f32,
    /// Keep tokens whose logit is at most so many standard deviations of all logits below the highest (arXiv
    /// 2411.07641); 0 and less: all.
    pub top_n_sigma: f32,
    /// How often XTC is applied: of the tokens with at least the threshold's probability, only the least
    /// likely is kept, besides all that are less likely.
    pub xtc_probability: f32,
    /// The threshold of XTC; above 0.5 it never applies.
    pub xtc_threshold: f32,
    /// DRY: a token that would make a repetition of n tokens longer loses multiplier × base^(n − allowed
    /// length) from its logit; 0: off.
    pub dry_multiplier: f32,
    /// The base of DRY.
    pub dry_base: f32,
    /// Repetitions of fewer tokens than this are not touched by DRY.
    pub dry_allowed_length: usize,
    /// How many of the last tokens of prompt and answer DRY looks at; -1: all.
    pub dry_penalty_last_n: i64,
    /// Texts at which repetitions end for DRY.
    pub dry_sequence_breakers: Vec<String>,
    /// The temperature is between itself minus and plus this, by the entropy of what is kept; 0: fixed.
    pub dynatemp_range: f32,
    /// The normalised entropy is raised to this power.
    pub dynatemp_exponent: f32,
    /// 2: mirostat 2 (arXiv 2007.14966) instead of the samplers that keep some tokens; 0: off.
    pub mirostat: u32,
    /// The surprise that mirostat aims at, in bits.
    pub mirostat_tau: f32,
    /// How fast mirostat learns.
    pub mirostat_eta: f32,
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
            typical_p: 1.0,
            top_n_sigma: 0.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: 64,
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(String::from).to_vec(),
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: HashMap::new(),
            seed: None,
        }
    }
}

impl Sampling {
    /// An error for a value out of its range; it names the field.
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |message: String| Err(Error::InvalidRequest(message));
        let ranges = [
            ("temperature", self.temperature, 0.0, 100.0),
            ("top_p", self.top_p, 0.0, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("typical_p", self.typical_p, 0.0, 1.0),
            ("top_n_sigma", self.top_n_sigma, -1.0, 100.0),
            ("xtc_probability", self.xtc_probability, 0.0, 1.0),
            ("xtc_threshold", self.xtc_threshold, 0.0, 1.0),
            ("dry_multiplier", self.dry_multiplier, 0.0, 100.0),
            ("dry_base", self.dry_base, 1.0, 100.0),
            ("dynatemp_range", self.dynatemp_range, 0.0, 100.0),
            ("dynatemp_exponent", self.dynatemp_exponent, 0.0, 100.0),
            ("mirostat_tau", self.mirostat_tau, 0.0, 100.0),
            ("mirostat_eta", self.mirostat_eta, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, 0.01, 100.0),
            ("presence_penalty", self.presence_penalty, -100.0, 100.0),
            ("frequency_penalty", self.frequency_penalty, -100.0, 100.0),
        ];
        let biases = self.logit_bias.values().map(|bias| ("logit_bias", *bias, -1000.0, 1000.0));
        for (name, value, low, high) in ranges.into_iter().chain(biases) {
            // Not a number is in no range.
            if !(low..=high).contains(&value) {
                return invalid(format!("`{name}` is {value}; it must be from {low} to {high}"));
            }
        }
        if self.mirostat == 1 || self.mirostat > 2 {
            return invalid(format!("`mirostat` is {}; it must be 0 (off) or 2", self.mirostat));
        }
        if self.dry_allowed_length == 0 {
            return invalid("`dry_allowed_length` is 0; it must be at least 1".into());
        }
        if self.dry_penalty_last_n < -1 {
            let n = self.dry_penalty_last_n;
            return invalid(format!("`dry_penalty_last_n` is {n}; it must be at least -1, which means all"));
        }
        let breakers = &self.dry_sequence_breakers;
        let is_long = |text: &String| text.is_empty() || text.len() > MAX_BREAKER;
        if breakers.len() > MAX_BREAKERS || breakers.iter().any(is_long) {
            return invalid(format!(
                "`dry_sequence_breakers` must be up to {MAX_BREAKERS} texts of 1 to {MAX_BREAKER} bytes"
            ));
        }
        Ok(())
    }

    /// Whether the choice is the argmax of the model's own logits.
    pub fn is_argmax(&self) -> bool {
        (self.temperature == 0.0 || self.top_k == 1) && !self.adjusts() && !self.is_by_host()
    }

    /// Whether any logit is changed before the choice.
    fn adjusts(&self) -> bool {
        self.repetition_penalty != 1.0
            || self.presence_penalty != 0.0
            || self.frequency_penalty != 0.0
            || !self.logit_bias.is_empty()
    }

    /// Whether it needs a sampler that devices do not have.
    fn is_by_host(&self) -> bool {
        self.typical_p < 1.0
            || self.top_n_sigma > 0.0
            || self.applies_xtc()
            || self.applies_dry()
            || self.dynatemp_range > 0.0
            || self.mirostat == 2
    }

    fn applies_dry(&self) -> bool {
        self.dry_multiplier > 0.0 && self.dry_penalty_last_n != 0
    }

    fn applies_xtc(&self) -> bool {
        self.xtc_probability > 0.0 && self.xtc_threshold <= 0.5
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
    /// Where devices lack a sampler.
    chain: Option<Box<Chain>>,
}

impl Sampler {
    /// `seed` is used if the request has none.
    pub fn new(sampling: &Sampling, prompt: &[u32], seed: u64, n_vocab: usize, spell: Spell) -> Self {
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
        let chain = sampling.is_by_host().then(|| Box::new(Chain::new(sampling, prompt, spell)));
        Self { choice, is_argmax: sampling.is_argmax(), seen, bias, chain }
    }

    /// Makes the host pick, also where the device could.
    pub fn pick_by_host(&mut self, sampling: &Sampling, prompt: &[u32], spell: Spell) {
        self.chain.get_or_insert_with(|| Box::new(Chain::new(sampling, prompt, spell)));
    }

    /// Appends a token to the answer.
    pub fn accept(&mut self, id: u32, spell: Spell) {
        if let Some(chain) = &mut self.chain {
            chain.accept(id, spell);
        }
        self.seen.get_mut(id as usize).into_iter().for_each(|seen| *seen += 1);
        self.choice.counter += 1;
    }

    /// Whether the likeliest token is always taken, and no logit is adjusted.
    pub fn is_argmax(&self) -> bool {
        self.is_argmax
    }

    /// Whether the device chooses by a [`Choice`].
    pub fn is_by_choice(&self) -> bool {
        !self.is_argmax && !self.is_by_host()
    }

    /// Whether the host picks the token.
    pub fn is_by_host(&self) -> bool {
        self.chain.is_some()
    }

    /// Picks the next token, among those that a mask allows.
    pub fn pick(&mut self, logits: &[f32], mask: Option<&[u32]>, spell: Spell) -> u32 {
        let choice = Choice { masked: u32::from(mask.is_some()), ..self.choice };
        let mask = mask.unwrap_or_default();
        match &mut self.chain {
            Some(chain) => chain.pick(logits, &choice, &self.seen, &self.bias, mask, spell),
            // As the device would.
            None => choice.choose(&mut logits.to_vec(), &self.seen, &self.bias, mask),
        }
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SPELL: Spell = &|_| Vec::new();

    /// What a device chooses.
    fn choose_from(sampler: &Sampler, logits: &mut [f32]) -> u32 {
        let (seen, bias) = sampler.adjustments();
        sampler.choice(0).choose(logits, seen, bias, &[])
    }

    #[test]
    fn what_is_seen_counts() {
        let choose = |sampling: Sampling, prompt: &[u32], answer: &[u32]| {
            let sampling = Sampling { temperature: 0.0, ..sampling };
            let mut sampler = Sampler::new(&sampling, prompt, 0, 3, SPELL);
            answer.iter().for_each(|id| sampler.accept(*id, SPELL));
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
            let mut sampler = Sampler::new(&sampling, &[], 0, 100, SPELL);
            (0..skip).for_each(|_| sampler.accept(0, SPELL));
            (skip..50)
                .map(|_| {
                    let id = choose_from(&sampler, &mut [0.0; 100]);
                    sampler.accept(id, SPELL);
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
        let sampler = Sampler::new(&sampling, &[], 3, 3, SPELL);
        assert_eq!(choose_from(&sampler, &mut [1.0, 1.001, 0.9]), 1);
    }

    #[test]
    fn values_out_of_range_are_errors_that_name_the_field() {
        let invalid = |json: &str| {
            let sampling: Sampling = serde_json::from_str(json).unwrap();
            let message = sampling.check().unwrap_err().to_string();
            let field = json.split('"').nth(1).unwrap();
            assert!(message.starts_with(&format!("`{field}`")), "{json}: {message}");
        };
        for json in [
            r#"{"temperature": -0.1}"#,
            r#"{"top_p": 1.1}"#,
            r#"{"repetition_penalty": 0}"#,
            r#"{"typical_p": 1.5}"#,
            r#"{"top_n_sigma": -2}"#,
            r#"{"xtc_probability": 2}"#,
            r#"{"xtc_threshold": -1}"#,
            r#"{"dry_multiplier": -1}"#,
            r#"{"dry_base": 0.5}"#,
            r#"{"dry_allowed_length": 0}"#,
            r#"{"dry_penalty_last_n": -2}"#,
            r#"{"dry_sequence_breakers": [""]}"#,
            r#"{"dry_sequence_breakers": ["01234567890123456789012345678901234567890"]}"#,
            r#"{"dynatemp_range": -1}"#,
            r#"{"dynatemp_exponent": -1}"#,
            r#"{"mirostat": 1}"#,
            r#"{"mirostat": 3}"#,
            r#"{"mirostat_tau": -1}"#,
            r#"{"mirostat_eta": 1.1}"#,
            r#"{"logit_bias": {"3": 2000}}"#,
        ] {
            invalid(json);
        }
        assert!(Sampling { temperature: f32::NAN, ..Default::default() }.check().is_err());
        assert!(Sampling::default().check().is_ok());
    }

    /// Devices choose wherever they can: the host is asked only for samplers that they lack.
    #[test]
    fn the_host_picks_only_where_it_must() {
        let by_host = |json: &str| serde_json::from_str::<Sampling>(json).unwrap().is_by_host();
        for json in [
            r#"{"typical_p": 0.9}"#,
            r#"{"top_n_sigma": 1, "temperature": 0}"#,
            r#"{"xtc_probability": 0.5}"#,
            r#"{"dry_multiplier": 0.8}"#,
            r#"{"dynatemp_range": 0.5}"#,
            r#"{"mirostat": 2}"#,
        ] {
            assert!(by_host(json), "{json}");
        }
        for json in [
            r#"{"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1}"#,
            r#"{"top_n_sigma": -1, "mirostat_tau": 3, "dynatemp_exponent": 2}"#,
            r#"{"xtc_probability": 0.5, "xtc_threshold": 0.6}"#,
            r#"{"dry_multiplier": 0.8, "dry_penalty_last_n": 0}"#,
        ] {
            assert!(!by_host(json), "{json}");
        }
    }
}
