//! An answer's text in its parts: content and reasoning.
//!
//! A [`Format`] says how a model marks its reasoning; it is known by what its chat template writes. A
//! [`Separator`] follows one answer, character by character: however its text is cut, the parts are the same.

#[cfg(test)]
mod tests;

use super::Tokenizer;

/// How a model marks its reasoning. Markers have no white space at their ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Begins reasoning, in the answer or at the end of the prompt.
    open: &'static str,
    /// Ends it.
    close: &'static str,
    /// Markers around content, which are left out.
    dropped: &'static [&'static str],
}

const fn tags(open: &'static str, close: &'static str) -> Format {
    Format { open, close, dropped: &[] }
}

/// A template with both markers of a row writes this format. gpt-oss comes first: its name for thoughts is
/// the longest.
const FORMATS: &[Format] = &[
    Format {
        open: "<|channel|>analysis<|message|>",
        close: "<|end|>",
        dropped: &["<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>commentary<|message|>"],
    },
    tags("<think>", "</think>"),
    tags("<seed:think>", "</seed:think>"),
    tags("<mm:think>", "</mm:think>"),
    tags("[THINK]", "[/THINK]"),
    tags("<|START_THINKING|>", "<|END_THINKING|>"),
    tags("<|channel>thought", "<channel|>"),
    tags("<|inner_prefix|>", "<|inner_suffix|>"),
    tags("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
];

/// Tokens at a prompt's end in which an opened marker is looked for.
const TAIL: usize = 32;

impl Format {
    /// The format of the answers to prompts of this chat template; none if it knows no reasoning.
    pub fn of(template: &str) -> Option<Self> {
        FORMATS
            .iter()
            .find(|format| template.contains(format.open) && template.contains(format.close))
            .copied()
    }

    fn markers(&self) -> impl Iterator<Item = &'static str> + use<> {
        [self.open, self.close].into_iter().chain(self.dropped.iter().copied())
    }

    /// Whether a prompt has opened the reasoning.
    fn is_opened_by(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open)
    }
}

/// Text of an answer, in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// What the person asked for.
    pub content: String,
    /// What the model thought before.
    pub reasoning: String,
}

/// Separates one answer.
#[derive(Debug)]
pub struct Separator {
    format: Format,
    in_reasoning: bool,
    /// Whether the part that is being read has begun; white space before it is left out.
    has_begun: bool,
    /// What may be the beginning of a marker.
    held: String,
    /// White space that may be at the end of the reasoning.
    space: String,
}

impl Separator {
    /// For the answer to this prompt.
    pub fn new(format: Format, prompt: &str) -> Self {
        let in_reasoning = format.is_opened_by(prompt);
        // An answer without reasoning is not changed.
        Self { format, in_reasoning, has_begun: !in_reasoning, held: String::new(), space: String::new() }
    }

    /// For the answer to a prompt of these tokens.
    pub fn after(format: Format, tokenizer: &Tokenizer, prompt: &[u32]) -> Self {
        let tail = prompt.get(prompt.len().saturating_sub(TAIL)..).unwrap_or_default();
        let bytes: Vec<u8> = tail
            .iter()
            .flat_map(|id| match tokenizer.is_control(*id) {
                true => tokenizer.spelled(*id).unwrap_or_default().into_bytes(),
                false => tokenizer.token_bytes(*id),
            })
            .collect();
        Self::new(format, &String::from_utf8_lossy(&bytes))
    }

    /// The spelling of a control token that belongs to a marker. Others have no text.
    pub fn spelling(&self, tokenizer: &Tokenizer, id: u32) -> Option<String> {
        let spelled = tokenizer.spelled(id).filter(|text| !text.is_empty() && tokenizer.is_control(id))?;
        self.format.markers().any(|marker| marker.contains(&spelled)).then_some(spelled)
    }

    /// Takes more text. Returns what is certain now.
    pub fn push(&mut self, text: &str) -> Parts {
        let mut parts = Parts::default();
        for c in text.chars() {
            self.held.push(c);
            self.release(&mut parts);
        }
        parts
    }

    /// The text that is still held back, at the end. A marker that is not complete is text.
    pub fn flush(&mut self) -> Parts {
        let mut parts = Parts::default();
        for c in std::mem::take(&mut self.held).chars() {
            self.put(c, &mut parts);
        }
        parts
    }

    /// Gives out what is held and begins no marker, and passes a marker that is complete.
    fn release(&mut self, parts: &mut Parts) {
        let Format { open, close, dropped } = self.format;
        while !self.held.is_empty() {
            let here = |marker: &str| marker.starts_with(&self.held);
            let may_begin = match self.in_reasoning {
                true => here(close),
                false => here(open) || dropped.iter().any(|marker| here(marker)),
            };
            if !may_begin {
                let c = self.held.remove(0);
                self.put(c, parts);
                continue;
            }
            let is_complete = match self.in_reasoning {
                true => self.held == close,
                false => self.held == open || dropped.contains(&self.held.as_str()),
            };
            if is_complete {
                self.in_reasoning = !self.in_reasoning && self.held == open;
                self.held.clear();
                self.space.clear();
                self.has_begun = false;
            }
            return;
        }
    }

    fn put(&mut self, c: char, parts: &mut Parts) {
        if c.is_whitespace() && (!self.has_begun || self.in_reasoning) {
            if self.has_begun {
                self.space.push(c);
            }
            return;
        }
        self.has_begun = true;
        let part = if self.in_reasoning { &mut parts.reasoning } else { &mut parts.content };
        part.push_str(&self.space);
        self.space.clear();
        part.push(c);
    }
}
