//! Tokens to text, one by one. A token may end in the middle of a character.

use super::Tokenizer;

/// Turns the tokens of one answer into text.
#[derive(Debug, Default)]
pub struct Detokenizer {
    /// Bytes of an incomplete character.
    held: Vec<u8>,
    begun: bool,
}

impl Detokenizer {
    /// Starts a new text, without the space that SentencePiece puts before the first word.
    pub fn new() -> Self {
        Self::default()
    }

    /// Continues a raw prompt: that space is kept.
    pub fn continuing() -> Self {
        Self { begun: true, ..Self::default() }
    }

    /// The text that is complete after this token. Invalid UTF-8 becomes U+FFFD.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let bytes = tokenizer.token_bytes(id);
        let drop = !self.begun && tokenizer.drops_first_space() && bytes.first() == Some(&b' ');
        self.begun |= !bytes.is_empty();
        self.held.extend_from_slice(&bytes[usize::from(drop)..]);
        self.take()
    }

    fn take(&mut self) -> String {
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.held) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.held.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.held[..valid]));
                    self.held.drain(..valid);
                    // Without a length, the bytes may be the beginning of a character.
                    let Some(bad) = error.error_len() else { return text };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.held.drain(..bad);
                }
            }
        }
    }

    /// Whether no character is incomplete.
    pub fn is_at_boundary(&self) -> bool {
        self.held.is_empty()
    }

    /// The rest at the end of the text: U+FFFD if a character is incomplete, otherwise nothing.
    pub fn flush(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}
