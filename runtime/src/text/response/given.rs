//! Response templates, as Hugging Face's transformers has them: read as the same description that a chat
//! template shows. Patterns are not run; they are read as texts with white space and names between them.

mod markers;

use super::calls::{Dialect, Syntax, Tags, Written};
use super::{Calls, Content, Reasoning};
use markers::{Item, alternatives, texts};
use serde_json::{Map, Value};
use std::sync::Arc;
use thiserror::Error;

/// Bytes of a response template.
const MAX_BYTES: usize = 64 << 10;
/// What begins the calls of a section in a list.
const LIST: [&str; 2] = ["[", ","];

/// What is wrong with a response template, or not supported.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the response template cannot be used: `{key}`: {problem}")]
pub struct GivenProblem {
    /// Which key.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A response template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// How the model marks its reasoning; none if it is not said.
    pub reasoning: Option<Arc<Reasoning>>,
    /// How it marks its content.
    pub content: Arc<Content>,
    /// How it writes calls.
    pub calls: Option<Arc<Calls>>,
}

type Result<T> = std::result::Result<T, GivenProblem>;

fn problem<T>(key: impl Into<String>, problem: impl Into<String>) -> Result<T> {
    Err(GivenProblem { key: key.into(), problem: problem.into() })
}

impl Given {
    /// From its JSON.
    pub fn new(json: &str) -> Result<Self> {
        if json.len() > MAX_BYTES {
            return problem("response_template", format!("it is longer than {MAX_BYTES} bytes"));
        }
        // The parser for JSON has a limit for nesting.
        match serde_json::from_str(json) {
            Ok(Value::Object(map)) => Self::of_map(&map),
            Ok(_) => problem("response_template", "must be a JSON object"),
            Err(error) => problem("response_template", format!("it is no JSON: {error}")),
        }
    }

    fn of_map(map: &Map<String, Value>) -> Result<Self> {
        known(map, "", &["version", "defaults", "start_anchor", "start_anchor_pattern", "fields"])?;
        if map.get("version").is_some_and(|version| version != 1) {
            return problem("version", "only 1 is supported");
        }
        let none = Map::new();
        let defaults = match map.get("defaults") {
            None => &none,
            Some(Value::Object(defaults)) => defaults,
            Some(_) => return problem("defaults", "must be an object"),
        };
        let is_role = |(key, value): (&String, &Value)| key == "role" && value == "assistant";
        if let Some((key, _)) = defaults.iter().find(|entry| !is_role(*entry)) {
            return problem(format!("defaults.{key}"), "only the role `assistant` is supported");
        }
        // Where the answer begins is known; the prompt's end says what it has opened.
        Marker::of(map, "", "start_anchor")?;
        if !map.contains_key("start_anchor") && !map.contains_key("start_anchor_pattern") {
            return problem("start_anchor", "it is missing");
        }
        let Some(fields) = map.get("fields").and_then(Value::as_object).filter(|fields| !fields.is_empty())
        else {
            return problem("fields", "must be an object with fields");
        };
        let mut given = Self::default();
        let mut has_implicit = false;
        for (name, field) in fields {
            let path = format!("fields.{name}");
            let Some(field) = field.as_object() else { return problem(path, "must be an object") };
            let keys = [
                "open",
                "open_pattern",
                "close",
                "close_pattern",
                "content",
                "content_args",
                "repeats",
                "join",
                "optional",
                "transform",
                "transform_each",
            ];
            known(field, &path, &keys)?;
            if field.get("optional").is_some_and(|optional| optional != true) {
                return problem(format!("{path}.optional"), "fields may always be missing");
            }
            let open = Marker::of(field, &path, "open")?;
            let close = Marker::of(field, &path, "close")?;
            match name.as_str() {
                "thinking" | "reasoning_content" | "reasoning" if given.reasoning.is_none() => {
                    plain(field, &path)?;
                    given.reasoning = Some(reasoning(open, close, &path)?.into());
                }
                "content" => {
                    plain(field, &path)?;
                    has_implicit = open.is_none();
                    let open = open.map_or(Ok(Vec::new()), |open| open.all())?;
                    let close = close.map_or(Ok(Vec::new()), |close| close.all())?;
                    given.content = Content { open, close, is_marked: false }.into();
                }
                "tool_calls" => {
                    let Some(open) = open else { return problem(format!("{path}.open"), "it is missing") };
                    given.calls = Some(calls(field, &path, &open, close)?.into());
                }
                _ => return problem(path, "messages of this API have no such field, or have it twice"),
            }
        }
        // Without a field that has no marker, other text is left out.
        given.content = Content { is_marked: !has_implicit, ..(*given.content).clone() }.into();
        Ok(given)
    }
}

