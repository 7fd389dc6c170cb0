//! Models: reads hyperparameters from a file's metadata and builds the model's graph. Each family has one
//! short file.

mod blocks;
mod config;
mod experts;
mod family;
mod gemma2;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod golden;
mod keys;
mod llama;
mod olmo2;
mod parallel;
mod rope;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
mod traits;

pub use config::{Config, LayerConfig};
pub use experts::ExpertConfig;
pub use rope::{Ramp, RopeScaling};
pub use traits::Traits;

use blocks::{Decoder, LONG_FACTORS, SHORT_FACTORS};
use family::{families, family};

use crate::gguf::{GgufError, Header, TensorInfo};
use crate::graph::{Graph, Weight};
use std::collections::HashMap;
use thiserror::Error;

/// Why a model cannot run.
#[derive(Debug, Error)]
pub enum ModelError {
    /// No family has this architecture.
    #[error(
        "the model's architecture \"{0}\" is not supported; use a model of one of these: {families}",
        families = families()
    )]
    Architecture(String),
    /// The family is supported, but this model needs something that is not.
    #[error("the model needs {0}, which is not supported yet; use another model")]
    Feature(String),
    /// Metadata or tensors are missing or contradict each other.
    #[error("the model file is not valid: {0}; use another file")]
    Inconsistent(String),
}

impl From<GgufError> for ModelError {
    fn from(error: GgufError) -> Self {
        Self::Inconsistent(error.to_string())
    }
}

/// Checks that the architecture is supported.
pub fn check_architecture(architecture: &str) -> Result<(), ModelError> {
    family(architecture).map(drop)
}

/// The tensors of all files of a model, by name.
#[derive(Debug, Default)]
pub struct Tensors<'a>(HashMap<&'a str, &'a TensorInfo>);

impl<'a> Tensors<'a> {
    /// Collects the tensors of a model's files. Names must be unique.
    pub fn of(headers: &'a [Header]) -> Result<Self, ModelError> {
        let mut all = HashMap::new();
        for tensor in headers.iter().flat_map(|h| &h.tensors) {
            if all.insert(tensor.name.as_str(), tensor).is_some() {
                return Err(ModelError::Inconsistent(format!("the tensor {} occurs twice", tensor.name)));
            }
        }
        Ok(Self(all))
    }

    /// Whether the model has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The tensor with this name.
    pub fn get(&self, name: &str) -> Option<&'a TensorInfo> {
        self.0.get(name).copied()
    }
}

/// Builds the model's graph and checks every weight's shape against the file. A tensor that the graph does
/// not use is an error, because the model would give wrong results without it.
pub fn build(config: &Config, tensors: &Tensors) -> Result<Graph, ModelError> {
    let family = family(&config.architecture)?;
    let mut decoder = Decoder::new(config, tensors, family);
    (family.build)(&mut decoder);
    let graph = decoder.finish();
    experts::check_shapes(&graph, tensors)?;
    // How many numbers of each tensor the weights use.
    let mut used: HashMap<&str, u64> = HashMap::new();
    for weight in &graph.weights {
        let n_rows = weight.n_rows / weight.source.tensors().count().max(1);
        for (name, first_row) in weight.source.tensors() {
            check_shape(name, [first_row, n_rows].map(|n| n as u64), weight, tensors)?;
            *used.entry(name).or_default() += (n_rows * weight.n_cols) as u64;
        }
    }
    let uses_factors = [SHORT_FACTORS, LONG_FACTORS].iter().any(|name| used.contains_key(name));
    for (name, tensor) in &tensors.0 {
        match used.get(name) {
            Some(used) if *used == tensor.n_elements() => {}
            Some(used) => {
                let found = &tensor.shape;
                let (n, what) = match found.as_slice() {
                    [_, .., n_cols] => (used / n_cols, "rows"),
                    _ => (*used, "numbers"),
                };
                let message =
                    format!("tensor {name} has shape {found:?}, but the metadata asks for {n} {what}");
                return Err(ModelError::Inconsistent(message));
            }
            // One of these two is used.
            None if [SHORT_FACTORS, LONG_FACTORS].contains(name) && uses_factors => {}
            // What NVFP4's blocks leave out (`scale`), and what activations are quantised by (`input_scale`).
            None if name.ends_with("scale") => {
                return Err(ModelError::Feature(format!("{name}, a scale of a whole tensor")));
            }
            None => return Err(ModelError::Feature(format!("tensor {name}"))),
        }
    }
    Ok(graph)
}

/// Checks that so many rows of a weight, from `first_row` on, are in a tensor.
fn check_shape(
    name: &str,
    [first_row, n_rows]: [u64; 2],
    weight: &Weight,
    tensors: &Tensors,
) -> Result<(), ModelError> {
    let tensor =
        tensors.get(name).ok_or_else(|| ModelError::Inconsistent(format!("the tensor {name} is missing")))?;
    let n_cols = weight.n_cols as u64;
    let fits = match (weight.is_vector, tensor.shape.as_slice()) {
        (true, _) => first_row + n_cols <= tensor.n_elements(),
        // A vector is a matrix of one row.
        (false, [rows @ .., cols]) => *cols == n_cols && first_row + n_rows <= rows.iter().product(),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let expected = if weight.is_vector { vec![first_row + n_cols] } else { vec![first_row + n_rows, n_cols] };
    let found = &tensor.shape;
    let message = format!("tensor {name} has shape {found:?} but the metadata asks for {expected:?}");
    Err(ModelError::Inconsistent(message))
}
