//! `nomoat info`: what a model's files hold, and the memory that it needs.

use anyhow::{Result, bail};
use nomoat_runtime::gguf::Header;
use nomoat_runtime::graph::KvFormat;
use nomoat_runtime::load::{formats, weight_bytes};
use nomoat_runtime::model::{Config, LayerConfig, RopeScaling, Tensors, build};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Prints metadata and memory, and each tensor where they are asked for.
pub fn print(
    paths: &[PathBuf],
    with_tensors: bool,
    context_length: Option<usize>,
    kv_format: KvFormat,
) -> Result<()> {
    let headers = super::headers(paths)?;
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
    let context = context_length.unwrap_or(config.context_length.min(4096)).min(config.context_length);
    let config = Config { positions: context, ..config };
    for (name, fact) in facts(&config) {
        println!("{name}: {fact}");
    }
    let tensors = Tensors::of(&headers)?;
    let mut graph = build(&config, &tensors)?;
    if let Err(size) = graph.set_kv_format(kv_format) {
        bail!("keys and values in {} do not go with heads of {size} numbers", kv_format.name());
    }
    let formats = formats(&graph, &tensors)?;
    let kv = graph.kv_bytes(context as u32);
    let weights = weight_bytes(&graph, &formats);
    println!("memory on the device: weights {}, KV cache for {context} tokens {}", mib(weights), mib(kv));
    Ok(())
}

/// What the runtime makes of the metadata.
fn facts(config: &Config) -> Vec<(&'static str, String)> {
    let of_layers = |number: fn(&LayerConfig) -> usize| {
        let numbers: BTreeSet<usize> = config.layers.iter().map(number).collect();
        match (numbers.first(), numbers.last()) {
            (Some(least), Some(most)) if least != most => format!("{least} to {most}"),
            (_, most) => most.copied().unwrap_or_default().to_string(),
        }
    };
    let layers = format!(
        "{} of {} floats, {} in the feed-forward layer",
        config.layers.len(),
        config.n_embd,
        of_layers(|layer| layer.n_ff)
    );
    let heads = format!(
        "{} of {} floats, {} for keys and values",
        of_layers(|layer| layer.n_heads),
        config.head_dim,
        of_layers(|layer| layer.n_kv_heads)
    );
    let mut facts = vec![
        ("layers", layers),
        ("heads", heads),
        ("vocabulary", format!("{} tokens", config.n_vocab)),
        ("trained context", format!("{} tokens", config.context_length)),
    ];
    // Layers with windows may turn otherwise than the rest.
    let rotated = config.layers.iter().filter(|layer| layer.has_rope);
    let mut ropes: Vec<String> = rotated.map(|layer| rope(config, layer)).collect();
    ropes.sort();
    ropes.dedup();
    facts.extend(ropes.into_iter().map(|rope| ("rotary embedding", rope)));
    let windows: Vec<u32> = config.layers.iter().map(|layer| layer.window).filter(|n| *n > 0).collect();
    if let Some(window) = windows.iter().max() {
        facts.push(("attention", format!("a window of {window} positions in {} layers", windows.len())));
    }
    facts
}

fn rope(config: &Config, layer: &LayerConfig) -> String {
    let RopeScaling { scale, ramp, magnitude } = layer.rope_scaling;
    let mut text = format!("{} of {} floats, base {}", config.n_rot, config.head_dim, layer.rope_base);
    let kind = match ramp {
        Some(_) => "YaRN",
        None if config.is_long_rope => "long rope",
        None => "linear",
    };
    if layer.rope_scaling != RopeScaling::NONE || config.is_long_rope {
        text += &format!(
            ", {kind}: context of {} times {}, magnitude {magnitude:.4}",
            config.original_context,
            1.0 / scale
        );
    }
    text
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
