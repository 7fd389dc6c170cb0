//! Arguments in tags that they name, and which may be in each other: lists of `item` and maps.

use super::Tools;
use super::schema::{MAX_DEPTH, resolve};
use super::values::{Kinds, read};
use serde_json::Value;

/// Arguments that are being read.
#[derive(Debug)]
pub(super) struct Elements {
    /// What is before each tag.
    mark: String,
    /// Ends the call.
    end: String,
    /// What has come since the last tag.
    text: String,
    /// Elements that are open, each in the one before.
    open: Vec<Element>,
    has_ended: bool,
}

/// One of them.
#[derive(Debug, Default)]
struct Element {
    name: String,
    /// A value that is no list and no map.
    text: String,
    /// What is in it.
    inner: Vec<Element>,
}

impl Elements {
    pub fn new(mark: &str, end: &str) -> Self {
        Self { mark: mark.into(), end: end.into(), text: String::new(), open: Vec::new(), has_ended: false }
    }

    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes a character. Returns an argument that is complete, and the JSON of its value.
    pub fn push(&mut self, c: char, tools: &Tools, tool: &str) -> Option<(String, String)> {
        self.text.push(c);
        if self.open.is_empty() && self.text.ends_with(&self.end) {
            self.has_ended = true;
            return None;
        }
        let (before, tag) = self.text.strip_suffix('>')?.rsplit_once(&format!("{}<", self.mark))?;
        if !tag.starts_with('/') {
            // What is nested deeper is text.
            if self.open.len() < MAX_DEPTH {
                self.open.push(Element { name: tag.into(), ..Element::default() });
                self.text.clear();
            }
            return None;
        }
        let mut element = self.open.pop()?;
        element.text = before.into();
        self.text.clear();
        match self.open.last_mut() {
            Some(outer) => outer.inner.push(element),
            None => {
                let root = tools.schema_of(tool).cloned().unwrap_or(Value::Bool(true));
                let kinds = Kinds::of_argument(&root, &element.name, &root).unwrap_or(Kinds::ALL);
                let json = element.json(part(&root, &element.name, &root), kinds, &root);
                return Some((element.name, json));
            }
        }
        None
    }
}

impl Element {
    fn json(&self, schema: Option<&Value>, kinds: Kinds, root: &Value) -> String {
        let of = |inner: &Self, key: &str| {
            let schema = schema.and_then(|schema| part(schema, key, root));
            inner.json(schema, schema.map_or(Kinds::ALL, |schema| Kinds::of(schema, root)), root)
        };
        if self.inner.is_empty() {
            let other = self.text.is_empty() && !kinds.has(Kinds::STRING);
            return match other {
                true if kinds.has(Kinds::ARRAY) => "[]".into(),
                true if kinds.has(Kinds::OBJECT) => "{}".into(),
                _ => read(kinds, &self.text),
            };
        }
        let are_items = self.inner.iter().all(|inner| inner.name == ITEM);
        let is_list = kinds.has(Kinds::ARRAY) && (are_items || !kinds.has(Kinds::OBJECT));
        match is_list {
            true => {
                let items: Vec<String> = self.inner.iter().map(|inner| of(inner, ITEM)).collect();
                format!("[{}]", items.join(", "))
            }
            false => {
                let pair = |inner: &Self| {
                    format!("{}: {}", Value::from(inner.name.as_str()), of(inner, &inner.name))
                };
                let pairs: Vec<String> = self.inner.iter().map(pair).collect();
                format!("{{{}}}", pairs.join(", "))
            }
        }
    }
}

/// What elements of lists are called.
pub(super) const ITEM: &str = "item";

/// The schema of a property or of a list's elements.
fn part<'a>(schema: &'a Value, key: &str, root: &'a Value) -> Option<&'a Value> {
    part_at(schema, key, root, 0)
}

fn part_at<'a>(schema: &'a Value, key: &str, root: &'a Value, depth: usize) -> Option<&'a Value> {
    // A few levels of choices, each of which may refer to others.
    if depth > 4 {
        return None;
    }
    let inner = |schema: &'a Value| part_at(schema, key, root, depth + 1);
    let own = schema.get("properties").and_then(|properties| properties.get(key));
    let items = || schema.get("items").filter(|items| key == ITEM && items.is_object());
    let extra = || schema.get("additionalProperties").filter(|extra| extra.is_object());
    let listed = || {
        let lists = ["allOf", "anyOf", "oneOf"].iter().filter_map(|name| schema.get(name)?.as_array());
        lists.flatten().take(64).find_map(inner)
    };
    own.or_else(items).or_else(extra).or_else(|| inner(resolve(root, schema.get("$ref")?)?)).or_else(listed)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_have_the_types_of_the_schema() {
        let places =
            json!({ "anyOf": [{ "type": "null" }, { "type": "array", "items": { "$ref": "#/$defs/p" } }] });
        let schema = json!({
            "type": "object", "properties": { "city": { "type": "string" }, "places": places,
                "none": { "type": "array" } },
            "$defs": { "p": { "type": "object", "properties": { "id": { "type": "string" } } } }
        });
        let tools = Tools::new(&json!([{ "name": "f", "parameters": schema }])).unwrap();
        let text = "~<city>7~</city>~<places>~<item>~<id>8~</id>~<n>9~</n>~</item>~</places>~<none>~</none>\
                    ~<x>~<item>1~</item>~<item>a < b~</item>~</x>~</f>";
        let mut elements = Elements::new("~", "~</f>");
        let read: Vec<(String, String)> =
            text.chars().filter_map(|c| elements.push(c, &tools, "f")).collect();
        let expected = [
            ("city", r#""7""#),
            ("places", r#"[{"id": "8", "n": 9}]"#),
            ("none", "[]"),
            ("x", r#"[1, "a < b"]"#),
        ];
        assert_eq!(read, expected.map(|(key, json)| (key.to_string(), json.to_string())));
        assert!(elements.has_ended());
        // As deep as a hostile answer has them.
        let mut elements = Elements::new("~", "~</f>");
        let deep = "~<a>".repeat(100_000);
        assert_eq!(deep.chars().find_map(|c| elements.push(c, &tools, "f")), None);
        assert_eq!(elements.open.len(), MAX_DEPTH);
    }
}
