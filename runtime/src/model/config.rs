//! A model's hyperparameters, read from GGUF metadata and checked before they are used as sizes.

use super::{ModelError, Windows, family};
use crate::gguf::Metadata;
use crate::quant::BLOCK;

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
    /// Added to the mean square in RMSNorm.
    pub norm_eps: f32,
    /// Tokens of the vocabulary.
    pub n_vocab: usize,
    /// Positions that the model was trained for.
    pub context_length: usize,
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
    /// Positions are multiplied by this before rotation (linear context scaling).
    pub rope_scale: f64,
}

/// Far above any published model, and too small to overflow.
const MAX_DIMENSION: u64 = 1 << 20;
const MAX_LAYERS: usize = 1024;

impl Config {
    /// Reads the dimensions; `n_vocab` is the length of the file's vocabulary.
    pub fn from_metadata(metadata: &Metadata, n_vocab: usize) -> Result<Self, ModelError> {
        let architecture =
            metadata.str("general.architecture").ok_or_else(|| missing("general.architecture"))?.to_string();
        let family = family(&architecture)?;
        let key = |name: &str| format!("{architecture}.{name}");
        let optional = |name: &str| -> Result<Option<usize>, ModelError> {
            let name = key(name);
            match (metadata.get(&name), metadata.u64(&name)) {
                (None, _) => Ok(None),
                (Some(_), Some(n)) if n > 0 && n <= MAX_DIMENSION => Ok(Some(n as usize)),
                _ => Err(ModelError::Inconsistent(format!(
                    "{name} must be a number from 1 to {MAX_DIMENSION}"
                ))),
            }
        };
        let required = |name: &str| optional(name)?.ok_or_else(|| missing(&key(name)));

        if metadata.u64(&key("expert_count")).is_some_and(|n| n > 0) {
            return Err(ModelError::Feature("a mixture of experts".into()));
        }
        let n_embd = required("embedding_length")?;
        let n_heads = required("attention.head_count")?;
        let n_kv_heads = optional("attention.head_count_kv")?.unwrap_or(n_heads);
        let head_dim = match optional("attention.key_length")? {
            Some(n) => n,
            None if n_embd.is_multiple_of(n_heads) => n_embd / n_heads,
            None => {
                return Err(ModelError::Inconsistent(format!(
                    "embedding_length {n_embd} is not a multiple of {n_heads} heads"
                )));
            }
        };
        if optional("attention.value_length")?.is_some_and(|n| n != head_dim) {
            return Err(ModelError::Feature("keys and values of different lengths".into()));
        }
        let n_layers = required("block_count")?;
        if n_layers > MAX_LAYERS {
            return Err(ModelError::Inconsistent(format!(
                "block_count is {n_layers}, but at most {MAX_LAYERS} layers are allowed"
            )));
        }
        let layer = LayerConfig {
            n_heads,
            n_kv_heads,
            n_ff: required("feed_forward_length")?,
            window: 0,
            rope_base: f64::from(metadata.f32(&key("rope.freq_base")).unwrap_or(10_000.0)),
            rope_scale: rope_scale(metadata, &architecture)?,
        };
        let mut layers = vec![layer; n_layers];
        set_windows(&mut layers, family.windows, metadata, &architecture)?;
        let config = Self {
            layers,
            n_embd,
            head_dim,
            n_rot: optional("rope.dimension_count")?.unwrap_or(head_dim),
            norm_eps: metadata
                .f32(&key("attention.layer_norm_rms_epsilon"))
                .ok_or_else(|| missing(&key("attention.layer_norm_rms_epsilon")))?,
            n_vocab,
            context_length: required("context_length")?,
            architecture,
        };
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
        let is_whole = |name: &str, n: usize| match n.is_multiple_of(BLOCK) {
            true => Ok(()),
            false => Err(ModelError::Feature(format!("{name} of {n}, not a multiple of {BLOCK}"))),
        };
        is_whole("embedding_length", self.n_embd)?;
        for &LayerConfig { n_heads, n_kv_heads, n_ff, rope_base, .. } in &self.layers {
            if !n_heads.is_multiple_of(n_kv_heads) {
                return bad(format!("{n_heads} heads are not a multiple of {n_kv_heads} key/value heads"));
            }
            is_whole("feed_forward_length", n_ff)?;
            is_whole("heads times head length", n_heads * self.head_dim)?;
            is_whole("key/value heads times head length", n_kv_heads * self.head_dim)?;
            if !(rope_base.is_finite() && rope_base > 0.0) {
                return bad(format!("rope.freq_base or rope.freq_base_swa is {rope_base}"));
            }
        }
        if !(self.norm_eps.is_finite() && self.norm_eps >= 0.0) {
            return bad(format!("layer_norm_rms_epsilon is {}", self.norm_eps));
        }
        Ok(())
    }

