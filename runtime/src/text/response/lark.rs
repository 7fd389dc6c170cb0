//! Grammars for answers with tool calls, made from what the chat template writes: for an answer that must be
//! a call, and for one that may have calls among other text.

mod free;
mod nested;
mod tagged;

use super::schema::Problem;
use super::shape::{Around, Shape};
use super::{Reasoning, Tool, Tools};
use crate::text::grammar::{WHITE_SPACE, is_named};
use crate::text::{Tokenizer, ToolUse};
use serde_json::{Value, json};
use std::cell::OnceCell;
use std::fmt::Write as _;
use thiserror::Error;

/// What an answer must be, where it calls a tool.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Tools that may be called.
    pub tools: &'a Tools,
    /// What it is if it is no call.
    pub otherwise: Otherwise<'a>,
    /// How the model marks its reasoning.
    pub reasoning: Option<&'a Reasoning>,
    /// Whether the prompt has opened it.
    pub is_reasoning: bool,
}

/// What an answer is that is no call.
#[derive(Clone, Copy, Debug)]
pub enum Otherwise<'a> {
    /// It is one.
    Nothing,
    /// JSON that fits this schema.
    Json(&'a Value),
    /// Any text, in which there may be calls. Only those of strict tools are held to their schemas.
    Text,
}

/// Why there is no grammar.
#[derive(Clone, Debug, Error)]
pub enum NoGrammar {
    /// The model's format is not known well enough.
    #[error(
        "calls of this model cannot be required, and not be `strict`: its chat template does not show how it \
         writes them"
    )]
    Unknown,
    /// A schema cannot be held.
    #[error("tool {tool:?}: {problem}")]
    Schema {
        /// Whose schema it is.
        tool: String,
        /// What is wrong with it.
        problem: Problem,
    },
}

impl Wanted<'_> {
    /// The grammar in llguidance's dialect of Lark.
    pub fn lark(&self, tool_use: &ToolUse, tokenizer: &Tokenizer) -> Result<String, NoGrammar> {
        let shape = Shape::of(&tool_use.calls, &tool_use.written, &tool_use.written_two);
        let shape = shape.ok_or(NoGrammar::Unknown)?;
        let mut lark = Lark { tokenizer, named: OnceCell::new(), rules: String::new(), n: 0 };
        let think = match self.reasoning.filter(|_| self.is_reasoning) {
            Some(reasoning) => lark.reasoning(&reasoning.close),
            None => "\"\"".into(),
        };
        let start = match self.otherwise {
            Otherwise::Text => {
                let forms = lark.forms(&tool_use.calls, &shape, self.tools, true)?;
                lark.free(&tool_use.calls, &forms, self.tools, self.reasoning)
            }
            Otherwise::Nothing | Otherwise::Json(_) => {
                let forms = lark.forms(&tool_use.calls, &shape, self.tools, false)?;
                let begins = |form: &Form| match tool_use.calls.keeps_open() {
                    true => String::new(),
                    false => lark.literal(&form.open),
                };
                let mut choices: Vec<String> =
                    forms.iter().map(|form| format!("{} {}", begins(form), form.rest)).collect();
                if let Otherwise::Json(schema) = self.otherwise {
                    choices.push(format!("%json {}", options(schema.clone(), &Value::Null)));
                }
                match self.is_reasoning {
                    true => format!("\"\\n\\n\"? ({})", choices.join(" | ")),
                    false => choices.join(" | "),
                }
            }
        };
        Ok(format!("start: {think} ({start})\n{}", lark.rules))
    }
}

/// A section of calls: a marker that begins it, and the rest as a rule.
struct Form {
    open: String,
    rest: String,
}

/// A part of a literal text.
#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Token(u32),
}

/// A grammar that is being written.
struct Lark<'a> {
    tokenizer: &'a Tokenizer,
    /// Tokens that must be named, once they are asked for.
    named: OnceCell<Vec<u32>>,
    rules: String,
    /// Rules with a number as a name.
    n: usize,
}

