//! Reads a section of tool calls, character by character.

use super::calls::{Calls, Syntax, Tags, Written};
use super::elements::Elements;
use super::literals::Literals;
use super::{CallDelta, Tools};
use serde_json::Value;
use std::sync::Arc;

/// A section of calls that is being read.
#[derive(Debug)]
pub struct Scanner {
    calls: Arc<Calls>,
    tools: Arc<Tools>,
    state: State,
    /// What has come in this state.
    text: String,
    /// The call's name, once it is known.
    name: Option<String>,
    /// Arguments that came before the name.
    early: String,
    /// Lists that are open around calls.
    lists: usize,
    /// Number of the call.
    pub index: usize,
    has_arguments: bool,
}

#[derive(Debug)]
enum State {
    /// The next call, or the section's end.
    Between,
    /// A key of the call's JSON object.
    Key(Json),
    /// The colon after it.
    Colon,
    /// What belongs to this key.
    Value(String, Json),
    /// A name, without quotes.
    Name,
    /// Its arguments, a JSON object.
    Arguments(Json),
    /// The next argument in tags, or the call's end.
    Tag,
    TagKey,
    /// What begins the value of this key.
    TagBefore(String),
    TagValue(String),
    /// Arguments that are nearly JSON.
    Literals(Literals),
    /// Arguments in tags that they name.
    Elements(Elements),
    /// The section has ended.
    Done,
}

impl Scanner {
    pub fn new(calls: Arc<Calls>, tools: Arc<Tools>, index: usize) -> Self {
        let state = match &calls.syntax {
            Syntax::Named { before, .. } if before.is_empty() => State::Name,
            _ => State::Between,
        };
        Self {
            calls,
            tools,
            state,
            text: String::new(),
            name: None,
            early: String::new(),
            lists: 0,
            index,
            has_arguments: false,
        }
    }

    /// Takes a character. Tells whether the section has ended.
    pub fn push(&mut self, c: char, out: &mut Vec<CallDelta>) -> bool {
        let mut is_taken = false;
        while !is_taken && !matches!(self.state, State::Done) {
            is_taken = self.step(c, out);
        }
        matches!(self.state, State::Done)
    }

