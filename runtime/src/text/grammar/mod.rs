//! Constrained generation, by the crate `nomoat-grammar`: what a model's tokenizer tells the parser. Natively
//! the parser is part of the program; in browsers it is a module of its own, which is loaded for the first
//! constraint.

#[cfg(target_arch = "wasm32")]
mod module;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

#[cfg(target_arch = "wasm32")]
pub use module::{Encode, Grammar, Grammars, use_parser};
pub use nomoat_grammar::{Constraint, GrammarError, MAX_BYTES, WHITE_SPACE};
#[cfg(not(target_arch = "wasm32"))]
pub use nomoat_grammar::{Encode, Grammar, Grammars};

use super::Tokenizer;
use nomoat_grammar::MARK;
use std::sync::Arc;

/// Prepares constraints on the answers of a model with this tokenizer.
pub fn grammars_of(tokenizer: &Arc<Tokenizer>) -> Result<Grammars, GrammarError> {
    let words: Vec<Vec<u8>> = (0..tokenizer.vocab_size() as u32).map(|id| word(tokenizer, id)).collect();
    // A tokenizer that puts a space before a text does not say how the middle of one is divided.
    let encode = (!tokenizer.drops_first_space()).then(|| {
        let tokenizer = tokenizer.clone();
        Box::new(move |text: &str| encoded(&tokenizer, text)) as Encode
    });
    Grammars::new(words, tokenizer.stop_ids(), encode)
}

/// Whether a token must be named to be allowed: control tokens, and other markers in angle brackets.
pub(super) fn is_named(tokenizer: &Tokenizer, id: u32) -> bool {
    let spelled = tokenizer.spelled(id).unwrap_or_default();
    let is_marker = || tokenizer.markers_in(&spelled).next() == Some((0, spelled.len()));
    tokenizer.is_control(id) || (spelled.starts_with('<') && is_marker())
}

/// The bytes of a token.
fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    if is_named(tokenizer, id) {
        return [&[MARK], tokenizer.spelled(id).unwrap_or_default().as_bytes()].concat();
    }
    let bytes = tokenizer.token_bytes(id);
    if bytes.first() == Some(&MARK) { Vec::new() } else { bytes }
}

/// The tokens of a text in the middle of an answer.
fn encoded(tokenizer: &Tokenizer, text: &str) -> Option<Vec<u32>> {
    let mut ids = tokenizer.encode(text, false).ok()?;
    if tokenizer.adds_bos() && !ids.is_empty() {
        ids.remove(0);
    }
    // An unknown character has a token without text.
    Some(ids).filter(|ids| !ids.iter().any(|id| tokenizer.is_control(*id)))
}