/// Any text, as a part of a terminal.
const ANY: &str = "/(?s:.*)/";

/// gpt-oss's model writes calls in another way than its template: what is between the name and the arguments.
const CHANNEL: (&str, &str) = ("<|channel|>commentary to=", " <|constrain|>json<|message|>");

impl Lark<'_> {
    /// Adds a rule. Returns its name.
    fn rule(&mut self, body: &str) -> String {
        self.n += 1;
        let _ = writeln!(self.rules, "r{}: {body}", self.n);
        format!("r{}", self.n)
    }

    /// Adds a terminal. Returns its name.
    fn terminal(&mut self, body: &str) -> String {
        self.n += 1;
        let _ = writeln!(self.rules, "T{}: {body}", self.n);
        format!("T{}", self.n)
    }

    /// A text's parts: tokens that must be named, and what is between them.
    fn parts(&self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut from = 0;
        let quoted = |text: &str| (!text.is_empty()).then(|| Part::Text(text.into()));
        for (start, end) in self.tokenizer.markers_in(text) {
            let Some(id) = self.tokenizer.id_of(&text[start..end]).filter(|id| is_named(self.tokenizer, *id))
            else {
                continue;
            };
            parts.extend(quoted(&text[from..start]));
            parts.push(Part::Token(id));
            from = end;
        }
        parts.extend(quoted(&text[from..]));
        parts
    }

    /// A text in a rule.
    fn literal(&self, text: &str) -> String {
        rule_of(&self.parts(text))
    }

    /// A text that matches this terminal, and what ends it. If that is a text, the first one ends it.
    fn until(&mut self, terminal: &str, may_be_empty: bool, end: &str) -> String {
        let parts = self.parts(end);
        let mark = if may_be_empty { "?" } else { "" };
        match &parts[..] {
            [Part::Text(end)] => {
                let name = self.terminal(terminal);
                self.n += 1;
                let _ = writeln!(self.rules, "r{}[suffix={}]: {name}", self.n, quoted(end));
                format!("r{}", self.n)
            }
            [Part::Text(text), rest @ ..] => {
                let name = self.terminal(&format!("({terminal}) {}", quoted(text)));
                format!("{name} {}", rule_of(rest))
            }
            _ => {
                let name = self.terminal(&format!("({terminal}) & /(?s:.+)/"));
                format!("{name}{mark} {}", rule_of(&parts))
            }
        }
    }

    /// The rest of a reasoning, with what closes it.
    fn reasoning(&mut self, close: &str) -> String {
        let first = match self.parts(close).first() {
            Some(Part::Token(id)) => Some(*id),
            _ => None,
        };
        let text = self.terminal(&format!("/(?s:.+)/ & {}", without([close])));
        let others = self.specials(first.as_slice());
        let before = others.map(|others| format!("({text}? {others})* ")).unwrap_or_default();
        let end = self.until(&format!("{ANY} & {}", without([close])), true, close);
        self.rule(&format!("{before}{end}"))
    }

    /// Any of the tokens that must be named, but these and those that end an answer.
    fn specials(&self, but: &[u32]) -> Option<String> {
        let named = self.named.get_or_init(|| {
            let all = 0..self.tokenizer.vocab_size() as u32;
            all.filter(|id| is_named(self.tokenizer, *id)).collect()
        });
        let is_other = |id: &u32| !but.contains(id) && !self.tokenizer.stop_ids().contains(id);
        let ids = named.iter().copied().filter(is_other);
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for id in ids {
            match ranges.last_mut().filter(|(_, last)| last + 1 == id) {
                Some((_, last)) => *last = id,
                None => ranges.push((id, id)),
            }
        }
        let ranges: Vec<String> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        (!ranges.is_empty()).then(|| format!("<[{}]>", ranges.join(",")))
    }

    /// The ways in which a section can begin. Where text may come in place of it, it can have several calls,
    /// and tools that are not strict are called as the model likes.
    fn forms(
        &mut self,
        calls: &super::Calls,
        shape: &Shape,
        tools: &Tools,
        is_free: bool,
    ) -> Result<Vec<Form>, NoGrammar> {
        let mut bodies = Vec::new();
        for tool in tools.iter() {
            let loose = is_free && !tool.is_strict;
            let body = match &shape.arguments {
                Around::Tags(tags) if loose => Ok(self.any_arguments(tags)),
                Around::Tags(tags) => self.arguments(tool, tags),
                Around::Style(style) if loose => self.any_entries(style),
                Around::Style(style) => self.entries(&tool.parameters, style),
                Around::Json => {
                    let schema = if loose { json!({ "type": "object" }) } else { tool.parameters.clone() };
                    Ok(format!("%json {}", options(schema, &Value::Null)))
                }
            };
            let body = body.map_err(|problem| NoGrammar::Schema { tool: tool.name.clone(), problem })?;
            bodies.push(self.rule(&body));
        }
        let mut forms = Vec::new();
        for open in &calls.open {
            let (before, between, after) = match shape.before.strip_prefix(open.as_str()) {
                // What begins a section may be another text's beginning until the name has come.
                Some(_) if calls.keeps_open() => {
                    (shape.before.as_str(), shape.between.as_str(), shape.after.as_str())
                }
                Some(before) => (before, shape.between.as_str(), shape.after.as_str()),
                None if open.starts_with(CHANNEL.0) => ("", CHANNEL.1, ""),
                None => continue,
            };
            let first = self.choice(before, tools, &bodies, between);
            let more = match shape.later.as_ref().filter(|_| is_free) {
                Some(later) => format!("({})*", self.choice(&later.before, tools, &bodies, &later.between)),
                None => String::new(),
            };
            // A token that ends the answer is none of the grammar's.
            let is_end =
                |part: &Part| matches!(part, Part::Token(id) if self.tokenizer.stop_ids().contains(id));
            let after: Vec<Part> = self.parts(after).into_iter().take_while(|part| !is_end(part)).collect();
            let rest = format!("{first} {more} {}", rule_of(&after));
            forms.push(Form { open: open.clone(), rest: self.rule(&rest) });
        }
        Ok(forms)
    }

    /// One of the tools' names and its arguments.
    fn choice(&mut self, before: &str, tools: &Tools, bodies: &[String], between: &str) -> String {
        let one = |(tool, body): (&Tool, &String)| {
            format!("{} {body}", self.literal(&format!("{before}{}{between}", tool.name)))
        };
        let choices: Vec<String> = tools.iter().zip(bodies).map(one).collect();
        format!("({})", choices.join(" | "))
    }
}

/// A literal in a rule.
fn rule_of(parts: &[Part]) -> String {
    let shown = parts.iter().map(|part| match part {
        Part::Text(text) => quoted(text),
        Part::Token(id) => format!("<[{id}]>"),
    });
    if parts.is_empty() { "\"\"".into() } else { shown.collect::<Vec<_>>().join(" ") }
}

/// A text in quotes.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Texts in which none of these is, as a part of a terminal.
fn without<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let parts = texts.into_iter().map(|text| format!("~({ANY} {} {ANY})", quoted(text)));
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { ANY.into() } else { parts.join(" & ") }
}

/// A schema with the parser's options and with the definitions of what it is a part of.
fn options(schema: Value, root: &Value) -> Value {
    let mut map = match schema {
        Value::Object(map) => map,
        Value::Bool(false) => return Value::Bool(false),
        _ => serde_json::Map::new(),
    };
    for key in ["$schema", "$defs", "definitions"] {
        if let (Some(value), false) = (root.get(key), map.contains_key(key)) {
            map.insert(key.into(), value.clone());
        }
    }
    map.insert("x-guidance".into(), json!({ "whitespace_pattern": WHITE_SPACE }));
    Value::Object(map)
}
