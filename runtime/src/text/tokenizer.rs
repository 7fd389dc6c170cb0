//! Tokenizers from GGUF metadata.
//!
//! Control tokens in a text count only if the caller asks for it. Otherwise they are text: plain text never
//! becomes a control token.

use aho_corasick::{AhoCorasick, MatchKind};

use super::byte_level::{self, ByteLevel};
use super::pretokenize::PreTokenizer;
use super::sentencepiece::{self, SentencePiece};
use super::{Detokenizer, TextError};
use crate::gguf::{Array, Metadata, Value};

/// Values of `tokenizer.ggml.token_type`.
mod token_type {
    pub const UNKNOWN: i32 = 2;
    pub const CONTROL: i32 = 3;
    pub const USER_DEFINED: i32 = 4;
    pub const BYTE: i32 = 6;
}

/// Tokens that end a turn in many models, even if the metadata does not name them.
const TURN_ENDS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<|end|>",
    "<eos>",
    "</s>",
];

/// The largest published vocabularies have about 260,000 tokens.
const MAX_VOCABULARY: usize = 1 << 20;
/// Bytes of all special tokens together; the automata that find them are several times as large.
const MAX_SPECIAL_BYTES: usize = 1 << 20;

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    model: Model,
    vocab_size: usize,
    /// All tokens that are not made by merging: control, unknown and user-defined ones.
    special: Cutter,
    /// The special tokens that count in plain text, too: user-defined ones that do not look like markers.
    plain: Cutter,
    /// The other special tokens.
    markers: Cutter,
    kinds: Vec<Kind>,
    stop_ids: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    add_space_prefix: bool,
}

#[derive(Debug)]
enum Model {
    ByteLevel(Box<ByteLevel>),
    SentencePiece(Box<SentencePiece>),
}

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// Its text is literal. It counts in plain text, too.
    UserDefined,
    /// Control and unknown tokens, which have no text.
    Control,
    Byte,
}

/// Finds special tokens in text.
#[derive(Debug)]
struct Cutter {
    automaton: AhoCorasick,
    ids: Vec<u32>,
    /// In order.
    names: Vec<String>,
}

impl Cutter {
    fn new(tokens: &[String], wanted: impl Fn(usize, &str) -> bool) -> Result<Self, TextError> {
        let tokens = tokens.iter().enumerate().filter(|(id, token)| !token.is_empty() && wanted(*id, token));
        let (ids, names): (Vec<u32>, Vec<&str>) =
            tokens.map(|(id, token)| (id as u32, token.as_str())).unzip();
        let bytes: usize = names.iter().map(|name| name.len()).sum();
        if bytes > MAX_SPECIAL_BYTES {
            let problem =
                format!("its special tokens have {bytes} bytes; at most {MAX_SPECIAL_BYTES} are allowed");
            return Err(TextError::Vocabulary(problem));
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&names)
            .map_err(|e| TextError::Vocabulary(format!("too many special tokens: {e}")))?;
        let mut names: Vec<String> = names.into_iter().map(str::to_string).collect();
        names.sort_unstable();
        Ok(Self { automaton, ids, names })
    }

    /// Calls `piece` with each token and each stretch of plain text between them, in order.
    fn cut<'t>(
        &self,
        text: &'t str,
        mut piece: impl FnMut(Piece<'t>) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        let mut from = 0;
        for found in self.automaton.find_iter(text) {
            if found.start() > from {
                piece(Piece::Plain(&text[from..found.start()]))?;
            }
            piece(Piece::Token(self.ids[found.pattern().as_usize()]))?;
            from = found.end();
        }
        if from < text.len() { piece(Piece::Plain(&text[from..])) } else { Ok(()) }
    }
}

enum Piece<'t> {
    Plain(&'t str),
    Token(u32),
}

