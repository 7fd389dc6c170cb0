//! SentencePiece's precompiled normalisation (`tokenizer.ggml.precompiled_charsmap`): a trie from byte
//! strings to their replacements.
//!
//! The layout is that of darts-clone: the length of the trie in bytes (u32, little endian), the trie's units
//! (u32), and the replacements, each ended by a zero byte. A unit has its byte in bits 0 to 7, whether a
//! replacement ends there in bit 8, and the offset to its children in bits 10 to 30, times 256 if bit 9 is
//! set. The unit of a replacement has bit 31 set, and its place in the other bits.

use super::TextError;

/// The replacements, and the trie that finds them.
#[derive(Debug, Default)]
pub(super) struct CharsMap {
    units: Vec<u32>,
    replacements: Vec<u8>,
}

impl CharsMap {
    /// Reads a file's map.
    pub(super) fn new(bytes: &[u8]) -> Result<Self, TextError> {
        let cut = || TextError::Vocabulary("tokenizer.ggml.precompiled_charsmap is cut off".into());
        let (len, rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (units, replacements) = rest.split_at_checked(len).ok_or_else(cut)?;
        let (units, _) = units.as_chunks::<4>();
        Ok(Self {
            units: units.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
            replacements: replacements.to_vec(),
        })
    }

    /// The replacement of the longest string in the map that `text` begins with, and that string's length.
    pub(super) fn replacement(&self, text: &[u8]) -> Option<(usize, &[u8])> {
        let offset = |unit: u32| (unit >> 10) << ((unit & (1 << 9)) >> 6);
        let unit = |at: u32| self.units.get(at as usize).copied();
        let mut longest = None;
        let mut at = offset(unit(0)?);
        for (i, &byte) in text.iter().enumerate() {
            at ^= u32::from(byte);
            let Some(node) = unit(at).filter(|node| byte != 0 && node & (1 << 31 | 0xff) == u32::from(byte))
            else {
                break;
            };
            at ^= offset(node);
            if node & (1 << 8) != 0 {
                longest = unit(at).map(|leaf| (i + 1, (leaf & !(1 << 31)) as usize));
            }
        }
        let (len, start) = longest?;
        let replacement = self.replacements.get(start..)?;
        let end = replacement.iter().position(|byte| *byte == 0)?;
        Some((len, replacement.get(..end)?))
    }
}
