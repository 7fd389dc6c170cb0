//! How a token is chosen from logits. This code is the reference for all devices.
//!
//! First, penalties and biases are applied to the logits. Then top-k, top-p and min-p remove unlikely tokens,
//! and the temperature divides the logits of the rest; this is llama.cpp's order. The rest run a race: a
//! token of probability p arrives after an exponentially distributed time of mean 1/p, and the first to
//! arrive wins. Each token wins with its probability (the Gumbel-max trick, arXiv 2110.01515, section 2).
//! Random numbers depend only on the seed, the token's number in the answer and the token's id. So all
//! devices draw the same numbers, and an answer that is resumed continues as it would have.

use serde::Serialize;

/// The bit of `seen` for a token in the prompt. The other bits count its occurrences in the answer.
pub const IN_PROMPT: u32 = 1 << 31;

/// Bins of the histogram for top-k and top-p. A token's bin is how far its logit is below the highest.
pub const BINS: usize = 2048;
/// Width of a bin, in nats. Tokens in the same bin are kept or dropped together.
pub const BIN: f32 = 0.01;
/// Tokens so far below the likeliest, in nats after temperature, are too unlikely to win.
const FAR: f32 = BINS as f32 * BIN;

/// The parameters of a choice, in the layout that kernels read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Choice {
    /// Divides the logits of the tokens that are kept; 0 always takes the likeliest token.
    pub temperature: f32,
    /// Keep the likeliest tokens that together have this probability (arXiv 1904.09751); 1: all.
    pub top_p: f32,
    /// Keep tokens at least this likely relative to the likeliest (arXiv 2407.01082); 0: all.
    pub min_p: f32,
    /// Keep this many of the likeliest tokens; 0: all.
    pub top_k: u32,
    /// Divides positive and multiplies negative logits of seen tokens (arXiv 1909.05858); 1: off.
    pub repetition_penalty: f32,
    /// Subtracted from the logit of every token in the answer.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token once per occurrence in the answer.
    pub frequency_penalty: f32,
    /// 1 if penalties or biases change any logit, otherwise 0.
    pub adjusts: u32,
    /// Lower and upper half of the seed.
    pub seed: [u32; 2],
    /// The token's number in the answer.
    pub counter: u32,
    /// 1 if the slot's mask says which tokens may be chosen, 0 if all may.
    pub masked: u32,
}

/// Whether a mask allows a token. A mask has a bit for each token, the first in the lowest bit of the first
/// word.
pub fn allows(mask: &[u32], id: usize) -> bool {
    mask.get(id / 32).is_some_and(|word| word >> (id % 32) & 1 != 0)
}

impl Choice {
    /// Whether top-k or top-p is on. Tokens must then be counted by depth.
    pub fn truncates(&self) -> bool {
        self.temperature > 0.0 && (self.top_k > 0 || self.top_p < 1.0)
    }

    /// A logit with penalties and bias applied.
    pub fn adjusted(&self, logit: f32, seen: u32, bias: f32) -> f32 {
        if self.adjusts == 0 {
            return logit;
        }
        let mut logit = logit;
        if seen != 0 {
            logit =
                if logit > 0.0 { logit / self.repetition_penalty } else { logit * self.repetition_penalty };
        }
        let count = seen & !IN_PROMPT;
        if count > 0 {
            logit -= self.presence_penalty + self.frequency_penalty * count as f32;
        }
        logit + bias
    }

    /// Chooses a token. `seen` and `bias` have one number per token, or are empty if `adjusts` is 0. `mask`
    /// is as for [`allows`], or empty if `masked` is 0; if it allows no token, any may come. The logits are
    /// adjusted in place.
    pub fn choose(&self, logits: &mut [f32], seen: &[u32], bias: &[f32], mask: &[u32]) -> u32 {
        if self.adjusts != 0 {
            for ((logit, seen), bias) in logits.iter_mut().zip(seen).zip(bias) {
                *logit = self.adjusted(*logit, *seen, *bias);
            }
        }
        if self.masked != 0 {
            for (_, logit) in logits.iter_mut().enumerate().filter(|(id, _)| !allows(mask, *id)) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let (likeliest, top) = logits
            .iter()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (i, x)| if *x > best.1 { (i, *x) } else { best });
        if self.temperature == 0.0 {
            return likeliest as u32;
        }
        let depth = |logit: f32| top - logit;
        let mut cut = FAR * self.temperature;
        if self.truncates() {
            let mut counts = vec![0; BINS];
            for logit in logits.iter() {
                let bin = depth(*logit) / BIN;
                if bin < BINS as f32 {
                    counts[bin as usize] += 1;
                }
            }
            cut = cut.min(self.cut(&counts));
        }
        if self.min_p > 0.0 {
            cut = cut.min(-self.min_p.ln());
        }
        let mut winner = (likeliest, f32::NEG_INFINITY);
        for (i, logit) in logits.iter().enumerate() {
            let depth = depth(*logit);
            if depth <= cut {
                let score = -depth / self.temperature - self.arrival(i as u32).ln();
                winner = if score > winner.1 { (i, score) } else { winner };
            }
        }
        winner.0 as u32
    }