impl Tokenizer {
    /// Builds a file's tokenizer. Takes the vocabulary's long arrays out of the metadata.
    pub fn from_metadata(metadata: &mut Metadata) -> Result<Self, TextError> {
        let kind = metadata.str("tokenizer.ggml.model").unwrap_or_default().to_string();
        let pre_tokenizer = match kind.as_str() {
            "gpt2" => Some(PreTokenizer::by_name(metadata.str("tokenizer.ggml.pre").unwrap_or("default"))?),
            "llama" => None,
            other => {
                let problem = format!("its tokenizer.ggml.model is {other:?}; supported are gpt2 and llama");
                return Err(TextError::Unsupported(problem));
            }
        };
        let mut tokens = take_strings(metadata, "tokenizer.ggml.tokens")?;
        if tokens.is_empty() || tokens.len() > MAX_VOCABULARY {
            let problem = format!("it has {} tokens; 1 to {MAX_VOCABULARY} are allowed", tokens.len());
            return Err(TextError::Vocabulary(problem));
        }
        for (id, token) in tokens.iter_mut().enumerate().filter(|(_, token)| token.is_empty()) {
            *token = format!("[EMPTY_{id}]");
        }
        let kinds = kinds(metadata, tokens.len())?;
        let id = |key: &str| token_id(metadata, key, tokens.len());
        let (bos, eos) = (id("tokenizer.ggml.bos_token_id")?, id("tokenizer.ggml.eos_token_id")?);
        let (eot, eom) = (id("tokenizer.ggml.eot_token_id")?, id("tokenizer.ggml.eom_token_id")?);
        let turn_ends = (0..).zip(&tokens).zip(&kinds);
        let turn_ends =
            turn_ends.filter(|((_, t), k)| **k == Kind::Control && TURN_ENDS.contains(&t.as_str()));
        let mut stop_ids: Vec<u32> =
            [eos, eot, eom].into_iter().flatten().chain(turn_ends.map(|((id, _), _)| id)).collect();
        stop_ids.sort_unstable();
        stop_ids.dedup();

        let is_marker = |id: usize, token: &str| match kinds[id] {
            Kind::Control => true,
            Kind::UserDefined => token.starts_with("<|") || token.starts_with("<｜"),
            Kind::Text | Kind::Byte => false,
        };
        let is_spm = pre_tokenizer.is_none();
        let flag = |key: &str, default| metadata.bool(key).unwrap_or(default);
        Ok(Self {
            vocab_size: tokens.len(),
            special: Cutter::new(&tokens, |id, t| is_marker(id, t) || kinds[id] == Kind::UserDefined)?,
            plain: Cutter::new(&tokens, |id, t| !is_marker(id, t) && kinds[id] == Kind::UserDefined)?,
            markers: Cutter::new(&tokens, is_marker)?,
            stop_ids,
            bos,
            eos,
            add_bos: flag(
                "tokenizer.ggml.add_bos_token",
                pre_tokenizer.as_ref().is_none_or(|pre_tokenizer| pre_tokenizer.add_bos),
            ),
            add_space_prefix: flag("tokenizer.ggml.add_space_prefix", is_spm),
            // Last, because it takes the vocabulary.
            model: match pre_tokenizer {
                Some(pre_tokenizer) => {
                    let merges = take_strings(metadata, "tokenizer.ggml.merges")?;
                    Model::ByteLevel(Box::new(ByteLevel::new(tokens, merges, pre_tokenizer)?))
                }
                None => {
                    let scores = metadata.f32s("tokenizer.ggml.scores").map(|scores| scores.into_owned());
                    let scores = scores.filter(|scores| scores.len() == tokens.len()).ok_or_else(|| {
                        TextError::Vocabulary("tokenizer.ggml.scores must have one number per token".into())
                    })?;
                    let mergeable = |kind: &Kind| matches!(kind, Kind::Text | Kind::UserDefined);
                    let mergeable = kinds.iter().map(mergeable).collect();
                    let unknown = token_id(metadata, "tokenizer.ggml.unknown_token_id", tokens.len())?;
                    Model::SentencePiece(Box::new(SentencePiece::new(tokens, scores, mergeable, unknown)?))
                }
            },
            kinds,
        })
    }

    /// Number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Tokens that end an answer.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// Whether this is a control token, which has no text.
    pub fn is_control(&self, id: u32) -> bool {
        self.kinds.get(id as usize) == Some(&Kind::Control)
    }

