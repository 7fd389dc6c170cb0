//! Tokenizers from GGUF metadata, on the `tokenizers` crate.
//!
//! The crate merges; cutting a text at its control tokens is done here, so that a caller can say whether they count.

use super::{TextError, sentencepiece};
use crate::gguf::{Array, Metadata, Value};
use aho_corasick::{AhoCorasick, MatchKind};
use std::collections::HashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{Model, SplitDelimiterBehavior};

/// How a vocabulary's strings stand for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    /// Each byte is a character of GPT-2's table.
    ByteLevel,
    /// Plain text with ▁ for a space, and `<0xXX>` for lone bytes.
    SentencePiece,
}

/// What `tokenizer.ggml.token_type` says of a token.
mod token_type {
    pub const CONTROL: i32 = 3;
    pub const USER_DEFINED: i32 = 4;
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

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    spelling: Spelling,
    vocab_size: usize,
    /// Control tokens, and user-defined ones, which always count.
    control: Cutter,
    user_defined: Cutter,
    is_control: Vec<bool>,
    stop_ids: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
    add_space_prefix: bool,
    bytes_of_chars: HashMap<char, u8>,
}

/// Finds tokens that are taken whole wherever they stand.
#[derive(Debug)]
struct Cutter {
    automaton: AhoCorasick,
    ids: Vec<u32>,
}

