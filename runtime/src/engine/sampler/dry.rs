//! DRY ("don't repeat yourself"): penalties for tokens that would make a repetition longer.

use super::{Sampling, Spell};
use std::collections::HashMap;

/// What DRY knows of a text.
#[derive(Debug)]
pub(super) struct Dry {
    multiplier: f32,
    base: f32,
    allowed_length: usize,
    /// How many of the last tokens count.
    last_n: usize,
    breakers: Vec<Vec<u8>>,
    /// The tokens of prompt and answer.
    tokens: Vec<u32>,
    /// Tokens up to and with the last one that ends a breaker.
    broken: usize,
    /// The end of the text, one byte shorter than the longest breaker.
    tail: Vec<u8>,
}

impl Dry {
    pub fn new(sampling: &Sampling) -> Self {
        Self {
            multiplier: sampling.dry_multiplier,
            base: sampling.dry_base,
            allowed_length: sampling.dry_allowed_length,
            last_n: usize::try_from(sampling.dry_penalty_last_n).unwrap_or(usize::MAX),
            breakers: sampling.dry_sequence_breakers.iter().map(|text| text.clone().into_bytes()).collect(),
            tokens: Vec::new(),
            broken: 0,
            tail: Vec::new(),
        }
    }

    /// Appends a token to the text.
    pub fn push(&mut self, id: u32, bytes: &[u8]) {
        self.tokens.push(id);
        let known = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let ends_here = |breaker: &Vec<u8>| {
            let from = known.saturating_sub(breaker.len().saturating_sub(1));
            contains(&self.tail[from..], breaker)
        };
        if self.breakers.iter().any(ends_here) {
            self.broken = self.tokens.len();
        }
        let longest = self.breakers.iter().map(Vec::len).max().unwrap_or(1);
        self.tail.drain(..self.tail.len().saturating_sub(longest.saturating_sub(1)));
    }

    /// What is subtracted from the logits of the next token.
    pub fn penalties(&self, spell: Spell) -> Vec<(u32, f32)> {
        let last = self.tokens.len().min(self.last_n);
        let limit = last.min(self.tokens.len() - self.broken);
        if last <= self.allowed_length || limit < self.allowed_length {
            return Vec::new();
        }
        // The longest repetition that each token would continue.
        let mut longest: HashMap<u32, usize> = HashMap::new();
        let backwards: Vec<u32> = self.tokens.iter().rev().take(last).copied().collect();
        for (distance, repeated) in common_prefixes(&backwards).into_iter().enumerate().skip(1) {
            let repeated = repeated.min(limit);
            if repeated >= self.allowed_length {
                let known = longest.entry(backwards[distance - 1]).or_default();
                *known = repeated.max(*known);
            }
        }
        let penalty = |n: usize| {
            let exponent = (n - self.allowed_length).min(i32::MAX as usize) as i32;
            (self.multiplier * self.base.powi(exponent)).min(f32::MAX)
        };
        let is_breaker = |id: u32| {
            let bytes = spell(id);
            self.breakers.iter().any(|breaker| contains(&bytes, breaker))
        };
        let longest = longest.into_iter().filter(|(id, _)| !is_breaker(*id));
        longest.map(|(id, n)| (id, penalty(n))).collect()
    }
}