    /// Whether prompts begin with the beginning-of-sequence token.
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// The token that is exactly this string.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        match &self.model {
            Model::ByteLevel(model) => model.id_of(token),
            Model::SentencePiece(model) => model.id_of(token),
        }
    }

    pub(super) fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub(super) fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// A token's string in the vocabulary.
    pub(super) fn spelled(&self, id: u32) -> Option<String> {
        match &self.model {
            Model::ByteLevel(model) => model.spelled(id),
            Model::SentencePiece(model) => model.text(id).map(str::to_string),
        }
    }

    /// Token ids of a text. They begin with the beginning-of-sequence token if the model wants it; a text
    /// that begins with it does not get a second one. With `parse_special`, control tokens in the text count;
    /// otherwise they are text.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        if parse_special {
            self.append_special(text, str::to_string, &mut ids)?;
        } else {
            self.append_plain(text, &mut ids)?;
        }
        Ok(self.after_bos(ids))
    }

    /// As [`Self::encode`] with control tokens. `restore` is applied to each stretch of plain text.
    pub(super) fn encode_marked(
        &self,
        text: &str,
        restore: impl Fn(&str) -> String,
    ) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        self.append_special(text, restore, &mut ids)?;
        Ok(self.after_bos(ids))
    }

    fn after_bos(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if self.add_bos && self.bos.is_some() && ids.first().copied() != self.bos {
            ids.splice(0..0, self.bos);
        }
        ids
    }

    /// Start and end of each token in a text that must not count if it is in a message.
    pub(super) fn markers_in<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (usize, usize)> + 't {
        self.markers.automaton.find_iter(text).map(|found| (found.start(), found.end()))
    }

    /// Where the longest end of a text starts with which a marker begins.
    pub(super) fn marker_begins(&self, text: &str) -> Option<usize> {
        let names = &self.markers.names;
        let longest = names.iter().map(String::len).max().unwrap_or(0);
        let from = text.len().saturating_sub(longest);
        text.char_indices().map(|(i, _)| i).filter(|i| *i >= from).find(|i| {
            let tail = &text[*i..];
            let next = names.partition_point(|name| name.as_str() < tail);
            names.get(next).is_some_and(|name| name.starts_with(tail))
        })
    }

    fn append_special(
        &self,
        text: &str,
        restore: impl Fn(&str) -> String,
        ids: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        self.special.cut(text, |piece| match piece {
            Piece::Token(id) => {
                ids.push(id);
                Ok(())
            }
            Piece::Plain(plain) => self.append_plain(&restore(plain), ids),
        })
    }

    /// Each stretch between tokens is encoded like the beginning of a text, as in llama.cpp.
    fn append_plain(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        self.plain.cut(text, |piece| match (piece, &self.model) {
            (Piece::Token(id), _) => {
                ids.push(id);
                Ok(())
            }
            (Piece::Plain(plain), Model::ByteLevel(model)) => model.encode(plain, ids),
            (Piece::Plain(plain), Model::SentencePiece(model)) => {
                model.encode(plain, self.add_space_prefix, ids)
            }
        })
    }

    /// The bytes of a token; control tokens have none.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let token = self.spelled(id).unwrap_or_default();
        match (self.kinds.get(id as usize), &self.model) {
            (None | Some(Kind::Control), _) => Vec::new(),
            (Some(Kind::UserDefined), _) => token.into_bytes(),
            (Some(Kind::Text | Kind::Byte), Model::SentencePiece(_)) => sentencepiece::bytes(&token),
            (Some(Kind::Text | Kind::Byte), Model::ByteLevel(_)) => byte_level::bytes(&token),
        }
    }

    /// Whether the first token of a text adds a space that is not in the text.
    pub(super) fn drops_first_space(&self) -> bool {
        self.add_space_prefix
    }

    /// The text of tokens, without control tokens.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut detokenizer = Detokenizer::new();
        let mut text: String = ids.iter().map(|id| detokenizer.push(self, *id)).collect();
        text.push_str(&detokenizer.flush());
        text
    }
}

fn take_strings(metadata: &mut Metadata, key: &str) -> Result<Vec<String>, TextError> {
    match metadata.take(key) {
        Some(Value::Array(Array::Strings(strings))) => Ok(strings),
        _ => Err(TextError::Vocabulary(format!("{key} is not an array of strings"))),
    }
}

/// Each token's kind; without types in the file, all are text.
fn kinds(metadata: &Metadata, n_tokens: usize) -> Result<Vec<Kind>, TextError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    if metadata.get(KEY).is_none() {
        return Ok(vec![Kind::Text; n_tokens]);
    }
    let types = metadata.i32s(KEY).filter(|types| types.len() == n_tokens);
    let types =
        types.ok_or_else(|| TextError::Vocabulary(format!("{KEY} must have one integer per token")))?;
    Ok(types
        .iter()
        .map(|ty| match *ty {
            token_type::CONTROL | token_type::UNKNOWN => Kind::Control,
            token_type::USER_DEFINED => Kind::UserDefined,
            token_type::BYTE => Kind::Byte,
            _ => Kind::Text,
        })
        .collect())
}

/// A token id in the metadata.
fn token_id(metadata: &Metadata, key: &str, n_tokens: usize) -> Result<Option<u32>, TextError> {
    match metadata.u32(key) {
        Some(id) if id as usize >= n_tokens => {
            Err(TextError::Vocabulary(format!("{key} is {id}, but there are only {n_tokens} tokens")))
        }
        id => Ok(id),
    }
}
