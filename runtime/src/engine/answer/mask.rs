//! The mask of an answer that is held to a grammar: the tokens that may come next.
//!
//! It depends on the token before, and is computed while the device works: on the part of a step before its
//! choice or, where the host picks the token, on the step.

use super::Answer;
use crate::text::grammar::{Grammar, GrammarError};

impl Answer {
    /// Computes the mask for the next token, unless it is there. An error is the answer's end: it comes again
    /// when the token is picked.
    pub fn prepare_mask(&mut self) -> Result<(), GrammarError> {
        if let Some(grammar) = self.grammar.as_mut().filter(|_| !self.has_mask) {
            grammar.prepare()?;
            self.has_mask = true;
        }
        Ok(())
    }

    /// Whether the mask for the next token is there, or none is needed.
    #[cfg(test)]
    pub fn has_mask(&self) -> bool {
        self.has_mask
    }

    /// The tokens that may come next; none: any.
    pub fn mask(&mut self) -> Option<&[u32]> {
        let _ = self.prepare_mask();
        self.grammar.as_ref().map(Grammar::mask)
    }
}
