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

/// The schema of what may be anything.
static ANYTHING: Value = Value::Bool(true);

/// A schema that is being written down.
#[derive(Clone, Copy)]
struct Place<'p> {
    schema: &'p Value,
    /// What it is a part of, to which references refer.
    root: &'p Value,
    /// Where it is there.
    path: &'p str,
    style: &'p Style,
    /// Lists and maps around it.
    depth: usize,
}

impl<'p> Place<'p> {
    fn problem<T>(self, problem: &str) -> Result<T, Problem> {
        Err(Problem::new(self.path, problem))
    }

    /// A part of it.
    fn part(self, schema: &'p Value, path: &'p str) -> Self {
        Self { schema, path, ..self }
    }
}

/// What a value may be, as rules; and as terminals where it is bare text.
#[derive(Default)]
struct Forms {
    rules: Vec<String>,
    texts: Vec<String>,
    may_be_empty: bool,
}

impl Lark<'_> {
    /// The arguments of a tool, in the schema's order.
    pub(super) fn entries(&mut self, schema: &Value, style: &Style) -> Result<String, Problem> {
        self.map(Place { schema, root: schema, path: "#", style, depth: 0 })
    }

    /// Any arguments.
    pub(super) fn any_entries(&mut self, style: &Style) -> Result<String, Problem> {
        let any = Place { schema: &ANYTHING, root: &Value::Null, path: "#", style, depth: 0 };
        let any = self.entry(None, any)?;
        Ok(self.in_order(&[], Some(any), style))
    }

    /// What is in a map, or the arguments, which are one.
    fn map(&mut self, place: Place) -> Result<String, Problem> {
        let Place { schema, root, path, style, depth } = place;
        let additional = schema.get("additionalProperties");
        let inner = format!("{path}/additionalProperties");
        let more = match additional {
            // Arguments without a name in the schema are left out.
            _ if depth == 0 => None,
            Some(schema) if schema.is_object() => Some(place.part(schema, &inner)),
            Some(Value::Bool(false)) => None,
            _ if schema.get("properties").is_none() => Some(place.part(&ANYTHING, path)),
            _ => None,
        };
        let mut all = Vec::new();
        for mut arguments in Arguments::of(schema, root, path)? {
            // Gemma's template sorts them, and so does its model.
            if let Style::Literals { is_python: false, .. } = style {
                arguments.properties.sort_by_key(|(key, ..)| key.to_lowercase());
            }
            let mut entries = Vec::new();
            for (key, schema, inner) in &arguments.properties {
                let inner = place.part(schema, inner);
                let is_plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
                if key.is_empty() || !key.chars().all(is_plain) {
                    return inner.problem("this model's format of calls cannot write this name");
                }
                entries.push((self.entry(Some(key), inner)?, arguments.required.contains(key)));
            }
            let more = more.map(|more| self.entry(None, more)).transpose()?;
            all.push(self.in_order(&entries, more, style));
        }
        Ok(format!("({})", all.join(" | ")))
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

    /// A key (none: any name), and a value.
    fn entry(&mut self, key: Option<&str>, place: Place) -> Result<String, Problem> {
        let text = match place.style {
            Style::Elements(mark) => {
                // A tag that is known may be a token.
                let (begin, end, more) = match key {
                    Some(key) => {
                        (self.literal(&format!("{mark}<{key}>")), format!("{mark}</{key}>"), String::new())
                    }
                    None => {
                        let begin = format!("{} {NAME} \">\"", self.literal(&format!("{mark}<")));
                        (begin, format!("{mark}</"), format!("{NAME} \">\""))
                    }
                };
                format!("{begin} {} {more}", self.in_tag(place, mark, &end)?)
            }
            Style::Literals { assigns, is_python, .. } => {
                let value = self.value(place)?;
                let key = key.map_or(NAME.to_string(), quoted);
                // Maps in calls of Python have keys in quotes.
                match *is_python && place.depth > 0 {
                    true => format!("(\"\\\"\" {key} \"\\\": \" | \"'\" {key} \"': \") {value}"),
                    false => format!("{key} {} {value}", self.literal(assigns)),
                }
            }
        };
        Ok(self.rule(&text))
    }

    /// A value between tags, bare text or other tags, with what ends it.
    fn in_tag(&mut self, place: Place, mark: &str, end: &str) -> Result<String, Problem> {
        if is_anything(place.schema) {
            let text = self.bare(ANY, true, mark, end);
            let end = self.literal(end);
            return Ok(format!("({text} | {} {end})", self.anything(place.style)));
        }
        let literal = self.literal(end);
        let forms = self.forms_of(place)?;
        let mut all: Vec<String> = forms.rules.iter().map(|rule| format!("{rule} {literal}")).collect();
        if !forms.texts.is_empty() {
            all.push(self.bare(&forms.texts.join(" | "), forms.may_be_empty, mark, end));
        }
        one_of(&all, place)
    }

    /// Bare text, and what ends it.
    fn bare(&mut self, terminal: &str, may_be_empty: bool, mark: &str, end: &str) -> String {
        let all = format!("({terminal}) & {}", without([mark]));
        self.until(&all, may_be_empty, end)
    }

    fn value(&mut self, place: Place) -> Result<String, Problem> {
        if is_anything(place.schema) {
            return Ok(self.anything(place.style));
        }
        one_of(&self.forms_of(place)?.rules, place)
    }

    /// What a value may be that fits a schema.
    fn forms_of(&mut self, place: Place) -> Result<Forms, Problem> {
        let Place { schema, root, path, style, depth } = place;
        if depth > MAX_DEPTH / 4 || self.n > MAX_RULES {
            return place.problem("it is nested too deeply");
        }
        let kinds = Kinds::of(schema, root);
        let ways: Vec<Way> = choices(schema, root, path)?;
        let scalars = kinds.without(Kinds::NESTED);
        let mut forms = Forms::default();
        if let Style::Literals { quotes, is_python, .. } = style {
            forms.rules = self.literals(place, &ways, scalars, quotes, *is_python)?;
        } else if scalars != Kinds::NONE {
            let (all, may_be_empty, as_json) = texts(&ways, kinds, path)?;
            forms.may_be_empty = may_be_empty;
            forms
                .texts
                .extend(all.into_iter().filter(|(kind, _)| !Kinds::NESTED.has(*kind)).map(|(_, text)| text));
            for kind in KINDS.into_iter().filter(|kind| as_json.has(*kind) && !Kinds::NESTED.has(*kind)) {
                forms.rules.push(format!("%json {}", of_kinds(kind, schema, root)));
            }
        }
        for kind in [Kinds::ARRAY, Kinds::OBJECT].into_iter().filter(|kind| kinds.has(*kind)) {
            for part in parts(schema, kind, root, path, 0)? {
                let inner = Place { schema: part, depth: depth + 1, ..place };
                forms.rules.push(match (kind, style) {
                    (Kinds::ARRAY, _) => self.list(inner)?,
                    (_, Style::Literals { .. }) => format!("\"{{\" {} \"}}\"", self.map(inner)?),
                    (_, Style::Elements(_)) => self.map(inner)?,
                });
            }
        }
        Ok(forms)
    }

    /// Literals of values that are no lists and no maps.
    fn literals(
        &mut self,
        Place { schema, root, .. }: Place,
        ways: &[Way],
        kinds: Kinds,
        (open, close): &(String, String),
        is_python: bool,
    ) -> Result<Vec<String>, Problem> {
        let mut rules = Vec::new();
        for way in ways.iter().filter(|way| way.kinds.has(Kinds::STRING) && kinds.has(Kinds::STRING)) {
            let Some(text) = of_texts(way, Kinds::STRING)? else { continue };
            let is_empty = way.is_free() || text == ANY;
            // A text of Python that needs escapes is one of JSON.
            let plain = if is_python { " & ~(/(?s:.*)[\\\\\\n](?s:.*)/)" } else { "" };
            let text = format!("({text}){plain} & {}", without([close.as_str()]));
            let text = self.until(&text, is_empty, close);
            rules.push(format!("{} {text}", self.literal(open)));
        }
        let as_json = if is_python { Kinds::NUMBER.or(Kinds::STRING) } else { Kinds::NUMBER };
        for kind in [Kinds::NUMBER, Kinds::STRING].into_iter().filter(|kind| kinds.and(as_json).has(*kind)) {
            rules.push(format!("%json {}", of_kinds(kind, schema, root)));
        }
        for value in [Value::Null, Value::Bool(true), Value::Bool(false)] {
            if ways.iter().any(|way| way.allows(&value)) {
                rules.push(quoted(&value.to_string()));
            }
        }
        for kind in [Kinds::NULL, Kinds::BOOLEAN] {
            rules.extend(python(kind, ways).into_iter().map(quoted));
        }
        Ok(rules)
    }

    fn list(&mut self, place: Place) -> Result<String, Problem> {
        let Place { schema, path, style, .. } = place;
        for keyword in ["prefixItems", "contains", "uniqueItems", "unevaluatedItems", "additionalItems"] {
            if schema.get(keyword).is_some_and(|value| value != false) {
                let path = format!("{path}/{keyword}");
                return place
                    .part(schema, &path)
                    .problem("lists in this model's format of calls cannot be held to it");
            }
        }
        let inner = format!("{path}/items");
        let items = place.part(schema.get("items").unwrap_or(&ANYTHING), &inner);
        let number = |key: &str| schema.get(key).and_then(Value::as_u64);
        let (least, most) = (number("minItems").unwrap_or(0), number("maxItems"));
        if most == Some(0) || items.schema == &Value::Bool(false) {
            return Ok(if let Style::Literals { .. } = style { "\"[]\"".into() } else { "\"\"".into() });
        }
        let many = |item: &str, least: u64, most: Option<u64>| match most {
            Some(most) => format!("({item}){{{least},{most}}}"),
            None => format!("({item}){{{least},}}"),
        };
        match style {
            Style::Elements(_) => Ok(many(&self.entry(Some(ITEM), items)?, least, most)),
            Style::Literals { gap, .. } => {
                let value = self.value(items)?;
                let (item, gap) = (self.rule(&value), self.literal(gap));
                let others =
                    many(&format!("{gap} {item}"), least.saturating_sub(1), most.map(|most| most - 1));
                let mark = if least == 0 { "?" } else { "" };
                Ok(format!("\"[\" ({item} {others}){mark} \"]\""))
            }
        }
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
            Style::Literals { quotes: (open, close), assigns, gap, is_python } => {
                let text = self.until(&format!("{ANY} & {}", without([close.as_str()])), true, close);
                let text = format!("{} {text}", self.literal(open));
                let gap = self.literal(gap);
                let of_type = |name: &str| format!("%json {}", json!({ "type": name }));
                let (text, key) = match is_python {
                    true => {
                        (format!("{} | {text}", of_type("string")), format!("{} \": \"", of_type("string")))
                    }
                    false => (text, format!("{NAME} {}", self.literal(assigns))),
                };
                let words = ["null", "true", "false", "None", "True", "False"].map(quoted).join(" | ");
                let entry = format!("{key} {name}");
                format!(
                    "{text} | {} | {words} | \"[\" ({name} ({gap} {name})*)? \"]\" | \
                     \"{{\" ({entry} ({gap} {entry})*)? \"}}\"",
                    of_type("number")
                )
            }
        };
        self.rules.push_str(&format!("{name}: {body}\n"));
        name
    }
}

/// One of these, as there is one.
fn one_of(rules: &[String], place: Place) -> Result<String, Problem> {
    if rules.is_empty() { place.problem("no value fits it") } else { Ok(format!("({})", rules.join(" | "))) }
}

fn is_anything(schema: &Value) -> bool {
    schema == &Value::Bool(true) || schema.as_object().is_some_and(|map| map.is_empty())
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
