//! Finds special tokens in text.

use super::TextError;
use aho_corasick::{AhoCorasick, MatchKind};

/// Bytes of all special tokens together; the automata that find them are several times as large.
const MAX_SPECIAL_BYTES: usize = 1 << 20;

/// Finds special tokens in text.
#[derive(Debug)]
pub(super) struct Cutter {
    automaton: AhoCorasick,
    ids: Vec<u32>,
    /// In order.
    names: Vec<String>,
}

/// A part of a text.
pub(super) enum Piece<'t> {
    /// Text without special tokens.
    Plain(&'t str),
    /// A special token.
    Token(u32),
}

impl Cutter {
    /// Finds those of the tokens that are wanted, by id and spelling.
    pub(super) fn new(tokens: &[String], wanted: impl Fn(usize, &str) -> bool) -> Result<Self, TextError> {
        let tokens = tokens.iter().enumerate().filter(|(id, token)| !token.is_empty() && wanted(*id, token));
        let (ids, names): (Vec<u32>, Vec<&str>) =
            tokens.map(|(id, token)| (id as u32, token.as_str())).unzip();
        let bytes: usize = names.iter().map(|name| name.len()).sum();
        if bytes > MAX_SPECIAL_BYTES {
            let problem =
                format!("its special tokens have {bytes} bytes; at most {MAX_SPECIAL_BYTES} are allowed");
            return Err(TextError::Vocabulary(problem));
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&names)
            .map_err(|e| TextError::Vocabulary(format!("too many special tokens: {e}")))?;
        let mut names: Vec<String> = names.into_iter().map(str::to_string).collect();
        names.sort_unstable();
        Ok(Self { automaton, ids, names })
    }

    /// Calls `piece` with each token and each stretch of plain text between them, in order. White space after
    /// a token that `strips` is left out.
    pub(super) fn cut<'t>(
        &self,
        text: &'t str,
        strips: impl Fn(u32) -> bool,
        mut piece: impl FnMut(Piece<'t>) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        let mut from = 0;
        let mut strip = false;
        let plain = |range: std::ops::Range<usize>, strip: bool, piece: &mut dyn FnMut(_) -> _| {
            let plain = text.get(range).unwrap_or_default();
            let plain = if strip { plain.trim_start_matches(is_c_space) } else { plain };
            if plain.is_empty() { Ok(()) } else { piece(Piece::Plain(plain)) }
        };
        for found in self.automaton.find_iter(text) {
            plain(from..found.start(), strip, &mut piece)?;
            from = found.end();
            let Some(&id) = self.ids.get(found.pattern().as_usize()) else { continue };
            piece(Piece::Token(id))?;
            strip = strips(id);
        }
        plain(from..text.len(), strip, &mut piece)
    }

    /// Start and end of each token in a text.
    pub(super) fn spans<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (usize, usize)> + 't {
        self.automaton.find_iter(text).map(|found| (found.start(), found.end()))
    }

    /// Where the longest end of a text starts with which a token begins.
    pub(super) fn begins(&self, text: &str) -> Option<usize> {
        let longest = self.names.iter().map(String::len).max().unwrap_or(0);
        let from = text.len().saturating_sub(longest);
        text.char_indices().filter(|(start, _)| *start >= from).find_map(|(start, _)| {
            let tail = text.get(start..)?;
            let next = self.names.partition_point(|name| name.as_str() < tail);
            self.names.get(next).is_some_and(|name| name.starts_with(tail)).then_some(start)
        })
    }
}

/// White space of C's `isspace`.
fn is_c_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}
