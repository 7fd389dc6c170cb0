//! SentencePiece vocabularies (arXiv 1808.06226): pieces with scores, ▁ for a space, tokens for single bytes.
//!
//! Neighbours merge while the result is in the vocabulary, the best score first. There is no list of merges.
//! The vocabulary is stored once: all texts in one string, the ids in a hash table.

use std::{cmp::Ordering, collections::BinaryHeap, hash::BuildHasher};

use super::TextError;
use super::vocabulary::Vocabulary;
use hashbrown::{DefaultHashBuilder, HashTable};

/// The character for a space in the vocabulary's texts.
pub(super) const SPACE: char = '▁';

/// A SentencePiece vocabulary.
#[derive(Debug)]
pub(super) struct SentencePiece {
    /// All texts, one after the other.
    texts: String,
    /// Where each text ends in `texts`.
    ends: Vec<usize>,
    scores: Vec<f32>,
    /// Whether plain text can become the token. It cannot become a control, unknown or byte token.
    mergeable: Vec<bool>,
    ids: HashTable<u32>,
    hasher: DefaultHashBuilder,
    /// The tokens of single bytes, or the unknown token for bytes without one.
    bytes: [Option<u32>; 256],
    /// Whether a text gets a space before it.
    add_space_prefix: bool,
}

/// A piece of the text, in a doubly linked list.
struct Symbol {
    start: usize,
    /// Equal to `start` once the piece has been merged into its left neighbour.
    end: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// Two neighbours that can merge.
struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    /// The merged length; if it no longer matches, the candidate is out of date.
    len: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl SentencePiece {
    /// `scores` and `mergeable` are as long as `tokens`.
    pub(super) fn new(
        tokens: Vec<String>,
        scores: Vec<f32>,
        mergeable: Vec<bool>,
        unknown: Option<u32>,
        add_space_prefix: bool,
    ) -> Result<Self, TextError> {
        let mut spm = Self {
            texts: String::with_capacity(tokens.iter().map(String::len).sum()),
            ends: Vec::with_capacity(tokens.len()),
            scores,
            mergeable,
            ids: HashTable::with_capacity(tokens.len()),
            hasher: DefaultHashBuilder::default(),
            bytes: [unknown; 256],
            add_space_prefix,
        };
        for (id, text) in (0..).zip(tokens) {
            if spm.id_of(&text).is_some() {
                return Err(TextError::Vocabulary(format!("token {id} appears twice: {text:?}")));
            }
            spm.texts.push_str(&text);
            spm.ends.push(spm.texts.len());
            let hash = spm.hasher.hash_one(text.as_str());
            let (texts, ends, hasher) = (&spm.texts, &spm.ends, &spm.hasher);
            spm.ids.insert_unique(hash, id, |&id| hasher.hash_one(text_of(texts, ends, id)));
        }
        for byte in 0..=u8::MAX {
            if let Some(id) = spm.id_of(&format!("<0x{byte:02X}>")) {
                spm.bytes[usize::from(byte)] = Some(id);
            }
        }
        Ok(spm)
    }

    fn candidate(
        &self,
        text: &str,
        symbols: &[Symbol],
        left: Option<usize>,
        right: Option<usize>,
    ) -> Option<Candidate> {
        let (left, right) = (left?, right?);
        let (start, end) = (symbols.get(left)?.start, symbols.get(right)?.end);
        let id = self.mergeable_id(text.get(start..end)?)?;
        Some(Candidate { score: *self.scores.get(id as usize)?, left, right, len: end - start })
    }

    fn mergeable_id(&self, text: &str) -> Option<u32> {
        self.id_of(text).filter(|&id| self.mergeable.get(id as usize) == Some(&true))
    }
}

impl Vocabulary for SentencePiece {
    fn id_of(&self, text: &str) -> Option<u32> {
        let same = |&id: &u32| text_of(&self.texts, &self.ends, id) == text;
        self.ids.find(self.hasher.hash_one(text), same).copied()
    }

    fn spelled(&self, id: u32) -> Option<String> {
        self.ends.get(id as usize).map(|_| text_of(&self.texts, &self.ends, id).to_string())
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let text = &escape(text, self.add_space_prefix);
        let mut symbols = Vec::with_capacity(text.len());
        for (i, (start, c)) in text.char_indices().enumerate() {
            let end = start + c.len_utf8();
            let next = (end < text.len()).then_some(i + 1);
            symbols.push(Symbol { start, end, previous: i.checked_sub(1), next });
        }
        let mut candidates = BinaryHeap::new();
        for right in 1..symbols.len() {
            candidates.extend(self.candidate(text, &symbols, Some(right - 1), Some(right)));
        }
        while let Some(Candidate { left, right, len, .. }) = candidates.pop() {
            let (Some(a), Some(b)) = (symbols.get(left), symbols.get(right)) else { continue };
            let (end, next) = (b.end, b.next);
            // One of the two has been merged in the meantime.
            if a.start == a.end || b.start == b.end || end - a.start != len {
                continue;
            }
            if let Some(b) = symbols.get_mut(right) {
                b.end = b.start;
            }
            let previous = symbols.get_mut(left).and_then(|a| {
                (a.end, a.next) = (end, next);
                a.previous
            });
            if let Some(next) = next.and_then(|next| symbols.get_mut(next)) {
                next.previous = Some(left);
            }
            candidates.extend(self.candidate(text, &symbols, previous, Some(left)));
            candidates.extend(self.candidate(text, &symbols, Some(left), next));
        }
        let mut at = symbols.first();
        while let Some(symbol) = at {
            let piece = text.get(symbol.start..symbol.end).unwrap_or_default();
            match self.mergeable_id(piece) {
                Some(id) => ids.push(id),
                None => {
                    for byte in piece.bytes() {
                        let none = || TextError::Encode(format!("the vocabulary has no token for {piece:?}"));
                        ids.push(self.bytes[usize::from(byte)].ok_or_else(none)?);
                    }
                }
            }
            at = symbol.next.and_then(|next| symbols.get(next));
        }
        Ok(())
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        bytes(token)
    }
}

fn text_of<'a>(texts: &'a str, ends: &[usize], id: u32) -> &'a str {
    let id = id as usize;
    let start = id.checked_sub(1).and_then(|before| ends.get(before)).copied().unwrap_or(0);
    let end = ends.get(id).copied().unwrap_or(start);
    texts.get(start..end).unwrap_or_default()
}

/// A text with ▁ for spaces.
fn escape(text: &str, add_space_prefix: bool) -> String {
    let mut escaped = if add_space_prefix { SPACE.to_string() } else { String::new() };
    escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
    escaped
}

/// The bytes of a piece.
pub(super) fn bytes(piece: &str) -> Vec<u8> {
    let hex = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|hex| hex.len() == 2);
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => vec![byte],
        None => piece.replace(SPACE, " ").into_bytes(),
    }
}
