//! Arguments that a format writes between tags: texts as they are, other values as JSON.

use super::super::Tool;
use super::super::arguments::Arguments;
use super::super::pattern;
use super::super::schema::{Problem, choices};
use super::super::shape::Argument;
use super::super::values::{KINDS, Kinds, Way, read};
use super::{ANY, Lark, options, quoted, without};
use serde_json::{Value, json};

/// White space around a value, as it is left out where the value is read.
const SPACE: &str = "/\\s*/";
const NUMBER: &str = "/-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?/";
const INTEGER: &str = "/-?(0|[1-9][0-9]*)/";

impl Lark<'_> {
    /// The arguments of a tool, in the schema's order.
    pub(super) fn arguments(&mut self, tool: &Tool, shape: &Argument) -> Result<String, Problem> {
        let mut choices = Vec::new();
        for arguments in Arguments::of(&tool.parameters, &tool.parameters, "#")? {
            let mut rule = String::new();
            for (key, schema, path) in &arguments.properties {
                let (_, key_end) = &shape.tags.key;
                if key.contains(['<', '>', '"', '\n']) || key.is_empty() || key.contains(key_end.as_str()) {
                    return Err(Problem::new(path, "this model's format of calls cannot write this name"));
                }
                let value = self.argument(key, schema, &tool.parameters, path, shape)?;
                let mark = if arguments.required.contains(key) { "" } else { "?" };
                rule.push_str(&format!(" ({value} {}){mark}", self.literal(&shape.gap)));
            }
            choices.push(if rule.is_empty() { "\"\"".into() } else { rule });
        }
        Ok(choices.join(" | "))
    }

    /// Any arguments.
    pub(super) fn any_arguments(&mut self, shape: &Argument) -> String {
        let mut betweens: Vec<&str> = shape.between.iter().map(|(_, between)| between.as_str()).collect();
        betweens.sort_unstable();
        betweens.dedup();
        let value = self.raw(ANY, true, shape);
        let values: Vec<String> =
            betweens.iter().map(|between| format!("{} {value}", self.literal(between))).collect();
        let (before, gap) = (self.literal(&shape.before), self.literal(&shape.gap));
        format!("({before} /[^<>\"\\n]+/ ({}) {gap})*", values.join(" | "))
    }

    /// A text in its place: nothing in it ends it, and it is read as it is.
    fn raw(&mut self, terminal: &str, may_be_empty: bool, shape: &Argument) -> String {
        let mut all = format!("({terminal}) & {}", without([shape.tags.value.1.as_str()]));
        if !shape.has_lines {
            all.push_str(&format!(" & ~(\"\\n\" {ANY} \"\\n\") & ~(\"<![CDATA[\" {ANY} \"]]>\")"));
        }
        self.until(&all, may_be_empty, &shape.after)
    }

    /// An argument with its tags.
    fn argument(
        &mut self,
        key: &str,
        schema: &Value,
        root: &Value,
        path: &str,
        shape: &Argument,
    ) -> Result<String, Problem> {
        let begin =
            |lark: &Self, kind: Kinds| lark.literal(&format!("{}{key}{}", shape.before, shape.between(kind)));
        let kinds = Kinds::of(schema, root);
        let after = self.literal(&shape.after);
        let mut all = Vec::new();
        if !kinds.has(Kinds::STRING) {
            let ways: Vec<Way> = choices(schema, root, path).unwrap_or_default();
            for kind in KINDS.into_iter().filter(|kind| kinds.has(*kind)) {
                let mut values = vec![format!("%json {}", of_kinds(kind, schema, root))];
                values.extend(python(kind, &ways).into_iter().map(quoted));
                all.push(format!("{} ({}) {after}", begin(self, kind), values.join(" | ")));
            }
            return match all.is_empty() {
                true => Err(Problem::new(path, "no value fits it")),
                false => Ok(format!("({})", all.join(" | "))),
            };
        }
        let ways: Vec<Way> = choices(schema, root, path)?;
        let (texts, may_be_empty, as_json) = texts(&ways, kinds, path)?;
        // Terminals in the same place are one, or the longer one would win.
        let mut places: Vec<(Kinds, Vec<String>)> = Vec::new();
        for (kind, text) in texts {
            let is_here = |place: &&mut (Kinds, Vec<String>)| shape.between(place.0) == shape.between(kind);
            match places.iter_mut().find(is_here) {
                Some((_, texts)) => texts.push(text),
                None => places.push((kind, vec![text])),
            }
        }
        for (kind, texts) in places {
            let is_empty = may_be_empty && kind == Kinds::STRING;
            let text = self.raw(&texts.join(" | "), is_empty, shape);
            all.push(format!("{} {text}", begin(self, kind)));
        }
        for kind in KINDS.into_iter().filter(|kind| as_json.has(*kind)) {
            all.push(format!("{} %json {} {after}", begin(self, kind), of_kinds(kind, schema, root)));
        }
        Ok(format!("({})", all.join(" | ")))
    }
}

/// A schema for values of one kind.
pub(super) fn of_kinds(kind: Kinds, schema: &Value, root: &Value) -> Value {
    let types = json!({ "type": kind.names() });
    match schema == &Value::Bool(true) {
        true => options(types, root),
        false => options(json!({ "allOf": [types, schema] }), root),
    }
}

