//! An answer's text in its parts: content, reasoning and tool calls.
//!
//! A [`Format`] says how a model marks them; it is known by what its chat template writes. A [`Separator`]
//! follows one answer, character by character: however its text is cut, the parts are the same.

mod arguments;
mod calls;
mod elements;
mod given;
#[cfg(test)]
mod given_tests;
mod known;
mod lark;
#[cfg(test)]
mod lark_tests;
mod literals;
#[cfg(test)]
mod oracle_tests;
mod pattern;
mod reasoning;
mod scanner;
mod schema;
mod shape;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tool_tests;
mod tools;
mod values;

pub use calls::{Calls, TRIAL, TYPED, after_question, whole};
pub use given::{Given, GivenProblem};
pub use lark::{NoGrammar, Otherwise, Wanted};
pub use reasoning::Reasoning;
pub use schema::Problem;
pub use tools::{Tool, Tools};

use super::Tokenizer;
use scanner::Scanner;
use serde::Serialize;
use std::sync::Arc;

/// How a model marks the parts of its answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Format {
    /// Its reasoning; none if it knows none.
    pub reasoning: Option<Arc<Reasoning>>,
    /// Its content.
    pub content: Arc<Content>,
    /// Its tool calls; none where it may not call any.
    pub calls: Option<Arc<Calls>>,
}

/// How a model marks its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Each of these begins it. The prompt may have begun the marker.
    pub open: Vec<String>,
    /// Each of these ends it.
    pub close: Vec<String>,
    /// Whether text is left out that is neither content nor anything else.
    pub is_marked: bool,
}

impl Content {
    /// That of Functionary 3.2, whose prompt ends with `>>>`, if this is its template.
    pub fn spelled_in(template: &str) -> Self {
        let is_spelled = template.contains("'>>>all\\n'");
        let open = is_spelled.then(|| ">>>all\n".to_string()).into_iter().collect();
        Self { open, ..Self::default() }
    }
}

/// Tokens at a prompt's end in which an opened marker is looked for.
const TAIL: usize = 32;

impl Format {
    fn markers(&self) -> impl Iterator<Item = &str> {
        let reasoning = self.reasoning.iter().flat_map(|reasoning| reasoning.markers());
        let calls = self.calls.iter().flat_map(|calls| calls.markers());
        let content = self.content.open.iter().chain(&self.content.close).map(String::as_str);
        reasoning.chain(calls).chain(content)
    }

    /// Whether a prompt of these tokens has opened the reasoning.
    pub fn opens_reasoning(&self, tokenizer: &Tokenizer, prompt: &[u32]) -> bool {
        self.reasoning.as_ref().is_some_and(|reasoning| reasoning.is_opened_by(&tail(tokenizer, prompt)))
    }
}

/// A piece of a tool call. The first piece of a call has its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallDelta {
    /// The call's number in the answer.
    pub index: usize,
    /// The tool's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the arguments' JSON.
    pub arguments: String,
}

/// Text of an answer, in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// What the person asked for.
    pub content: String,
    /// What the model thought before.
    pub reasoning: String,
    /// Calls of tools.
    pub calls: Vec<CallDelta>,
}

/// What is being read.
#[derive(Debug)]
enum In {
    Content,
    Reasoning,
    Calls(Box<Scanner>),
}

/// Separates one answer.
#[derive(Debug)]
pub struct Separator {
    format: Format,
    tools: Arc<Tools>,
    is_in: In,
    /// Whether the part that is being read has begun; white space before it is left out.
    has_begun: bool,
    /// Whether there has been no content since the last marker.
    is_blank: bool,
    /// What may be the beginning of a marker.
    held: String,
    /// White space that may be at the end of the part.
    space: String,
    /// A section of calls from its marker on, until there is a call in it.
    section: Option<String>,
    n_calls: usize,
    /// Whether only the first call counts.
    is_single: bool,
    /// Whether sections are looked for everywhere.
    is_trial: bool,
    /// Whether text is left out until a marker comes.
    is_outside: bool,
    /// How many characters of what is held are the prompt's.
    n_prompt: usize,
}