/// Refuses keys that are none of these.
fn known(map: &Map<String, Value>, path: &str, keys: &[&str]) -> Result<()> {
    match map.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => problem(format!("{path}.{key}").trim_start_matches('.'), "it is not supported"),
        None => Ok(()),
    }
}

/// A marker, literally or as a pattern.
struct Marker {
    key: String,
    alternatives: Vec<Vec<Item>>,
    pattern: Option<String>,
}

impl Marker {
    fn of(map: &Map<String, Value>, path: &str, name: &str) -> Result<Option<Self>> {
        let full = |name: &str| format!("{path}.{name}").trim_start_matches('.').to_string();
        let of_pattern = format!("{name}_pattern");
        let (key, pattern) = (full(name), full(&of_pattern));
        match (map.get(name), map.get(&of_pattern)) {
            (Some(_), Some(_)) => problem(pattern, format!("there is `{key}`, too")),
            (None, None) => Ok(None),
            (Some(literal), None) => {
                let list = match literal {
                    Value::Array(list) => list.clone(),
                    one => vec![one.clone()],
                };
                let texts = list.iter().map(|text| text.as_str().filter(|text| !text.trim().is_empty()));
                let texts: Option<Vec<&str>> = texts.collect();
                let Some(texts) = texts.filter(|texts| (1..=16).contains(&texts.len())) else {
                    return problem(key, "must be a text or a list of up to 16 texts");
                };
                let alternatives = texts.iter().map(|text| vec![Item::Text(text.to_string())]).collect();
                Ok(Some(Self { key, alternatives, pattern: None }))
            }
            (None, Some(Value::String(text))) => {
                let is_anchor = name == "start_anchor";
                let looks_ahead = looked_for(text).is_some();
                match alternatives(text) {
                    Some(alternatives) => {
                        Ok(Some(Self { key: pattern, alternatives, pattern: Some(text.clone()) }))
                    }
                    None if is_anchor || looks_ahead => {
                        Ok(Some(Self { key: pattern, alternatives: Vec::new(), pattern: Some(text.clone()) }))
                    }
                    None => problem(pattern, "such patterns are not supported"),
                }
            }
            (None, Some(_)) => problem(pattern, "must be a text"),
        }
    }

    /// All texts of which each is the marker.
    fn all(&self) -> Result<Vec<String>> {
        let all =
            self.alternatives.iter().filter(|items| !items.is_empty()).map(|items| match &texts(items)[..] {
                [text] => Ok(text.trim().to_string()),
                _ => problem(self.key.as_str(), "it must be one text, with white space around it"),
            });
        all.collect()
    }

    fn one(&self) -> Result<String> {
        match &self.all()?[..] {
            [one] => Ok(one.clone()),
            _ => problem(self.key.as_str(), "there must be one"),
        }
    }
}

/// What a pattern looks ahead for, which is that some text comes later.
fn looked_for(pattern: &str) -> Option<&str> {
    let inner = pattern.strip_prefix("(?=")?.strip_suffix(')')?;
    ["[\\s\\S]*?", "[\\s\\S]*", ".*?", ".*"].iter().find_map(|any| inner.strip_prefix(any))
}

fn reasoning(open: Option<Marker>, close: Option<Marker>, path: &str) -> Result<Reasoning> {
    let Some(open) = open else { return problem(format!("{path}.open"), "it is missing") };
    let Some(close) = close else { return problem(format!("{path}.close"), "it is missing") };
    let close = close.one()?;
    // The prompt has opened it, if it will be closed.
    let open = match open.pattern.as_deref().and_then(looked_for) {
        Some(later) if later == close => String::new(),
        _ => open.one()?,
    };
    Ok(Reasoning { open, close, ..Reasoning::default() })
}

/// Checks that a field's content is a text.
fn plain(field: &Map<String, Value>, path: &str) -> Result<()> {
    let refused = |key: &str, is_right: fn(&Value) -> bool| match field.get(key) {
        Some(value) if !is_right(value) => problem(format!("{path}.{key}"), "this field can only be a text"),
        _ => Ok(()),
    };
    refused("content", |value| value == "text")?;
    refused("transform", Value::is_null)?;
    refused("transform_each", |value| value == false)?;
    refused("join", |value| value.is_null() || value == "")?;
    match field.get("content_args").and_then(Value::as_object) {
        Some(args) => known(args, &format!("{path}.content_args"), &["strip"]),
        None => Ok(()),
    }
}

