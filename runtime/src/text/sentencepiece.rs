//! SentencePiece vocabularies (arXiv 1808.06226): pieces with scores, ▁ for a space, and tokens for single bytes.

use super::TextError;
use super::tokenizer::bpe;
use crate::gguf::Metadata;
use std::collections::HashMap;

const SPACE: char = '▁';

/// Merging by score is byte-pair merging with the pieces, best first, as the list of merges.
pub(super) fn build(
    metadata: &mut Metadata,
    tokens: Vec<String>,
) -> Result<tokenizers::Tokenizer, TextError> {
    let scores = metadata.f32s("tokenizer.ggml.scores").map(|scores| scores.into_owned()).unwrap_or_default();
    if scores.len() != tokens.len() {
        return Err(TextError::Vocabulary(format!("{} scores for {} tokens", scores.len(), tokens.len())));
    }
    let unknown =
        metadata.u32("tokenizer.ggml.unknown_token_id").and_then(|id| tokens.get(id as usize)).cloned();
    let merges = merges(&tokens, &scores)?;
    let vocab = tokens.into_iter().enumerate().map(|(i, token)| (token, i as u32)).collect();
    let model = bpe(vocab, merges, |builder| {
        let builder = builder.byte_fallback(true).fuse_unk(true);
        match unknown {
            Some(token) => builder.unk_token(token),
            None => builder,
        }
    })?;
    Ok(tokenizers::Tokenizer::new(model))
}

/// Longer pieces than any that merging is worth trying for; bounds the work that a hostile vocabulary can ask for.
const MAX_PIECE: usize = 256;

fn merges(tokens: &[String], scores: &[f32]) -> Result<Vec<(String, String)>, TextError> {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(i, token)| (token.as_str(), i)).collect();
    // (piece, id of the left part, where the piece is cut)
    let mut found: Vec<(usize, usize, usize)> = Vec::new();
    for (i, token) in tokens.iter().enumerate().filter(|(_, token)| token.len() <= MAX_PIECE) {
        for (at, _) in token.char_indices().skip(1) {
            if let (Some(&left), true) = (ids.get(&token[..at]), ids.contains_key(&token[at..])) {
                found.push((i, left, at));
            }
        }
        if found.len() > 64 * tokens.len() {
            return Err(TextError::Vocabulary("its pieces can be cut in too many ways".into()));
        }
    }
    found.sort_by(|a, b| scores[b.0].total_cmp(&scores[a.0]).then(a.1.cmp(&b.1)));
    let part = |i: usize, at: usize| (tokens[i][..at].to_string(), tokens[i][at..].to_string());
    Ok(found.into_iter().map(|(i, _, at)| part(i, at)).collect())
}

/// A text as pieces spell it.
pub(super) fn escape(text: &str, add_space_prefix: bool) -> String {
    let mut escaped = if add_space_prefix { SPACE.to_string() } else { String::new() };
    escaped.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
    escaped
}

/// The bytes that a piece stands for.
pub(super) fn bytes(piece: &str) -> Vec<u8> {
    let hex = piece.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|hex| hex.len() == 2);
    match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
        Some(byte) => vec![byte],
        None => piece.replace(SPACE, " ").into_bytes(),
    }
}
