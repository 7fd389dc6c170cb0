//! Tokenizers from GGUF metadata.
//!
//! Control tokens in a text count only if the caller asks for it. Otherwise they are text: plain text never
//! becomes a control token.

use super::bpe::Bpe;
use super::charsmap::CharsMap;
use super::cutter::{Cutter, Piece};
use super::pretokenize::{Alphabet, PreTokenizer};
use super::rwkv::Rwkv;
use super::sentencepiece::SentencePiece;
use super::special::{self, INFILL, Reader};
use super::unigram::{Normalisation, Unigram};
use super::vocabulary::Vocabulary;
use super::wordpiece::WordPiece;
use super::{Detokenizer, TextError};
use crate::gguf::{Array, Metadata, Value};

/// The largest published vocabularies have about 260,000 tokens.
const MAX_VOCABULARY: usize = 1 << 20;
/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    vocabulary: Box<dyn Vocabulary>,
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
    /// The token that texts begin with.
    first: Option<u32>,
    /// The token that texts end with.
    last: Option<u32>,
    /// Whether white space after most special tokens does not count.
    strips: bool,
    drops_first_space: bool,
    warnings: Vec<String>,
    /// The tokens of [`INFILL`] that the file has keys for.
    infill: [Option<u32>; 3],
}

/// The kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Its text is literal. It counts in plain text, too.
    UserDefined,
    /// Control and unknown tokens, which have no text.
    Control,
    Byte,
    Unused,
}

/// The kind of a vocabulary, by its `tokenizer.ggml.model`.
enum Algorithm {
    Bpe(PreTokenizer),
    SentencePiece,
    Unigram,
    WordPiece,
    Rwkv,
}

impl Algorithm {
    fn of(metadata: &Metadata) -> Result<Self, TextError> {
        let pre = metadata.str("tokenizer.ggml.pre")?;
        Ok(match metadata.str("tokenizer.ggml.model")?.unwrap_or_default() {
            "gpt2" => Algorithm::Bpe(PreTokenizer::by_name(pre.unwrap_or("default"))?),
            "gemma4" => Algorithm::Bpe(PreTokenizer::by_name("gemma4")?),
            "whitespace" => Algorithm::Bpe(PreTokenizer::by_name("whitespace")?),
            "llama" => Algorithm::SentencePiece,
            "t5" => Algorithm::Unigram,
            "bert" => Algorithm::WordPiece,
            "rwkv" => Algorithm::Rwkv,
            other => {
                let known = "gpt2, gemma4, llama, t5, bert, rwkv and whitespace";
                let problem = format!("its tokenizer.ggml.model is {other:?}; supported are {known}");
                return Err(TextError::Unsupported(problem));
            }
        })
    }

    /// The tokens that a file has where no key names them.
    fn default_ids(&self) -> DefaultIds {
        let (bos, eos, unknown, separator) = match self {
            Algorithm::Bpe(_) | Algorithm::Rwkv => (None, None, None, None),
            Algorithm::SentencePiece => (Some(1), Some(2), Some(0), None),
            Algorithm::Unigram => (None, Some(1), Some(2), None),
            Algorithm::WordPiece => (Some(101), None, Some(100), Some(102)),
        };
        DefaultIds { bos, eos, unknown, separator }
    }

    /// Whether texts begin with BOS where no key says so.
    fn adds_bos(&self) -> bool {
        match self {
            Algorithm::Bpe(pre_tokenizer) => pre_tokenizer.add_bos,
            Algorithm::SentencePiece | Algorithm::WordPiece => true,
            Algorithm::Unigram | Algorithm::Rwkv => false,
        }
    }
}

struct DefaultIds {
    bos: Option<u32>,
    eos: Option<u32>,
    unknown: Option<u32>,
    separator: Option<u32>,
}

