//! Arguments whose values may be in each other and are not JSON: in literals, and in tags named by keys.

use super::super::arguments::Arguments;
use super::super::elements::ITEM;
use super::super::schema::{MAX_DEPTH, Problem, choices, resolve};
use super::super::shape::Style;
use super::super::values::{KINDS, Kinds, Way};
use super::tagged::{of_kinds, of_texts, python, texts};
use super::{ANY, Lark, quoted, without};
use serde_json::{Value, json};

/// Rules of a grammar at most.
const MAX_RULES: usize = 10_000;
/// Names without quotes.
const NAME: &str = "/[a-zA-Z_][a-zA-Z0-9_.-]*/";

/// What a value may be, as rules; and as terminals where it is bare text.
#[derive(Default)]
struct Forms {
    rules: Vec<String>,
    texts: Vec<String>,
    may_be_empty: bool,
}

impl Lark<'_> {
    /// The arguments of a tool, or what is in a map, in the schema's order.
    pub(super) fn entries(
        &mut self,
        schema: &Value,
        root: &Value,
        path: &str,
        style: &Style,
        depth: usize,
    ) -> Result<String, Problem> {
        let schema = match schema.get("$defs") {
            Some(_) => schema.clone(),
            // References are to the whole schema.
            None => with_definitions(schema, root),
        };
        let mut all = Vec::new();
        for mut arguments in Arguments::of(&schema)? {
            // Gemma's template sorts them, and so does its model.
            if let Style::Literals { is_python: false, .. } = style {
                arguments.properties.sort_by_key(|(key, ..)| key.to_lowercase());
            }
            let mut entries = Vec::new();
            for (key, schema, inner) in &arguments.properties {
                let is_plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
                if key.is_empty() || !key.chars().all(is_plain) {
                    return Err(Problem::new(inner, "this model's format of calls cannot write this name"));
                }
                let key = quoted(key);
                let entry = self.entry(&key, schema, root, inner, style, depth)?;
                entries.push((entry, arguments.required.contains(&unquoted(&key))));
            }
            let extra = schema.get("additionalProperties").filter(|extra| depth > 0 && extra.is_object());
            let free = depth > 0 && schema.get("properties").is_none() && extra.is_none();
            let more = match (extra, free && schema.get("additionalProperties") != Some(&Value::Bool(false)))
            {
                (Some(extra), _) => Some(self.entry(
                    NAME,
                    extra,
                    root,
                    &format!("{path}/additionalProperties"),
                    style,
                    depth,
                )?),
                (None, true) => Some(self.entry(NAME, &Value::Bool(true), root, path, style, depth)?),
                (None, false) => None,
            };
            all.push(self.in_order(&entries, more, style));
        }
        Ok(format!("({})", all.join(" | ")))
    }

    /// Any arguments.
    pub(super) fn any_entries(&mut self, style: &Style) -> Result<String, Problem> {
        let any = self.entry(NAME, &Value::Bool(true), &Value::Null, "#", style, 0)?;
        Ok(self.in_order(&[], Some(any), style))
    }

    /// Entries of which some may be missing, with what is between two of them, and then any number of others.
    fn in_order(&mut self, entries: &[(String, bool)], more: Option<String>, style: &Style) -> String {
        let gap = match style {
            Style::Literals { gap, .. } => self.literal(gap),
            Style::Elements(_) => "\"\"".into(),
        };
        // What may follow if nothing has come before, and if something has.
        let (mut first, mut next) = match more {
            Some(more) => (format!("({more} ({gap} {more})*)?"), format!("({gap} {more})*")),
            None => ("\"\"".to_string(), "\"\"".to_string()),
        };
        for (entry, is_required) in entries.iter().rev() {
            let rest = self.rule(&next);
            let or_not = |other: &str| if *is_required { String::new() } else { format!(" | {other}") };
            next = format!("({gap} {entry} {rest}{})", or_not(&rest));
            first = format!("({entry} {rest}{})", or_not(&first));
        }
        first
    }

    /// A key, which is a literal or a terminal, and a value.
    fn entry(
        &mut self,
        key: &str,
        schema: &Value,
        root: &Value,
        path: &str,
        style: &Style,
        depth: usize,
    ) -> Result<String, Problem> {
        match style {
            Style::Elements(mark) => {
                // A tag that is known may be a token.
                let (begin, end, more) = match serde_json::from_str::<String>(key) {
                    Ok(name) => {
                        (self.literal(&format!("{mark}<{name}>")), format!("{mark}</{name}>"), String::new())
                    }
                    Err(_) => {
                        let begin = format!("{} {key} \">\"", self.literal(&format!("{mark}<")));
                        (begin, format!("{mark}</"), format!("{key} \">\""))
                    }
                };
                let value = self.in_tag(schema, root, path, style, depth, (mark, &end))?;
                Ok(self.rule(&format!("{begin} {value} {more}")))
            }
            Style::Literals { assigns, is_python, .. } => {
                let value = self.value(schema, root, path, style, depth)?;
                // Maps in calls of Python have keys in quotes.
                let head = match *is_python && depth > 0 {
                    true => format!("(\"\\\"\" {key} \"\\\": \" | \"'\" {key} \"': \")"),
                    false => format!("{key} {}", self.literal(assigns)),
                };
                Ok(self.rule(&format!("{head} {value}")))
            }
        }
    }

    /// A value between tags, bare text or other tags, with what ends it.
    fn in_tag(
        &mut self,
        schema: &Value,
        root: &Value,
        path: &str,
        style: &Style,
        depth: usize,
        (mark, end): (&str, &str),
    ) -> Result<String, Problem> {
        if is_anything(schema) {
            let text = self.bare(ANY, true, mark, end);
            let end = self.literal(end);
            return Ok(format!("({text} | {} {end})", self.anything(style)));
        }
        let literal = self.literal(end);
        let forms = self.forms_of(schema, root, path, style, depth)?;
        let mut all: Vec<String> = forms.rules.iter().map(|rule| format!("{rule} {literal}")).collect();
        if !forms.texts.is_empty() {
            all.push(self.bare(&forms.texts.join(" | "), forms.may_be_empty, mark, end));
        }
        match all.is_empty() {
            true => Err(Problem::new(path, "no value fits it")),
            false => Ok(format!("({})", all.join(" | "))),
        }
    }

    /// Bare text, and what ends it.
    fn bare(&mut self, terminal: &str, may_be_empty: bool, mark: &str, end: &str) -> String {
        let all = format!("({terminal}) & {}", without([mark]));
        self.until(&all, may_be_empty, end)
    }

    fn value(
        &mut self,
        schema: &Value,
        root: &Value,
        path: &str,
        style: &Style,
        depth: usize,
    ) -> Result<String, Problem> {
        if is_anything(schema) {
            return Ok(self.anything(style));
        }
        let forms = self.forms_of(schema, root, path, style, depth)?;
        match forms.rules.is_empty() {
            true => Err(Problem::new(path, "no value fits it")),
            false => Ok(format!("({})", forms.rules.join(" | "))),
        }
    }

    /// What a value may be that fits a schema.
    fn forms_of(
        &mut self,
        schema: &Value,
        root: &Value,
        path: &str,
        style: &Style,
        depth: usize,
    ) -> Result<Forms, Problem> {
        if depth > MAX_DEPTH / 4 || self.n > MAX_RULES {
            return Err(Problem::new(path, "it is nested too deeply"));
        }
        let kinds = Kinds::of(schema, root);
        let mut forms = Forms::default();
        let ways: Vec<Way> = choices(schema, root, path)?;
        let scalars = kinds.without(Kinds::ARRAY.or(Kinds::OBJECT));
        if let Style::Literals { quotes, is_python, .. } = style {
            for way in ways.iter().filter(|way| way.kinds.has(Kinds::STRING) && kinds.has(Kinds::STRING)) {
                let Some(text) = of_texts(way, Kinds::STRING)? else { continue };
                let is_empty = way.is_free() || text == ANY;
                // A text of Python that needs escapes is one of JSON.
                let plain = if *is_python { " & ~(/(?s:.*)[\\\\\\n](?s:.*)/)" } else { "" };
                let text = format!("({text}){plain} & {}", without([quotes.1.as_str()]));
                let text = self.until(&text, is_empty, &quotes.1);
                forms.rules.push(format!("{} {text}", self.literal(&quotes.0)));
            }
            let mut as_json = scalars.and(Kinds::NUMBER);
            as_json = if *is_python { scalars.and(Kinds::NUMBER.or(Kinds::STRING)) } else { as_json };
            for kind in [Kinds::NUMBER, Kinds::STRING].into_iter().filter(|kind| as_json.has(*kind)) {
                forms.rules.push(format!("%json {}", of_kinds(kind, schema, root)));
            }
            for value in [Value::Null, Value::Bool(true), Value::Bool(false)] {
                if ways.iter().any(|way| way.allows(&value)) {
                    forms.rules.push(quoted(&value.to_string()));
                }
            }
            for kind in [Kinds::NULL, Kinds::BOOLEAN] {
                forms.rules.extend(python(kind, &ways).into_iter().map(quoted));
            }
        } else if scalars != Kinds::NONE {
            let (all, may_be_empty, as_json) = texts(&ways, kinds, path)?;
            forms.may_be_empty = may_be_empty;
            let is_here = |kind: Kinds| !Kinds::ARRAY.or(Kinds::OBJECT).has(kind);
            forms.texts.extend(all.into_iter().filter(|(kind, _)| is_here(*kind)).map(|(_, text)| text));
            for kind in KINDS.into_iter().filter(|kind| as_json.has(*kind) && is_here(*kind)) {
                forms.rules.push(format!("%json {}", of_kinds(kind, schema, root)));
            }
        }
        for kind in [Kinds::ARRAY, Kinds::OBJECT].into_iter().filter(|kind| kinds.has(*kind)) {
            for part in parts(schema, kind, root, path, 0)? {
                let rule = match kind {
                    Kinds::ARRAY => self.list(part, root, path, style, depth + 1)?,
                    _ => {
                        let entries = self.entries(part, root, path, style, depth + 1)?;
                        match style {
                            Style::Literals { .. } => format!("\"{{\" {entries} \"}}\""),
                            Style::Elements(_) => entries,
                        }
                    }
                };
                forms.rules.push(rule);
            }
        }
        Ok(forms)
    }

    fn list(
        &mut self,
        schema: &Value,
        root: &Value,
        path: &str,
        style: &Style,
        depth: usize,
    ) -> Result<String, Problem> {
        for keyword in ["prefixItems", "contains", "uniqueItems", "unevaluatedItems", "additionalItems"] {
            if schema.get(keyword).is_some_and(|value| value != false) {
                let problem = "lists in this model's format of calls cannot be held to it";
                return Err(Problem::new(&format!("{path}/{keyword}"), problem));
            }
        }
        let any = Value::Bool(true);
        let items = schema.get("items").unwrap_or(&any);
        let inner = format!("{path}/items");
        let number = |key: &str| schema.get(key).and_then(Value::as_u64);
        let (least, most) = (number("minItems").unwrap_or(0), number("maxItems"));
        if most == Some(0) || items == &Value::Bool(false) {
            return Ok(if let Style::Literals { .. } = style { "\"[]\"".into() } else { "\"\"".into() });
        }
        let many = |item: &str, least: u64, most: Option<u64>| match most {
            Some(most) => format!("({item}){{{least},{most}}}"),
            None => format!("({item}){{{least},}}"),
        };
        let item = match style {
            Style::Elements(_) => {
                let item = self.entry(&quoted(ITEM), items, root, &inner, style, depth)?;
                return Ok(many(&item, least, most));
            }
            Style::Literals { gap, .. } => {
                let value = self.value(items, root, &inner, style, depth)?;
                (self.rule(&value), self.literal(gap))
            }
        };
        let (item, gap) = item;
        let others = many(&format!("{gap} {item}"), least.saturating_sub(1), most.map(|most| most - 1));
        let mark = if least == 0 { "?" } else { "" };
        Ok(format!("\"[\" ({item} {others}){mark} \"]\""))
    }

    /// Any value, as a rule.
    fn anything(&mut self, style: &Style) -> String {
        self.n += 1;
        let name = format!("r{}", self.n);
        let body = match style {
            Style::Elements(mark) => {
                let begin = self.literal(&format!("{mark}<"));
                let end = self.literal(&format!("{mark}</"));
                let text = self.bare(ANY, true, mark, &format!("{mark}</"));
                format!("({begin} {NAME} \">\" ({text} | {name} {end}) {NAME} \">\")+")
            }
            Style::Literals { quotes, assigns, gap, is_python } => {
                let text = self.until(&format!("{ANY} & {}", without([quotes.1.as_str()])), true, &quotes.1);
                let (open, gap) = (self.literal(&quotes.0), self.literal(gap));
                let key = match is_python {
                    true => format!("%json {} \": \"", json!({ "type": "string" })),
                    false => format!("{NAME} {}", self.literal(assigns)),
                };
                let words = ["null", "true", "false", "None", "True", "False"].map(quoted).join(" | ");
                let number = format!("%json {}", json!({ "type": "number" }));
                let entry = format!("{key} {name}");
                let text = match is_python {
                    true => {
                        format!("%json {}", json!({ "type": "string" })) + " | " + &format!("{open} {text}")
                    }
                    false => format!("{open} {text}"),
                };
                format!(
                    "{text} | {number} | {words} | \"[\" ({name} ({gap} {name})*)? \"]\" | \
                     \"{{\" ({entry} ({gap} {entry})*)? \"}}\""
                )
            }
        };
        self.rules.push_str(&format!("{name}: {body}\n"));
        name
    }
}

