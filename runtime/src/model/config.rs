//! A model's hyperparameters, read from GGUF metadata and checked before they are used as sizes.

use super::ModelError;
use super::experts::{ExpertConfig, experts};
use super::family::{Family, Positions, Windows, WithoutRope, family};
use super::keys::{Keys, Pattern, missing};
use super::rope::{RopeScaling, Scalings, scalings};
use super::traits::{Sizes, Traits};
use crate::gguf::Metadata;
use crate::graph::NormKind;

/// A transformer's dimensions.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `general.architecture`.
    pub architecture: String,
    /// The dimensions that can differ between layers.
    pub layers: Vec<LayerConfig>,
    /// Floats per row of the residual stream.
    pub n_embd: usize,
    /// Floats per head.
    pub head_dim: usize,
    /// Leading floats of a head that are rotated.
    pub n_rot: usize,
    /// Added to the mean square or the variance in norms.
    pub norm_eps: f32,
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// Positions that the model was trained for.
    pub context_length: usize,
    /// Positions that the model was trained for at first, before a longer context.
    pub original_context: usize,
    /// Positions that a sequence will have. Long rope divides frequencies by other numbers where these are
    /// more than [`Self::original_context`].
    pub positions: usize,
    /// Whether frequencies are divided by the tensors of long rope (arXiv 2402.13753).
    pub is_long_rope: bool,
    /// The experts in place of feed-forward layers.
    pub experts: Option<ExpertConfig>,
    /// What only some families have.
    pub traits: Traits,
}

/// The dimensions of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerConfig {
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Floats per row of the feed-forward layer.
    pub n_ff: usize,
    /// Positions that a row attends to, its own included; 0: all.
    pub window: u32,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Scaling of the rotary embedding.
    pub rope_scaling: RopeScaling,
    /// Whether queries and keys are rotated.
    pub has_rope: bool,
}

/// Positions are numbers of 32 bits.
pub(super) const MAX_CONTEXT: u64 = 1 << 30;
const MAX_LAYERS: usize = 1024;

impl Config {
    /// Reads the dimensions; `n_vocab` is the length of the file's vocabulary.
    pub fn from_metadata(metadata: &Metadata, n_vocab: usize) -> Result<Self, ModelError> {
        let keys = Keys::new(metadata)?;
        let family = family(keys.architecture())?;
        let n_embd = keys.required("embedding_length")?;
        if let Some(other) = keys.count("embedding_length_out")?.filter(|n| *n != n_embd) {
            return Err(ModelError::Feature(format!("an output of {other} instead of {n_embd} floats")));
        }
        let n_layers = keys.required("block_count")?;
        if n_layers > MAX_LAYERS {
            return Err(ModelError::Inconsistent(format!(
                "block_count is {n_layers}, but at most {MAX_LAYERS} layers are allowed"
            )));
        }
        let per_layer = |name: &str| keys.per_layer(name, n_layers);
        let required = |name: &str| per_layer(name)?.ok_or_else(|| missing(&keys.key(name)));
        let n_heads = required("attention.head_count")?;
        let n_kv_heads = per_layer("attention.head_count_kv")?.unwrap_or_else(|| n_heads.clone());
        let n_ff = required("feed_forward_length")?;
        let experts = experts(&keys, family, n_ff.first().copied().unwrap_or(1))?;
        let first = n_heads.first().copied().unwrap_or(1);
        let head_dim = match keys.count("attention.key_length")? {
            Some(n) => n,
            None if n_embd.is_multiple_of(first) => n_embd / first,
            None => {
                return Err(ModelError::Inconsistent(format!(
                    "embedding_length {n_embd} is not a multiple of {first} heads"
                )));
            }
        };
        if keys.count("attention.value_length")?.is_some_and(|n| n != head_dim) {
            return Err(ModelError::Feature("keys and values of different lengths".into()));
        }
        let context_length = match keys.u64("context_length")? {
            None => return Err(missing(&keys.key("context_length"))),
            Some(0) => return Err(ModelError::Inconsistent(format!("{} is 0", keys.key("context_length")))),
            Some(n) => n.min(MAX_CONTEXT) as usize,
        };
        let rope_base = f64::from(keys.f32("rope.freq_base")?.unwrap_or(10_000.0));
        let Scalings { scaling: rope_scaling, original_context, is_long_rope } =
            scalings(&keys, context_length)?;
        let sizes = n_heads.into_iter().zip(n_kv_heads).zip(n_ff);
        let layer = |((n_heads, n_kv_heads), n_ff)| LayerConfig {
            n_heads,
            n_kv_heads,
            n_ff,
            window: 0,
            rope_base,
            rope_scaling,
            has_rope: true,
        };
        let mut layers: Vec<LayerConfig> = sizes.map(layer).collect();
        let has_window = set_windows(&mut layers, family.windows, &keys, context_length)?;
        set_rope(&mut layers, family, &has_window);
        let sizes = Sizes { n_embd, n_heads: first, n_layers, original_context };
        let eps = match family.norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        };
        let config = Self {
            layers,
            n_embd,
            head_dim,
            n_rot: keys.count("rope.dimension_count")?.unwrap_or(head_dim),
            norm_eps: keys.f32(eps)?.ok_or_else(|| missing(&keys.key(eps)))?,
            n_vocab,
            context_length,
            original_context,
            positions: context_length,
            is_long_rope,
            experts,
            traits: (family.traits)(&keys, &sizes)?,
            architecture: keys.architecture().to_string(),
        };
        keys.check_unread()?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ModelError> {
        let bad = |what: String| Err(ModelError::Inconsistent(what));
        if !self.head_dim.is_multiple_of(2) || self.head_dim > 512 {
            return Err(ModelError::Feature(format!("heads of {} floats", self.head_dim)));
        }
        if !self.n_rot.is_multiple_of(2) || self.n_rot > self.head_dim {
            return bad(format!(
                "rope.dimension_count is {}, but must be even and at most {}",
                self.n_rot, self.head_dim
            ));
        }
        if self.n_vocab == 0 {
            return bad("the vocabulary is empty".into());
        }
        for (i, &LayerConfig { n_heads, n_kv_heads, rope_base, rope_scaling, .. }) in
            self.layers.iter().enumerate()
        {
            if !n_heads.is_multiple_of(n_kv_heads) {
                return bad(format!("{n_heads} heads are not a multiple of {n_kv_heads} key/value heads"));
            }
            if rope_base <= 0.0 || rope_base <= 1.0 && rope_scaling.ramp.is_some() {
                return bad(format!("rope.freq_base or rope.freq_base_swa is {rope_base}"));
            }
            if self.rope_turns(i).iter().any(|turns| !turns.is_finite()) {
                return bad(format!("rope.freq_base {rope_base} and the scaling give no frequencies"));
            }
        }
        if self.norm_eps < 0.0 {
            return bad(format!("the epsilon of norms is {}", self.norm_eps));
        }
        Ok(())
    }

