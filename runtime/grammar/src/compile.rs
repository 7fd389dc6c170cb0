//! Constraints on the crate `llguidance`.

use crate::{Constraint, GrammarError, MARK, MAX_BYTES, WHITE_SPACE, gbnf, schema};
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    INVALID_TOKEN, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv,
};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};
use std::sync::Arc;

/// Longer tokens are never chosen; the trie of tokens is built by recursion, a level for each byte.
const MAX_TOKEN_BYTES: usize = 512;
/// Bytes of all tokens together; the trie has room for 2^22 nodes.
const MAX_VOCABULARY_BYTES: usize = 4_000_000;

/// Divides a text in the middle of an answer into tokens as the model has learnt it; none if it cannot.
pub type Encode = Box<dyn Fn(&str) -> Option<Vec<u32>> + Send + Sync>;

/// What constraints need to know of a model's tokens. Takes a while to make (0.2 s for 50,000 tokens in a
/// browser), so it is made for the first constraint and kept.
pub struct Grammars {
    factory: ParserFactory,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// For a vocabulary: the bytes of each token and the tokens that end an answer. A token that must be named
    /// to be allowed begins with [`MARK`].
    pub fn new(words: Vec<Vec<u8>>, ends: &[u32], encode: Option<Encode>) -> Result<Self, GrammarError> {
        let env: TokEnv = Arc::new(Env { trie: trie(words, ends)?, encode });
        Self::on(&env, &SlicedBiasComputer::general_slices())
    }

    /// For tokens of one byte each: cheap, and enough to find out whether a constraint can be compiled.
    pub(crate) fn single_byte() -> Result<Self, GrammarError> {
        Self::on(&llguidance::toktrie::ApproximateTokEnv::single_byte_env(), &[])
    }

    fn on(env: &TokEnv, slices: &[String]) -> Result<Self, GrammarError> {
        let ff_tokens = env.tokenize_is_canonical();
        let able = InferenceCapabilities { ff_tokens, ..Default::default() };
        let mut factory =
            ParserFactory::new(env, able, slices).map_err(|e| GrammarError::Vocabulary(brief(&e)))?;
        factory.quiet();
        // Lexer states take 1 to 2 kB each; the other numbers are bounds of time: 20 ms to begin, and about
        // 15 ms for a mask.
        *factory.limits_mut() = ParserLimits {
            max_items_in_row: 2_000,
            initial_lexer_fuel: 1_000_000,
            step_lexer_fuel: 200_000,
            step_max_items: 50_000,
            max_lexer_states: 50_000,
            max_grammar_size: 200_000,
            precompute_large_lexemes: true,
            verbose_errors: false,
        };
        Ok(Self { factory })
    }

    /// A grammar at the beginning of an answer.
    pub fn compile(&self, constraint: &Constraint) -> Result<Grammar, GrammarError> {
        let bytes = match constraint {
            Constraint::JsonObject => 0,
            Constraint::JsonSchema(schema) => schema.to_string().len(),
            Constraint::Regex(text) | Constraint::Lark(text) | Constraint::Gbnf(text) => text.len(),
        };
        if bytes > MAX_BYTES {
            return Err(GrammarError::TooLong(bytes));
        }
        let text = |kind: &str| {
            let kind = kind.to_string();
            move |problem| GrammarError::Text { kind, problem }
        };
        let matcher = match constraint {
            Constraint::JsonObject => {
                self.of_schema(&json!({ "type": "object" })).map_err(text("grammar"))?
            }
            Constraint::JsonSchema(value) => {
                self.of_schema(value).map_err(|problem| schema::blame(value, problem))?
            }
            Constraint::Regex(regex) => {
                self.matcher(TopLevelGrammar::from_regex(regex)).map_err(text("regular expression"))?
            }
            Constraint::Lark(lark) => {
                self.matcher(TopLevelGrammar::from_lark(lark.clone())).map_err(text("grammar"))?
            }
            Constraint::Gbnf(gbnf) => {
                let lark = gbnf::to_lark(gbnf).map_err(text("grammar"))?;
                self.matcher(TopLevelGrammar::from_lark(lark)).map_err(text("grammar"))?
            }
        };
        let mut grammar = Grammar { matcher, mask: SimpleVob::new() };
        grammar.prepare()?;
        Ok(grammar)
    }