fn is_anything(schema: &Value) -> bool {
    schema == &Value::Bool(true) || schema.as_object().is_some_and(|map| map.is_empty())
}

fn unquoted(key: &str) -> String {
    serde_json::from_str(key).unwrap_or_default()
}

/// A schema with the definitions of what it is a part of.
fn with_definitions(schema: &Value, root: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(map) = schema.as_object_mut() {
        for key in ["$defs", "definitions"] {
            if let (Some(value), false) = (root.get(key), map.contains_key(key)) {
                map.insert(key.into(), value.clone());
            }
        }
    }
    schema
}

/// The parts of a schema that lists or maps must fit, each of them one of several.
fn parts<'v>(
    schema: &'v Value,
    kind: Kinds,
    root: &'v Value,
    path: &str,
    depth: usize,
) -> Result<Vec<&'v Value>, Problem> {
    let Some(map) = schema.as_object() else { return Ok(vec![schema]) };
    let mut found: Vec<&Value> = Vec::new();
    for (key, value) in map {
        let inner: Vec<&Value> = match key.as_str() {
            "$ref" => resolve(root, value).into_iter().collect(),
            "anyOf" | "oneOf" => value.as_array().into_iter().flatten().collect(),
            "allOf" if value.as_array().is_some_and(|list| list.len() == 1) => {
                value.as_array().into_iter().flatten().collect()
            }
            "title" | "description" | "default" | "examples" | "type" | "$defs" | "definitions" => continue,
            "allOf" | "const" | "enum" => {
                let problem = "lists and maps in this model's format of calls cannot be held to it";
                return Err(Problem::new(&format!("{path}/{key}"), problem));
            }
            _ => {
                found.push(schema);
                continue;
            }
        };
        if depth >= MAX_DEPTH / 4 || !found.is_empty() {
            return Err(Problem::new(&format!("{path}/{key}"), "these parts cannot be put together"));
        }
        for one in inner.into_iter().filter(|one| Kinds::of(one, root).has(kind)) {
            found.extend(parts(one, kind, root, path, depth + 1)?);
        }
        if found.len() > 64 {
            return Err(Problem::new(&format!("{path}/{key}"), "there are too many ways to fit it"));
        }
        return Ok(found);
    }
    found.truncate(1);
    Ok(if found.is_empty() { vec![schema] } else { found })
}
