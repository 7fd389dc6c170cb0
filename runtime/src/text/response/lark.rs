//! A grammar for an answer that calls a tool, made from what the chat template writes.

use super::calls::Syntax;
use super::{Calls, Scanner, TRIAL, Tool, Tools};
use crate::text::grammar::WHITE_SPACE;
use crate::text::{Tokenizer, ToolUse};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Arc;

/// What an answer must be, where a tool must be called.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Tools of which one is called.
    pub tools: &'a Tools,
    /// Or JSON that fits this schema.
    pub schema: Option<&'a Value>,
    /// What ends the reasoning that the prompt has opened.
    pub close: Option<&'a str>,
}

impl Wanted<'_> {
    /// The grammar in llguidance's dialect of Lark, or why there is none.
    pub fn lark(&self, tool_use: &ToolUse, tokenizer: &Tokenizer) -> Result<String, String> {
        let literal = |text: &str| literal(tokenizer, text);
        let shape = Shape::of(tool_use.calls, &tool_use.written).ok_or(
            "calls cannot be required of this model: its chat template does not show how it writes them",
        )?;
        let mut rules = String::new();
        let mut choices = Vec::new();
        for (i, tool) in self.tools.iter().enumerate() {
            let body = match &shape.tags {
                None => format!("%json {}", options(&tool.parameters)?),
                Some(tags) => tags.arguments(tool, &literal)?,
            };
            let before = literal(&format!("{}{}{}", shape.before, tool.name, shape.between));
            let _ = writeln!(rules, "call_{i}: {before} {body} {}", literal(&shape.after));
            choices.push(format!("call_{i}"));
        }
        if let Some(schema) = self.schema {
            let _ = writeln!(rules, "content: %json {}", options(schema)?);
            choices.push("content".into());
        }
        let choices = choices.join(" | ");
        let Some(close) = self.close else { return Ok(format!("start: {choices}\n{rules}")) };
        let end = literal(close);
        let think = match end.starts_with('<') {
            true => format!("think: (/(?s:.+)/)? {end}\n"),
            false => format!("think[suffix={end}]: /(?s:.*)/\n"),
        };
        Ok(format!("start: think \"\\n\\n\"? ({choices})\n{think}{rules}"))
    }
}

/// What a template writes around a call's name and arguments.
struct Shape {
    before: String,
    between: String,
    after: String,
    tags: Option<Argument>,
}

/// What it writes around an argument in tags.
struct Argument {
    before: String,
    between: String,
    after: String,
    /// White space after it.
    gap: String,
    /// The first character of what ends a text.
    end: char,
}

impl Shape {
    /// From what was written of the trial's call.
    fn of(calls: &'static Calls, written: &str) -> Option<Self> {
        let (name, key, value) = TRIAL;
        let section = section(calls, written)?;
        let (before, rest) = section.split_once(name)?;
        let (between, rest) = rest.split_once(key)?;
        let (middle, rest) = rest.split_once(value)?;
        let text = str::to_string;
        let Syntax::Named { tags: Some(tags), .. } = calls.syntax else {
            let (between, _) = between.rsplit_once('{')?;
            let (_, after) = rest.split_once('}')?;
            return Some(Self {
                before: text(before),
                between: text(between),
                after: text(after),
                tags: None,
            });
        };
        let between = between.strip_suffix(tags.key.0)?;
        let (lines, rest) = rest.split_once(tags.value.1)?;
        let after = rest.trim_start();
        let argument = Argument {
            before: text(tags.key.0),
            between: text(middle),
            after: format!("{lines}{}", tags.value.1),
            gap: text(&rest[..rest.len() - after.len()]),
            end: tags.value.1.chars().next()?,
        };
        Some(Self { before: text(before), between: text(between), after: text(after), tags: Some(argument) })
    }
}

/// The section of calls in what a template wrote.
fn section<'a>(calls: &'static Calls, written: &'a str) -> Option<&'a str> {
    let (at, open) = calls.open.iter().filter_map(|open| Some((written.find(open)?, *open))).min()?;
    let mut scanner = Scanner::new(calls, Arc::default(), 0);
    let first = if calls.keeps_open() { at } else { at + open.len() };
    for (i, c) in written.get(first..)?.char_indices() {
        if scanner.push(c, &mut Vec::new()) {
            return written.get(at..first + i + c.len_utf8());
        }
    }
    None
}

impl Argument {
    /// The arguments of a tool, in the schema's order.
    fn arguments(&self, tool: &Tool, literal: &impl Fn(&str) -> String) -> Result<String, String> {
        let schema = &tool.parameters;
        let required = schema.get("required").and_then(Value::as_array);
        let mut rule = String::new();
        for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let texts: Option<Vec<&str>> = property
                .get("enum")
                .and_then(Value::as_array)
                .and_then(|list| list.iter().map(Value::as_str).collect());
            let value = match (texts, property.get("type").and_then(Value::as_str)) {
                (Some(texts), _) if !texts.is_empty() => {
                    texts.iter().map(|text| Value::from(*text).to_string()).collect::<Vec<_>>().join(" | ")
                }
                (_, Some("string")) => format!("(/[^\\x{{{:x}}}]+/)?", u32::from(self.end)),
                _ => {
                    let mut property = property.clone();
                    for defs in ["$defs", "definitions"] {
                        if let (Some(map), Some(root)) = (property.as_object_mut(), schema.get(defs)) {
                            map.insert(defs.into(), root.clone());
                        }
                    }
                    format!("%json {}", options(&property)?)
                }
            };
            let before = literal(&format!("{}{key}{}", self.before, self.between));
            let after = literal(&format!("{}{}", self.after, self.gap));
            let is_required = required.is_some_and(|list| list.iter().any(|name| name == key));
            let mark = if is_required { "" } else { "?" };
            let _ = write!(rule, " ({before} ({value}) {after}){mark}");
        }
        Ok(rule)
    }
}

/// A schema with the parser's options.
fn options(schema: &Value) -> Result<Value, String> {
    let mut schema = schema.clone();
    let map = schema.as_object_mut().ok_or("a schema of a tool is an object")?;
    if map.contains_key("x-guidance") {
        return Err("x-guidance is not allowed".into());
    }
    map.insert("x-guidance".into(), json!({ "whitespace_pattern": WHITE_SPACE }));
    Ok(schema)
}

/// A text in a grammar. Control tokens, and others in angle brackets, are named by their ids.
fn literal(tokenizer: &Tokenizer, text: &str) -> String {
    let mut parts = Vec::new();
    let mut from = 0;
    let quote = |text: &str| match text.is_empty() {
        true => None,
        false => Some(Value::from(text).to_string()),
    };
    for (start, end) in tokenizer.markers_in(text) {
        let marker = &text[start..end];
        let Some(id) = tokenizer.id_of(marker) else { continue };
        if tokenizer.is_control(id) || marker.starts_with('<') {
            parts.extend(quote(&text[from..start]));
            parts.push(format!("<[{id}]>"));
            from = end;
        }
    }
    parts.extend(quote(&text[from..]));
    parts.join(" ")
}