/// What Python writes for values of this kind that fit.
pub(super) fn python(kind: Kinds, ways: &[Way]) -> Vec<&'static str> {
    let all = [("None", Value::Null), ("True", Value::Bool(true)), ("False", Value::Bool(false))];
    let fits = |value: &Value| Kinds::of_value(value) == kind && ways.iter().any(|way| way.allows(value));
    all.into_iter().filter(|(_, value)| fits(value)).map(|(text, _)| text).collect()
}

/// Terminals, each for values of one kind.
pub(super) type Texts = Vec<(Kinds, String)>;

/// What can be written as bare text; whether a text may be empty; and the kinds of values that have no place
/// in a terminal.
pub(super) fn texts(ways: &[Way], kinds: Kinds, path: &str) -> Result<(Texts, bool, Kinds), Problem> {
    if ways.iter().any(Way::is_anything) {
        let all = [Kinds::STRING].into_iter().chain(KINDS);
        return Ok((all.map(|kind| (kind, ANY.to_string())).collect(), true, Kinds::NONE));
    }
    let of_numbers = || ways.iter().filter(|way| way.kinds.has(Kinds::NUMBER));
    let mut as_json = kinds.and(Kinds::ARRAY);
    for kind in [Kinds::OBJECT, Kinds::NUMBER] {
        let has_bounds = of_numbers().any(|way| way.is_bounded);
        if kinds.has(kind) && (kind != Kinds::NUMBER || has_bounds) {
            as_json = as_json.or(kind);
        }
    }
    // What would be read as another value is no text here.
    let mut not = String::new();
    for (kind, pattern) in [
        (Kinds::NULL, "(null|None)\\s*"),
        (Kinds::BOOLEAN, "(true|false|True|False)\\s*"),
        (Kinds::NUMBER, if as_json.has(Kinds::NUMBER) { "[-0-9](?s:.*)" } else { "-?[0-9][-+.eE0-9]*\\s*" }),
        (Kinds::ARRAY, "\\[(?s:.*)"),
        (Kinds::OBJECT, "\\{(?s:.*)"),
    ] {
        if kinds.has(kind) {
            not.push_str(&format!(" & ~({SPACE} /{pattern}/)"));
        }
    }
    let mut choices = Vec::new();
    let mut may_be_empty = false;
    for way in ways.iter().filter(|way| way.kinds.has(Kinds::STRING)) {
        let Some(one) = of_texts(way, kinds)? else { continue };
        may_be_empty |= way.is_free() || one == ANY;
        may_be_empty |= way.values.as_ref().is_some_and(|values| values.contains(&"".into()));
        let is_named = way.values.is_some();
        choices.push((Kinds::STRING, if is_named { format!("({one})") } else { format!("({one}{not})") }));
    }
    for value in [Value::Null, Value::Bool(true), Value::Bool(false)] {
        if ways.iter().any(|way| way.allows(&value)) {
            choices.push((Kinds::of_value(&value), quoted(&value.to_string())));
        }
    }
    for kind in [Kinds::NULL, Kinds::BOOLEAN] {
        choices.extend(python(kind, ways).into_iter().map(|text| (kind, quoted(text))));
    }
    for way in of_numbers().filter(|_| !as_json.has(Kinds::NUMBER)) {
        let texts = match &way.values {
            Some(values) => values
                .iter()
                .filter(|value| value.is_number())
                .map(|value| quoted(&value.to_string()))
                .collect(),
            None if way.is_integer => vec![INTEGER.to_string()],
            None => vec![NUMBER.to_string()],
        };
        choices.extend(texts.into_iter().map(|text| (Kinds::NUMBER, text)));
    }
    match choices.is_empty() && as_json == Kinds::NONE {
        true => Err(Problem::new(path, "no value that fits it can be written as bare text")),
        false => Ok((choices, may_be_empty, as_json)),
    }
}

/// Texts of one way to fit a schema; none if there are none.
pub(super) fn of_texts(way: &Way, kinds: Kinds) -> Result<Option<String>, Problem> {
    let mut all = Vec::new();
    if let Some(values) = &way.values {
        // Some would be read as something else.
        let is_read = |text: &&str| read(kinds, text) == quoted(text);
        let texts: Vec<String> =
            values.iter().filter_map(Value::as_str).filter(is_read).map(quoted).collect();
        if texts.is_empty() {
            return Ok(None);
        }
        all.push(format!("({})", texts.join(" | ")));
    }
    match way.max_length {
        Some(most) if most < way.min_length => return Ok(None),
        Some(most) => all.push(format!("/(?s:.{{{},{most}}})/", way.min_length)),
        None if way.min_length > 0 => all.push(format!("/(?s:.{{{},}})/", way.min_length)),
        None => {}
    }
    all.extend(way.patterns.iter().map(|pattern| format!("/{}/", pattern::search(pattern))));
    for (name, path) in &way.formats {
        let format =
            pattern::format(name).ok_or_else(|| Problem::new(path, format!("Unknown format: {name}")))?;
        all.push(format!("/{format}/"));
    }
    Ok(Some(if all.is_empty() { ANY.into() } else { all.join(" & ") }))
}