/// Whether a text has this part; no part is empty.
fn contains(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// For each place of a list, how many elements from there on are those at its beginning: the Z function, in
/// linear time (Gusfield, Algorithms on Strings, Trees, and Sequences, 1.4).
fn common_prefixes(list: &[u32]) -> Vec<usize> {
    let n = list.len();
    let mut lengths = vec![n; n];
    // The stretch that ends last of those that equal the beginning.
    let (mut from, mut to) = (0, 0);
    for i in 1..n {
        let mut length = if i < to { lengths[i - from].min(to - i) } else { 0 };
        while i + length < n && list[i + length] == list[length] {
            length += 1;
        }
        lengths[i] = length;
        if i + length > to {
            (from, to) = (i, i + length);
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens 0, 1, ... are spelled `a`, `b`, ...
    const SPELL: Spell = &|id| vec![b'a' + id as u8];

    fn penalties(change: fn(&mut Sampling), tokens: &[u32]) -> Vec<(u32, f32)> {
        let mut sampling = Sampling {
            dry_multiplier: 1.0,
            dry_base: 1.1,
            dry_penalty_last_n: -1,
            dry_sequence_breakers: Vec::new(),
            ..Default::default()
        };
        change(&mut sampling);
        let mut dry = Dry::new(&sampling);
        tokens.iter().for_each(|id| dry.push(*id, &SPELL(*id)));
        let mut penalties = dry.penalties(SPELL);
        penalties.sort_by_key(|(id, _)| *id);
        penalties
    }

    fn breaker(text: &str) -> Vec<String> {
        vec![text.into()]
    }

    /// The examples of llama.cpp's tests/test-sampling.cpp: their probabilities are those of these penalties.
    #[test]
    fn llama_cpps_examples() {
        assert_eq!(penalties(|_| (), &[0, 1]), []);
        assert_eq!(penalties(|_| (), &[0, 1, 2, 0, 1]), [(2, 1.0)]);
        assert_eq!(penalties(|s| s.dry_sequence_breakers = breaker("d"), &[0, 1, 3, 4, 0, 1]), []);
        assert_eq!(penalties(|s| s.dry_multiplier = 2.0, &[0, 1, 2, 0, 1]), [(2, 2.0)]);
        assert_eq!(penalties(|s| s.dry_allowed_length = 4, &[0, 1, 2, 3, 4, 0, 1]), []);
    }

    /// The example in the comments of llama.cpp's sampler: a b c c b c y a b c.
    #[test]
    fn repetitions_of_several_lengths() {
        let text = [0, 1, 2, 2, 1, 2, 24, 0, 1, 2];
        assert_eq!(penalties(|_| (), &text), [(2, 1.1), (24, 1.0)]);
        assert_eq!(penalties(|s| s.dry_allowed_length = 3, &text), [(2, 1.0)]);
        let one = penalties(|s| (s.dry_allowed_length, s.dry_base) = (1, 2.0), &text);
        assert_eq!(one, [(1, 1.0), (2, 4.0), (24, 2.0)]);
        // The last five tokens are c y a b c: nothing of two tokens repeats. The last six have b c twice.
        assert_eq!(penalties(|s| s.dry_penalty_last_n = 5, &text), []);
        assert_eq!(penalties(|s| s.dry_penalty_last_n = 6, &text), [(24, 1.0)]);
    }

    #[test]
    fn a_breaker_limits_what_counts() {
        // Without it, five tokens repeat. After the last c, two do.
        let text = [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4];
        assert_eq!(penalties(|_| (), &text), [(5, 1.1_f32.powi(3))]);
        assert_eq!(penalties(|s| s.dry_sequence_breakers = breaker("c"), &text), [(5, 1.0)]);
        assert_eq!(penalties(|s| s.dry_sequence_breakers = breaker("d"), &text), []);
        // A breaker of several tokens, whose last is c.
        assert_eq!(penalties(|s| s.dry_sequence_breakers = breaker("bc"), &text), [(5, 1.0)]);
        // A long one beside it does not make it count again later.
        let both = |s: &mut Sampling| s.dry_sequence_breakers = ["c", "zzzzzz"].map(String::from).to_vec();
        assert_eq!(penalties(both, &text), [(5, 1.0)]);
        // A token that is a breaker gets no penalty.
        assert_eq!(penalties(|s| s.dry_sequence_breakers = breaker("f"), &text), []);
        // One that never comes changes nothing.
        assert_eq!(penalties(|s| s.dry_sequence_breakers = breaker("ca"), &text), [(5, 1.1_f32.powi(3))]);
    }

    #[test]
    fn long_repetitions_have_a_penalty_that_is_finite() {
        let text = [3; 3000];
        assert_eq!(penalties(|s| s.dry_base = 2.0, &text), [(3, f32::MAX)]);
    }

    #[test]
    fn common_prefixes_are_those_found_one_by_one() {
        let mut random = crate::graph::testing::Random(4);
        for n in 0..40 {
            let list: Vec<u32> = (0..n).map(|_| (random.bits() >> 20) as u32 % 2).collect();
            let found = common_prefixes(&list);
            for (i, found) in found.into_iter().enumerate() {
                let expected = list[i..].iter().zip(&list).take_while(|(a, b)| a == b).count();
                assert_eq!(found, expected, "at {i} of {list:?}");
            }
        }
    }
}
