//! Embeddings: vectors of texts, from the rows that logits would be computed from.

use super::{AdapterUse, Device, DeviceModel, Engine, Error, Request};
use crate::adapter::Adapted;
use crate::gguf::Metadata;
use std::ops::Range;

/// The number of the model without its head, among those that a device runs. Sets of adapters have others.
pub(super) const EMBEDDER: u32 = u32::MAX;

/// How the rows of a text become one vector. The numbers are those of GGUF's key `pooling_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean. What a file without the key has: a model that was not trained for embeddings.
    #[default]
    Mean,
    /// The first row.
    Cls,
    /// The last row.
    Last,
    /// The file is for something else, such as ranking.
    Other(u32),
}

impl Pooling {
    /// As the file says.
    pub(super) fn from_metadata(metadata: &Metadata) -> Result<Self, Error> {
        let architecture = metadata.str("general.architecture")?.unwrap_or_default();
        Ok(match metadata.u32(&format!("{architecture}.pooling_type"))? {
            None | Some(0 | 1) => Self::Mean,
            Some(2) => Self::Cls,
            Some(3) => Self::Last,
            Some(other) => Self::Other(other),
        })
    }
}

/// The rows of a text, as far as they are added up.
#[derive(Clone, Debug)]
pub(super) struct Pooled {
    pooling: Pooling,
    /// Numbers of the vector that are kept; 0: all.
    dimensions: usize,
    sum: Vec<f64>,
}

impl Pooled {
    pub fn new(pooling: Pooling, dimensions: usize) -> Self {
        Self { pooling, dimensions, sum: Vec::new() }
    }

    /// Which rows of a text of `n` tokens are added up.
    pub fn rows(&self, n: usize) -> Range<usize> {
        match self.pooling {
            Pooling::Mean => 0..n,
            Pooling::Cls => 0..n.min(1),
            Pooling::Last | Pooling::Other(_) => n.saturating_sub(1)..n,
        }
    }

    pub fn add(&mut self, row: &[f32]) {
        self.sum.resize(row.len(), 0.0);
        self.sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += f64::from(*number));
    }

    /// The vector, of length 1: a mean and a sum have the same direction. A vector of zeros stays as it is.
    pub fn vector(&self) -> Vec<f32> {
        let kept = if self.dimensions == 0 { self.sum.len() } else { self.dimensions.min(self.sum.len()) };
        let kept = &self.sum[..kept];
        let length = kept.iter().map(|number| number * number).sum::<f64>().sqrt();
        let factor = if length > 0.0 { 1.0 / length } else { 0.0 };
        kept.iter().map(|number| (number * factor) as f32).collect()
    }
}

impl<D: Device> Engine<D> {
    /// How the rows of a request's prompt become an embedding; none if it asks for an answer.
    pub(super) fn pooling_of(
        &self,
        request: &Request,
        adapters: &[AdapterUse],
    ) -> Result<Option<Pooling>, Error> {
        let Some(dimensions) = request.embedding else { return Ok(None) };
        let invalid = |message: String| Err(Error::InvalidRequest(message));
        if !adapters.is_empty() {
            return invalid("embeddings are made without adapters: name none".into());
        }
        let graph = self.model.graph();
        let most = graph.hidden.map_or(0, |hidden| graph.value(hidden).width);
        if most == 0 {
            return invalid("this model gives no embeddings".into());
        }
        if dimensions > most {
            return invalid(format!("`dimensions`: the model's embeddings have {most} numbers"));
        }
        match self.pooling {
            Pooling::Other(number) => invalid(format!(
                "this model is not for embeddings: its file has pooling type {number}; use one with mean, \
                 cls or last"
            )),
            pooling => Ok(Some(pooling)),
        }
    }

    /// The number of the model without its head, which is then on the device.
    pub(super) fn embedder(&mut self) -> Result<Option<u32>, Error> {
        if self.embedder.is_none() {
            let graph = self.model.graph().embedder();
            let graph =
                graph.ok_or_else(|| Error::InvalidRequest("this model gives no embeddings".into()))?;
            self.model.add(EMBEDDER, &Adapted { graph, numbers: Vec::new() })?;
            self.embedder = Some(EMBEDDER);
            self.info.gpu_bytes = self.model.gpu_bytes();
        }
        Ok(self.embedder)
    }
}
