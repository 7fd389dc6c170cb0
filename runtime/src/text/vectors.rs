//! Tests every vocabulary in `tests/vocab` on token vectors from llama.cpp and Hugging Face's tokenizers.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use super::Tokenizer;
use crate::gguf::{HeaderReader, Metadata};
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const SEPARATOR: &str = "\n__ggml_vocab_test__\n";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vocab")
}

pub(super) fn metadata(name: &str) -> Metadata {
    let file = File::open(folder().join(format!("ggml-vocab-{name}.gguf.gz"))).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    let mut reader = HeaderReader::new(bytes.len() as u64);
    assert_eq!(reader.push(&bytes).unwrap(), 0);
    reader.finish().unwrap().metadata
}

pub(super) fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::from_metadata(&mut metadata(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Texts and the ids expected for them.
fn vectors(name: &str) -> Vec<(String, Vec<u32>)> {
    let read = |kind: &str| {
        std::fs::read_to_string(folder().join(format!("ggml-vocab-{name}.gguf.{kind}"))).unwrap()
    };
    let (inputs, outputs) = (read("inp"), read("out"));
    let inputs = inputs.strip_suffix(SEPARATOR).unwrap_or(&inputs).split(SEPARATOR);
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
    assert_eq!(names.len(), 15, "found {names:?}");
    for name in &names {
        let tokenizer = tokenizer(name);
        let vectors = vectors(name);
        assert!(vectors.len() > 40, "{name}: {} vectors", vectors.len());
        for (text, expected) in vectors {
            let mut ids = Vec::new();
            tokenizer.append_plain(&text, &mut ids).unwrap();
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
