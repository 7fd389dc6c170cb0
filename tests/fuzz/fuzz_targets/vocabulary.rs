//! Vocabularies of every kind with anything in their keys: a tokenizer is built or refused with an error, and
//! what it makes of a text are ids of its vocabulary, with which the detokeniser does not fail either. Those
//! of `tests/vocab` get any text: byte-level ones give it back.

#![no_main]

use arbitrary::Arbitrary;
use flate2::read::GzDecoder;
use libfuzzer_sys::fuzz_target;
use nomoat_runtime::gguf::{Array, HeaderReader, Metadata, Value};
use nomoat_runtime::text::Tokenizer;
use std::collections::HashSet;
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

const MODELS: &[&str] = &["gpt2", "gemma4", "llama", "t5", "bert", "rwkv", "whitespace"];
const IDS: &[&str] = &["bos", "eos", "eot", "unknown", "seperator", "fim_pre", "fim_suf", "fim_mid"];
const FLAGS: &[&str] = &[
    "add_bos_token",
    "add_eos_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
    "normalizer.lowercase",
    "normalizer.strip_accents",
];

/// The names of all pre-tokenizers.
static PRE: LazyLock<Vec<String>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../vocab/llama.cpp/names.json")).expect("a list of names")
});

/// The vocabularies of `tests/vocab`, and whether they have a token for every byte.
static PUBLISHED: LazyLock<Vec<(Tokenizer, bool)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vocab");
    let mut paths: Vec<_> = [folder.clone(), folder.join("llama.cpp")]
        .iter()
        .flat_map(|folder| folder.read_dir().expect("the vocabularies"))
        .map(|file| file.expect("a file").path())
        .filter(|path| path.to_string_lossy().ends_with(".gguf.gz"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 15, "the vocabularies of tests/vocab are missing");
    let tokenizer = |path: &Path| {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).expect("a file");
        GzDecoder::new(file).read_to_end(&mut bytes).expect("gzip");
        let mut reader = HeaderReader::new(bytes.len() as u64);
        assert_eq!(reader.push(&bytes), Ok(0));
        let mut metadata = reader.finish().expect("a header").metadata;
        let is_bytes = metadata.str("tokenizer.ggml.model") == Ok(Some("gpt2"));
        let tokenizer = Tokenizer::from_metadata(&mut metadata).expect("a vocabulary");
        // GPT-2's alphabet: U+0100 to U+0143 stand for bytes that are not printed.
        let mut alphabet = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').chain('\u{100}'..='\u{143}');
        let is_whole = is_bytes && alphabet.all(|c| tokenizer.id_of(c.encode_utf8(&mut [0; 4])).is_some());
        (tokenizer, is_whole)
    };
    paths.iter().map(|path| tokenizer(path)).collect()
});

#[derive(Arbitrary, Debug)]
enum Input {
    Made(Made),
    Published { which: u8, text: String },
}

#[derive(Arbitrary, Debug)]
struct Made {
    model: u8,
    pre: u8,
    tokens: Vec<(String, u8, f32)>,
    /// Also the bytes as tokens, so that more texts have ids.
    has_bytes: bool,
    merges: Vec<(u8, u8)>,
    charsmap: Option<Vec<u8>>,
    ids: [Option<i64>; 8],
    flags: [Option<u8>; 6],
    /// The phi-3 family takes out white space after special tokens.
    is_phi3: bool,
    text: String,
    /// Tokens that the text has as well.
    spelled: Vec<u8>,
}

impl Made {
    /// The vocabulary, and the text.
    fn metadata(self) -> (Metadata, String) {
        let mut metadata = Metadata::new();
        let mut tokens = self.tokens;
        tokens.truncate(200);
        if self.has_bytes {
            tokens.extend((0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), 6, 0.0)));
            tokens.extend(('!'..='~').map(|c| (c.to_string(), 1, -1.0)));
            let mut known = HashSet::new();
            tokens.retain(|token| known.insert(token.0.clone()));
        }
        let spelling = |id: u8| tokens.get(usize::from(id)).map_or("", |(token, ..)| token.as_str());
        let pairs = self.merges.iter().map(|(a, b)| format!("{} {}", spelling(*a), spelling(*b)));
        metadata.insert("tokenizer.ggml.merges", pairs.collect::<Vec<String>>());
        let mut text = self.text;
        self.spelled.iter().for_each(|id| text.push_str(spelling(*id)));
        let types = tokens.iter().map(|t| i32::from(t.1 % 8)).collect::<Vec<_>>();
        metadata.insert("tokenizer.ggml.model", MODELS[usize::from(self.model) % MODELS.len()]);
        metadata.insert("tokenizer.ggml.pre", PRE[usize::from(self.pre) % PRE.len()].as_str());
        metadata.insert("tokenizer.ggml.token_type", types);
        metadata.insert("tokenizer.ggml.scores", tokens.iter().map(|t| t.2).collect::<Vec<_>>());
        metadata.insert("tokenizer.ggml.tokens", tokens.into_iter().map(|t| t.0).collect::<Vec<_>>());
        if let Some(map) = self.charsmap {
            metadata.insert("tokenizer.ggml.precompiled_charsmap", Value::Array(Array::U8(map)));
        }
        if self.is_phi3 {
            metadata.insert("general.name", "Phi-3");
        }
        for (name, id) in IDS.iter().zip(self.ids) {
            if let Some(id) = id {
                metadata.insert(format!("tokenizer.ggml.{name}_token_id"), id);
            }
        }
        for (name, flag) in FLAGS.iter().zip(self.flags) {
            if let Some(flag) = flag {
                metadata.insert(format!("tokenizer.ggml.{name}"), Value::U8(flag));
            }
        }
        (metadata, text)
    }
}

/// Encodes a text in all ways and decodes the ids. Returns what plain text gives.
fn check(tokenizer: &Tokenizer, text: &str) -> Option<String> {
    let checked = |ids: &[u32]| {
        assert!(ids.iter().all(|id| (*id as usize) < tokenizer.vocab_size()));
        tokenizer.decode(ids)
    };
    if let Ok(ids) = tokenizer.encode(text, true) {
        checked(&ids);
    }
    if let Ok(Some(ids)) = tokenizer.encode_infill(text, "x") {
        checked(&ids);
    }
    tokenizer.encode(text, false).ok().map(|ids| checked(&ids))
}

fuzz_target!(|input: Input| {
    match input {
        Input::Made(made) => {
            let (mut metadata, text) = made.metadata();
            if let Ok(tokenizer) = Tokenizer::from_metadata(&mut metadata) {
                check(&tokenizer, &text);
            }
        }
        Input::Published { which, text } => {
            let (tokenizer, is_whole) = &PUBLISHED[usize::from(which) % PUBLISHED.len()];
            let decoded = check(tokenizer, &text);
            if *is_whole {
                assert_eq!(decoded.as_deref(), Some(text.as_str()));
            }
        }
    }
});