impl Cutter {
    fn new<'a>(tokens: impl Iterator<Item = (u32, &'a str)>) -> Result<Self, TextError> {
        let (ids, names): (Vec<u32>, Vec<&str>) = tokens.filter(|(_, name)| !name.is_empty()).unzip();
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
        let spelling = match kind.as_str() {
            "gpt2" => Spelling::ByteLevel,
            "llama" => Spelling::SentencePiece,
            other => return Err(TextError::Unsupported(format!("\"{other}\" (supported: gpt2, llama)"))),
        };
        let tokens = take_strings(metadata, "tokenizer.ggml.tokens")?;
        if tokens.is_empty() || tokens.len() > MAX_VOCABULARY {
            return Err(TextError::Vocabulary(format!("{} tokens", tokens.len())));
        }
        let types =
            metadata.i32s("tokenizer.ggml.token_type").map(|types| types.into_owned()).unwrap_or_default();
        let of_type = |wanted: i32| {
            let tokens = tokens.iter().enumerate();
            tokens
                .filter_map(|(i, t)| (types.get(i) == Some(&wanted)).then_some((i as u32, t.as_str())))
                .collect::<Vec<_>>()
        };
        let (control, user_defined) = (of_type(token_type::CONTROL), of_type(token_type::USER_DEFINED));
        let id = |key: &str| metadata.u32(key).filter(|id| (*id as usize) < tokens.len());
        let mut stop_ids: Vec<u32> = ["eos", "eot", "eom"]
            .iter()
            .filter_map(|name| id(&format!("tokenizer.ggml.{name}_token_id")))
            .chain(control.iter().filter(|(_, name)| TURN_ENDS.contains(name)).map(|(id, _)| *id))
            .collect();
        stop_ids.sort_unstable();
        stop_ids.dedup();
        let mut is_control = vec![false; tokens.len()];
        control.iter().for_each(|(id, _)| is_control[*id as usize] = true);

        let is_spm = spelling == Spelling::SentencePiece;
        let flag = |key: &str, default| metadata.bool(key).unwrap_or(default);
        Ok(Self {
            spelling,
            vocab_size: tokens.len(),
            control: Cutter::new(control.iter().chain(&user_defined).copied())?,
            user_defined: Cutter::new(user_defined.iter().copied())?,
            is_control,
            stop_ids,
            bos: id("tokenizer.ggml.bos_token_id"),
            eos: id("tokenizer.ggml.eos_token_id"),
            add_bos: flag("tokenizer.ggml.add_bos_token", is_spm || takes_bos(metadata)),
            add_space_prefix: flag("tokenizer.ggml.add_space_prefix", is_spm),
            bytes_of_chars: byte_level_alphabet(),
            // Last, for it takes the vocabulary itself.
            inner: match spelling {
                Spelling::ByteLevel => byte_level(metadata, tokens)?,
                Spelling::SentencePiece => sentencepiece::build(metadata, tokens)?,
            },
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
        self.is_control.get(id as usize).copied().unwrap_or(false)
    }

    /// The token that is exactly this string.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.get_model().token_to_id(token)
    }

    pub(super) fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub(super) fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The string of a token, as the vocabulary spells it.
    pub(super) fn spelled(&self, id: u32) -> Option<String> {
        self.inner.get_model().id_to_token(id)
    }

    /// Token ids of a text, after the beginning-of-sequence token where the model wants one. With `parse_special`, control tokens
    /// that are written out count as such; without, they are text.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        self.begin(&mut ids);
        self.append(text, parse_special, &mut |plain| plain.to_string(), &mut ids)?;
        // The text may have brought its own.
        if ids.len() > 1
            && self.bos.is_some()
            && ids[..2] == [ids[0]; 2]
            && Some(ids[0]) == self.bos
            && self.add_bos
        {
            ids.remove(0);
        }
        Ok(ids)
    }

    fn begin(&self, ids: &mut Vec<u32>) {
        if self.add_bos {
            ids.extend(self.bos);
        }
    }

    /// As [`Self::encode`] with control tokens, `restore` being applied to the plain stretches between them.
    pub(super) fn encode_marked(
        &self,
        text: &str,
        mut restore: impl FnMut(&str) -> String,
    ) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        self.append(text, true, &mut restore, &mut ids)?;
        if self.add_bos && self.bos.is_some() && ids.first().copied() != self.bos {
            ids.splice(0..0, self.bos);
        }
        Ok(ids)
    }

    /// Where control tokens stand in a text, and their ends.
    pub(super) fn control_tokens_in<'t>(
        &'t self,
        text: &'t str,
    ) -> impl Iterator<Item = (usize, usize)> + 't {
        self.control.automaton.find_iter(text).map(|found| (found.start(), found.end()))
    }

    fn append(
        &self,
        text: &str,
        parse_special: bool,
        restore: &mut dyn FnMut(&str) -> String,
        ids: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        let cutter = if parse_special { &self.control } else { &self.user_defined };
        cutter.cut(text, |piece| match piece {
            Piece::Token(id) => {
                ids.push(id);
                Ok(())
            }
            Piece::Plain(plain) => self.append_plain(&restore(plain), ids),
        })
    }

    fn append_plain(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        let error = |e: tokenizers::Error| TextError::Encode(e.to_string());
        match self.spelling {
            Spelling::ByteLevel => {
                let encoding = self.inner.encode_fast(text, false).map_err(error)?;
                ids.extend_from_slice(encoding.get_ids());
            }
            Spelling::SentencePiece => {
                let text = sentencepiece::escape(text, self.add_space_prefix);
                let tokens = self.inner.get_model().tokenize(&text).map_err(error)?;
                ids.extend(tokens.into_iter().map(|token| token.id));
            }
        }
        Ok(())
    }

    /// The bytes that a token stands for; none for control tokens.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        if self.is_control(id) {
            return Vec::new();
        }
        let token = self.spelled(id).unwrap_or_default();
        match self.spelling {
            Spelling::SentencePiece => sentencepiece::bytes(&token),
            Spelling::ByteLevel => {
                let byte = |c: char| self.bytes_of_chars.get(&c).copied();
                // User-defined tokens are spelled as they are.
                token.chars().map(byte).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.into_bytes())
            }
        }
    }

    /// Whether a text's first token brings a space that the text did not have.
    pub(super) fn drops_first_space(&self) -> bool {
        self.add_space_prefix
    }

    /// The text of tokens, control tokens left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut detokenizer = super::Detokenizer::new();
        let mut text: String = ids.iter().map(|id| detokenizer.push(self, *id)).collect();
        text.push_str(&detokenizer.flush());
        text
    }
}

