//! What all kinds of vocabularies have in common, and the search for the tokens that a text begins with.

use super::TextError;

/// A vocabulary: how it encodes text and what its tokens say.
pub(super) trait Vocabulary: std::fmt::Debug + Send + Sync {
    /// The token with this spelling.
    fn id_of(&self, token: &str) -> Option<u32>;
    /// A token's spelling.
    fn spelled(&self, id: u32) -> Option<String>;
    /// Appends the tokens of a text without special tokens.
    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError>;
    /// The bytes of a token that is not special, by its spelling.
    fn bytes(&self, token: &str) -> Vec<u8>;
}

/// No published vocabulary has tokens of more bytes; the search takes time with each.
const MAX_TOKEN_BYTES: usize = 1024;

/// Tokens in the order of their bytes. Finds those that a text begins with.
#[derive(Debug, Default)]
pub(super) struct Prefixes {
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Where each token ends in `bytes`.
    ends: Vec<usize>,
    /// Whether text can become the token.
    matches: Vec<bool>,
    sorted: Vec<u32>,
}

impl Prefixes {
    /// `matches` says for each token whether text can become it.
    pub(super) fn new<T: AsRef<[u8]>>(
        tokens: impl IntoIterator<Item = T>,
        matches: Vec<bool>,
    ) -> Result<Self, TextError> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::with_capacity(matches.len()));
        for token in tokens {
            if token.as_ref().len() > MAX_TOKEN_BYTES {
                let problem = format!("token {} has more than {MAX_TOKEN_BYTES} bytes", ends.len());
                return Err(TextError::Vocabulary(problem));
            }
            bytes.extend_from_slice(token.as_ref());
            ends.push(bytes.len());
        }
        let mut prefixes = Self { sorted: (0..ends.len() as u32).collect(), bytes, ends, matches };
        let mut sorted = std::mem::take(&mut prefixes.sorted);
        sorted.sort_by(|a, b| prefixes.bytes_of(*a).cmp(prefixes.bytes_of(*b)));
        for pair in sorted.windows(2) {
            let &[a, b] = pair else { continue };
            if prefixes.bytes_of(a) == prefixes.bytes_of(b) {
                return Err(TextError::Vocabulary(format!("tokens {a} and {b} are equal")));
            }
        }
        Ok(Self { sorted, ..prefixes })
    }

    /// A token's bytes; none for an unknown one.
    pub(super) fn bytes_of(&self, id: u32) -> &[u8] {
        let id = id as usize;
        let start = id.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(id).copied().unwrap_or(start);
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// The token of exactly these bytes.
    pub(super) fn id_of(&self, bytes: &[u8]) -> Option<u32> {
        let at = self.sorted.binary_search_by(|id| self.bytes_of(*id).cmp(bytes)).ok()?;
        self.sorted.get(at).copied()
    }

    /// Calls `found` with the length and the id of each token that `text` begins with, the shortest first.
    pub(super) fn of(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        // All tokens in `range` begin with the bytes of `text` so far.
        let mut range = self.sorted.as_slice();
        for (i, byte) in text.iter().enumerate() {
            let at = |id: &u32| self.bytes_of(*id).get(i).copied();
            let (start, end) = (
                range.partition_point(|id| at(id) < Some(*byte)),
                range.partition_point(|id| at(id) <= Some(*byte)),
            );
            range = range.get(start..end).unwrap_or_default();
            match range.first() {
                None => return,
                Some(&id) if self.bytes_of(id).len() == i + 1 => {
                    if self.matches.get(id as usize) == Some(&true) {
                        found(i + 1, id);
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// The length and the id of the longest token that `text` begins with.
    pub(super) fn longest(&self, text: &[u8]) -> Option<(usize, u32)> {
        let mut longest = None;
        self.of(text, |len, id| longest = Some((len, id)));
        longest
    }
}