    /// The depth, in nats before temperature, up to which top-k and top-p keep tokens. `counts` is the number
    /// of tokens per bin. If they keep the last bin, they keep all.
    fn cut(&self, counts: &[u32]) -> f32 {
        let mass = |bin: usize| counts[bin] as f32 * (-(bin as f32 + 0.5) * BIN).exp();
        let mut kept = BINS;
        if self.top_k > 0 {
            let mut n = 0;
            let full = counts.iter().position(|count| {
                n += count;
                n >= self.top_k
            });
            kept = full.map_or(BINS, |bin| bin + 1);
        }
        if self.top_p < 1.0 {
            let total: f32 = (0..kept).map(mass).sum();
            let mut sum = 0.0;
            let full = (0..kept).position(|bin| {
                sum += mass(bin);
                sum >= self.top_p * total
            });
            kept = full.map_or(kept, |bin| bin + 1);
        }
        if kept == BINS { f32::INFINITY } else { kept as f32 * BIN }
    }

    /// A random number between 0 and 1, never either of them, for this token of the answer. Each id has its
    /// own.
    pub fn uniform(&self, id: u32) -> f32 {
        let [low, high] = self.seed;
        // 23 bits plus one half.
        ((pcg4d([low, high, self.counter, id]) >> 9) as f32 + 0.5) / (1 << 23) as f32
    }

    /// Arrival time of a token of weight 1: exponentially distributed with mean 1.
    pub fn arrival(&self, id: u32) -> f32 {
        let v = self.uniform(id);
        // GPUs compute logarithms near 1 only to 2^-21; a series is more precise.
        if v < 0.01 { v * (1.0 + v * (0.5 + v / 3.0)) } else { -(1.0 - v).ln() }
    }
}