pub(super) fn take_strings(metadata: &mut Metadata, key: &str) -> Result<Vec<String>, TextError> {
    match metadata.take(key) {
        Some(Value::Array(Array::Strings(strings))) => Ok(strings),
        _ => Err(TextError::Vocabulary(format!("{key} is no array of strings"))),
    }
}

/// Files of Llama 3's kind leave `add_bos_token` out and mean it.
fn takes_bos(metadata: &Metadata) -> bool {
    matches!(metadata.str("tokenizer.ggml.pre"), Some("llama-bpe" | "llama3" | "llama-v3"))
}

fn byte_level(metadata: &mut Metadata, tokens: Vec<String>) -> Result<tokenizers::Tokenizer, TextError> {
    let name = metadata.str("tokenizer.ggml.pre").unwrap_or("absent").to_string();
    let pre_tokenizer = pre_tokenizer(&name)?;
    let n_tokens = tokens.len();
    let vocab = tokens.into_iter().enumerate().map(|(i, token)| (token, i as u32)).collect();
    let merges: Vec<(String, String)> = take_strings(metadata, "tokenizer.ggml.merges")?
        .into_iter()
        .map(|merge| match merge.split_once(' ') {
            Some((left, right)) => Ok((left.to_string(), right.to_string())),
            None => Err(TextError::Vocabulary(format!("\"{merge}\" is no merge of two tokens"))),
        })
        .collect::<Result<_, _>>()?;
    if merges.len() > 4 * n_tokens.max(1 << 16) {
        return Err(TextError::Vocabulary(format!("{} merges for {n_tokens} tokens", merges.len())));
    }
    let ignore_merges = matches!(name.as_str(), "llama-bpe" | "llama3" | "llama-v3");
    let model = bpe(vocab, merges, |builder| builder.ignore_merges(ignore_merges))?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    Ok(tokenizer)
}

pub(super) fn bpe(
    vocab: tokenizers::models::bpe::Vocab,
    merges: Vec<(String, String)>,
    set: impl FnOnce(tokenizers::models::bpe::BpeBuilder) -> tokenizers::models::bpe::BpeBuilder,
) -> Result<BPE, TextError> {
    let builder = BPE::builder().vocab_and_merges(vocab, merges).cache_capacity(1000);
    set(builder).build().map_err(|e| TextError::Vocabulary(e.to_string()))
}

/// The rule that cuts text into words before merging, by the name that GGUF files give it. The patterns are those of the
/// tokenizer.json files that the models were published with.
fn pre_tokenizer(name: &str) -> Result<PreTokenizerWrapper, TextError> {
    let llama3 = |digits: &str| {
        format!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
    match name {
        "gpt-2" | "phi-2" | "mpt" | "olmo" | "exaone4" => Ok(ByteLevel::new(false, false, true).into()),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => {
            Ok(Sequence::new(vec![Digits::new(true).into(), ByteLevel::new(false, false, true).into()])
                .into())
        }
        "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" | "dbrx" => split(&llama3(r"\p{N}{1,3}")),
        "qwen2" | "stablelm2" | "deepseek-r1-qwen" | "megrez" => split(&llama3(r"\p{N}")),
        other => Err(TextError::Unsupported(format!(
            "byte-level BPE with the pre-tokenizer \"{other}\" (supported: gpt-2, smollm, starcoder, refact, command-r, llama-bpe, qwen2 and their kin)"
        ))),
    }
}

fn split(pattern: &str) -> Result<PreTokenizerWrapper, TextError> {
    let split = Split::new(SplitPattern::Regex(pattern.to_string()), SplitDelimiterBehavior::Isolated, false)
        .map_err(|e| TextError::Vocabulary(e.to_string()))?;
    Ok(Sequence::new(vec![split.into(), ByteLevel::new(false, false, false).into()]).into())
}

/// GPT-2's table of a printable character for every byte: printable Latin-1 stands for itself, the rest for U+0100 on.
fn byte_level_alphabet() -> HashMap<char, u8> {
    let mut next = 0x100;
    (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => (char::from(byte), byte),
            _ => {
                next += 1;
                (char::from_u32(next - 1).unwrap_or_default(), byte)
            }
        })
        .collect()
}
