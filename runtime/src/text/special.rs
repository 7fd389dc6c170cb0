//! What a file says about its special tokens, and what is meant where its converter got it wrong.

use super::TextError;
use super::tokenizer::Kind;
use crate::gguf::Metadata;
use std::collections::{HashMap, HashSet};

/// Values of `tokenizer.ggml.token_type`.
mod token_type {
    pub const UNKNOWN: i32 = 2;
    pub const CONTROL: i32 = 3;
    pub const USER_DEFINED: i32 = 4;
    pub const UNUSED: i32 = 5;
    pub const BYTE: i32 = 6;
}

/// Tokens that end a turn or a document, even if no key names them and whatever type they have.
const ENDS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|eot|>",
    "<|eom|>",
    "<|end_of_text|>",
    "<|endoftext|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<|END_OF_TURN_TOKEN|>",
    "[|endofturn|]",
    "<turn|>",
    "<|tool_response>",
    "<eos>",
    "</s>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    // The ends of files in code models.
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "[PAD]",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Keys of further tokens that end an answer.
const END_KEYS: &[&str] = &["eot", "eom", "fim_pad", "fim_rep", "fim_sep"];

/// Names of the tokens before a prefix, a suffix and the middle that is asked for, as llama.cpp finds them.
pub(super) const INFILL: [&[&str]; 3] = [
    &[
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ],
    &[
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ],
    &[
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ],
];
/// Their keys, and those of older files.
const INFILL_KEYS: [[&str; 2]; 3] = [["fim_pre", "prefix"], ["fim_suf", "suffix"], ["fim_mid", "middle"]];

/// Parts of an answer in the Harmony format, which are shown.
const PARTS: &[&str] = &["<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"];

/// Reads ids and flags of the keys `tokenizer.ggml.*`.
pub(super) struct Reader<'m> {
    metadata: &'m Metadata,
    n_tokens: usize,
    /// What was odd and has been put right.
    pub warnings: Vec<String>,
}

impl<'m> Reader<'m> {
    /// For a vocabulary of `n_tokens`.
    pub(super) fn new(metadata: &'m Metadata, n_tokens: usize) -> Self {
        Self { metadata, n_tokens, warnings: Vec::new() }
    }

    /// The ids of a key that may hold one or a list; `None` if it is absent. Those past the vocabulary give a
    /// warning, those that mean "none" do not.
    fn ids(&mut self, name: &str) -> Result<Option<Vec<u32>>, TextError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        if self.metadata.get(&key).is_none() {
            return Ok(None);
        }
        // Negative ids mean "none".
        let ids = match (self.metadata.u64s(&key), self.metadata.i32s(&key)) {
            (Ok(ids), _) => ids.unwrap_or_default(),
            (Err(_), Ok(ids)) => {
                let ids = ids.unwrap_or_default();
                ids.iter().map(|id| u64::try_from(*id).unwrap_or(u64::MAX)).collect()
            }
            (Err(error), Err(_)) => return Err(error.into()),
        };
        let mut is_bad = false;
        let mut good = Vec::with_capacity(ids.len().min(self.n_tokens));
        for id in ids.into_iter().filter(|id| *id != u64::from(u32::MAX) && *id != u64::MAX) {
            match u32::try_from(id) {
                Ok(id) if (id as usize) < self.n_tokens => good.push(id),
                _ => {
                    is_bad = true;
                    let n = self.n_tokens;
                    let warning = format!("{key} is {id}, but there are only {n} tokens: it is ignored");
                    self.warnings.push(warning);
                }
            }
        }
        // An id past the vocabulary counts as absent.
        Ok(if good.is_empty() && is_bad { None } else { Some(good) })
    }

    /// The token of a key, or `default` if the key is absent and the vocabulary has so many tokens.
    pub(super) fn id(&mut self, name: &str, default: Option<u32>) -> Result<Option<u32>, TextError> {
        let default = default.filter(|id| (*id as usize) < self.n_tokens);
        Ok(self.ids(name)?.map_or(default, |ids| ids.first().copied()))
    }

    /// The tokens that end a document; a key may hold a list.
    pub(super) fn eos(&mut self, default: Option<u32>) -> Result<Vec<u32>, TextError> {
        let default = default.filter(|id| (*id as usize) < self.n_tokens);
        Ok(self.ids("eos")?.unwrap_or_else(|| default.into_iter().collect()))
    }

    /// The other tokens that end an answer, as far as keys name them.
    pub(super) fn other_ends(&mut self) -> Result<Vec<u32>, TextError> {
        let mut ends = Vec::new();
        for name in END_KEYS {
            ends.extend(self.ids(name)?.unwrap_or_default());
        }
        Ok(ends)
    }

    /// The tokens of [`INFILL`], as far as keys name them.
    pub(super) fn infill(&mut self) -> Result<[Option<u32>; 3], TextError> {
        let mut found = [None; 3];
        for (id, keys) in found.iter_mut().zip(INFILL_KEYS) {
            for key in keys {
                *id = id.or(self.id(key, None)?);
            }
        }
        Ok(found)
    }

    /// The flag `tokenizer.ggml.NAME`: a boolean, 0 or 1.
    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, TextError> {
        Ok(self.metadata.bool(&format!("tokenizer.ggml.{name}"))?.unwrap_or(default))
    }
}

