//! Tokenizers from GGUF metadata.
//!
//! What is special here is where text is cut: control tokens count only where the caller says so, and plain text
//! never becomes one.

use aho_corasick::{AhoCorasick, MatchKind};

use super::byte_level::{self, ByteLevel};
use super::pretokenize::PreTokenizer;
use super::sentencepiece::{self, SentencePiece};
use super::{Detokenizer, TextError};
use crate::gguf::{Array, Metadata, Value};

/// What `tokenizer.ggml.token_type` says of a token.
mod token_type {
    pub const UNKNOWN: i32 = 2;
    pub const CONTROL: i32 = 3;
    pub const USER_DEFINED: i32 = 4;
    pub const BYTE: i32 = 6;
}

/// Names by which models end a turn, whatever their metadata says.
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

/// Longest vocabulary that is taken; the largest published ones have some 260,000 words.
const MAX_VOCABULARY: usize = 1 << 20;
/// Bytes of all special tokens together: the automata that find them are several times as large.
const MAX_SPECIAL_BYTES: usize = 1 << 20;

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    model: Model,
    vocab_size: usize,
    /// Every token that is not made by merging: control, unknown and user-defined ones.
    special: Cutter,
    /// Of those, the ones that count in plain text too: user-defined ones that do not look like markers.
    plain: Cutter,
    /// Of those, the ones that do not.
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

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    /// Stands for itself, in plain text too.
    UserDefined,
    /// Control and unknown: no text.
    Control,
    Byte,
}

/// Finds tokens that are taken whole wherever they stand.
#[derive(Debug)]
struct Cutter {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Cutter {
    fn new(tokens: &[String], wanted: impl Fn(usize, &str) -> bool) -> Result<Self, TextError> {
        let tokens = tokens.iter().enumerate().filter(|(id, token)| !token.is_empty() && wanted(*id, token));
        let (ids, names): (Vec<u32>, Vec<&str>) =
            tokens.map(|(id, token)| (id as u32, token.as_str())).unzip();
        let bytes: usize = names.iter().map(|name| name.len()).sum();
        if bytes > MAX_SPECIAL_BYTES {
            return Err(TextError::Vocabulary(format!("its special tokens have {bytes} bytes together")));
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&names)
            .map_err(|e| TextError::Vocabulary(format!("too many special tokens: {e}")))?;
        Ok(Self { automaton, ids })
    }

    /// Calls `piece` with the plain stretches and the tokens between them, in order.
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
    /// Builds the tokenizer that a file describes, and takes the vocabulary's long arrays out of the metadata.
    pub fn from_metadata(metadata: &mut Metadata) -> Result<Self, TextError> {
        let kind = metadata.str("tokenizer.ggml.model").unwrap_or("absent").to_string();
        let pre_tokenizer = match kind.as_str() {
            "gpt2" => Some(PreTokenizer::by_name(metadata.str("tokenizer.ggml.pre").unwrap_or("default"))?),
            "llama" => None,
            other => return Err(TextError::Unsupported(format!("\"{other}\" (supported: gpt2, llama)"))),
        };
        let mut tokens = take_strings(metadata, "tokenizer.ggml.tokens")?;
        if tokens.is_empty() || tokens.len() > MAX_VOCABULARY {
            return Err(TextError::Vocabulary(format!("{} tokens", tokens.len())));
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
            // Last, for it takes the vocabulary itself.
            model: match pre_tokenizer {
                Some(pre_tokenizer) => {
                    let merges = take_strings(metadata, "tokenizer.ggml.merges")?;
                    Model::ByteLevel(Box::new(ByteLevel::new(tokens, merges, pre_tokenizer)?))
                }
                None => {
                    let scores = metadata.f32s("tokenizer.ggml.scores").map(|scores| scores.into_owned());
                    let scores = scores.filter(|scores| scores.len() == tokens.len()).ok_or_else(|| {
                        TextError::Vocabulary("tokenizer.ggml.scores has not a number for each token".into())
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

    /// Words of the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Tokens that end an answer.
    pub fn stop_ids(&self) -> &[u32] {
        &self.stop_ids
    }

    /// Whether the token is for control, and no text.
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

    /// The string of a token, as the vocabulary spells it.
    pub(super) fn spelled(&self, id: u32) -> Option<String> {
        match &self.model {
            Model::ByteLevel(model) => model.spelled(id),
            Model::SentencePiece(model) => model.text(id).map(str::to_string),
        }
    }

    /// Token ids of a text, after the beginning-of-sequence token where the model wants one and the text does not
    /// bring its own. With `parse_special`, control tokens that are written out count as such; without, they are
    /// text.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        if parse_special {
            self.append_special(text, str::to_string, &mut ids)?;
        } else {
            self.append_plain(text, &mut ids)?;
        }
        Ok(self.after_bos(ids))
    }

    /// As [`Self::encode`] with control tokens, `restore` being applied to the plain stretches between them.
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

    /// Where tokens stand in a text that must not count when a person writes them, and their ends.
    pub(super) fn markers_in<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (usize, usize)> + 't {
        self.markers.automaton.find_iter(text).map(|found| (found.start(), found.end()))
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

    /// The model takes each stretch as the beginning of a text, as llama.cpp does.
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

    /// The bytes that a token stands for; none for control tokens.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let token = self.spelled(id).unwrap_or_default();
        match (self.kinds.get(id as usize), &self.model) {
            (None | Some(Kind::Control), _) => Vec::new(),
            (Some(Kind::UserDefined), _) => token.into_bytes(),
            (Some(Kind::Text | Kind::Byte), Model::SentencePiece(_)) => sentencepiece::bytes(&token),
            (Some(Kind::Text | Kind::Byte), Model::ByteLevel(_)) => byte_level::bytes(&token),
        }
    }

    /// Whether a text's first token brings a space that the text did not have.
    pub(super) fn drops_first_space(&self) -> bool {
        self.add_space_prefix
    }

    /// The text of tokens, control tokens left out.
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
        _ => Err(TextError::Vocabulary(format!("{key} is no array of strings"))),
    }
}

/// Each token's kind; all text where the file does not say.
fn kinds(metadata: &Metadata, n_tokens: usize) -> Result<Vec<Kind>, TextError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    if metadata.get(KEY).is_none() {
        return Ok(vec![Kind::Text; n_tokens]);
    }
    let types = metadata.i32s(KEY).filter(|types| types.len() == n_tokens);
    let types =
        types.ok_or_else(|| TextError::Vocabulary(format!("{KEY} has not a number for each token")))?;
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

/// A token that the metadata names by its id.
fn token_id(metadata: &Metadata, key: &str, n_tokens: usize) -> Result<Option<u32>, TextError> {
    match metadata.u32(key) {
        Some(id) if id as usize >= n_tokens => {
            Err(TextError::Vocabulary(format!("{key} is {id}, of {n_tokens} tokens")))
        }
        id => Ok(id),
    }
}
