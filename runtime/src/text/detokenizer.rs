//! Tokens to text as they come: a token may end in the middle of a character.

use super::Tokenizer;

/// Turns one answer's tokens into text.
#[derive(Debug, Default)]
pub struct Detokenizer {
    /// Bytes of a character that is not complete.
    held: Vec<u8>,
    begun: bool,
}

impl Detokenizer {
    /// For a new text: the space that SentencePiece puts before its first word is left out.
    pub fn new() -> Self {
        Self::default()
    }

    /// For text that goes on from a raw prompt: nothing is left out.
    pub fn continuing() -> Self {
        Self { begun: true, ..Self::default() }
    }

    /// The text that is certain after this token. Bytes that can never become UTF-8 turn into U+FFFD.
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
                    // None: the bytes may yet become a character.
                    let Some(bad) = error.error_len() else { return text };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.held.drain(..bad);
                }
            }
        }
    }

    /// What is left at the end: nothing, or U+FFFD for an incomplete character.
    pub fn flush(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}
