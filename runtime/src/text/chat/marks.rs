//! Which parts of a prompt come from messages, so that control tokens count only where the template writes
//! them. Templates see the messages as they are. Where a message spells a control token, the template is
//! rendered a second time with *stand-ins*: each character of the token is replaced by another one, so that
//! lengths and slices stay the same. Where both prompts agree, the stand-ins show what came from messages.
//! Where they do not, because the template looks at the token, all is text.

use super::TextError;
use crate::text::Tokenizer;

/// The planes of Unicode from which stand-ins are taken: private use first, then planes without characters.
const PLANES: [u32; 12] = [15, 16, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4];
const PLANE: u32 = 1 << 16;

/// A plane of Unicode for stand-ins.
#[derive(Clone, Copy)]
pub struct StandIns(u32);

impl StandIns {
    /// Stand-ins that do not occur in a prompt.
    pub fn not_in(prompt: &str) -> Result<Self, TextError> {
        let mut used = 0_u32;
        for c in prompt.chars() {
            used |= 1 << (u32::from(c) / PLANE);
        }
        PLANES.iter().find(|plane| used & (1 << **plane) == 0).map(|plane| Self(plane * PLANE)).ok_or_else(
            || TextError::Encode("it has characters from all unassigned planes of Unicode".into()),
        )
    }

    fn of(self, c: char) -> char {
        match u32::from(c) {
            // The last two code points of a plane are noncharacters, but valid.
            code if code < PLANE => char::from_u32(self.0 + code).unwrap_or(c),
            _ => c,
        }
    }

    fn is(self, c: char) -> bool {
        u32::from(c) / PLANE == self.0 / PLANE
    }

    fn original(self, c: char) -> char {
        if self.is(c) { char::from_u32(u32::from(c) - self.0).unwrap_or(c) } else { c }
    }

    /// The text without stand-ins.
    pub fn restore(self, text: &str) -> String {
        text.chars().map(|c| self.original(c)).collect()
    }

    /// A message's text with stand-ins for control tokens, and for the beginning of one at its end, which the
    /// next part of a message could complete.
    pub fn replace(self, tokenizer: &Tokenizer, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        for (start, end) in spelled(tokenizer, text) {
            out.push_str(&text[from..start]);
            out.extend(text[start..end].chars().map(|c| self.of(c)));
            from = end;
        }
        out.push_str(&text[from..]);
        out
    }

    /// Of two such prompts, the stand-ins of both.
    pub fn either(self, a: &str, b: &str) -> String {
        a.chars().zip(b.chars()).map(|(a, b)| if self.is(b) { b } else { a }).collect()
    }

    /// The prompt with stand-ins where it comes from messages, or may. `other` is the prompt that was
    /// rendered with stand-ins.
    pub fn mark(self, prompt: &str, other: &str) -> String {
        let same = |(a, b): &(char, char)| *a == self.original(*b);
        let n_prompt = prompt.chars().count();
        let n_other = other.chars().count();
        let start = prompt.chars().zip(other.chars()).take_while(same).count();
        if start == n_prompt && start == n_other {
            return other.to_string();
        }
        let end = prompt.chars().rev().zip(other.chars().rev()).take_while(same).count();
        let end = end.min(n_prompt.min(n_other) - start);
        let head = other.chars().take(start);
        let middle = prompt.chars().skip(start).take(n_prompt - start - end).map(|c| self.of(c));
        head.chain(middle).chain(other.chars().skip(n_other - end)).collect()
    }
}

/// Whether a text spells a control token, or begins to at its end.
pub fn spells(tokenizer: &Tokenizer, text: &str) -> bool {
    !spelled(tokenizer, text).is_empty()
}

fn spelled(tokenizer: &Tokenizer, text: &str) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = tokenizer.markers_in(text).collect();
    let from = found.last().map_or(0, |(_, end)| *end);
    if let Some(start) = tokenizer.marker_begins(&text[from..]) {
        found.push((from + start, text.len()));
    }
    found
}
