//! RWKV's vocabularies: tokens are byte strings, and the longest one that the text begins with comes next.

use super::TextError;
use super::vocabulary::{Prefixes, Vocabulary};

/// An RWKV vocabulary.
#[derive(Debug, Default)]
pub(super) struct Rwkv {
    tokens: Prefixes,
    spelled: Vec<String>,
    unknown: Option<u32>,
}

impl Rwkv {
    /// `tokens` are spelled with escapes; `matches` says for each whether text can become it.
    pub(super) fn new(
        tokens: Vec<String>,
        matches: Vec<bool>,
        unknown: Option<u32>,
    ) -> Result<Self, TextError> {
        let bytes = tokens.iter().map(|token| unescaped(token));
        Ok(Self { tokens: Prefixes::new(bytes, matches)?, spelled: tokens, unknown })
    }
}

impl Vocabulary for Rwkv {
    fn id_of(&self, token: &str) -> Option<u32> {
        let id = self.tokens.id_of(&unescaped(token))?;
        self.spelled.get(id as usize).filter(|spelled| *spelled == token).map(|_| id)
    }

    fn spelled(&self, id: u32) -> Option<String> {
        self.spelled.get(id as usize).cloned()
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let mut rest = text.as_bytes();
        while let Some(byte) = rest.first() {
            let none = || TextError::Encode(format!("the vocabulary has no token for byte 0x{byte:02X}"));
            let found = self.tokens.longest(rest).or_else(|| Some((1, self.unknown?)));
            let (len, id) = found.ok_or_else(none)?;
            ids.push(id);
            rest = rest.get(len..).unwrap_or_default();
        }
        Ok(())
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        unescaped(token)
    }
}

/// The bytes of a token that is spelled with `\t`, `\n`, `\r`, `\xHH`, and `\` before other characters.
fn unescaped(token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let mut chars = after.chars();
        let hex = |after: &str| u8::from_str_radix(after.get(1..3)?, 16).ok();
        match (chars.next(), hex(after)) {
            (Some('x'), Some(byte)) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
                continue;
            }
            (Some('t'), _) => bytes.push(b'\t'),
            (Some('n'), _) => bytes.push(b'\n'),
            (Some('r'), _) => bytes.push(b'\r'),
            (Some(c), _) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            (None, _) => {}
        }
        rest = chars.as_str();
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}
