//! What only some families have, and their files say in metadata: scales, caps and limits.

use super::ModelError;
use super::keys::{Keys, missing};
use crate::graph::Growth;

/// What only some families have. Most have none of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Traits {
    /// Factor on embeddings.
    pub embedding_scale: f32,
    /// Factor on what a layer adds to the residual stream.
    pub residual_scale: f32,
    /// Factor on logits.
    pub logit_scale: f32,
    /// Factor on q·k, instead of `1 / sqrt(head_dim)`.
    pub score_scale: Option<f32>,
    /// How that factor grows with the position.
    pub growth: Option<Growth>,
    /// Soft cap of scores.
    pub score_cap: Option<f32>,
    /// Soft cap of logits.
    pub logit_cap: Option<f32>,
    /// Limit of queries, keys and values.
    pub qkv_limit: Option<f32>,
    /// ALiBi's exponent.
    pub alibi: Option<f32>,
    /// Whether attention and feed-forward layer read the same rows, side by side.
    pub is_parallel: bool,
}

impl Traits {
    /// A model that has none of it.
    pub const NONE: Self = Self {
        embedding_scale: 1.0,
        residual_scale: 1.0,
        logit_scale: 1.0,
        score_scale: None,
        growth: None,
        score_cap: None,
        logit_cap: None,
        qkv_limit: None,
        alibi: None,
        is_parallel: false,
    };
}

/// The dimensions on which some of them depend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Floats per row of the residual stream.
    pub n_embd: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Layers.
    pub n_layers: usize,
    /// Positions of the first context.
    pub original_context: usize,
}

impl Sizes {
    /// The scale of scores in Gemma's 27B models, of which files say nothing.
    fn scale_of_27b(&self, n_layers: usize) -> Option<f32> {
        (self.n_layers == n_layers).then(|| 1.0 / (self.n_embd as f32 / self.n_heads as f32).sqrt())
    }
}

/// A number that is above 0; 0 means none.
fn positive(keys: &Keys, name: &str) -> Result<Option<f32>, ModelError> {
    match keys.f32(name)? {
        None | Some(0.0) => Ok(None),
        Some(x) if x > 0.0 => Ok(Some(x)),
        Some(x) => Err(ModelError::Inconsistent(format!("{} is {x}, not positive", keys.key(name)))),
    }
}

pub(super) fn none(_: &Keys, _: &Sizes) -> Result<Traits, ModelError> {
    Ok(Traits::NONE)
}

pub(super) fn gemma(_: &Keys, sizes: &Sizes) -> Result<Traits, ModelError> {
    Ok(Traits { embedding_scale: (sizes.n_embd as f32).sqrt(), ..Traits::NONE })
}

pub(super) fn gemma2(keys: &Keys, sizes: &Sizes) -> Result<Traits, ModelError> {
    let cap = |name, default| Ok::<_, ModelError>(Some(positive(keys, name)?.unwrap_or(default)));
    Ok(Traits {
        score_scale: sizes.scale_of_27b(46),
        score_cap: cap("attn_logit_softcapping", 50.0)?,
        logit_cap: cap("final_logit_softcapping", 30.0)?,
        ..gemma(keys, sizes)?
    })
}

pub(super) fn gemma3(keys: &Keys, sizes: &Sizes) -> Result<Traits, ModelError> {
    let logit_cap = positive(keys, "final_logit_softcapping")?;
    Ok(Traits { score_scale: sizes.scale_of_27b(62), logit_cap, ..gemma(keys, sizes)? })
}

pub(super) fn granite(keys: &Keys, _: &Sizes) -> Result<Traits, ModelError> {
    let divisor = positive(keys, "logit_scale")?.ok_or_else(|| missing(&keys.key("logit_scale")))?;
    Ok(Traits {
        embedding_scale: positive(keys, "embedding_scale")?.unwrap_or(1.0),
        residual_scale: positive(keys, "residual_scale")?.unwrap_or(1.0),
        logit_scale: 1.0 / divisor,
        score_scale: positive(keys, "attention.scale")?,
        ..Traits::NONE
    })
}

/// Files without these keys are of the first models, which have 256 as base width (arXiv 2404.06395).
pub(super) fn minicpm(keys: &Keys, sizes: &Sizes) -> Result<Traits, ModelError> {
    let residual = 1.4 / (sizes.n_layers as f32).sqrt();
    let divisor = positive(keys, "logit_scale")?.unwrap_or(sizes.n_embd as f32 / 256.0);
    Ok(Traits {
        embedding_scale: positive(keys, "embedding_scale")?.unwrap_or(12.0),
        residual_scale: positive(keys, "residual_scale")?.unwrap_or(residual),
        logit_scale: 1.0 / divisor,
        ..Traits::NONE
    })
}

pub(super) fn command_r(keys: &Keys, _: &Sizes) -> Result<Traits, ModelError> {
    Ok(Traits { logit_scale: positive(keys, "logit_scale")?.unwrap_or(1.0), ..Traits::NONE })
}

pub(super) fn mistral3(keys: &Keys, sizes: &Sizes) -> Result<Traits, ModelError> {
    let every = keys.u64("attention.temperature_length")?.filter(|n| *n > 0);
    let every = every.unwrap_or(sizes.original_context as u64).min(u64::from(u32::MAX)) as u32;
    let growth = positive(keys, "attention.temperature_scale")?.map(|factor| Growth { every, factor });
    Ok(Traits { growth, ..Traits::NONE })
}

pub(super) fn mpt(keys: &Keys, _: &Sizes) -> Result<Traits, ModelError> {
    let alibi = positive(keys, "attention.max_alibi_bias")?;
    Ok(Traits { alibi, qkv_limit: positive(keys, "attention.clamp_kqv")?, ..Traits::NONE })
}

pub(super) fn gptneox(keys: &Keys, _: &Sizes) -> Result<Traits, ModelError> {
    let name = "use_parallel_residual";
    let is_parallel = keys.bool(name)?.ok_or_else(|| missing(&keys.key(name)))?;
    Ok(Traits { is_parallel, ..Traits::NONE })
}

/// Converters write a flag that is wrong for some models: their tensors tell.
pub(super) fn stablelm(keys: &Keys, _: &Sizes) -> Result<Traits, ModelError> {
    keys.bool("use_parallel_residual")?;
    Ok(Traits::NONE)
}