    /// One transition. Tells whether the character is used up.
    fn step(&mut self, c: char, out: &mut Vec<CallDelta>) -> bool {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Between => self.between(c),
            State::Key(json) => return self.key(c, json, out),
            State::Colon => self.state = if c == ':' { self.value() } else { State::Colon },
            State::Value(key, json) => return self.in_value(c, key, json, out),
            State::Name => return self.name(c, out),
            State::Arguments(mut json) => match json.push(c) {
                Came::Blank => self.before_arguments(c, out),
                came => {
                    self.argument(c, out);
                    match came {
                        Came::End => self.end_call(out),
                        _ => self.state = State::Arguments(json),
                    }
                }
            },
            State::Tag => self.tag(c, out),
            state @ (State::TagKey | State::TagBefore(_) | State::TagValue(_)) => {
                let calls = self.calls.clone();
                if let Syntax::Named { arguments: Written::Tags(tags), .. } = &calls.syntax {
                    self.in_tag(c, state, tags, out);
                }
            }
            State::Literals(mut literals) => {
                let (json, has_ended) = literals.push(c);
                json.chars().for_each(|c| self.argument(c, out));
                match has_ended {
                    true => self.end_call(out),
                    false => self.state = State::Literals(literals),
                }
            }
            State::Elements(mut elements) => {
                let argument = elements.push(c, &self.tools, self.name.as_deref().unwrap_or_default());
                if let Some((key, value)) = argument {
                    self.give(&key, &value, out);
                }
                match elements.has_ended() {
                    true => self.end_call(out),
                    false => self.state = State::Elements(elements),
                }
            }
            State::Done => {}
        }
        true
    }

    fn between(&mut self, c: char) {
        let calls = self.calls.clone();
        let Calls { close, syntax, .. } = &*calls;
        self.text.push(c);
        self.state = State::Between;
        if !close.is_empty() && self.text.ends_with(close) {
            self.state = State::Done;
        } else if let Syntax::Named { before, .. } = syntax {
            // Without one, the section has one call, which has been.
            if before.iter().any(|before| self.text.ends_with(before)) {
                self.text.clear();
                self.state = State::Name;
            }
        } else {
            match c {
                '{' => {
                    self.text.clear();
                    self.state = State::Key(Json::default());
                }
                '[' => self.lists += 1,
                ']' => {
                    self.lists = self.lists.saturating_sub(1);
                    if self.lists == 0 && close.is_empty() {
                        self.state = State::Done;
                    }
                }
                _ => {}
            }
        }
    }

    fn key(&mut self, c: char, mut json: Json, out: &mut Vec<CallDelta>) -> bool {
        if json.depth == 0 && !json.in_string {
            match c {
                '}' => {
                    self.end_call(out);
                    return true;
                }
                '"' => {}
                _ => {
                    self.state = State::Key(json);
                    return true;
                }
            }
        }
        self.text.push(c);
        self.state = match json.push(c) {
            Came::End => State::Colon,
            _ => State::Key(json),
        };
        true
    }

    /// Begins the value of the key that has come.
    fn value(&mut self) -> State {
        State::Value(unquoted(&std::mem::take(&mut self.text)), Json::default())
    }

    fn in_value(&mut self, c: char, key: String, mut json: Json, out: &mut Vec<CallDelta>) -> bool {
        let came = json.push(c);
        if came == Came::Blank {
            self.state = State::Value(key, json);
            return true;
        }
        let (is_name, is_arguments) = match &self.calls.syntax {
            Syntax::Json { name, arguments } => (key == *name, key == *arguments),
            _ => (false, true),
        };
        // Arguments that are a text, as in OpenAI's API, can be read when they are complete.
        let streams = is_arguments && json.is_object;
        if !is_name && !is_arguments {
            self.text.clear();
        } else if came != Came::Before && !streams {
            self.text.push(c);
        }
        if matches!(self.calls.syntax, Syntax::NameIsKey) && self.name.is_none() {
            self.begin_call(key.clone(), out);
        }
        if streams && came != Came::Before {
            self.argument(c, out);
        }
        if matches!(came, Came::More) {
            self.state = State::Value(key, json);
            return true;
        }
        let text = std::mem::take(&mut self.text);
        if is_name {
            self.begin_call(unquoted(&text), out);
        } else if is_arguments && !streams {
            let inner = unquoted(&text);
            let is_object = serde_json::from_str::<Value>(&inner).is_ok_and(|value| value.is_object());
            inner.chars().filter(|_| is_object).for_each(|c| self.argument(c, out));
        }
        self.state = State::Key(Json::default());
        came == Came::End
    }

    fn name(&mut self, c: char, out: &mut Vec<CallDelta>) -> bool {
        let calls = self.calls.clone();
        let Syntax::Named { ends, arguments, after, .. } = &calls.syntax else { return true };
        // A list, where a name should be, is another format.
        let has_begun = !self.text.trim().is_empty();
        if !ends.contains(c) || (!has_begun && c.is_whitespace()) {
            self.text.push(c);
            let has_ended = !calls.close.is_empty() && self.text.ends_with(&calls.close);
            let is_none = calls.only_tools && !self.tools.may_begin(self.text.trim_start());
            self.state = if has_ended || is_none { State::Done } else { State::Name };
            return true;
        }
        let name = std::mem::take(&mut self.text).trim().to_string();
        if name.is_empty() || name.contains(['{', '}']) {
            self.state = State::Between;
            return true;
        }
        self.begin_call(name, out);
        self.state = match arguments {
            _ if self.name.is_none() => State::Done,
            Written::Json => State::Arguments(Json::object()),
            Written::Tags(_) => State::Tag,
            Written::Literals(dialect) => State::Literals(Literals::new(dialect.clone())),
            Written::Elements(mark) => State::Elements(Elements::new(mark, after)),
        };
        // A tag or the arguments may begin here.
        !"<{(".contains(c)
    }

    /// What is between a name and its arguments. The section may end here.
    fn before_arguments(&mut self, c: char, out: &mut Vec<CallDelta>) {
        self.text.push(c);
        let close = &self.calls.close;
        if !close.is_empty() && self.text.ends_with(close) {
            self.end_call(out);
            self.state = State::Done;
        } else {
            self.state = State::Arguments(Json::object());
        }
    }

    fn tag(&mut self, c: char, out: &mut Vec<CallDelta>) {
        let calls = self.calls.clone();
        let Syntax::Named { after, arguments: Written::Tags(tags), .. } = &calls.syntax else { return };
        self.text.push(c);
        self.state = State::Tag;
        if self.text.ends_with(&tags.key.0) {
            self.text.clear();
            self.state = State::TagKey;
        } else if !calls.close.is_empty() && self.text.ends_with(&calls.close) {
            self.end_call(out);
            self.state = State::Done;
        } else if !after.is_empty() && self.text.ends_with(after) {
            self.end_call(out);
        }
    }

    /// A key, or what is between it and the end of its value.
    fn in_tag(&mut self, c: char, state: State, Tags { key, value }: &Tags, out: &mut Vec<CallDelta>) {
        let end = match &state {
            State::TagKey => &key.1,
            State::TagBefore(_) => &value.0,
            _ => &value.1,
        };
        let Some(text) = self.take_until(c, end) else {
            self.state = state;
            return;
        };
        match state {
            State::TagKey if value.0.is_empty() => self.state = State::TagValue(text),
            State::TagKey => self.state = State::TagBefore(text),
            State::TagBefore(key) => self.state = State::TagValue(key),
            State::TagValue(key) => self.tag_value(&key, &text, out),
            _ => {}
        }
    }

    fn tag_value(&mut self, key: &str, value: &str, out: &mut Vec<CallDelta>) {
        let value = value.strip_prefix("<![CDATA[").and_then(|v| v.strip_suffix("]]>")).unwrap_or(value);
        // Some templates write a value on lines of its own.
        let value = value.strip_prefix('\n').and_then(|v| v.strip_suffix('\n')).unwrap_or(value);
        let value = self.tools.json_of(self.name.as_deref().unwrap_or_default(), key, value);
        self.give(key, &value, out);
        self.state = State::Tag;
    }

    /// Gives out an argument and its value's JSON.
    fn give(&mut self, key: &str, value: &str, out: &mut Vec<CallDelta>) {
        let before = if self.has_arguments { ", " } else { "{" };
        self.has_arguments = true;
        let arguments = format!("{before}{}: {value}", Value::from(key));
        out.push(CallDelta { index: self.index, name: None, arguments });
    }

    /// What has come before this text, once it has come.
    fn take_until(&mut self, c: char, end: &str) -> Option<String> {
        self.text.push(c);
        let text = self.text.strip_suffix(end)?.to_string();
        self.text.clear();
        Some(text)
    }

    fn begin_call(&mut self, name: String, out: &mut Vec<CallDelta>) {
        // Where nothing marks a call, other JSON may have a name, too.
        let is_known = !self.calls.only_tools || self.tools.is_empty() || self.tools.has(&name);
        if self.name.is_some() || name.is_empty() || !is_known {
            return;
        }
        self.name = Some(name.clone());
        let arguments = std::mem::take(&mut self.early);
        out.push(CallDelta { index: self.index, name: Some(name), arguments });
    }

    fn argument(&mut self, c: char, out: &mut Vec<CallDelta>) {
        self.has_arguments = true;
        match (&self.name, out.last_mut()) {
            (None, _) => self.early.push(c),
            (Some(_), Some(last)) if last.index == self.index => last.arguments.push(c),
            _ => out.push(CallDelta { index: self.index, name: None, arguments: c.into() }),
        }
    }

    fn end_call(&mut self, out: &mut Vec<CallDelta>) {
        if self.name.is_some() {
            let is_tagged = matches!(
                self.calls.syntax,
                Syntax::Named { arguments: Written::Tags(_) | Written::Elements(_), .. }
            );
            let rest = match (self.has_arguments, is_tagged) {
                (false, _) => "{}",
                (true, true) => "}",
                (true, false) => "",
            };
            rest.chars().for_each(|c| self.argument(c, out));
            self.index += 1;
        }
        self.name = None;
        self.early.clear();
        self.text.clear();
        self.has_arguments = false;
        let ends = self.calls.close.is_empty() && self.lists == 0;
        self.state = if ends { State::Done } else { State::Between };
    }
}

