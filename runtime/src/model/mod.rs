//! What models compute: hyperparameters from a file's metadata, and one short file per family that builds a
//! graph of them.

mod blocks;
mod config;
mod llama;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

pub use config::{Config, LayerConfig};

use blocks::Decoder;

use crate::gguf::{Header, TensorInfo};
use crate::graph::{Graph, Source, Weight};
use std::collections::HashMap;
use thiserror::Error;

/// Why a file's model cannot be run.
#[derive(Debug, Error)]
pub enum ModelError {
    /// No builder for this family.
    #[error("the model's architecture is \"{0}\"; supported: {families}", families = families())]
    Architecture(String),
    /// The family is known, something that this model needs is not.
    #[error("the model needs {0}, which is not supported yet")]
    Feature(String),
    /// Metadata or tensors are absent or contradict each other.
    #[error("the file is inconsistent: {0}")]
    Inconsistent(String),
}

/// A family of models.
struct Family {
    /// What `general.architecture` says.
    name: &'static str,
    /// Rotary pairs are (i, i + n_rot/2) instead of (2i, 2i+1).
    neox: bool,
    /// Adds the family's ops, from the embedding to the logits.
    build: fn(&mut Decoder),
}

/// Every family that runs, a row each. What a row can say of a family, it need not write a builder for.
const FAMILIES: &[Family] = &[Family { name: "llama", neox: false, build: llama::build }];

fn families() -> String {
    FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>().join(", ")
}

fn family(architecture: &str) -> Result<&'static Family, ModelError> {
    let known = FAMILIES.iter().find(|family| family.name == architecture);
    known.ok_or_else(|| ModelError::Architecture(architecture.to_string()))
}

/// An error for an architecture that no family has.
pub fn check_architecture(architecture: &str) -> Result<(), ModelError> {
    family(architecture).map(drop)
}

/// The tensors of all files of a model, by name.
#[derive(Debug, Default)]
pub struct Tensors<'a>(HashMap<&'a str, &'a TensorInfo>);

impl<'a> Tensors<'a> {
    /// Collects the directories of a model's files; a name must occur once.
    pub fn of(headers: &'a [Header]) -> Result<Self, ModelError> {
        let mut all = HashMap::new();
        for tensor in headers.iter().flat_map(|h| &h.tensors) {
            if all.insert(tensor.name.as_str(), tensor).is_some() {
                return Err(ModelError::Inconsistent(format!("tensor {} is in two files", tensor.name)));
            }
        }
        Ok(Self(all))
    }

    /// Whether the file has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&'a TensorInfo> {
        self.0.get(name).copied()
    }
}

/// Builds the model's graph and checks every weight's shape against the file. A file with tensors that the
/// graph does not use is an error: what a model leaves out, it computes wrongly.
pub fn build(config: &Config, tensors: &Tensors) -> Result<Graph, ModelError> {
    let family = family(&config.architecture)?;
    let mut decoder = Decoder::new(config, tensors, family.neox);
    (family.build)(&mut decoder);
    let graph = decoder.finish();
    // Rows of each tensor that weights use.
    let mut used: HashMap<&str, u64> = HashMap::new();
    for weight in &graph.weights {
        if let Source::Tensor { name, first_row } = &weight.source {
            let n_rows = check_shape(name, *first_row as u64, weight, tensors)?;
            *used.entry(name).or_default() += n_rows;
        }
    }
    for (name, tensor) in &tensors.0 {
        let n_rows = tensor.n_elements() / tensor.shape.last().copied().unwrap_or(1).max(1);
        match used.get(name) {
            Some(used) if *used == n_rows => {}
            Some(used) => {
                let found = &tensor.shape;
                let message =
                    format!("tensor {name} has shape {found:?}, but the metadata asks for {used} rows");
                return Err(ModelError::Inconsistent(message));
            }
            None => return Err(ModelError::Feature(format!("tensor {name}"))),
        }
    }
    Ok(graph)
}

/// Rows of the tensor that the weight uses.
fn check_shape(name: &str, first_row: u64, weight: &Weight, tensors: &Tensors) -> Result<u64, ModelError> {
    let tensor =
        tensors.get(name).ok_or_else(|| ModelError::Inconsistent(format!("tensor {name} is missing")))?;
    let (n_rows, n_cols) = (weight.n_rows as u64, weight.n_cols as u64);
    let fits = match (weight.is_vector, tensor.shape.as_slice()) {
        (true, shape) => shape == [n_cols],
        (false, [rows @ .., cols]) if !rows.is_empty() => {
            *cols == n_cols && first_row + n_rows <= rows.iter().product()
        }
        _ => false,
    };
    if fits {
        return Ok(n_rows);
    }
    let expected = if weight.is_vector { vec![n_cols] } else { vec![first_row + n_rows, n_cols] };
    let found = &tensor.shape;
    let message = format!("tensor {name} has shape {found:?} but the metadata asks for {expected:?}");
    Err(ModelError::Inconsistent(message))
}
