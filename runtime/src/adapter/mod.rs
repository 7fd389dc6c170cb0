//! LoRA adapters (arXiv 2106.09685): reads them from files and checks that they fit a model.
//!
//! There are two kinds of files: what PEFT saves, and GGUF. Both become low-rank paths beside the tensors of
//! the model's own GGUF file. Files may be hostile: sizes are checked before memory is allocated.

mod gguf;
mod low_rank;
pub(crate) mod names;
mod peft;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;

pub use low_rank::{Adapted, LowRank, adapt, adapt_rows};
#[cfg(test)]
pub(crate) use low_rank::{beside, beside_rows};

use crate::gguf::GgufError;
use crate::graph::Graph;
use crate::quant::Format;
use low_rank::misfit;
use serde::Serialize;
use std::collections::HashMap;
use thiserror::Error;

/// The greatest rank of a path: more makes no sense, and sizes stay far from overflow.
pub(crate) const MAX_RANK: usize = 1024;

/// Why an adapter cannot be used.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// The GGUF file is damaged.
    #[error("the adapter cannot be read: {0}")]
    Gguf(#[from] GgufError),
    /// The file is not an adapter, or damaged.
    #[error("the adapter is not valid: {0}; export it again")]
    Invalid(String),
    /// It needs something that is not supported.
    #[error("the adapter needs {0}, which is not supported; use a plain LoRA adapter")]
    Unsupported(String),
    /// It changes experts, which nothing here does.
    #[error(
        "the adapter changes projections of experts ({0}), which cannot be adapted; \
         use one that changes the attention alone"
    )]
    Experts(String),
    /// It was made for another model.
    #[error("the adapter does not fit the model: {0}; use it with the model that it was trained on")]
    Misfit(String),
}

impl AdapterError {
    /// The code by which the package chooses its error class.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Gguf(_) | Self::Invalid(_) => "corrupt_file",
            Self::Unsupported(_) | Self::Experts(_) => "unsupported_feature",
            Self::Misfit(_) => "invalid_request",
        }
    }

    /// A tensor that cannot be used.
    fn tensor(name: &str) -> Self {
        if ["_exps.", ".experts."].iter().any(|part| name.contains(part)) {
            return Self::Experts(name.to_string());
        }
        Self::Unsupported(format!("tensor {name}"))
    }
}

/// The bytes of an adapter.
#[derive(Clone, Copy, Debug)]
pub enum AdapterFiles<'a> {
    /// A GGUF file.
    Gguf(&'a [u8]),
    /// A folder that PEFT saved.
    Peft {
        /// `adapter_config.json`.
        config: &'a [u8],
        /// `adapter_model.safetensors`.
        weights: &'a [u8],
    },
}

/// What adapters are checked against.
#[derive(Clone, Copy, Debug)]
pub struct Base<'a> {
    /// `general.architecture`.
    pub architecture: &'a str,
    /// The model's graph.
    pub graph: &'a Graph,
}

/// An adapter that fits a model.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Its paths, each with the factor that the file gives it: alpha by rank, or by the rank's square root.
    pub paths: Vec<(LowRank, f32)>,
}

/// What an adapter is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AdapterInfo {
    /// The name that it was loaded under.
    pub name: String,
    /// The greatest rank of its matrices.
    pub rank: usize,
    /// Numbers in its matrices.
    pub parameters: usize,
    /// The tensors beside which it has matrices.
    pub tensors: usize,
}

impl Adapter {
    /// Reads an adapter and checks it against the model.
    pub fn read(files: AdapterFiles, base: Base) -> Result<Self, AdapterError> {
        let paths = match files {
            AdapterFiles::Gguf(bytes) => gguf::read(bytes, base.architecture)?,
            AdapterFiles::Peft { config, weights } => peft::read(config, weights, base)?,
        };
        if paths.is_empty() {
            return Err(AdapterError::Invalid("it has no matrices".into()));
        }
        for (path, factor) in &paths {
            if let Some(why) = misfit(base.graph, path) {
                return Err(AdapterError::Misfit(format!("{}: {why}", path.tensor)));
            }
            let is_finite = factor.is_finite() && path.a.iter().chain(&path.b).all(|n| n.is_finite());
            if !is_finite {
                return Err(AdapterError::Invalid(format!(
                    "{} has numbers that are not finite",
                    path.tensor
                )));
            }
        }
        Ok(Self { paths })
    }

