//! BPE vocabularies on the `tokenizers` crate: GPT-2's, whose tokens spell bytes, and those that spell text.

use std::collections::HashSet;

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use super::TextError;
use super::bytes::{byte_to_char, char_to_byte};
use super::pretokenize::{Alphabet, PreTokenizer};
use super::sentencepiece;
use super::vocabulary::Vocabulary;

/// Words whose tokens are cached.
const CACHED_WORDS: usize = 1000;

/// A BPE vocabulary with its merges.
#[derive(Debug)]
pub(super) struct Bpe {
    bpe: BPE,
    pre_tokenizer: PreTokenizer,
}

impl Bpe {
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
        let merges = usable_merges(&vocab, merges)?;
        let bpe = BPE::builder()
            .vocab_and_merges(vocab, merges)
            .cache_capacity(CACHED_WORDS)
            .byte_fallback(pre_tokenizer.alphabet != Alphabet::Bytes)
            .ignore_merges(pre_tokenizer.ignore_merges)
            .build()
            .map_err(|e| TextError::Vocabulary(e.to_string()))?;
        Ok(Self { bpe, pre_tokenizer })
    }

    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let tokens = self.bpe.tokenize(word).map_err(|e| TextError::Encode(e.to_string()))?;
        ids.extend(tokens.iter().map(|token| token.id));
        Ok(())
    }
}

impl Vocabulary for Bpe {
    fn id_of(&self, token: &str) -> Option<u32> {
        self.bpe.token_to_id(token)
    }

    fn spelled(&self, id: u32) -> Option<String> {
        self.bpe.id_to_token(id)
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        match self.pre_tokenizer.alphabet {
            Alphabet::Bytes => {
                let mut spelled = String::new();
                self.pre_tokenizer.split(text, &mut |word| {
                    spelled.clear();
                    spelled.extend(word.bytes().map(byte_to_char));
                    self.encode_word(&spelled, ids)
                })
            }
            Alphabet::Spaces => self.pre_tokenizer.split(&text.replace(' ', "▁"), &mut |word| {
                // A run of line breaks may be a token that no merges lead to.
                match self.id_of(word).filter(|_| word.starts_with('\n')) {
                    Some(id) => ids.push(id),
                    None => self.encode_word(word, ids)?,
                }
                Ok(())
            }),
            Alphabet::NoSpaces => self.pre_tokenizer.split(text, &mut |word| {
                if word.starts_with(char::is_whitespace) { Ok(()) } else { self.encode_word(word, ids) }
            }),
        }
    }

    /// A token with characters outside the byte alphabet is taken literally.
    fn bytes(&self, token: &str) -> Vec<u8> {
        match self.pre_tokenizer.alphabet {
            Alphabet::Bytes => {
                let bytes = token.chars().map(char_to_byte).collect::<Option<_>>();
                bytes.unwrap_or_else(|| token.as_bytes().to_vec())
            }
            Alphabet::Spaces | Alphabet::NoSpaces => sentencepiece::bytes(token),
        }
    }
}

/// Splits the merges into pairs. Of equal ones the first counts; those that use or make a token that is not
/// in the vocabulary cannot happen. The crate slices strings without checks, so all is checked here.
fn usable_merges(vocab: &Vocab, merges: Vec<String>) -> Result<Vec<(String, String)>, TextError> {
    let mut seen = HashSet::with_capacity(merges.len());
    let mut pairs = Vec::with_capacity(merges.len());
    let mut merged = String::new();
    for merge in merges {
        // A token may begin with a space.
        let first = merge.chars().next().map_or(0, char::len_utf8);
        let pair = merge.get(first..).and_then(|rest| rest.find(' ')).map(|at| merge.split_at(first + at));
        let (left, right) = pair
            .map(|(left, right)| (left, &right[1..]))
            .ok_or_else(|| TextError::Vocabulary(format!("merge {merge:?} is not a pair of tokens")))?;
        merged.clear();
        merged.extend([left, right]);
        let ids = (vocab.get(left), vocab.get(right), vocab.get(&merged));
        if let (Some(&a), Some(&b), Some(_)) = ids
            && seen.insert((a, b))
        {
            pairs.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(pairs)
}
