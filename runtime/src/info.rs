//! `nomoat info`: what a model's files hold, and the memory that it needs.

use anyhow::Result;
use nomoat_runtime::engine::Headers;
use nomoat_runtime::gguf::Header;
use nomoat_runtime::graph::{Graph, KvFormat};
use nomoat_runtime::load::formats;
use nomoat_runtime::model::{Config, Tensors, build};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Prints metadata and memory, and each tensor where they are asked for.
pub fn print(paths: &[PathBuf], with_tensors: bool, context_length: Option<usize>) -> Result<()> {
    let sizes = paths.iter().map(|path| super::size(path)).collect::<Result<Vec<_>>>()?;
    let mut headers = Headers::new(&sizes);
    for (i, path) in paths.iter().enumerate() {
        super::push_header(path, |bytes| headers.push(i, bytes))?;
    }
    let headers = headers.finish()?;
    for (header, path) in headers.iter().zip(paths) {
        println!("{}: GGUF v{}, {}", path.display(), header.version, count(header));
        for (key, value) in header.metadata.iter() {
            println!("  {key} = {}", summary(&format!("{value:?}")));
        }
        for tensor in header.tensors.iter().filter(|_| with_tensors) {
            println!(
                "  {:<40} {:>6} {:?}, {} bytes",
                tensor.name,
                tensor.ty.name(),
                tensor.shape,
                tensor.n_bytes
            );
        }
    }
    let n_vocab = headers[0].metadata.strings("tokenizer.ggml.tokens")?.map_or(0, <[String]>::len);
    let config = Config::from_metadata(&headers[0].metadata, n_vocab)?;
    let tensors = Tensors::of(&headers)?;
    let graph = build(&config, &tensors)?;
    let formats = formats(&graph, &tensors)?;
    let context = context_length.unwrap_or(config.context_length.min(4096)).min(config.context_length);
    let kv = graph.caches.iter().map(|cache| KvFormat::F16.bytes(*cache, context as u32)).sum();
    let weights = weight_bytes(&graph, &formats);
    println!("memory on the device: weights {}, KV cache for {context} tokens {}", mib(weights), mib(kv));
    Ok(())
}

/// How many tensors there are, by type.
fn count(header: &Header) -> String {
    let mut types: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in &header.tensors {
        *types.entry(tensor.ty.name()).or_default() += 1;
    }
    let types: Vec<String> = types.iter().map(|(ty, n)| format!("{n} {ty}")).collect();
    format!("{} tensors ({})", header.tensors.len(), types.join(", "))
}

fn weight_bytes(graph: &Graph, formats: &[nomoat_runtime::quant::Format]) -> u64 {
    let of = graph.weights.iter().zip(formats);
    of.map(|(w, format)| match w.is_vector {
        true => 4 * w.n_cols as u64,
        false => format.planes((w.n_rows * w.n_cols / format.block_len()) as u64).total(),
    })
    .sum()
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

/// The beginning of a long value, such as an array or a template.
fn summary(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}
