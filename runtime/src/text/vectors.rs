//! Tests every vocabulary in `tests/vocab` on token vectors from llama.cpp and Hugging Face's tokenizers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use super::Tokenizer;
use crate::gguf::{HeaderReader, Metadata};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vocab")
}

fn metadata(path: &Path) -> Metadata {
    let bytes = std::fs::read(path).unwrap();
    let mut reader = HeaderReader::new(bytes.len() as u64);
    assert_eq!(reader.push(&bytes).unwrap(), 0);
    reader.finish().unwrap().metadata
}

pub(super) fn tokenizer(name: &str) -> Tokenizer {
    let path = folder().join(format!("ggml-vocab-{name}.gguf"));
    Tokenizer::from_metadata(&mut metadata(&path)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Texts and the ids expected for them.
fn vectors(name: &str) -> Vec<(String, Vec<u32>)> {
    let read = |kind: &str| {
        std::fs::read_to_string(folder().join(format!("ggml-vocab-{name}.gguf.{kind}"))).unwrap()
    };
    let (inputs, outputs) = (read("inp"), read("out"));
    let inputs = inputs.strip_suffix("\n__ggml_vocab_test__\n").unwrap().split("\n__ggml_vocab_test__\n");
    let ids = |line: &str| line.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let vectors: Vec<_> = inputs.map(str::to_string).zip(outputs.lines().map(ids)).collect();
    assert_eq!(vectors.len(), outputs.lines().count(), "{name}");
    vectors
}

#[test]
fn vocabularies_tokenise_as_published() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|file| {
            let file = file.unwrap().file_name().into_string().unwrap();
            Some(file.strip_prefix("ggml-vocab-")?.strip_suffix(".gguf.inp")?.to_string())
        })
        .collect();
    names.sort();
    assert!(["gpt-2", "llama-spm"].iter().all(|name| names.iter().any(|n| n == name)), "found {names:?}");
    for name in &names {
        let tokenizer = tokenizer(name);
        let vectors = vectors(name);
        assert!(vectors.len() > 40, "{name}: {} vectors", vectors.len());
        for (text, expected) in vectors {
            let mut ids = tokenizer.encode(&text, false).unwrap();
            if tokenizer.adds_bos() {
                assert_eq!(Some(ids.remove(0)), tokenizer.bos(), "{name}: {text:?}");
            }
            assert_eq!(ids, expected, "{name}: {text:?}");
        }
    }
}

#[test]
fn published_vectors_decode_to_their_texts() {
    for name in ["gpt-2", "llama-spm"] {
        let tokenizer = tokenizer(name);
        for (text, ids) in vectors(name) {
            // SentencePiece does not distinguish ▁ from a space, so texts with ▁ do not come back.
            if !text.contains('▁') {
                assert_eq!(tokenizer.decode(&ids), text, "{name}");
            }
        }
    }
}