    /// A matcher for a schema, or what is wrong with it.
    pub(crate) fn of_schema(&self, schema: &Value) -> Result<Matcher, String> {
        let mut schema = schema.clone();
        if schema == Value::Bool(true) {
            schema = json!({});
        }
        if let Some(map) = schema.as_object_mut() {
            // A schema's own options could ask for keywords to be ignored.
            if map.contains_key("x-guidance") {
                return Err("x-guidance is not allowed".into());
            }
            map.insert("x-guidance".into(), json!({ "whitespace_pattern": WHITE_SPACE }));
        }
        self.matcher(TopLevelGrammar::from_json_schema(schema))
    }

    fn matcher(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        Ok(Matcher::new(Ok(self.factory.create_parser(grammar).map_err(|e| brief(&e))?)))
    }
}

/// A message without the parser's state, which may follow it.
fn brief(error: &impl ToString) -> String {
    let text = error.to_string();
    text.split("\n<").next().unwrap_or_default().trim().to_string()
}

fn trie(mut words: Vec<Vec<u8>>, ends: &[u32]) -> Result<TokTrie, GrammarError> {
    const { assert!(MARK == TokTrie::SPECIAL_TOKEN_MARKER) };
    let bytes: usize = words.iter().map(Vec::len).sum();
    if bytes > MAX_VOCABULARY_BYTES {
        let problem = format!("its tokens have {bytes} bytes; at most {MAX_VOCABULARY_BYTES} are allowed");
        return Err(GrammarError::Vocabulary(problem));
    }
    words.iter_mut().filter(|word| word.len() > MAX_TOKEN_BYTES).for_each(Vec::clear);
    let info = TokRxInfo::new(words.len() as u32, ends.first().copied().unwrap_or(INVALID_TOKEN));
    let trie = TokTrie::from(&info, &words);
    Ok(if ends.is_empty() { trie } else { trie.with_eos_tokens(ends) })
}

/// A model's tokens, as the parser sees them.
struct Env {
    trie: TokTrie,
    encode: Option<Encode>,
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| {
            let ids = self.encode.as_ref().and_then(|encode| encode(text));
            ids.unwrap_or_else(|| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.encode.is_some()
    }
}

/// A constraint, as far as an answer has come.
pub struct Grammar {
    matcher: Matcher,
    mask: SimpleVob,
}

impl std::fmt::Debug for Grammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammar").finish_non_exhaustive()
    }
}

impl Grammar {
    /// The tokens that may come next, a bit for each, the first in the lowest bit of the first word; words that are missing allow none.
    pub fn mask(&self) -> &[u32] {
        self.mask.as_slice()
    }

    /// Takes the next token of the answer, which does not end it. [`Self::prepare`] must follow before the
    /// mask is right again.
    pub fn accept(&mut self, id: u32) -> Result<(), GrammarError> {
        match self.matcher.try_consume_tokens(&[id]) {
            Ok(1) => Ok(()),
            Ok(_) => Err(GrammarError::Token(id)),
            Err(error) => Err(GrammarError::Stuck(brief(&error))),
        }
    }

    /// Computes the mask for the next token.
    pub fn prepare(&mut self) -> Result<(), GrammarError> {
        self.mask = self.matcher.compute_mask_or_eos().map_err(|e| GrammarError::Stuck(brief(&e)))?;
        Ok(())
    }

    /// Whether the answer is a whole sentence that nothing can follow.
    pub fn is_complete(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// Whether the answer is a whole sentence, which something may follow.
    #[cfg(test)]
    pub(crate) fn can_end(&mut self) -> bool {
        self.matcher.is_accepting().unwrap_or(false)
    }

    /// The next tokens, if there is only one way to go on. They are not accepted by this.
    pub fn forced(&mut self) -> Vec<u32> {
        if self.is_complete() { Vec::new() } else { self.matcher.compute_ff_tokens() }
    }

    /// Whether a token may come next.
    pub fn allows(&self, id: u32) -> bool {
        self.mask().get(id as usize / 32).is_some_and(|word| word >> (id % 32) & 1 == 1)
    }
}