/// Names in a transform: of a call's name and its arguments.
fn transform(field: &Map<String, Value>, path: &str) -> Result<Option<(String, String)>> {
    let key = format!("{path}.transform");
    let function = field.get("transform").and_then(|transform| transform.get("function"));
    let name_of = |value: Option<&Value>| {
        let text = value?.as_str()?.strip_prefix('{')?.strip_suffix('}')?;
        Some(text.to_string())
    };
    match function {
        Some(Value::String(whole)) if whole == "{content}" => Ok(None),
        Some(function @ Value::Object(_)) => {
            match (name_of(function.get("name")), name_of(function.get("arguments"))) {
                (Some(name), Some(arguments)) => Ok(Some((name, arguments))),
                _ => problem(key, "`function` must have `name` and `arguments` that stand for what was read"),
            }
        }
        _ => problem(key, "must have a `function`"),
    }
}

fn calls(field: &Map<String, Value>, path: &str, open: &Marker, close: Option<Marker>) -> Result<Calls> {
    let names = transform(field, path)?;
    let empty = Map::new();
    let args = field.get("content_args").and_then(Value::as_object).unwrap_or(&empty);
    let args_path = format!("{path}.content_args");
    // What ends a section is the last text; what is before that ends a call.
    let closes: Vec<Vec<String>> =
        close.iter().flat_map(|close| close.alternatives.iter().map(|items| texts(items))).collect();
    let (after, close) = match &closes[..] {
        [] => (String::new(), String::new()),
        [one, ..] => {
            let last = one.last().map_or("", |text| text.trim());
            let first = if one.len() > 1 { one[0].trim() } else { "" };
            (first.to_string(), last.to_string())
        }
    };
    let content = field.get("content").and_then(Value::as_str).unwrap_or("text");
    if content == "python-call-list" {
        known(args, &args_path, &[])?;
        let syntax = Syntax::Named {
            before: LIST.map(String::from).to_vec(),
            ends: "(".into(),
            after: String::new(),
            arguments: Written::Literals(Dialect::python()),
        };
        return Ok(Calls { open: open.all()?, close, at_start: false, only_tools: false, syntax });
    }
    let by_content = |name: &str| name.strip_prefix("content.").unwrap_or(name).to_string();
    let is_named = |name: &str| {
        let has = |item: &Item| matches!(item, Item::Group(group, _) if group == name);
        open.alternatives.iter().flatten().any(has)
    };
    let Some((name, _)) = names.as_ref().filter(|(name, _)| is_named(name)) else {
        if content != "json" {
            return problem(
                format!("{path}.content"),
                "without a name in `open_pattern`, only `json` is supported",
            );
        }
        known(args, &args_path, &[])?;
        let (name, arguments) = names.unwrap_or(("name".into(), "arguments".into()));
        let syntax = Syntax::Json { name: by_content(&name), arguments: by_content(&arguments) };
        return Ok(Calls { open: open.all()?, close, at_start: false, only_tools: false, syntax });
    };
    let [items] = &open.alternatives[..] else {
        return problem(open.key.as_str(), "such patterns are not supported");
    };
    if let Some(calls) = bare(items, name) {
        return Ok(calls);
    }
    let is_here = |item: &Item| matches!(item, Item::Group(group, _) if group == name);
    let at = items.iter().position(is_here).unwrap_or_default();
    let before = texts(&items[..at]);
    let (Some(begins), Some(Item::Group(_, body))) = (before.first(), items.get(at)) else {
        return problem(open.key.as_str(), "a text must be before the name");
    };
    let mut ends = markers::ends(body);
    let following = items[at + 1..].iter().find_map(|item| match item {
        Item::Text(text) => text.chars().next(),
        _ => None,
    });
    ends.extend(following);
    let arguments = match content {
        "json" => {
            known(args, &args_path, &["unquoted_keys", "string_delims", "allow_non_json"])?;
            json_arguments(args, &args_path)?
        }
        "xml-inline" => {
            known(args, &args_path, &["tag_pattern", "value_parser"])?;
            Written::Tags(tags(args, &args_path)?)
        }
        _ => return problem(format!("{path}.content"), format!("{content:?} is not supported for calls")),
    };
    if ends.is_empty() {
        return problem(open.key.as_str(), "what ends the name is not known");
    }
    let inner = before.get(1..).and_then(|rest| rest.last()).map(|text| text.trim().to_string());
    let syntax = Syntax::Named { before: inner.into_iter().collect(), ends, after, arguments };
    let open = vec![begins.trim().to_string()];
    Ok(Calls { open, close, at_start: false, only_tools: false, syntax })
}