impl Tokenizer {
    /// Builds a file's tokenizer. Takes the vocabulary's long arrays out of the metadata.
    pub fn from_metadata(metadata: &mut Metadata) -> Result<Self, TextError> {
        let algorithm = Algorithm::of(metadata)?;
        let mut tokens = take_strings(metadata, "tokenizer.ggml.tokens")?;
        if tokens.is_empty() || tokens.len() > MAX_VOCABULARY {
            let problem = format!("it has {} tokens; 1 to {MAX_VOCABULARY} are allowed", tokens.len());
            return Err(TextError::Vocabulary(problem));
        }
        for (id, token) in tokens.iter_mut().enumerate().filter(|(_, token)| token.is_empty()) {
            *token = format!("[EMPTY_{id}]");
        }
        let merges = match &algorithm {
            // Kimi's files may have none.
            Algorithm::Bpe(_) if metadata.str("tokenizer.ggml.pre")? == Some("kimi-k2") => {
                take_strings(metadata, "tokenizer.ggml.merges").unwrap_or_default()
            }
            Algorithm::Bpe(_) => take_strings(metadata, "tokenizer.ggml.merges")?,
            _ => Vec::new(),
        };
        let mut kinds = special::kinds(metadata, tokens.len())?;
        let mut reader = Reader::new(metadata, tokens.len());
        let default = algorithm.default_ids();
        let bos = reader.id("bos", default.bos)?;
        let mut ends = reader.eos(default.eos)?;
        let eos = ends.first().copied();
        ends.extend(reader.other_ends()?);
        let unknown = reader.id("unknown", default.unknown)?;
        let separator = reader.id("seperator", default.separator)?;
        let (add_bos, add_eos) = (reader.flag("add_bos_token", algorithm.adds_bos())?, {
            let is_unigram = matches!(algorithm, Algorithm::Unigram);
            reader.flag("add_eos_token", is_unigram)?
        });
        let (first, last) = match &algorithm {
            Algorithm::WordPiece => (bos, separator),
            Algorithm::Rwkv => (None, None),
            // Files of Gemma 4 may say that they have no BOS; the models need it.
            Algorithm::Bpe(pre) if pre.alphabet == Alphabet::Spaces && pre.add_bos => (bos, None),
            _ => (bos.filter(|_| add_bos), eos.filter(|_| add_eos)),
        };
        let is_spm = matches!(algorithm, Algorithm::SentencePiece);
        let add_space_prefix = reader.flag("add_space_prefix", is_spm)?;
        let remove_extra_whitespaces = reader.flag("remove_extra_whitespaces", false)?;
        let lowercase = reader.flag("normalizer.lowercase", true)?;
        let strip_accents = reader.flag("normalizer.strip_accents", lowercase)?;
        let infill = reader.infill()?;
        let warnings = reader.warnings;

        let stop_ids = special::stop_ids(&tokens, &mut kinds, &ends);
        let is_marker = |id: usize, token: &str| match kinds.get(id) {
            Some(Kind::UserDefined) => token.starts_with("<|") || token.starts_with("<｜"),
            kind => kind == Some(&Kind::Control),
        };
        let is_user_defined = |id: usize| kinds.get(id) == Some(&Kind::UserDefined);
        let name = metadata.str("general.name").ok().flatten().unwrap_or_default().to_lowercase();
        let common = Self {
            vocab_size: tokens.len(),
            special: Cutter::new(&tokens, |id, t| is_marker(id, t) || is_user_defined(id))?,
            plain: Cutter::new(&tokens, |id, t| !is_marker(id, t) && is_user_defined(id))?,
            markers: Cutter::new(&tokens, is_marker)?,
            stop_ids,
            bos,
            eos,
            first,
            last,
            strips: ["phi-3", "phi3"].iter().any(|phi| name.contains(phi)),
            drops_first_space: add_space_prefix || matches!(algorithm, Algorithm::WordPiece),
            warnings,
            infill,
            kinds: Vec::new(),
            // In its place below, because it takes the vocabulary.
            vocabulary: Box::new(Rwkv::default()),
        };
        let matches = |wanted: &[Kind]| kinds.iter().map(|kind| wanted.contains(kind)).collect::<Vec<_>>();
        let mergeable = &[Kind::Text, Kind::Unused];
        let no_unknown = || TextError::Vocabulary("it has no unknown token".into());
        let vocabulary: Box<dyn Vocabulary> = match algorithm {
            Algorithm::Bpe(pre_tokenizer) => Box::new(Bpe::new(tokens, merges, pre_tokenizer)?),
            Algorithm::SentencePiece => {
                let mergeable = matches(&[Kind::Text, Kind::Unused, Kind::UserDefined]);
                let scores = scores(metadata, tokens.len())?;
                Box::new(SentencePiece::new(tokens, scores, mergeable, unknown, add_space_prefix)?)
            }
            Algorithm::Unigram => {
                let charsmap = charsmap(metadata)?;
                let normalisation = Normalisation { charsmap, add_space_prefix, remove_extra_whitespaces };
                let (scores, unknown) = (scores(metadata, tokens.len())?, unknown.ok_or_else(no_unknown)?);
                Box::new(Unigram::new(tokens, scores, &kinds, unknown, normalisation)?)
            }
            Algorithm::WordPiece => {
                let unknown = unknown.ok_or_else(no_unknown)?;
                Box::new(WordPiece::new(tokens, matches(mergeable), unknown, lowercase, strip_accents)?)
            }
            Algorithm::Rwkv => Box::new(Rwkv::new(tokens, matches(mergeable), unknown)?),
        };
        Ok(Self { vocabulary, kinds, ..common })
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

    /// Whether ids mean the same to another tokenizer; otherwise, where they differ.
    pub fn check_same_ids(&self, other: &Self) -> Result<(), String> {
        let (n, n_other) = (self.vocab_size, other.vocab_size);
        if n != n_other {
            return Err(format!("its vocabulary has {n_other} tokens, not {n}"));
        }
        let spelled = |it: &Self, id| it.spelled(id).unwrap_or_default();
        for id in 0..n as u32 {
            let (token, of_other) = (spelled(self, id), spelled(other, id));
            if token != of_other {
                return Err(format!("its token {id} is {of_other:?}, not {token:?}"));
            }
            match (self.is_control(id), other.is_control(id)) {
                (true, false) => return Err(format!("its token {id}, {token:?}, is no control token")),
                (false, true) => return Err(format!("its token {id}, {token:?}, is a control token")),
                _ => {}
            }
        }
        Ok(())
    }

    /// What was odd in the file and has been put right, in sentences.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether prompts begin with the beginning-of-sequence token.
    pub fn adds_bos(&self) -> bool {
        self.first.is_some()
    }

    /// The token that is exactly this string.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.vocabulary.id_of(token)
    }