    /// What it is, under this name.
    pub fn info(&self, name: &str) -> AdapterInfo {
        let paths = || self.paths.iter().map(|(path, _)| path);
        AdapterInfo {
            name: name.to_string(),
            rank: paths().map(|path| path.rank).max().unwrap_or(0),
            parameters: paths().map(|path| path.a.len() + path.b.len()).sum(),
            tensors: self.paths.len(),
        }
    }
}

/// A matrix of an adapter.
struct Matrix {
    n_rows: usize,
    n_cols: usize,
    numbers: Vec<f32>,
}

impl Matrix {
    /// From the bytes of a tensor of this row-major shape.
    fn new(name: &str, ty: &str, shape: &[u64], bytes: &[u8]) -> Result<Self, AdapterError> {
        let [n_rows, n_cols] = *shape else {
            let message = format!("{name} with {} dimensions instead of two", shape.len());
            return Err(AdapterError::Unsupported(message));
        };
        let format = Format::from_name(ty)
            .ok_or_else(|| AdapterError::Unsupported(format!("{name} of the type {ty}")))?;
        let n = n_rows.checked_mul(n_cols).and_then(|n| usize::try_from(n).ok());
        // What the bytes can hold at most is bounded by the file.
        let numbers = format.dequantise(bytes);
        match n {
            Some(n) if n > 0 && numbers.len() == n => {
                Ok(Self { n_rows: n_rows as usize, n_cols: n_cols as usize, numbers })
            }
            _ => Err(AdapterError::Invalid(format!("{name} has not as many numbers as its shape"))),
        }
    }
}

/// The matrices A and B of tensors, while they are read.
#[derive(Default)]
struct Pairs {
    /// Tensors in the order of the file.
    tensors: Vec<String>,
    halves: HashMap<String, [Option<Matrix>; 2]>,
}

impl Pairs {
    /// Adds A (0) or B (1) of a tensor.
    fn push(&mut self, tensor: &str, half: usize, matrix: Matrix) -> Result<(), AdapterError> {
        let halves = self.halves.entry(tensor.to_string()).or_insert_with(|| {
            self.tensors.push(tensor.to_string());
            [None, None]
        });
        match halves.get_mut(half).map(|place| place.replace(matrix)) {
            Some(None) => Ok(()),
            _ => Err(AdapterError::Invalid(format!("{tensor} has a matrix twice"))),
        }
    }

    /// The paths, with the factor that `factor` gives for a tensor and its rank.
    fn finish(
        mut self,
        factor: impl Fn(&str, usize) -> Result<f32, AdapterError>,
    ) -> Result<Vec<(LowRank, f32)>, AdapterError> {
        let mut paths = Vec::new();
        for tensor in self.tensors {
            let Some([Some(a), Some(b)]) = self.halves.remove(&tensor) else {
                return Err(AdapterError::Invalid(format!("{tensor} has only one of its two matrices")));
            };
            let rank = a.n_rows;
            if b.n_cols != rank || rank > MAX_RANK {
                let message = format!(
                    "{tensor} has matrices of rank {rank} and {}; both must be the same, at most {MAX_RANK}",
                    b.n_cols
                );
                return Err(AdapterError::Invalid(message));
            }
            let factor = factor(&tensor, rank)?;
            let (n_in, n_out) = (a.n_cols, b.n_rows);
            paths.push((LowRank { tensor, rank, n_in, n_out, a: a.numbers, b: b.numbers }, factor));
        }
        Ok(paths)
    }
}
