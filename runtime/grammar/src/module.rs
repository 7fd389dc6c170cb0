//! The parser for JavaScript: what the runtime's own wasm calls, for which see `text/grammar/module.rs` there.
//! Errors are [`GrammarError`] as JSON.

use crate::{Encode, Grammar, Grammars, GrammarError};
use js_sys::{Function, Uint32Array};
use std::cell::RefCell;
use wasm_bindgen::prelude::*;

thread_local! {
    /// The runtime's functions that encode, for each parser. The crate `llguidance` wants what threads may
    /// share, which these are not.
    static ENCODERS: RefCell<Vec<Function>> = const { RefCell::new(Vec::new()) };
}

fn thrown(error: GrammarError) -> JsValue {
    serde_json::to_string(&error).unwrap_or_default().into()
}

/// The parser of a model's answers.
#[wasm_bindgen]
pub struct Parser(Grammars);

#[wasm_bindgen]
impl Parser {
    /// For a vocabulary: the bytes of all tokens, how many of them each token has, and the tokens that end an
    /// answer. `encode` takes a text, and returns its tokens or null.
    #[wasm_bindgen(constructor)]
    pub fn new(
        bytes: &[u8],
        lengths: &[u32],
        ends: &[u32],
        encode: Option<Function>,
    ) -> Result<Parser, JsValue> {
        console_error_panic_hook::set_once();
        let mut rest = bytes;
        let words: Vec<Vec<u8>> = lengths
            .iter()
            .map(|&length| {
                let (word, after) = rest.split_at_checked(length as usize).unwrap_or((rest, &[]));
                rest = after;
                word.to_vec()
            })
            .collect();
        let encode = encode.map(|encode| {
            let at = ENCODERS.with_borrow_mut(|all| {
                all.push(encode);
                all.len() - 1
            });
            Box::new(move |text: &str| encoded(at, text)) as Encode
        });
        Grammars::new(words, ends, encode).map(Parser).map_err(thrown)
    }

    /// A grammar at the beginning of an answer, for a [`crate::Constraint`] as JSON.
    pub fn compile(&self, constraint_json: &str) -> Result<Matcher, JsValue> {
        let constraint = serde_json::from_str(constraint_json)
            .map_err(|e| thrown(GrammarError::Text { kind: "constraint".into(), problem: e.to_string() }))?;
        self.0.compile(&constraint).map(Matcher).map_err(thrown)
    }
}

fn encoded(at: usize, text: &str) -> Option<Vec<u32>> {
    let encode = ENCODERS.with_borrow(|all| all.get(at).cloned())?;
    let ids = encode.call1(&JsValue::NULL, &text.into()).ok()?;
    ids.dyn_into::<Uint32Array>().ok().map(|ids| ids.to_vec())
}

/// A constraint, as far as an answer has come.
#[wasm_bindgen]
pub struct Matcher(Grammar);

#[wasm_bindgen]
impl Matcher {
    /// Takes the answer's next token.
    pub fn accept(&mut self, id: u32) -> Result<(), JsValue> {
        self.0.accept(id).map_err(thrown)
    }

    /// Computes the mask for the next token, and returns it.
    pub fn prepare(&mut self) -> Result<Vec<u32>, JsValue> {
        self.0.prepare().map_err(thrown)?;
        Ok(self.0.mask().to_vec())
    }

    /// Whether the answer is a whole sentence that nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    /// The next tokens, if there is only one way to go on.
    pub fn forced(&mut self) -> Vec<u32> {
        self.0.forced()
    }
}
