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

fn unzipped(path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(folder().join(path)).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

fn metadata(path: &str) -> Metadata {
    let bytes = unzipped(path);
    let mut reader = HeaderReader::new(bytes.len() as u64);
    assert_eq!(reader.push(&bytes).unwrap(), 0);
    reader.finish().unwrap().metadata
}

pub(super) fn tokenizer(name: &str) -> Tokenizer {
    let path = format!("ggml-vocab-{name}.gguf.gz");
    Tokenizer::from_metadata(&mut metadata(&path)).unwrap_or_else(|e| panic!("{name}: {e}"))
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

/// Pre-tokenizers whose patterns llama.cpp only approximates, as its source says: it has no classes for cases
/// and marks. What the originals do with them is tested in `pretokenize`.
const APPROXIMATED: &[&str] = &[
    "tekken",
    "gpt-4o",
    "llama4",
    "kanana2",
    "talkie",
    "minimax-m2",
    "granite-embed-multi-97m",
    "tiny_aya",
    "cohere2moe",
    "kimi-k2",
    "youtu",
];

/// Whether a text has words of mixed cases, or characters with marks.
fn has_cases_or_marks(text: &str) -> bool {
    let is_mark = |c| matches!(c, '\u{300}'..='\u{36f}' | '\u{1780}'..='\u{17ff}');
    text.contains("camelCase") || text.contains("ПриветМир") || text.contains(is_mark)
}

/// What llama.cpp makes of all texts with a vocabulary and some pre-tokenizers.
#[derive(serde::Deserialize)]
struct Golden {
    vocabulary: String,
    pre: Vec<String>,
    ids: Vec<Vec<u32>>,
}

#[test]
fn other_vocabularies_and_all_pre_tokenizers_do_as_llama_cpp() {
    let texts: Vec<String> =
        serde_json::from_slice(&std::fs::read(folder().join("llama.cpp/texts.json")).unwrap()).unwrap();
    let golden: Vec<Golden> = serde_json::from_slice(&unzipped("llama.cpp/golden.json.gz")).unwrap();
    assert!(golden.len() > 20 && texts.len() > 60);
    let mut differences = Vec::new();
    for Golden { vocabulary, pre, ids } in &golden {
        assert_eq!(ids.len(), texts.len());
        let names = if pre.is_empty() { vec![None] } else { pre.iter().map(Some).collect() };
        for name in names {
            let mut metadata = metadata(&format!("llama.cpp/{vocabulary}.gguf.gz"));
            if let Some(name) = name {
                metadata.insert("tokenizer.ggml.pre", name.as_str());
            }
            let tokenizer = Tokenizer::from_metadata(&mut metadata).unwrap();
            for (text, expected) in texts.iter().zip(ids) {
                let mut ids = Vec::new();
                tokenizer.append_plain(text, &mut ids).unwrap();
                let is_known = name.is_some_and(|name| APPROXIMATED.contains(&name.as_str()));
                // llama.cpp replaces white space past ASCII before it looks for Chinese characters.
                let is_wide_space = name
                    .is_some_and(|name| ["deepseek-llm", "deepseek-coder"].contains(&name.as_str()))
                    && text.contains('\u{3000}');
                if ids != *expected && !(is_known && has_cases_or_marks(text) || is_wide_space) {
                    let words =
                        |ids: &[u32]| ids.iter().map(|id| tokenizer.decode(&[*id])).collect::<Vec<_>>();
                    differences.push((vocabulary, name, text, words(&ids), words(expected)));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}
