//! What models compute: hyperparameters from a file's metadata, and one short file per family that builds a graph of them.

mod config;
mod llama;

pub use config::Config;

use crate::gguf::{Header, TensorInfo};
use crate::graph::{Graph, Source, Weight};
use std::collections::{HashMap, HashSet};
use thiserror::Error;

/// Why a file's model cannot be run.
#[derive(Debug, Error)]
pub enum ModelError {
    /// No builder for this family.
    #[error("the model's architecture is \"{0}\"; supported: {families}", families = FAMILIES.join(", "))]
    Architecture(String),
    /// The family is known, something that this model needs is not.
    #[error("the model needs {0}, which is not supported yet")]
    Feature(String),
    /// Metadata or tensors are absent or contradict each other.
    #[error("the file is inconsistent: {0}")]
    Inconsistent(String),
}

/// Architectures with a builder, as `general.architecture` names them.
pub const FAMILIES: &[&str] = &["llama"];

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

/// Builds the model's graph and checks every weight's shape against the file; refuses files with tensors that the graph ignores,
/// for what a model ignores silently it computes wrongly.
pub fn build(config: &Config, tensors: &Tensors) -> Result<Graph, ModelError> {
    let graph = match config.architecture.as_str() {
        "llama" => llama::build(config, tensors),
        other => return Err(ModelError::Architecture(other.to_string())),
    };
    let mut used = HashSet::new();
    for weight in &graph.weights {
        if let Source::Tensor(name) = &weight.source {
            check_shape(name, weight, tensors)?;
            used.insert(name.as_str());
        }
    }
    if let Some(name) = tensors.0.keys().find(|name| !used.contains(**name)) {
        return Err(ModelError::Feature(format!("tensor {name}")));
    }
    Ok(graph)
}

fn check_shape(name: &str, weight: &Weight, tensors: &Tensors) -> Result<(), ModelError> {
    let tensor =
        tensors.get(name).ok_or_else(|| ModelError::Inconsistent(format!("tensor {name} is missing")))?;
    let expected: Vec<u64> = match weight.is_vector {
        true => vec![weight.n_cols as u64],
        false => vec![weight.n_rows as u64, weight.n_cols as u64],
    };
    if tensor.shape != expected {
        let message =
            format!("tensor {name} has shape {:?} where the metadata asks for {expected:?}", tensor.shape);
        return Err(ModelError::Inconsistent(message));
    }
    Ok(())
}