/// A JSON object whose beginning the pattern spells, as Llama 3's.
fn bare(items: &[Item], name: &str) -> Option<Calls> {
    let part = |item: &Item| match item {
        Item::Text(text) => text.clone(),
        Item::Group(group, _) if group == name => "\u{1}".into(),
        _ => String::new(),
    };
    let begins: String = items.iter().map(part).collect();
    let json: Value = serde_json::from_str(&format!("{}null}}", begins.replace('\u{1}', "it"))).ok()?;
    let map = json.as_object().filter(|map| map.len() == 2)?;
    let key = map.iter().find(|(_, value)| *value == "it")?.0.clone();
    let arguments = map.keys().find(|other| **other != key)?.clone();
    let syntax = Syntax::Json { name: key.clone(), arguments };
    let open = vec![format!("{{{}:", Value::from(key))];
    Some(Calls { open, close: String::new(), at_start: true, only_tools: true, syntax })
}

fn json_arguments(args: &Map<String, Value>, path: &str) -> Result<Written> {
    let pair = |pair: &Value| {
        let texts: Vec<&str> = pair.as_array()?.iter().filter_map(Value::as_str).collect();
        let [open, close] = texts[..] else { return None };
        (!open.is_empty() && !close.is_empty()).then(|| (open.to_string(), close.to_string()))
    };
    let quotes: Option<Vec<(String, String)>> = match args.get("string_delims") {
        None => Some(Vec::new()),
        Some(list) => {
            list.as_array().filter(|list| list.len() <= 8).and_then(|list| list.iter().map(pair).collect())
        }
    };
    let Some(quotes) = quotes else {
        return problem(format!("{path}.string_delims"), "must be a list of up to 8 pairs of texts");
    };
    let is_json = quotes.is_empty() && args.get("unquoted_keys").is_none_or(|unquoted| unquoted == false);
    Ok(if is_json { Written::Json } else { Written::Literals(Dialect::object(quotes)) })
}

fn tags(args: &Map<String, Value>, path: &str) -> Result<Tags> {
    let key = format!("{path}.tag_pattern");
    let Some(pattern) = args.get("tag_pattern").and_then(Value::as_str) else {
        return problem(key, "it is missing");
    };
    // Values get the types of the tool's schema.
    let parser = args.get("value_parser").and_then(|parser| parser.get("name")).and_then(Value::as_str);
    if parser.is_some_and(|parser| !["text", "json"].contains(&parser)) {
        return problem(format!("{path}.value_parser"), "only `text` and `json` are supported");
    }
    let delims = args.get("value_parser").and_then(|parser| parser.get("args"));
    if let Some(Value::Object(args)) = delims {
        known(args, &format!("{path}.value_parser.args"), &["allow_non_json", "strip"])?;
    }
    let all = alternatives(pattern).unwrap_or_default();
    let [items] = &all[..] else { return problem(key, "such patterns are not supported") };
    let group =
        |name: &str| items.iter().position(|item| matches!(item, Item::Group(group, _) if group == name));
    let (Some(k), Some(v)) = (group("key"), group("value")) else {
        return problem(key, "must have the groups `key` and `value`");
    };
    if k > v {
        return problem(key, "the key must be before the value");
    }
    let trimmed =
        |items: &[Item]| texts(items).iter().map(|text| text.trim().to_string()).collect::<Vec<_>>();
    let (before, between, after) =
        (trimmed(&items[..k]), trimmed(&items[k + 1..v]), trimmed(&items[v + 1..]));
    match (&before[..], &between[..], &after[..]) {
        ([begin], [key_end], [end]) => {
            Ok(Tags { key: (begin.clone(), key_end.clone()), value: (String::new(), end.clone()) })
        }
        ([begin], [key_end, value_begin], [end]) => {
            Ok(Tags { key: (begin.clone(), key_end.clone()), value: (value_begin.clone(), end.clone()) })
        }
        _ => problem(key, "such patterns are not supported"),
    }
}
