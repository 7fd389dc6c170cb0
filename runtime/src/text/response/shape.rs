//! What a template writes around the parts of a tool call.

use super::calls::{Calls, Dialect, Syntax, Tags, Written};
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

/// What was written of the trial's call, in parts.
struct Trial<'w> {
    /// From the section's marker to the name, from there to the key, and from there to the value.
    before: &'w str,
    between: &'w str,
    middle: &'w str,
    /// What follows the value.
    rest: &'w str,
    /// The section with that call and another one, and all that was written of them: it may be two sections.
    two: &'w str,
    written_two: &'w str,
    /// What is between the first call's value and the second one's name, and what follows.
    second: Option<(&'w str, &'w str)>,
}

impl Shape {
    /// From what was written of the trial's call, and of that call with another one after it.
    pub fn of(calls: &Arc<Calls>, written: &str, written_two: &str) -> Option<Self> {
        let (name, key, value) = TRIAL;
        let (before, rest) = section(calls, written)?.split_once(name)?;
        let (between, rest) = rest.split_once(key)?;
        let (middle, rest) = rest.split_once(value)?;
        let two = section(calls, written_two).unwrap_or_default();
        let second = two.split_once(value).and_then(|(_, rest)| rest.split_once(name));
        let trial = Trial { before, between, middle, rest, two, written_two, second };
        match &calls.syntax {
            Syntax::Named { arguments: Written::Tags(tags), .. } => trial.in_tags(tags),
            Syntax::Named { arguments: Written::Literals(dialect), .. } => trial.in_literals(dialect),
            Syntax::Named { arguments: Written::Elements(mark), .. } => trial.in_elements(mark),
            _ => trial.in_json(),
        }
    }
}

impl Trial<'_> {
    /// `later` is what is before and after the name of another call.
    fn shape(
        &self,
        between: &str,
        after: &str,
        arguments: Around,
        later: Option<(String, String)>,
    ) -> Option<Shape> {
        Some(Shape {
            before: self.before.into(),
            between: between.into(),
            after: after.into(),
            arguments,
            later: later.map(|(before, between)| Later { before, between }),
        })
    }

    fn in_json(&self) -> Option<Shape> {
        let (between, _) = self.between.rsplit_once('{')?;
        let (_, after) = self.rest.split_once('}')?;
        let later = self.second.and_then(|(between_calls, rest)| {
            let (_, before) = between_calls.split_once('}')?;
            Some((before.into(), rest.split_once('{')?.0.into()))
        });
        self.shape(between, after, Around::Json, later)
    }

    fn in_elements(&self, mark: &str) -> Option<Shape> {
        let (open, close) = (format!("{mark}<"), format!("{mark}</{}>", TRIAL.1));
        let between = self.between.strip_suffix(&open)?;
        let (_, after) = self.rest.split_once(&close)?;
        let later = self.second.and_then(|(between_calls, rest)| {
            let (between, _) = rest.split_once(TYPED[0].0)?;
            Some((between_calls.strip_prefix(&close)?.into(), between.strip_suffix(&open)?.into()))
        });
        self.shape(between, after, Around::Style(Style::Elements(mark.into())), later)
    }

    fn in_literals(&self, dialect: &Dialect) -> Option<Shape> {
        let is_here = |(open, close): &&(String, String)| {
            self.middle.ends_with(open.as_str()) && self.rest.starts_with(close.as_str())
        };
        let quotes = dialect.quotes.iter().find(is_here)?;
        let (open, close) = (quotes.0.as_str(), quotes.1.as_str());
        let assigns = self.middle.strip_suffix(open)?;
        // From the first value that is no text to the next key.
        let typed = self.two.split_once(TYPED[0].0).and_then(|(_, rest)| rest.split_once(TYPED[1].0));
        let gap = typed.and_then(|(typed, _)| typed.strip_prefix(&format!("{assigns}{}", TYPED[0].1)));
        let style = Style::Literals {
            quotes: quotes.clone(),
            assigns: assigns.into(),
            gap: gap.unwrap_or(",").into(),
            is_python: dialect.signs[0] == '(',
        };
        let later = self.second.and_then(|(between_calls, rest)| {
            let (between, _) = rest.split_once(TYPED[0].0)?;
            Some((between_calls.strip_prefix(close)?.into(), between.into()))
        });
        self.shape(self.between, self.rest.strip_prefix(close)?, Around::Style(style), later)
    }

    fn in_tags(&self, tags: &Tags) -> Option<Shape> {
        let (name, _, value) = TRIAL;
        let (key_begins, value_ends) = (tags.key.0.as_str(), tags.value.1.as_str());
        let between = self.between.strip_suffix(key_begins)?;
        let (lines, rest) = self.rest.split_once(value_ends)?;
        let after = rest.trim_start();
        let last = &rest[..rest.len() - after.len()];
        // Where two arguments follow each other without white space, what is after the last belongs to the
        // call's end. The second call may be in another section.
        let typed = self.written_two.split_once(value).and_then(|(_, rest)| rest.split_once(name));
        let typed = typed.map_or("", |(_, rest)| rest);
        let gap = typed.split_once(TYPED[1].0).and_then(|(before, _)| {
            let (_, gap) = before.strip_suffix(key_begins)?.rsplit_once(value_ends)?;
            Some(gap)
        });
        let (gap, end) = match gap {
            Some("") => ("", last),
            _ => (last, ""),
        };
        let argument = Argument {
            tags: tags.clone(),
            before: key_begins.into(),
            between: betweens(tags, self.middle, typed),
            after: format!("{lines}{value_ends}"),
            gap: gap.into(),
            has_lines: !lines.is_empty(),
        };
        let later = self.second.and_then(|(between_calls, rest)| {
            let (_, before) = between_calls.split_once(value_ends)?;
            let (between, _) = rest.split_once(TYPED[0].0)?;
            Some((format!("{end}{}", before.trim_start()), between.strip_suffix(key_begins)?.into()))
        });
        self.shape(between, &format!("{end}{after}"), Around::Tags(argument), later)
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