/// The text of a JSON string; others as they are.
fn unquoted(json: &str) -> String {
    serde_json::from_str(json).unwrap_or_else(|_| json.to_string())
}

/// Finds the end of a JSON value.
#[derive(Debug, Default)]
struct Json {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    has_begun: bool,
    is_object: bool,
    /// Whether everything before an object is skipped.
    seeks_object: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// What is before the value.
    Blank,
    /// A part of it.
    More,
    /// Its last character.
    End,
    /// The character after its last.
    Before,
}

impl Json {
    fn object() -> Self {
        Self { seeks_object: true, ..Self::default() }
    }

    fn push(&mut self, c: char) -> Came {
        if !self.has_begun {
            if if self.seeks_object { c != '{' } else { c.is_whitespace() } {
                return Came::Blank;
            }
            self.has_begun = true;
            self.is_object = c == '{';
        }
        if self.in_string {
            match c {
                _ if self.is_escaped => self.is_escaped = false,
                '\\' => self.is_escaped = true,
                '"' => self.in_string = false,
                _ => {}
            }
            return if self.depth == 0 && !self.in_string { Came::End } else { Came::More };
        }
        match c {
            '"' => self.in_string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' if self.depth > 1 => self.depth -= 1,
            '}' | ']' if self.depth == 1 => {
                self.depth = 0;
                return Came::End;
            }
            ',' | '}' | ']' if self.depth == 0 => return Came::Before,
            _ if self.depth == 0 && c.is_whitespace() => return Came::Before,
            _ => {}
        }
        Came::More
    }
}
