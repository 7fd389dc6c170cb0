//! Choosing a token on the host. The samplers are llama.cpp's, in its order: see [`Sampling`].

use super::dry::Dry;
use super::{Sampling, Spell};
use crate::graph::{Choice, allows};

/// The id whose random number decides whether XTC is applied; no token has it.
const XTC: u32 = u32::MAX;

/// What a choice on the host depends on, besides the logits and the [`Choice`].
#[derive(Debug)]
pub(super) struct Chain {
    sampling: Sampling,
    dry: Option<Dry>,
    /// Mirostat's limit to the surprise of a token, in bits. It is learnt from the probabilities of tokens
    /// that are picked, so an answer that is resumed begins with the first one again.
    mu: f32,
    candidates: Vec<Candidate>,
}

/// A token that can be picked.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    id: u32,
    logit: f32,
}

impl Chain {
    /// For an answer to this prompt.
    pub fn new(sampling: &Sampling, prompt: &[u32], spell: Spell) -> Self {
        let mut chain = Self {
            sampling: sampling.clone(),
            dry: sampling.applies_dry().then(|| Dry::new(sampling)),
            mu: 2.0 * sampling.mirostat_tau,
            candidates: Vec::new(),
        };
        prompt.iter().for_each(|id| chain.accept(*id, spell));
        chain
    }

    /// Appends a token to the text.
    pub fn accept(&mut self, id: u32, spell: Spell) {
        if let Some(dry) = &mut self.dry {
            dry.push(id, &spell(id));
        }
    }

    /// Picks the next token. `seen`, `bias` and `mask` are as for [`Choice::choose`].
    pub fn pick(
        &mut self,
        logits: &[f32],
        choice: &Choice,
        seen: &[u32],
        bias: &[f32],
        mask: &[u32],
        spell: Spell,
    ) -> u32 {
        self.begin(logits, choice, seen, bias, mask);
        if let Some(dry) = &self.dry {
            // Candidates are in the order of their ids.
            for (id, penalty) in dry.penalties(spell) {
                if let Ok(i) = self.candidates.binary_search_by_key(&id, |candidate| candidate.id) {
                    self.candidates[i].logit -= penalty;
                }
            }
        }
        if self.sampling.mirostat == 2 {
            return self.mirostat(choice);
        }
        self.truncate(choice);
        race(&self.candidates, self.temperature(), choice)
    }

    /// The candidates: tokens that the mask allows, with penalties and bias.
    fn begin(&mut self, logits: &[f32], choice: &Choice, seen: &[u32], bias: &[f32], mask: &[u32]) {
        let adjusted = |id: usize, logit: f32| {
            let (seen, bias) = (seen.get(id).copied(), bias.get(id).copied());
            choice.adjusted(logit, seen.unwrap_or_default(), bias.unwrap_or_default())
        };
        let is_allowed = |id: usize| choice.masked == 0 || allows(mask, id);
        let all = logits.iter().enumerate().filter(|(id, _)| is_allowed(*id));
        let candidates = all.map(|(id, logit)| Candidate { id: id as u32, logit: adjusted(id, *logit) });
        self.candidates.clear();
        // Not a number is no candidate either.
        self.candidates.extend(candidates.filter(|candidate| candidate.logit > f32::NEG_INFINITY));
    }

    /// Drops candidates, in the stated order.
    fn truncate(&mut self, choice: &Choice) {
        let Self { sampling, candidates, .. } = self;
        if sampling.top_n_sigma > 0.0 {
            let least = top(candidates) - sampling.top_n_sigma * deviation(candidates);
            candidates.retain(|candidate| candidate.logit >= least);
        }
        if (1..candidates.len()).contains(&sampling.top_k) {
            candidates.select_nth_unstable_by(sampling.top_k - 1, by_likelihood);
            candidates.truncate(sampling.top_k);
        }
        if sampling.typical_p < 1.0 {
            let sum = log_sum(candidates);
            let surprise = |candidate: &Candidate| sum - candidate.logit;
            let entropy: f32 = candidates.iter().map(|c| (-surprise(c)).exp() * surprise(c)).sum();
            let strangeness = |candidate: &Candidate| (surprise(candidate) - entropy).abs();
            let by_strangeness = |a: &Candidate, b: &Candidate| {
                strangeness(a).total_cmp(&strangeness(b)).then_with(|| by_likelihood(a, b))
            };
            keep_mass(candidates, by_strangeness, sum, |mass| mass > sampling.typical_p);
        }
        if sampling.top_p < 1.0 {
            let sum = log_sum(candidates);
            keep_mass(candidates, by_likelihood, sum, |mass| mass >= sampling.top_p);
        }
        if sampling.min_p > 0.0 {
            let least = top(candidates) + sampling.min_p.ln();
            candidates.retain(|candidate| candidate.logit >= least);
        }
        if sampling.applies_xtc() && choice.uniform(XTC) <= sampling.xtc_probability {
            let least = log_sum(candidates) + sampling.xtc_threshold.ln();
            let likely = candidates.iter().filter(|candidate| candidate.logit >= least);
            if let Some(last) = likely.copied().max_by(by_likelihood) {
                candidates.retain(|candidate| by_likelihood(&last, candidate).is_le());
            }
        }
    }