/// The first word of the hash pcg4d (Jarzynski and Olano, Hash Functions for GPU Rendering, JCGT 9(3), 2020).
fn pcg4d(v: [u32; 4]) -> u32 {
    let [mut x, mut y, mut z, mut w] = v.map(|v| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let mut mix = |shift: u32| {
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
        if shift > 0 {
            [x, y, z, w] = [x, y, z, w].map(|v| v ^ (v >> shift));
        }
        x
    };
    mix(16);
    mix(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Choice = Choice {
        temperature: 1.0,
        top_p: 1.0,
        min_p: 0.0,
        top_k: 0,
        repetition_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        adjusts: 0,
        seed: [7, 0],
        counter: 0,
        masked: 0,
    };

    /// The share of each token in 20,000 choices from these logits, with consecutive counters.
    fn shares(choice: Choice, logits: &[f32]) -> Vec<f64> {
        let mut counts = vec![0.0; logits.len()];
        for counter in 0..20_000 {
            let id = Choice { counter, ..choice }.choose(&mut logits.to_vec(), &[], &[], &[]);
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
        close(&shares(PLAIN, &logits), &[0.5, 0.3, 0.2]);
        // p^(1/0.5), normalised: 0.25, 0.09, 0.04 of 0.38.
        close(&shares(Choice { temperature: 0.5, ..PLAIN }, &logits), &[0.658, 0.237, 0.105]);
    }

    /// Many unlikely tokens together are chosen as often as their total probability says.
    #[test]
    fn the_tail_counts() {
        let mut logits = vec![0.0; 1001];
        logits[0] = 1000_f32.ln();
        let found = shares(PLAIN, &logits);
        close(&[found[0], found[1..].iter().sum()], &[0.5, 0.5]);
        // Also where it lies beyond the last bin: 30.8 nats before temperature.
        let mut logits = vec![0.0; 2204];
        logits[0] = 4.0 * 2203_f32.ln();
        let hot = Choice { temperature: 4.0, top_k: 2204, ..PLAIN };
        let found = shares(hot, &logits);
        close(&[found[0], found[1..].iter().sum()], &[0.5, 0.5]);
    }

    #[test]
    fn truncation() {
        let logits = [0.4_f32, 0.3, 0.2, 0.1].map(f32::ln);
        close(&shares(Choice { top_k: 2, ..PLAIN }, &logits), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        close(&shares(Choice { top_p: 0.6, ..PLAIN }, &logits), &[4.0 / 7.0, 3.0 / 7.0, 0.0, 0.0]);
        close(&shares(Choice { min_p: 0.45, ..PLAIN }, &logits), &[4.0 / 9.0, 3.0 / 9.0, 2.0 / 9.0, 0.0]);
        close(&shares(Choice { top_p: 0.0, ..PLAIN }, &logits), &[1.0, 0.0, 0.0, 0.0]);
        // What is kept does not depend on the temperature, which comes last: √0.4 and √0.3 of their sum.
        let warm = Choice { temperature: 2.0, top_p: 0.6, ..PLAIN };
        close(&shares(warm, &logits), &[0.536, 0.464, 0.0, 0.0]);
        let warm = Choice { temperature: 2.0, min_p: 0.7, ..PLAIN };
        close(&shares(warm, &logits), &[0.536, 0.464, 0.0, 0.0]);
        // top_k keeps two tokens. The first has 4/7 of their mass, so top_p drops the second.
        close(&shares(Choice { top_k: 2, top_p: 0.5, ..PLAIN }, &logits), &[1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn penalties_and_bias() {
        let greedy = Choice { temperature: 0.0, adjusts: 1, ..PLAIN };
        let choose = |choice: Choice, seen: [u32; 3], bias: [f32; 3]| {
            choice.choose(&mut [2.0, 1.5, -1.0], &seen, &bias, &[])
        };
        let none = [0.0; 3];
        assert_eq!(choose(greedy, [IN_PROMPT | 1, 0, 0], none), 0);
        assert_eq!(choose(Choice { repetition_penalty: 1.5, ..greedy }, [IN_PROMPT, 0, 0], none), 1);
        assert_eq!(choose(Choice { repetition_penalty: 1.5, ..greedy }, [1, 0, 0], none), 1);
        assert_eq!(choose(Choice { presence_penalty: 0.6, ..greedy }, [IN_PROMPT, 0, 0], none), 0);
        assert_eq!(choose(Choice { presence_penalty: 0.6, ..greedy }, [2, 0, 0], none), 1);
        assert_eq!(choose(Choice { frequency_penalty: 0.3, ..greedy }, [1, 0, 0], none), 0);
        assert_eq!(choose(Choice { frequency_penalty: 0.3, ..greedy }, [2, 0, 0], none), 1);
        assert_eq!(choose(greedy, [0; 3], [0.0, 0.0, 4.0]), 2);
    }

    /// What the mask leaves is chosen from as if there were nothing else: the cuts are relative to it.
    #[test]
    fn masks() {
        let masked = Choice { masked: 1, ..PLAIN };
        let logits = [0.4_f32, 0.3, 0.2, 0.1].map(f32::ln);
        let choose = |choice: Choice, mask: u32| choice.choose(&mut logits.clone(), &[], &[], &[mask]);
        assert_eq!(choose(Choice { temperature: 0.0, ..masked }, 0b1010), 1);
        let shares = |choice: Choice, mask: u32| {
            let chosen = (0..20_000).map(|counter| choose(Choice { counter, ..choice }, mask));
            chosen.fold([0.0; 4], |mut shares, id| {
                shares[id as usize] += 1.0 / 20_000.0;
                shares
            })
        };
        close(&shares(masked, 0b1110), &[0.0, 3.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0]);
        close(&shares(Choice { top_k: 1, ..masked }, 0b1100), &[0.0, 0.0, 1.0, 0.0]);
        close(&shares(Choice { min_p: 0.6, ..masked }, 0b1110), &[0.0, 0.6, 0.4, 0.0]);
        close(&shares(masked, 0b1000), &[0.0, 0.0, 0.0, 1.0]);
        // Without `masked`, the mask of an earlier answer is not looked at.
        assert_eq!(choose(Choice { temperature: 0.0, ..PLAIN }, 0b1000), 0);
        // The mask is applied after biases.
        let biased = Choice { temperature: 0.0, adjusts: 1, ..masked };
        assert_eq!(biased.choose(&mut logits.clone(), &[0; 4], &[0.0, 0.0, 9.0, 99.0], &[0b0110]), 2);
        // Words that are missing allow nothing.
        assert!(allows(&[1, 2], 33) && !allows(&[1, 2], 32) && !allows(&[1, 2], 64));
    }

    /// Expected values come from the paper's listing, run in another language.
    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(pcg4d([0, 0, 0, 0]), 0x0f02_f829);
        assert_eq!(pcg4d([1, 2, 3, 4]), 0x3622_cd16);
        assert_eq!(pcg4d([7, 0, 19_999, 49_151]), 0xa1fd_b41d);
    }
}
