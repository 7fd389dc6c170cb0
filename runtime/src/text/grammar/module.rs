//! The parser as a wasm module beside this one, with the interface of `nomoat_grammar::{Grammars, Grammar}`.

use super::{Constraint, GrammarError};
use js_sys::{Function, Uint32Array};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// `nomoat_grammar::module::Parser`.
    #[derive(Debug)]
    type Parser;
    #[wasm_bindgen(method, catch)]
    fn compile(this: &Parser, constraint_json: &str) -> Result<Matcher, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn free(this: &Parser) -> Result<(), JsValue>;

    /// `nomoat_grammar::module::Matcher`.
    #[derive(Debug)]
    type Matcher;
    #[wasm_bindgen(method, catch)]
    fn accept(this: &Matcher, id: u32) -> Result<(), JsValue>;
    #[wasm_bindgen(method, catch)]
    fn prepare(this: &Matcher) -> Result<Vec<u32>, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn is_complete(this: &Matcher) -> Result<bool, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn forced(this: &Matcher) -> Result<Vec<u32>, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn free(this: &Matcher) -> Result<(), JsValue>;
}

thread_local! {
    /// Makes a parser.
    static MAKE: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Gives this module the parser's: a function that takes what `nomoat_grammar::module::Parser::new` takes, and
/// returns a parser.
pub fn use_parser(make: Function) {
    MAKE.set(Some(make));
}

/// What the other module has thrown. A trap there is an error here.
fn caught(thrown: JsValue) -> GrammarError {
    let error = thrown.as_string().and_then(|json| serde_json::from_str(&json).ok());
    error.unwrap_or_else(|| GrammarError::Stuck(format!("its parser failed: {thrown:?}")))
}

/// Divides a text in the middle of an answer into tokens as the model has learnt it; none if it cannot.
pub type Encode = Box<dyn Fn(&str) -> Option<Vec<u32>>>;

/// A model's parser.
#[derive(Debug)]
pub struct Grammars {
    parser: Parser,
    /// What the parser calls.
    _encode: Option<Closure<dyn Fn(String) -> JsValue>>,
}

impl Grammars {
    /// For a vocabulary; an error if the module has not been loaded.
    pub fn new(words: Vec<Vec<u8>>, ends: &[u32], encode: Option<Encode>) -> Result<Self, GrammarError> {
        let make = MAKE.with_borrow(Clone::clone).ok_or(GrammarError::NotLoaded)?;
        let lengths: Vec<u32> = words.iter().map(|word| word.len() as u32).collect();
        let encode = encode.map(|encode| {
            let encode = move |text: String| match encode(&text) {
                Some(ids) => Uint32Array::from(&ids[..]).into(),
                None => JsValue::NULL,
            };
            Closure::new(encode)
        });
        let arguments = js_sys::Array::of4(
            &js_sys::Uint8Array::from(&words.concat()[..]),
            &Uint32Array::from(&lengths[..]),
            &Uint32Array::from(ends),
            encode.as_ref().map_or(&JsValue::UNDEFINED, Closure::as_ref),
        );
        let parser = make.apply(&JsValue::NULL, &arguments).map_err(caught)?;
        Ok(Self { parser: parser.unchecked_into(), _encode: encode })
    }

    /// A grammar at the beginning of an answer.
    pub fn compile(&self, constraint: &Constraint) -> Result<Grammar, GrammarError> {
        let json = serde_json::to_string(constraint).map_err(|e| GrammarError::Stuck(e.to_string()))?;
        let matcher = self.parser.compile(&json).map_err(caught)?;
        let mut grammar = Grammar { matcher, mask: Vec::new() };
        grammar.prepare()?;
        Ok(grammar)
    }
}

impl Drop for Grammars {
    fn drop(&mut self) {
        // After a trap it cannot be freed.
        let _ = self.parser.free();
    }
}

/// A constraint, as far as an answer has come.
#[derive(Debug)]
pub struct Grammar {
    matcher: Matcher,
    mask: Vec<u32>,
}

impl Grammar {
    /// The tokens that may come next, as for [`crate::graph::allows`].
    pub fn mask(&self) -> &[u32] {
        &self.mask
    }

    /// Takes the next token of the answer, which does not end it.
    pub fn accept(&mut self, id: u32) -> Result<(), GrammarError> {
        self.matcher.accept(id).map_err(caught)
    }

    /// Computes the mask for the next token.
    pub fn prepare(&mut self) -> Result<(), GrammarError> {
        self.mask = self.matcher.prepare().map_err(caught)?;
        Ok(())
    }

    /// Whether the answer is a whole sentence that nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_complete().unwrap_or(false)
    }

    /// The next tokens, if there is only one way to go on.
    pub fn forced(&mut self) -> Vec<u32> {
        self.matcher.forced().unwrap_or_default()
    }

    /// Whether a token may come next.
    pub fn allows(&self, id: u32) -> bool {
        crate::graph::allows(&self.mask, id as usize)
    }
}

impl Drop for Grammar {
    fn drop(&mut self) {
        let _ = self.matcher.free();
    }
}
