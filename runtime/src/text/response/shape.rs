//! What a template writes around the parts of a tool call.

use super::calls::{Calls, Syntax, Tags, Written};
use super::values::{KINDS, Kinds};
use super::{Scanner, TRIAL, TYPED};
use std::sync::Arc;

/// What a template writes around a call's name and arguments.
#[derive(Debug)]
pub(super) struct Shape {
    /// From the section's marker to the name.
    pub before: String,
    pub between: String,
    /// From the end of the arguments to the section's end.
    pub after: String,
    pub arguments: Around,
    /// How a section goes on with another call; none if it has only one.
    pub later: Option<Later>,
}

/// What is around arguments.
#[derive(Debug)]
pub(super) enum Around {
    /// They are a JSON object.
    Json,
    Tags(Argument),
    Style(Style),
}

/// How values are written that may be in each other.
#[derive(Debug)]
pub(super) enum Style {
    /// As in calls of Python, or in objects with quotes of their own.
    Literals {
        quotes: (String, String),
        /// Between a key and its value.
        assigns: String,
        /// Between two values.
        gap: String,
        is_python: bool,
    },
    /// In tags after this mark.
    Elements(String),
}

/// What is before the name and after it, in all calls of a section but the first.
#[derive(Debug)]
pub(super) struct Later {
    pub before: String,
    pub between: String,
}

/// What is around an argument in tags.
#[derive(Debug)]
pub(super) struct Argument {
    pub tags: Tags,
    pub before: String,
    /// Between key and value: for texts, and where that depends on the kind of value, for others.
    pub between: Vec<(Kinds, String)>,
    pub after: String,
    /// White space between two arguments, or after each.
    pub gap: String,
    /// Whether a value is on lines of its own.
    pub has_lines: bool,
}

impl Argument {
    /// What is between the key and a value of this kind.
    pub fn between(&self, kind: Kinds) -> &str {
        let found = self.between.iter().find(|(kinds, _)| kinds.has(kind));
        found.or(self.between.first()).map_or("", |(_, text)| text.as_str())
    }
}