impl Separator {
    /// For the answer to this prompt.
    pub fn new(format: Format, prompt: &str) -> Self {
        let in_reasoning = format.reasoning.as_ref().is_some_and(|reasoning| reasoning.is_opened_by(prompt));
        // A marker that the prompt has begun.
        let begun = format.content.open.iter().flat_map(|marker| {
            let parts = marker.char_indices().skip(1).map(|(at, _)| &marker[..at]);
            parts.filter(|part| prompt.ends_with(part)).last()
        });
        let held =
            begun.max_by_key(|part| part.len()).filter(|_| !in_reasoning).unwrap_or_default().to_string();
        Self {
            is_outside: format.content.is_marked && !in_reasoning,
            n_prompt: held.chars().count(),
            format,
            tools: Arc::default(),
            is_in: if in_reasoning { In::Reasoning } else { In::Content },
            // An answer without reasoning is not changed.
            has_begun: !in_reasoning,
            is_blank: true,
            held,
            space: String::new(),
            section: None,
            n_calls: 0,
            is_single: false,
            is_trial: false,
        }
    }

    /// With the tools that may be called, and whether only one call may be made.
    pub fn with_tools(self, tools: Arc<Tools>, is_single: bool) -> Self {
        Self { tools, is_single, ..self }
    }

    /// For what a template wrote, in which calls may be anywhere.
    fn of_calls(calls: Arc<Calls>) -> Self {
        let format = Format { calls: Some(calls), ..Format::default() };
        Self { is_trial: true, ..Self::new(format, "") }
    }

    /// For the answer to a prompt of these tokens.
    pub fn after(format: Format, tokenizer: &Tokenizer, prompt: &[u32]) -> Self {
        Self::new(format, &tail(tokenizer, prompt))
    }

    /// All parts of a whole answer.
    pub fn all(mut self, answer: &str) -> Parts {
        let mut parts = self.push(answer);
        parts.append(self.flush());
        parts
    }

    /// Calls that have begun.
    pub fn n_calls(&self) -> usize {
        self.n_calls
    }

    /// Whether all that counts has come: the only call that may be made is complete.
    pub fn is_complete(&self) -> bool {
        let ended = match &self.is_in {
            In::Calls(scanner) => scanner.index,
            _ => self.n_calls,
        };
        self.is_single && ended > 0
    }

    /// Whether what comes next is reasoning.
    pub fn is_in_reasoning(&self) -> bool {
        matches!(self.is_in, In::Reasoning)
    }

