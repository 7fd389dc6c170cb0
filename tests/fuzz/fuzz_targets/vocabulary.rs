//! Vocabularies of every kind with anything in their keys: a tokenizer is built or refused with an error, and
//! what it makes of a text are ids of its vocabulary, with which the detokeniser does not fail either.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use nomoat_runtime::gguf::{Array, Metadata, Value};
use nomoat_runtime::text::Tokenizer;

const MODELS: &[&str] = &["gpt2", "gemma4", "llama", "t5", "bert", "rwkv", "whitespace"];
const PRE: &[&str] =
    &["gpt-2", "llama-bpe", "superbpe", "gpt-4o", "kimi-k2", "deepseek-v3", "default", "bloom"];
const IDS: &[&str] = &["bos", "eos", "eot", "unknown", "seperator"];
const FLAGS: &[&str] = &[
    "add_bos_token",
    "add_eos_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
    "normalizer.lowercase",
];

#[derive(Arbitrary, Debug)]
struct Vocabulary {
    model: u8,
    pre: u8,
    tokens: Vec<(String, u8, f32)>,
    /// Also the bytes as tokens, so that more texts have ids.
    has_bytes: bool,
    merges: Vec<(u8, u8)>,
    charsmap: Option<Vec<u8>>,
    ids: [Option<i64>; 5],
    flags: [Option<u8>; 5],
    text: String,
}

fuzz_target!(|input: Vocabulary| {
    let mut metadata = Metadata::new();
    let mut tokens = input.tokens;
    tokens.truncate(200);
    if input.has_bytes {
        tokens.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 6, 0.0)));
        tokens.extend(('!'..='~').map(|c| (c.to_string(), 1, -1.0)));
        tokens.dedup_by(|a, b| a.0 == b.0);
    }
    let text = |id: u8| tokens.get(usize::from(id)).map_or("", |(token, ..)| token.as_str());
    let merges: Vec<String> =
        input.merges.iter().map(|(a, b)| format!("{} {}", text(*a), text(*b))).collect();
    metadata.insert("tokenizer.ggml.model", MODELS[usize::from(input.model) % MODELS.len()]);
    metadata.insert("tokenizer.ggml.pre", PRE[usize::from(input.pre) % PRE.len()]);
    metadata.insert("tokenizer.ggml.merges", merges);
    metadata
        .insert("tokenizer.ggml.token_type", tokens.iter().map(|t| i32::from(t.1 % 8)).collect::<Vec<_>>());
    metadata.insert("tokenizer.ggml.scores", tokens.iter().map(|t| t.2).collect::<Vec<_>>());
    metadata.insert("tokenizer.ggml.tokens", tokens.into_iter().map(|t| t.0).collect::<Vec<_>>());
    if let Some(map) = input.charsmap {
        metadata.insert("tokenizer.ggml.precompiled_charsmap", Value::Array(Array::U8(map)));
    }
    for (name, id) in IDS.iter().zip(input.ids) {
        if let Some(id) = id {
            metadata.insert(format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }
    for (name, flag) in FLAGS.iter().zip(input.flags) {
        if let Some(flag) = flag {
            metadata.insert(format!("tokenizer.ggml.{name}"), Value::U8(flag));
        }
    }
    let Ok(tokenizer) = Tokenizer::from_metadata(&mut metadata) else { return };
    for parse_special in [false, true] {
        if let Ok(ids) = tokenizer.encode(&input.text, parse_special) {
            assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
            tokenizer.decode(&ids);
        }
    }
});