/// Each token's kind; without types in the file, all are text.
pub(super) fn kinds(metadata: &Metadata, n_tokens: usize) -> Result<Vec<Kind>, TextError> {
    const KEY: &str = "tokenizer.ggml.token_type";
    if metadata.get(KEY).is_none() {
        return Ok(vec![Kind::Text; n_tokens]);
    }
    let types = metadata.i32s(KEY)?.filter(|types| types.len() == n_tokens);
    let types =
        types.ok_or_else(|| TextError::Vocabulary(format!("{KEY} must have one integer per token")))?;
    Ok(types
        .iter()
        .map(|ty| match *ty {
            token_type::CONTROL | token_type::UNKNOWN => Kind::Control,
            token_type::USER_DEFINED => Kind::UserDefined,
            token_type::UNUSED => Kind::Unused,
            token_type::BYTE => Kind::Byte,
            _ => Kind::Text,
        })
        .collect())
}

/// Finds the tokens that end an answer by their names, adds `ends`, and gives the named ones the kind that
/// they must have. Sorted.
pub(super) fn stop_ids(tokens: &[String], kinds: &mut [Kind], ends: &[u32]) -> Vec<u32> {
    let names: HashSet<&str> = ENDS.iter().chain(PARTS).chain(&["<|plamo:eos|>"]).copied().collect();
    let found = (0..).zip(tokens).filter_map(|(id, token)| Some((*names.get(token.as_str())?, id)));
    let found: HashMap<&str, u32> = found.collect();
    let has = |name: &str| found.contains_key(name);
    let mut set = |name: &str, kind: Kind| {
        let id = found.get(name).copied()?;
        *kinds.get_mut(id as usize)? = kind;
        Some(id)
    };
    let mut stops: Vec<u32> = ENDS.iter().filter_map(|name| set(name, Kind::Control)).collect();
    stops.extend(ends);
    let mut shown: Vec<u32> = PARTS.iter().filter_map(|name| set(name, Kind::UserDefined)).collect();
    // In these formats an answer has several parts, each of which ends with <|end|>.
    if has("<|return|>") && has("<|call|>") || has("<|calls|>") && has("<|flush|>") {
        shown.extend(set("<|end|>", Kind::UserDefined));
    }
    // In these vocabularies </s> is HTML.
    if has("<|tool_response>") || has("<|plamo:eos|>") {
        shown.extend(set("</s>", Kind::Text));
    }
    stops.retain(|id| !shown.contains(id));
    stops.sort_unstable();
    stops.dedup();
    stops
}