    /// Whether a marker may have begun.
    pub fn is_undecided(&self) -> bool {
        !self.held.is_empty()
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
            self.take(c, &mut parts);
        }
        parts
    }

    /// The text that is still held back, at the end. A marker that is not complete is text, and so is a
    /// section without a call.
    pub fn flush(&mut self) -> Parts {
        let mut parts = Parts::default();
        self.release(&mut parts, true);
        if matches!(self.is_in, In::Calls(_)) {
            self.is_in = In::Content;
            self.give_back(&mut parts);
        }
        if matches!(self.is_in, In::Content) && self.has_begun {
            parts.content.push_str(&std::mem::take(&mut self.space));
        }
        parts
    }

    fn take(&mut self, c: char, parts: &mut Parts) {
        let In::Calls(scanner) = &mut self.is_in else {
            self.held.push(c);
            self.release(parts, false);
            return;
        };
        let before = parts.calls.len();
        let has_ended = scanner.push(c, &mut parts.calls);
        self.n_calls = scanner.index.max(parts.calls.last().map_or(self.n_calls, |call| call.index + 1));
        if self.is_single {
            parts.calls.retain(|call| call.index == 0);
        }
        if parts.calls.len() > before {
            self.section = None;
        } else if let Some(section) = &mut self.section {
            section.push(c);
        }
        if has_ended {
            self.is_in = In::Content;
            self.give_back(parts);
        }
    }

    /// Makes a section without a call content; after one with calls, content begins anew.
    fn give_back(&mut self, parts: &mut Parts) {
        if self.section.is_none() {
            self.space.clear();
            self.has_begun = false;
            self.is_blank = true;
            self.is_outside = self.format.content.is_marked;
        }
        for c in self.section.take().unwrap_or_default().chars() {
            self.put(c, parts);
        }
    }

    /// Markers that may come now, and what each begins.
    fn markers(&self) -> impl Iterator<Item = (&str, Begins)> {
        let in_reasoning = matches!(self.is_in, In::Reasoning);
        let calls = self
            .format
            .calls
            .iter()
            .filter(move |calls| !in_reasoning && (!calls.at_start || self.is_blank || self.is_trial));
        let of_reasoning = self.format.reasoning.iter().flat_map(move |reasoning| {
            let one = match in_reasoning {
                true => (reasoning.close.as_str(), Begins::Nothing),
                false => (reasoning.open.as_str(), Begins::Reasoning),
            };
            let dropped = reasoning.dropped.iter().filter(move |_| !in_reasoning);
            [one].into_iter().chain(dropped.map(|marker| (marker.as_str(), Begins::Nothing)))
        });
        let content = self.format.content.as_ref();
        let of_content = content.open.iter().map(|open| (open.as_str(), Begins::Content));
        let of_content =
            of_content.chain(content.close.iter().map(|close| (close.as_str(), Begins::Nothing)));
        let of_calls = calls.flat_map(|calls| calls.open.iter().map(|open| (open.as_str(), Begins::Calls)));
        let all = of_reasoning.chain(of_content.filter(move |_| !in_reasoning)).chain(of_calls);
        all.filter(|(marker, _)| !marker.is_empty())
    }

    /// Gives out what is held and begins no marker, and passes the longest marker that is complete.
    fn release(&mut self, parts: &mut Parts, is_last: bool) {
        while !self.held.is_empty() {
            let goes_on = |marker: &str| marker.len() > self.held.len() && marker.starts_with(&self.held);
            if !is_last && self.markers().any(|(marker, _)| goes_on(marker)) {
                return;
            }
            let begun = self.markers().filter(|(marker, _)| self.held.starts_with(marker));
            // The first one, of several.
            let begun = begun
                .map(|(marker, begins)| (marker.len(), begins))
                .reduce(|a, b| if b.0 > a.0 { b } else { a });
            let Some((length, begins)) = begun else {
                let c = self.held.remove(0);
                match self.n_prompt {
                    0 => self.put(c, parts),
                    n => self.n_prompt = n - 1,
                }
                continue;
            };
            let rest = self.held.split_off(length);
            let marker = std::mem::take(&mut self.held);
            let own: String = marker.chars().skip(std::mem::take(&mut self.n_prompt)).collect();
            self.pass(&marker, &own, begins, parts);
            for c in rest.chars() {
                self.take(c, parts);
            }
        }
    }

    /// Passes a marker, of which the answer has this part.
    fn pass(&mut self, marker: &str, own: &str, begins: Begins, parts: &mut Parts) {
        if let (Begins::Calls, Some(calls)) = (begins, &self.format.calls) {
            let mut scanner = Scanner::new(calls.clone(), self.tools.clone(), self.n_calls);
            if calls.keeps_open() {
                for c in marker.chars() {
                    scanner.push(c, &mut parts.calls);
                }
            }
            // White space before it is content if there is no call.
            self.section = Some(std::mem::take(&mut self.space) + own);
            self.is_in = In::Calls(Box::new(scanner));
            return;
        }
        self.is_in = if let Begins::Reasoning = begins { In::Reasoning } else { In::Content };
        self.is_outside = self.format.content.is_marked && matches!(begins, Begins::Nothing);
        self.space.clear();
        self.has_begun = false;
        self.is_blank = true;
    }

    fn put(&mut self, c: char, parts: &mut Parts) {
        let in_reasoning = matches!(self.is_in, In::Reasoning);
        if self.is_outside && !in_reasoning {
            return;
        }
        if c.is_whitespace() {
            // Before a marker, it is no content.
            let may_be_left_out = self.is_blank && self.format.reasoning.is_some();
            if self.has_begun && (in_reasoning || self.format.calls.is_some() || may_be_left_out) {
                self.space.push(c);
                return;
            }
            if !self.has_begun {
                return;
            }
        } else {
            self.is_blank = in_reasoning;
        }
        self.has_begun = true;
        let part = if in_reasoning { &mut parts.reasoning } else { &mut parts.content };
        part.push_str(&self.space);
        self.space.clear();
        part.push(c);
    }
}

#[derive(Clone, Copy, Debug)]
enum Begins {
    /// What has no marker of its own.
    Nothing,
    Content,
    Reasoning,
    Calls,
}

impl Parts {
    /// Adds what came next.
    pub fn append(&mut self, next: Self) {
        self.content.push_str(&next.content);
        self.reasoning.push_str(&next.reasoning);
        for call in next.calls {
            match self.calls.last_mut().filter(|last| last.index == call.index && call.name.is_none()) {
                Some(last) => last.arguments.push_str(&call.arguments),
                None => self.calls.push(call),
            }
        }
    }
}

/// The text of a prompt's last tokens.
fn tail(tokenizer: &Tokenizer, prompt: &[u32]) -> String {
    let tail = prompt.get(prompt.len().saturating_sub(TAIL)..).unwrap_or_default();
    let bytes: Vec<u8> = tail
        .iter()
        .flat_map(|id| match tokenizer.is_control(*id) {
            true => tokenizer.spelled(*id).unwrap_or_default().into_bytes(),
            false => tokenizer.token_bytes(*id),
        })
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
