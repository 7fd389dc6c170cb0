//! How likely the model holds tokens, in the shape of OpenAI's API.

use crate::text::Tokenizer;
use serde::Serialize;

/// Most alternatives to a token, as in OpenAI's API.
pub const MAX_TOP_LOGPROBS: usize = 20;
/// What stands for the logarithm of 0, which JSON cannot hold; OpenAI's value.
const NEVER: f32 = -9999.0;

/// A token, and how likely it was by the model's own distribution: before penalties, biases, constraints,
/// temperature and samplers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenLogprob {
    /// What it is.
    #[serde(flatten)]
    pub token: Spelled,
    /// ln p; none for the first token of a text, which nothing predicts.
    pub logprob: Option<f32>,
    /// The likeliest tokens in its place, the likeliest first.
    pub top_logprobs: Vec<TopLogprob>,
}

/// One of the likeliest tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TopLogprob {
    /// What it is.
    #[serde(flatten)]
    pub token: Spelled,
    /// ln p.
    pub logprob: f32,
}

/// A token's text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spelled {
    /// Its text, with U+FFFD for bytes that are no whole character; a control token's name.
    pub token: String,
    /// Its bytes in the text.
    pub bytes: Vec<u8>,
}

impl Spelled {
    /// The text of a token.
    pub fn new(id: u32, tokenizer: &Tokenizer) -> Self {
        let bytes = match tokenizer.control_name(id) {
            Some(name) => name.into_bytes(),
            None => tokenizer.token_bytes(id),
        };
        Self { token: String::from_utf8_lossy(&bytes).into_owned(), bytes }
    }
}

impl TokenLogprob {
    /// A token that nothing predicts.
    pub fn first(id: u32, tokenizer: &Tokenizer) -> Self {
        Self { token: Spelled::new(id, tokenizer), logprob: None, top_logprobs: Vec::new() }
    }

    /// A token in the place that these logits are for, and the `top` likeliest ones there.
    pub fn of(id: u32, logits: &[f32], top: usize, tokenizer: &Tokenizer) -> Self {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|logit| f64::from(logit - highest).exp()).sum();
        let norm = f64::from(highest) + sum.ln();
        let logprob = |logit: f32| match f64::from(logit) - norm {
            ln_p if ln_p.is_finite() => (ln_p as f32).max(NEVER),
            _ => NEVER,
        };
        let mut order: Vec<u32> = if top == 0 { Vec::new() } else { (0..logits.len() as u32).collect() };
        let logit = |id: u32| logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        let by_likelihood = |a: &u32, b: &u32| logit(*b).total_cmp(&logit(*a)).then(a.cmp(b));
        if (1..order.len()).contains(&top) {
            order.select_nth_unstable_by(top - 1, by_likelihood);
        }
        order.truncate(top);
        order.sort_unstable_by(by_likelihood);
        let likeliest = order.into_iter();
        let top_logprobs = likeliest
            .map(|id| TopLogprob { token: Spelled::new(id, tokenizer), logprob: logprob(logit(id)) })
            .collect();
        Self { token: Spelled::new(id, tokenizer), logprob: Some(logprob(logit(id))), top_logprobs }
    }
}
