//! What a build without the feature `grammar` has in place of a parser: an error.

use super::super::Tokenizer;
use super::{Constraint, GrammarError};
use std::sync::Arc;

/// Compiles nothing.
#[derive(Debug)]
pub enum Grammars {}

/// There is none.
#[derive(Debug)]
pub enum Grammar {}

impl Grammars {
    /// Always an error.
    pub fn new(_: &Arc<Tokenizer>) -> Result<Self, GrammarError> {
        Err(GrammarError::NotBuilt)
    }

    /// Is never called.
    pub fn compile(&self, _: &Constraint) -> Result<Grammar, GrammarError> {
        match *self {}
    }
}

impl Grammar {
    /// Is never called.
    pub fn mask(&self) -> &[u32] {
        match *self {}
    }

    /// Is never called.
    pub fn allows(&self, _: u32) -> bool {
        match *self {}
    }

    /// Is never called.
    pub fn accept(&mut self, _: u32) -> Result<(), GrammarError> {
        match *self {}
    }

    /// Is never called.
    pub fn prepare(&mut self) -> Result<(), GrammarError> {
        match *self {}
    }

    /// Is never called.
    pub fn is_complete(&self) -> bool {
        match *self {}
    }

    /// Is never called.
    pub fn forced(&mut self) -> Vec<u32> {
        match *self {}
    }
}
