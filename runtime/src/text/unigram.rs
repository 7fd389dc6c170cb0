//! Unigram vocabularies (arXiv 1804.10959), as T5 has them: of all ways to spell a text in tokens, the one
//! whose scores have the largest sum.

use super::charsmap::CharsMap;
use super::sentencepiece::{self, SPACE};
use super::vocabulary::{Prefixes, Vocabulary};
use super::{TextError, tokenizer::Kind};

/// What a character without a token costs more than the worst token.
const UNKNOWN_PENALTY: f32 = 10.0;

/// How text is prepared.
#[derive(Debug, Default)]
pub(super) struct Normalisation {
    /// Replacements of characters.
    pub charsmap: CharsMap,
    /// Whether a text gets a space before it.
    pub add_space_prefix: bool,
    /// Whether several spaces count as one, and those at the end as none.
    pub remove_extra_whitespaces: bool,
}

/// A unigram vocabulary.
#[derive(Debug)]
pub(super) struct Unigram {
    tokens: Prefixes,
    scores: Vec<f32>,
    unknown: u32,
    unknown_score: f64,
    normalisation: Normalisation,
}

/// The best way to the end of a token.
#[derive(Clone, Copy)]
struct Best {
    score: f64,
    token: u32,
    start: usize,
}

impl Unigram {
    /// `scores` and `kinds` are as long as `tokens`.
    pub(super) fn new(
        tokens: Vec<String>,
        scores: Vec<f32>,
        kinds: &[Kind],
        unknown: u32,
        normalisation: Normalisation,
    ) -> Result<Self, TextError> {
        let worst =
            scores.iter().zip(kinds).filter(|(_, kind)| **kind == Kind::Text).map(|(score, _)| *score);
        let worst = worst.fold(f32::MAX, f32::min);
        let matches = kinds.iter().map(|kind| matches!(kind, Kind::Text | Kind::Unused)).collect();
        Ok(Self {
            tokens: Prefixes::new(tokens, matches)?,
            scores,
            unknown,
            unknown_score: f64::from(worst - UNKNOWN_PENALTY),
            normalisation,
        })
    }

    fn normalised(&self, text: &str) -> Vec<u8> {
        let Normalisation { charsmap, add_space_prefix, remove_extra_whitespaces } = &self.normalisation;
        let mut out = Vec::with_capacity(text.len() + SPACE.len_utf8());
        let (mut has_prefix, mut in_word) = (!add_space_prefix, false);
        let mut space = [0; 4];
        let space = SPACE.encode_utf8(&mut space).as_bytes();
        let mut at = 0;
        while let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) {
            let rest = text.as_bytes().get(at..).unwrap_or_default();
            let (len, piece) = charsmap
                .replacement(rest)
                .filter(|(len, _)| text.is_char_boundary(at + len))
                .unwrap_or((c.len_utf8(), rest.get(..c.len_utf8()).unwrap_or_default()));
            for &byte in piece {
                if byte == b' ' {
                    in_word = false;
                    if !remove_extra_whitespaces {
                        out.extend_from_slice(space);
                    }
                    continue;
                }
                if !in_word && (!has_prefix || *remove_extra_whitespaces) {
                    out.extend_from_slice(space);
                    has_prefix = true;
                }
                in_word = true;
                out.push(byte);
            }
            at += len;
        }
        out
    }
}

impl Vocabulary for Unigram {
    fn id_of(&self, token: &str) -> Option<u32> {
        self.tokens.id_of(token.as_bytes())
    }

    fn spelled(&self, id: u32) -> Option<String> {
        Some(String::from_utf8_lossy(self.tokens.bytes_of(id)).into_owned())
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let text = self.normalised(text);
        let nothing = Best { score: f64::NEG_INFINITY, token: self.unknown, start: 0 };
        let mut best = vec![nothing; text.len() + 1];
        if let Some(first) = best.first_mut() {
            first.score = 0.0;
        }
        let mut start = 0;
        while start < text.len() {
            // The replacements of a broken map may not be UTF-8.
            let char_len = text.get(start..).and_then(|rest| rest.utf8_chunks().next());
            let char_len = char_len.and_then(|chunk| chunk.valid().chars().next()).map_or(1, char::len_utf8);
            let before = best.get(start).map_or(f64::NEG_INFINITY, |best| best.score);
            let mut offer = |len: usize, token: u32, score: f64| {
                if let Some(best) = best.get_mut(start + len)
                    && before + score > best.score
                {
                    *best = Best { score: before + score, token, start };
                }
            };
            let mut has_token = false;
            self.tokens.of(text.get(start..).unwrap_or_default(), |len, token| {
                has_token |= len == char_len;
                let score = self.scores.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
                offer(len, token, score.into());
            });
            if !has_token {
                offer(char_len, self.unknown, self.unknown_score);
            }
            start += char_len;
        }
        let (begin, mut end) = (ids.len(), text.len());
        let mut after_unknown = false;
        while let Some(Best { token, start, .. }) = best.get(end).copied().filter(|best| best.start < end) {
            let is_unknown = token == self.unknown;
            // Unknown characters in a row are one token.
            if !(is_unknown && after_unknown) {
                ids.push(token);
            }
            (after_unknown, end) = (is_unknown, start);
        }
        if let Some(new) = ids.get_mut(begin..) {
            new.reverse();
        }
        Ok(())
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        sentencepiece::bytes(token)
    }
}
