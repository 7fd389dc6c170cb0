//! WordPiece vocabularies, as BERT has them: words are cut into the longest tokens, from their beginning on.
//! A token that begins a word has ▁ before it.

use super::TextError;
use super::sentencepiece::{self, SPACE};
use super::vocabulary::{Prefixes, Vocabulary};
use fancy_regex::Regex;
use unicode_normalization_alignments::char::decompose_canonical;

/// A punctuation mark, a Chinese character, or the letters between these and spaces.
const WORDS: &str = concat!(
    r"[\p{P}$+<=>^`|~\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B81F}",
    r"\x{2B920}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]",
    r"|[^\s\p{P}$+<=>^`|~\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B81F}",
    r"\x{2B920}-\x{2CEAF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}]+",
);
const CONTROLS: &str = r"[\p{C}\x{FFFD}&&\S]";
const ACCENTS: &str = r"\p{Mn}";

/// A WordPiece vocabulary.
#[derive(Debug)]
pub(super) struct WordPiece {
    tokens: Prefixes,
    unknown: u32,
    words: Regex,
    controls: Regex,
    accents: Option<Regex>,
    lowercase: bool,
}

impl WordPiece {
    /// `matches` says for each token whether text can become it.
    pub(super) fn new(
        tokens: Vec<String>,
        matches: Vec<bool>,
        unknown: u32,
        lowercase: bool,
        strip_accents: bool,
    ) -> Result<Self, TextError> {
        let compile = |regex| Regex::new(regex).map_err(|e| TextError::Vocabulary(e.to_string()));
        Ok(Self {
            tokens: Prefixes::new(tokens, matches)?,
            unknown,
            words: compile(WORDS)?,
            controls: compile(CONTROLS)?,
            accents: if strip_accents { Some(compile(ACCENTS)?) } else { None },
            lowercase,
        })
    }

    /// Appends the tokens of a word; the unknown token if it cannot be spelled.
    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let word = format!("{SPACE}{word}");
        let (begin, mut rest) = (ids.len(), word.as_bytes());
        while !rest.is_empty() {
            let Some((len, id)) = self.tokens.longest(rest) else {
                ids.truncate(begin);
                ids.push(self.unknown);
                return;
            };
            ids.push(id);
            rest = rest.get(len..).unwrap_or_default();
        }
    }
}

impl Vocabulary for WordPiece {
    fn id_of(&self, token: &str) -> Option<u32> {
        self.tokens.id_of(token.as_bytes())
    }

    fn spelled(&self, id: u32) -> Option<String> {
        Some(String::from_utf8_lossy(self.tokens.bytes_of(id)).into_owned())
    }

    fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let text = self.controls.replace_all(text, "");
        let text = match &self.accents {
            Some(accents) => {
                // Marks need no order of their own: they are left out.
                let mut apart = String::with_capacity(text.len());
                text.chars().for_each(|c| decompose_canonical(c, |c| apart.push(c)));
                accents.replace_all(&apart, "").into_owned()
            }
            None => text.into_owned(),
        };
        // Character by character: the Σ at a word's end becomes σ, too.
        let text = if self.lowercase { text.chars().flat_map(char::to_lowercase).collect() } else { text };
        for word in self.words.find_iter(&text) {
            let word = word.map_err(|e| TextError::Encode(e.to_string()))?;
            self.encode_word(word.as_str(), ids);
        }
        Ok(())
    }

    fn bytes(&self, token: &str) -> Vec<u8> {
        sentencepiece::bytes(token)
    }
}