    /// The temperature for the candidates.
    fn temperature(&self) -> f32 {
        let Sampling { temperature, dynatemp_range: range, .. } = self.sampling;
        if range <= 0.0 || self.candidates.len() < 2 {
            return temperature;
        }
        let sum = log_sum(&self.candidates);
        let surprise = |candidate: &Candidate| sum - candidate.logit;
        let entropy: f32 = self.candidates.iter().map(|c| (-surprise(c)).exp() * surprise(c)).sum();
        let share = entropy / (self.candidates.len() as f32).ln();
        let (low, high) = ((temperature - range).max(0.0), temperature + range);
        low + (high - low) * share.powf(self.sampling.dynatemp_exponent)
    }

    /// Picks a token that is not too surprising, and learns from it.
    fn mirostat(&mut self, choice: &Choice) -> u32 {
        let temperature = self.sampling.temperature;
        let candidates = &mut self.candidates;
        if temperature <= 0.0 {
            return race(candidates, temperature, choice);
        }
        candidates.iter_mut().for_each(|candidate| candidate.logit /= temperature);
        let (top, sum) = (top(candidates), log_sum(candidates));
        let least = (sum - self.mu * std::f32::consts::LN_2).min(top);
        candidates.retain(|candidate| candidate.logit >= least);
        let id = race(candidates, 1.0, choice);
        let sum = log_sum(candidates);
        if let Some(picked) = candidates.iter().find(|candidate| candidate.id == id) {
            let surprise = (sum - picked.logit) / std::f32::consts::LN_2;
            self.mu -= self.sampling.mirostat_eta * (surprise - self.sampling.mirostat_tau);
        }
        id
    }
}

/// The likeliest first; of two that are equally likely, the one with the lower id.
fn by_likelihood(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// The highest logit.
fn top(candidates: &[Candidate]) -> f32 {
    candidates.iter().fold(f32::NEG_INFINITY, |top, candidate| top.max(candidate.logit))
}

/// The standard deviation of the logits.
fn deviation(candidates: &[Candidate]) -> f32 {
    let n = candidates.len().max(1) as f64;
    let mean = candidates.iter().map(|candidate| f64::from(candidate.logit)).sum::<f64>() / n;
    let squares = candidates.iter().map(|candidate| (f64::from(candidate.logit) - mean).powi(2));
    (squares.sum::<f64>() / n).sqrt() as f32
}

/// ln Σ exp(l), over all logits l: minus that, a logit is the logarithm of a probability.
fn log_sum(candidates: &[Candidate]) -> f32 {
    let top = top(candidates);
    top + candidates.iter().map(|candidate| (candidate.logit - top).exp()).sum::<f32>().ln()
}

/// Keeps the first candidates of an order until their probability is enough. `sum` is their [`log_sum`].
fn keep_mass(
    candidates: &mut Vec<Candidate>,
    order: impl Fn(&Candidate, &Candidate) -> std::cmp::Ordering + Copy,
    sum: f32,
    is_enough: impl Fn(f32) -> bool,
) {
    let mut n = 0;
    let mut mass = 0.0;
    // Mostly a few are enough: not all are sorted.
    for sorted in std::iter::successors(Some(64), |sorted| Some(sorted * 8)) {
        let rest = &mut candidates[n..];
        if sorted < rest.len() {
            rest.select_nth_unstable_by(sorted, order);
        }
        let first = rest.len().min(sorted);
        rest[..first].sort_unstable_by(order);
        for candidate in &rest[..first] {
            n += 1;
            mass += (candidate.logit - sum).exp();
            if is_enough(mass) {
                candidates.truncate(n);
                return;
            }
        }
        if n == candidates.len() {
            return;
        }
    }
}

/// Picks a candidate by the race that [`Choice`] describes.
fn race(candidates: &[Candidate], temperature: f32, choice: &Choice) -> u32 {
    let top = top(candidates);
    let score = |candidate: &Candidate| match temperature > 0.0 {
        true => (candidate.logit - top) / temperature - choice.arrival(candidate.id).ln(),
        false => candidate.logit,
    };
    let scored = candidates.iter().map(|candidate| (score(candidate), candidate.id));
    let winner = scored.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    winner.map_or(0, |(_, id)| id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
