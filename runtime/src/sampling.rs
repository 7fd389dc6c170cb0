//! The options of `nomoat run` that say how tokens are chosen. Names and meanings are those of requests.

use nomoat_runtime::engine::Sampling;

#[derive(clap::Args)]
#[command(next_help_heading = "Sampling, in this order, the temperature last")]
pub struct Args {
    /// Sampling temperature; 0 always takes the most likely token.
    #[arg(short, long, default_value_t = 0.0)]
    temperature: f32,
    /// Seed for sampling; the same seed gives the same answer.
    #[arg(long)]
    seed: Option<u64>,
    /// Divides the logits of tokens seen in prompt or answer.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Subtracted from the logits of tokens that the answer has.
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    presence_penalty: f32,
    /// Subtracted from the logits of tokens for each time that the answer has them.
    #[arg(long, default_value_t = 0.0, allow_hyphen_values = true)]
    frequency_penalty: f32,
    /// DRY: strength of the penalty for tokens that make a repetition longer; 0 is off.
    #[arg(long, default_value_t = 0.0)]
    dry_multiplier: f32,
    /// DRY: how fast the penalty grows with the repetition.
    #[arg(long, default_value_t = 1.75)]
    dry_base: f32,
    /// DRY: repetitions of fewer tokens are free.
    #[arg(long, default_value_t = 2)]
    dry_allowed_length: usize,
    /// DRY: how many of the last tokens count; -1 for all.
    #[arg(long, default_value_t = 64, allow_hyphen_values = true)]
    dry_penalty_last_n: i64,
    /// DRY: a text at which repetitions end; can be repeated [default: newline, colon, quote, star].
    #[arg(long = "dry-sequence-breaker")]
    dry_sequence_breakers: Vec<String>,
    /// Keep tokens at most this many standard deviations below the likeliest; 0 is off.
    #[arg(long, default_value_t = 0.0)]
    top_n_sigma: f32,
    /// Keep this many of the likeliest tokens; 0 for all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Keep the most typical tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    typical_p: f32,
    /// Keep the likeliest tokens that together have this probability.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Keep tokens at least this likely relative to the likeliest.
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// How often XTC leaves out the likeliest tokens; 0 is off.
    #[arg(long, default_value_t = 0.0)]
    xtc_probability: f32,
    /// Probability from which on XTC leaves out tokens.
    #[arg(long, default_value_t = 0.1)]
    xtc_threshold: f32,
    /// The temperature varies by this with the entropy; 0 is off.
    #[arg(long, default_value_t = 0.0)]
    dynatemp_range: f32,
    /// How the temperature follows the entropy.
    #[arg(long, default_value_t = 1.0)]
    dynatemp_exponent: f32,
    /// 2 for mirostat 2, instead of samplers that keep some tokens.
    #[arg(long, default_value_t = 0)]
    mirostat: u32,
    /// Surprise that mirostat aims at, in bits.
    #[arg(long, default_value_t = 5.0)]
    mirostat_tau: f32,
    /// How fast mirostat learns.
    #[arg(long, default_value_t = 0.1)]
    mirostat_eta: f32,
}

impl Args {
    /// As a request has them.
    pub fn settings(self) -> Sampling {
        let usual = Sampling::default();
        let breakers = self.dry_sequence_breakers;
        Sampling {
            temperature: self.temperature,
            seed: self.seed,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            dry_multiplier: self.dry_multiplier,
            dry_base: self.dry_base,
            dry_allowed_length: self.dry_allowed_length,
            dry_penalty_last_n: self.dry_penalty_last_n,
            dry_sequence_breakers: if breakers.is_empty() { usual.dry_sequence_breakers } else { breakers },
            top_n_sigma: self.top_n_sigma,
            top_k: self.top_k,
            typical_p: self.typical_p,
            top_p: self.top_p,
            min_p: self.min_p,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            dynatemp_range: self.dynatemp_range,
            dynatemp_exponent: self.dynatemp_exponent,
            mirostat: self.mirostat,
            mirostat_tau: self.mirostat_tau,
            mirostat_eta: self.mirostat_eta,
            logit_bias: usual.logit_bias,
        }
    }
}