    /// Turns (of 2π) per position of each rotary pair of a layer, `[n_rot / 2]`.
    pub fn rope_turns(&self, layer: usize) -> Vec<f32> {
        let LayerConfig { rope_base, rope_scaling, .. } = self.layers[layer];
        rope_scaling.turns(rope_base, self.n_rot)
    }
}

/// Gives the layers of a model with sliding windows their windows. Returns which layers have one, even one as
/// long as the context; an empty list if none has.
fn set_windows(
    layers: &mut [LayerConfig],
    windows: Windows,
    keys: &Keys,
    context_length: usize,
) -> Result<Vec<bool>, ModelError> {
    let name = "attention.sliding_window";
    let default = match windows {
        Windows::Some { default, .. } => Some(default),
        Windows::Unknown | Windows::All => None,
    };
    let window = match keys.u64(name)?.or(default) {
        None | Some(0) => return Ok(vec![]),
        // One as long as the context leaves nothing out.
        Some(window) if window >= context_length as u64 => 0,
        Some(window) => window as u32,
    };
    let has_window = match windows {
        Windows::Unknown if window == 0 => return Ok(vec![]),
        Windows::Unknown => return Err(ModelError::Feature("sliding-window attention".into())),
        Windows::All => vec![true; layers.len()],
        Windows::Some { all_but, .. } => {
            let pattern = keys.pattern("attention.sliding_window_pattern", layers.len())?;
            match pattern.unwrap_or(Pattern::Period(all_but)) {
                Pattern::Flags(flags) => flags,
                // All but every nth, or all.
                Pattern::Period(period) => {
                    (1..=layers.len()).map(|n| period == 0 || !n.is_multiple_of(period as usize)).collect()
                }
            }
        }
    };
    let base = keys.f32("rope.freq_base_swa")?;
    for (layer, _) in layers.iter_mut().zip(&has_window).filter(|(_, has_window)| **has_window) {
        layer.window = window;
        if let Windows::Some { base: default, scaled, .. } = windows {
            layer.rope_base = base.map(f64::from).or(default).unwrap_or(layer.rope_base);
            if !scaled {
                layer.rope_scaling = RopeScaling::NONE;
            }
        }
    }
    Ok(has_window)
}

/// Says which layers have rotary embedding.
fn set_rope(layers: &mut [LayerConfig], family: &Family, has_window: &[bool]) {
    let is_rotary = matches!(family.positions, Positions::Neighbours | Positions::Halves);
    for (i, layer) in layers.iter_mut().enumerate() {
        layer.has_rope = is_rotary
            && match family.without_rope {
                WithoutRope::None => true,
                WithoutRope::Every(n) => !(i + 1).is_multiple_of(n),
                WithoutRope::WithoutWindow => has_window.get(i).copied().unwrap_or(true),
            };
    }
}
