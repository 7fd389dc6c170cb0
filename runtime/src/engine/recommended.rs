//! How a model's makers recommend to choose its tokens.

use super::Sampling;
use crate::gguf::Metadata;
use serde::Serialize;

/// Settings of [`Sampling`] that a model's file states, by the names of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Recommended {
    /// `general.sampling.temp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// `general.sampling.top_k`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// `general.sampling.top_p`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// `general.sampling.min_p`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// `general.sampling.penalty_repeat`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
}

impl Recommended {
    /// What the metadata has. Values of another type, or with which a request would be refused, count as
    /// absent.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let number = |name: &str, set: fn(&mut Sampling, f32)| {
            let value = metadata.f32(&format!("general.sampling.{name}")).ok().flatten()?;
            let mut sampling = Sampling::default();
            set(&mut sampling, value);
            sampling.check().ok().map(|()| value)
        };
        Self {
            temperature: number("temp", |sampling, value| sampling.temperature = value),
            top_k: metadata.u32("general.sampling.top_k").ok().flatten(),
            top_p: number("top_p", |sampling, value| sampling.top_p = value),
            min_p: number("min_p", |sampling, value| sampling.min_p = value),
            repetition_penalty: number("penalty_repeat", |s, value| s.repetition_penalty = value),
        }
    }
}