    /// Turns (of 2π) per position for each rotary pair: base^(−2i/n_rot) / 2π (arXiv 2104.09864, section
    /// 3.2.2).
    pub fn rope_turns(&self, layer: usize) -> Vec<f32> {
        let LayerConfig { rope_base, rope_scale, .. } = self.layers[layer];
        (0..self.n_rot / 2)
            .map(|i| {
                let frequency = rope_base.powf(-2.0 * i as f64 / self.n_rot as f64);
                (frequency * rope_scale / std::f64::consts::TAU) as f32
            })
            .collect()
    }
}

/// Gives the layers of a model with sliding windows their windows.
fn set_windows(
    layers: &mut [LayerConfig],
    windows: Windows,
    metadata: &Metadata,
    architecture: &str,
) -> Result<(), ModelError> {
    let key = |name: &str| format!("{architecture}.{name}");
    let name = key("attention.sliding_window");
    let window = match (metadata.get(&name), metadata.u32(&name)) {
        (None, _) | (_, Some(0)) => return Ok(()),
        (_, Some(window)) => window,
        _ => return Err(ModelError::Inconsistent(format!("{name} is not a number of positions"))),
    };
    let has_window = match windows {
        Windows::Unknown => return Err(ModelError::Feature("sliding-window attention".into())),
        Windows::All => vec![true; layers.len()],
        Windows::AllBut(period) => {
            window_pattern(metadata, &key("attention.sliding_window_pattern"), period, layers.len())?
        }
    };
    for (layer, _) in layers.iter_mut().zip(has_window).filter(|(_, has_window)| *has_window) {
        layer.window = window;
        if let Windows::AllBut(_) = windows {
            let base = metadata.f32(&key("rope.freq_base_swa"));
            layer.rope_base = base.map_or(layer.rope_base, f64::from);
            layer.rope_scale = 1.0;
        }
    }
    Ok(())
}

/// Whether each layer has a window. The metadata may have a flag for each layer, or a period n: all layers
/// have one but every nth (0: all).
fn window_pattern(
    metadata: &Metadata,
    key: &str,
    period: u32,
    n_layers: usize,
) -> Result<Vec<bool>, ModelError> {
    let period = match (metadata.get(key), metadata.bools(key), metadata.u32(key)) {
        (None, ..) => period,
        (_, Some(flags), _) if flags.len() == n_layers => return Ok(flags.to_vec()),
        (_, _, Some(period)) => period,
        _ => {
            let message = format!("{key} is neither a period nor a flag for each of {n_layers} layers");
            return Err(ModelError::Inconsistent(message));
        }
    };
    Ok((1..=n_layers).map(|n| period == 0 || !n.is_multiple_of(period as usize)).collect())
}

fn rope_scale(metadata: &Metadata, architecture: &str) -> Result<f64, ModelError> {
    let factor = metadata.f32(&format!("{architecture}.rope.scaling.factor"));
    match metadata.str(&format!("{architecture}.rope.scaling.type")) {
        None | Some("none") => Ok(1.0),
        Some("linear") => match factor {
            Some(f) if f.is_finite() && f > 0.0 => Ok(1.0 / f64::from(f)),
            _ => Err(ModelError::Inconsistent("linear rope scaling needs a positive factor".into())),
        },
        Some(other) => Err(ModelError::Feature(format!("rope scaling of type \"{other}\""))),
    }
}

fn missing(key: &str) -> ModelError {
    ModelError::Inconsistent(format!("the metadata key {key} is missing"))
}