    pub(super) fn bos(&self) -> Option<u32> {
        self.bos
    }

    pub(super) fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// A token's string in the vocabulary.
    pub(super) fn spelled(&self, id: u32) -> Option<String> {
        self.vocabulary.spelled(id)
    }

    /// Token ids of a text, between the tokens that the model wants at the beginning and the end of texts; a
    /// text that has them does not get them twice. With `parse_special`, control tokens in the text count;
    /// otherwise they are text.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        if parse_special {
            self.append_special(text, str::to_string, &mut ids)?;
        } else {
            self.append_plain(text, &mut ids)?;
        }
        let mut ids = self.after_first(ids);
        if self.last.is_some() && ids.last().copied() != self.last {
            ids.extend(self.last);
        }
        Ok(ids)
    }

    /// As [`Self::encode`] with control tokens, for a text in the middle: without tokens at its ends.
    pub fn encode_middle(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        self.append_special(text, str::to_string, &mut ids)?;
        Ok(ids)
    }

    /// As [`Self::encode`] with control tokens, without a token at the end. `restore` is applied to each
    /// stretch of plain text.
    pub(super) fn encode_marked(
        &self,
        text: &str,
        restore: impl Fn(&str) -> String,
    ) -> Result<Vec<u32>, TextError> {
        let mut ids = Vec::new();
        self.append_special(text, restore, &mut ids)?;
        Ok(self.after_first(ids))
    }

    /// The prompt whose answer goes between two texts; none if the vocabulary has no tokens for that. Control
    /// tokens in the texts are text.
    pub fn encode_infill(&self, before: &str, after: &str) -> Result<Option<Vec<u32>>, TextError> {
        let mut found = self.infill;
        for (id, names) in found.iter_mut().zip(INFILL) {
            *id = id.or_else(|| names.iter().find_map(|name| self.id_of(name)));
        }
        let [Some(prefix), Some(suffix), Some(middle)] = found else { return Ok(None) };
        let mut ids = vec![prefix];
        self.append_plain(before, &mut ids)?;
        ids.push(suffix);
        self.append_plain(after, &mut ids)?;
        ids.push(middle);
        Ok(Some(self.after_first(ids)))
    }

    fn after_first(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if self.first.is_some() && ids.first().copied() != self.first {
            ids.splice(0..0, self.first);
        }
        ids
    }

    /// Start and end of each token in a text that must not count if it is in a message.
    pub(super) fn markers_in<'t>(&'t self, text: &'t str) -> impl Iterator<Item = (usize, usize)> + 't {
        self.markers.spans(text)
    }

    /// Whether white space after this special token does not count.
    fn strips(&self, id: u32) -> bool {
        self.strips
            && !self.spelled(id).is_some_and(|t| ["<unk>", "<s>", "<|endoftext|>"].contains(&t.as_str()))
    }

    /// Where the longest end of a text starts with which a marker begins.
    pub(super) fn marker_begins(&self, text: &str) -> Option<usize> {
        self.markers.begins(text)
    }

    fn append_special(
        &self,
        text: &str,
        restore: impl Fn(&str) -> String,
        ids: &mut Vec<u32>,
    ) -> Result<(), TextError> {
        self.special.cut(
            text,
            |id| self.strips(id),
            |piece| match piece {
                Piece::Token(id) => {
                    ids.push(id);
                    Ok(())
                }
                Piece::Plain(plain) => self.append_plain(&restore(plain), ids),
            },
        )
    }

    /// Each stretch between tokens is encoded like the beginning of a text, as in llama.cpp.
    pub(super) fn append_plain(&self, text: &str, ids: &mut Vec<u32>) -> Result<(), TextError> {
        self.plain.cut(
            text,
            |id| self.strips(id),
            |piece| match piece {
                Piece::Token(id) => {
                    ids.push(id);
                    Ok(())
                }
                Piece::Plain(plain) => self.vocabulary.encode(plain, ids),
            },
        )
    }

    /// The bytes of a token; control tokens have none.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let token = self.spelled(id).unwrap_or_default();
        match self.kinds.get(id as usize) {
            None | Some(Kind::Control) => Vec::new(),
            Some(Kind::UserDefined) => token.into_bytes(),
            Some(Kind::Text | Kind::Byte | Kind::Unused) => self.vocabulary.bytes(&token),
        }
    }

    /// What a control token is called, such as `<|im_end|>`; none for other tokens.
    pub fn control_name(&self, id: u32) -> Option<String> {
        self.spelled(id).filter(|_| self.is_control(id))
    }

    /// Whether the first token of a text adds a space that is not in the text.
    pub(super) fn drops_first_space(&self) -> bool {
        self.drops_first_space
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

fn scores(metadata: &Metadata, n_tokens: usize) -> Result<Vec<f32>, TextError> {
    let scores = metadata.f32s("tokenizer.ggml.scores")?.map(|scores| scores.into_owned());
    scores
        .filter(|scores| scores.len() == n_tokens)
        .ok_or_else(|| TextError::Vocabulary("tokenizer.ggml.scores must have one number per token".into()))
}

fn charsmap(metadata: &Metadata) -> Result<CharsMap, TextError> {
    const KEY: &str = "tokenizer.ggml.precompiled_charsmap";
    match metadata.get(KEY) {
        None => Ok(CharsMap::default()),
        Some(Value::Array(Array::U8(bytes))) => CharsMap::new(bytes),
        Some(Value::Array(Array::I8(bytes))) => CharsMap::new(bytemuck::cast_slice(bytes)),
        Some(_) => Err(TextError::Vocabulary(format!("{KEY} is not an array of bytes"))),
    }
}
