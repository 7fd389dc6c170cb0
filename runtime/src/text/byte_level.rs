//! Byte-level BPE vocabularies, as GPT-2 introduced them, on the `tokenizers` crate.

use std::collections::HashSet;

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use super::TextError;
use super::bytes::{byte_to_char, char_to_byte};
use super::pretokenize::PreTokenizer;

/// Words whose tokens are cached.
const CACHED_WORDS: usize = 1000;

/// A byte-level BPE vocabulary with its merges.
#[derive(Debug)]
pub(super) struct ByteLevel {
    bpe: BPE,
    pre_tokenizer: PreTokenizer,
}

impl ByteLevel {
    /// `merges` are pairs of tokens, separated by a space, in order of priority.
    pub(super) fn new(
        tokens: Vec<String>,
        merges: Vec<String>,
        pre_tokenizer: PreTokenizer,
    ) -> Result<Self, TextError> {
        let mut vocab = Vocab::default();
        vocab.reserve(tokens.len());
        for (id, token) in (0..).zip(tokens) {
            if let Some(first) = vocab.insert(token, id) {
                return Err(TextError::Vocabulary(format!("tokens {first} and {id} are equal")));
            }
        }
        let merges = checked_merges(&vocab, merges)?;
        let bpe = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .cache_capacity(CACHED_WORDS)
            .ignore_merges(pre_tokenizer.ignore_merges)
            .build()
            .map_err(|e| TextError::Vocabulary(e.to_string()))?;
        Ok(Self { bpe, pre_tokenizer })
    }

    pub(super) fn id_of(&self, token: &str) -> Option<u32> {
        self.bpe.token_to_id(token)
    }

    pub(super) fn spelled(&self, id: u32) -> Option<String> {
        self.bpe.id_to_token(id)
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let mut spelled = String::new();
        self.pre_tokenizer.split(text, &mut |word| {
            spelled.clear();
            spelled.extend(word.bytes().map(byte_to_char));
            let tokens = self.bpe.tokenize(&spelled).map_err(|e| TextError::Encode(e.to_string()))?;
            ids.extend(tokens.iter().map(|token| token.id));
            Ok(())
        })
    }
}

/// Splits the merges into pairs. The crate slices strings without checks, so the merges are checked here.
fn checked_merges(vocab: &Vocab, merges: Vec<String>) -> Result<Vec<(String, String)>, TextError> {
    let mut seen = HashSet::with_capacity(merges.len());
    let mut pairs = Vec::with_capacity(merges.len());
    let mut merged = String::new();
    for merge in merges {
        let bad = |problem| TextError::Vocabulary(format!("merge {merge:?} {problem}"));
        let (left, right) = merge.split_once(' ').ok_or_else(|| bad("is not a pair of tokens"))?;
        merged.clear();
        merged.extend([left, right]);
        let ids = (vocab.get(left), vocab.get(right), vocab.get(&merged));
        let (Some(&a), Some(&b), Some(_)) = ids else {
            return Err(bad("uses or makes a token that is not in the vocabulary"));
        };
        if !seen.insert((a, b)) {
            return Err(bad("appears twice"));
        }
        pairs.push((left.to_owned(), right.to_owned()));
    }
    Ok(pairs)
}

/// The bytes of a token; one with characters outside the byte alphabet is taken literally.
pub(super) fn bytes(token: &str) -> Vec<u8> {
    token.chars().map(char_to_byte).collect::<Option<_>>().unwrap_or_else(|| token.as_bytes().to_vec())
}
