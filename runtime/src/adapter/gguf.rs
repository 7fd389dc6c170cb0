//! GGUF adapters, as llama.cpp's `convert_lora_to_gguf.py` writes them.

use super::{AdapterError, LowRank, Matrix, Pairs};
use crate::gguf::HeaderReader;

/// Metadata of an adapter that changes nothing, or is read here.
const KNOWN: [&str; 4] =
    ["adapter.type", "adapter.lora.alpha", "adapter.lora.task_name", "adapter.lora.prompt_prefix"];

/// Reads an adapter for this architecture.
pub(super) fn read(bytes: &[u8], architecture: &str) -> Result<Vec<(LowRank, f32)>, AdapterError> {
    let mut reader = HeaderReader::new(bytes.len() as u64);
    reader.push(bytes)?;
    let header = reader.finish()?;
    let text = |key: &str| header.metadata.str(key).map(Option::unwrap_or_default);
    if text("general.type")? != "adapter" {
        return Err(AdapterError::Invalid("this GGUF file is not an adapter".into()));
    }
    let kind = text("adapter.type")?;
    if kind != "lora" {
        return Err(AdapterError::Unsupported(format!("adapter.type {kind:?}")));
    }
    let of = text("general.architecture")?;
    if of != architecture {
        let message = format!("it is for the architecture {of:?}, the model's is {architecture:?}");
        return Err(AdapterError::Misfit(message));
    }
    let unknown = |key: &&str| key.starts_with("adapter.") && !KNOWN.contains(key);
    if let Some(key) = header.metadata.iter().map(|(key, _)| key).find(unknown) {
        return Err(AdapterError::Unsupported(key.to_string()));
    }
    let alpha = header.metadata.f32("adapter.lora.alpha")?.unwrap_or(0.0);
    let mut pairs = Pairs::default();
    for tensor in &header.tensors {
        let name = &tensor.name;
        let half = [name.strip_suffix(".lora_a"), name.strip_suffix(".lora_b")];
        let (of, half) = match half {
            [Some(of), _] => (of, 0),
            [_, Some(of)] => (of, 1),
            _ => return Err(AdapterError::tensor(name)),
        };
        // The matrices of the embedding are the other way round, those of experts have three dimensions.
        if of == "token_embd.weight" || of.contains("_exps.") {
            return Err(AdapterError::tensor(name));
        }
        let bytes = usize::try_from(tensor.offset).ok().and_then(|at| bytes.get(at..));
        let bytes = bytes.and_then(|rest| rest.get(..usize::try_from(tensor.n_bytes).ok()?));
        let bytes =
            bytes.ok_or_else(|| AdapterError::Invalid(format!("the file ends before {name} does")))?;
        pairs.push(of, half, Matrix::new(name, &tensor.ty.name(), &tensor.shape, bytes)?)?;
    }
    pairs.finish(|_, rank| Ok(if alpha == 0.0 { 1.0 } else { alpha / rank as f32 }))
}
