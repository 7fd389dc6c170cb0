//! What a model is and whether it runs, by its headers alone.

use super::Error;
use super::loading::{LoadOptions, check};
use super::quantization::quantization;
use crate::gguf::Header;
use crate::graph::PAGE;
use crate::load::{bytes_per_token, weight_bytes};
use serde::Serialize;

/// What the headers of a model's files say. Where the model does not run, sizes that only a graph has are 0.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// `general.name`, else the architecture.
    pub name: String,
    /// `general.architecture`; empty if the file has none.
    pub architecture: String,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// The type of most of its matrices' bytes, as ggml calls it.
    pub quantization: String,
    /// Positions that a sequence will have.
    pub context_length: usize,
    /// Positions that the model was trained for; 0 if the file does not say.
    pub trained_context_length: u64,
    /// Bytes of its tensors in the files.
    pub tensor_bytes: u64,
    /// Bytes of its weights on a device.
    pub weight_bytes: u64,
    /// Bytes of weights that are read for each token of an answer.
    pub bytes_per_token: u64,
    /// Bytes of keys and values for [`Self::context_length`].
    pub kv_bytes: u64,
    /// Whether the file has a chat template, or a vocabulary whose usual template is known.
    pub has_chat_template: bool,
    /// `general.license`.
    pub license: Option<String>,
    /// What was odd in the file and would be put right, in sentences.
    pub warnings: Vec<String>,
    /// Why it does not run.
    pub problem: Option<Problem>,
}

/// Why a model does not run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// As [`Error::code`].
    pub code: &'static str,
    /// A sentence.
    pub message: String,
}

/// Checks a model by its headers, as loading it does, without a device. It fails only where there is nothing
/// to say about the model.
pub fn inspect(mut headers: Vec<Header>, options: &LoadOptions) -> Result<Inspection, Error> {
    let mut inspection = facts(&headers)?;
    match check(&mut headers, options) {
        Ok(checked) => {
            let cells = checked.context_length.div_ceil(PAGE as usize) as u32 * PAGE;
            inspection.kv_bytes = checked.graph.kv_bytes(cells);
            inspection.weight_bytes = weight_bytes(&checked.graph, &checked.formats);
            inspection.bytes_per_token = bytes_per_token(&checked.graph, &checked.formats);
            inspection.context_length = checked.context_length;
            inspection.trained_context_length = checked.config.context_length as u64;
            inspection.has_chat_template = checked.has_chat_template;
            inspection.warnings = checked.tokenizer.warnings().to_vec();
        }
        Err(error @ Error::InvalidRequest(_)) => return Err(error),
        Err(error) => {
            inspection.problem = Some(Problem { code: error.code(), message: error.to_string() });
        }
    }
    Ok(inspection)
}

/// What can be said of any GGUF file.
fn facts(headers: &[Header]) -> Result<Inspection, Error> {
    let Some(first) = headers.first() else {
        return Err(Error::InvalidRequest("a model has at least one file".into()));
    };
    let metadata = &first.metadata;
    // Only shown: of another type, they count as absent.
    let text = |key: &str| metadata.str(key).ok().flatten();
    let architecture = text("general.architecture").unwrap_or_default();
    let trained = metadata.u64(&format!("{architecture}.context_length")).ok().flatten();
    let tensors = || headers.iter().flat_map(|header| &header.tensors);
    Ok(Inspection {
        name: text("general.name").unwrap_or(architecture).to_string(),
        architecture: architecture.to_string(),
        parameters: tensors().fold(0, |sum, tensor| sum.saturating_add(tensor.n_elements())),
        quantization: quantization(headers),
        context_length: 0,
        trained_context_length: trained.unwrap_or(0),
        tensor_bytes: tensors().fold(0, |sum, tensor| sum.saturating_add(tensor.n_bytes)),
        weight_bytes: 0,
        bytes_per_token: 0,
        kv_bytes: 0,
        has_chat_template: text("tokenizer.chat_template").is_some_and(|text| !text.trim().is_empty()),
        license: text("general.license").map(str::to_string),
        warnings: Vec::new(),
        problem: None,
    })
}