impl Shape {
    /// From what was written of the trial's call, and of that call with another one after it.
    pub fn of(calls: &Arc<Calls>, written: &str, written_two: &str) -> Option<Self> {
        let (name, key, value) = TRIAL;
        let first = section(calls, written)?;
        let two = section(calls, written_two).unwrap_or_default();
        let (before, rest) = first.split_once(name)?;
        let (between, rest) = rest.split_once(key)?;
        let (middle, rest) = rest.split_once(value)?;
        let text = str::to_string;
        // What follows the first call, if there is a second one.
        let second = two.split_once(value).and_then(|(_, rest)| rest.split_once(name));
        let written_as = match &calls.syntax {
            Syntax::Named { arguments, .. } => arguments,
            _ => &Written::Json,
        };
        let (tags, style) = match written_as {
            Written::Tags(tags) => (Some(tags), None),
            Written::Json => (None, None),
            Written::Elements(mark) => {
                let (_, after) = rest.split_once(&format!("{mark}</{key}>"))?;
                let between = between.strip_suffix(&format!("{mark}<"))?;
                (None, Some((Style::Elements(mark.clone()), between, after)))
            }
            Written::Literals(dialect) => {
                let is_here = |(open, close): &&(String, String)| {
                    middle.ends_with(open.as_str()) && rest.starts_with(close.as_str())
                };
                let quotes = dialect.quotes.iter().find(is_here)?;
                let assigns = middle.strip_suffix(quotes.0.as_str())?;
                // From the first value that is no text to the next key.
                let typed = two.split_once(TYPED[0].0).and_then(|(_, rest)| rest.split_once(TYPED[1].0));
                let gap =
                    typed.and_then(|(typed, _)| typed.strip_prefix(&format!("{assigns}{}", TYPED[0].1)));
                let style = Style::Literals {
                    quotes: quotes.clone(),
                    assigns: text(assigns),
                    gap: text(gap.unwrap_or(",")),
                    is_python: dialect.signs[0] == '(',
                };
                (None, Some((style, between, rest.strip_prefix(quotes.1.as_str())?)))
            }
        };
        if let Some((style, between, after)) = style {
            let later = second.and_then(|(between_calls, rest)| {
                let closed = match &style {
                    Style::Elements(mark) => format!("{mark}</{key}>"),
                    Style::Literals { quotes, .. } => quotes.1.clone(),
                };
                let before = between_calls.strip_prefix(&closed)?;
                let (between, _) = rest.split_once(TYPED[0].0)?;
                let between = match &style {
                    Style::Elements(mark) => between.strip_suffix(&format!("{mark}<"))?,
                    Style::Literals { .. } => between,
                };
                Some(Later { before: text(before), between: text(between) })
            });
            let (before, between, after) = (text(before), text(between), text(after));
            return Some(Self { before, between, after, arguments: Around::Style(style), later });
        }
        let Some(tags) = tags else {
            let (between, _) = between.rsplit_once('{')?;
            let (_, after) = rest.split_once('}')?;
            let later = second.and_then(|(between_calls, rest)| {
                let (_, before) = between_calls.split_once('}')?;
                Some(Later { before: text(before), between: text(rest.split_once('{')?.0) })
            });
            let (before, between, after) = (text(before), text(between), text(after));
            return Some(Self { before, between, after, arguments: Around::Json, later });
        };
        let between = between.strip_suffix(tags.key.0.as_str())?;
        let (lines, rest) = rest.split_once(tags.value.1.as_str())?;
        let after = rest.trim_start();
        let last = &rest[..rest.len() - after.len()];
        let later = second.and_then(|(between_calls, rest)| {
            let (_, before) = between_calls.split_once(tags.value.1.as_str())?;
            let (between, _) = rest.split_once(TYPED[0].0)?;
            Some(Later {
                before: text(before.trim_start()),
                between: text(between.strip_suffix(tags.key.0.as_str())?),
            })
        });
        // Where two arguments follow each other without white space, what is after the last belongs to the
        // call's end. The second call may be in another section.
        let typed = written_two.split_once(value).and_then(|(_, rest)| rest.split_once(name));
        let typed = typed.map_or("", |(_, rest)| rest);
        let gap = typed.split_once(TYPED[1].0).and_then(|(before, _)| {
            let (_, gap) = before.strip_suffix(tags.key.0.as_str())?.rsplit_once(tags.value.1.as_str())?;
            Some(gap)
        });
        let (gap, end) = match gap {
            Some("") => ("", last),
            _ => (last, ""),
        };
        let argument = Argument {
            tags: tags.clone(),
            before: text(&tags.key.0),
            between: betweens(tags, middle, typed),
            after: format!("{lines}{}", tags.value.1),
            gap: text(gap),
            has_lines: !lines.is_empty(),
        };
        let later = later.map(|later| Later { before: format!("{end}{}", later.before), ..later });
        let (before, between, after) = (text(before), text(between), format!("{end}{after}"));
        Some(Self { before, between, after, arguments: Around::Tags(argument), later })
    }
}

/// What is between key and value, by the kind of value: what the trial has for texts, and the typed call for
/// others.
fn betweens(tags: &Tags, middle: &str, typed: &str) -> Vec<(Kinds, String)> {
    let end = if tags.value.0.is_empty() { tags.key.1.as_str() } else { &tags.value.0 };
    let lines = middle.rsplit_once(end).map_or("", |(_, lines)| lines);
    let others = KINDS.iter().zip(TYPED).filter_map(|(kind, (key, _))| {
        let (_, rest) = typed.split_once(key)?;
        let (before, _) = rest.split_once(end)?;
        Some((*kind, format!("{before}{end}{lines}")))
    });
    [(Kinds::STRING, middle.to_string())].into_iter().chain(others).collect()
}

/// The section of calls in what a template wrote.
pub(super) fn section<'a>(calls: &Arc<Calls>, written: &'a str) -> Option<&'a str> {
    let (at, open) = calls.open.iter().filter_map(|open| Some((written.find(open)?, open))).min()?;
    let mut scanner = Scanner::new(calls.clone(), Arc::default(), 0);
    let first = if calls.keeps_open() { at } else { at + open.len() };
    for (i, c) in written.get(first..)?.char_indices() {
        if scanner.push(c, &mut Vec::new()) {
            return written.get(at..first + i + c.len_utf8());
        }
    }
    None
}
