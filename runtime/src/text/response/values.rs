//! What a JSON Schema says about values that a format writes as bare text, between tags: which kinds of
//! values a text may mean, and which texts are right.

use super::schema::{Choice, MAX_DEPTH, Problem, escaped, resolve};
use serde_json::{Map, Value};
use std::cell::Cell;

/// Parts of a schema that are read for the kinds that it allows.
const MAX_PARTS: usize = 10_000;

/// Kinds of JSON values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds(u8);

/// All of them but texts.
pub(super) const KINDS: [Kinds; 5] =
    [Kinds::NUMBER, Kinds::BOOLEAN, Kinds::NULL, Kinds::ARRAY, Kinds::OBJECT];

impl Kinds {
    pub const NONE: Self = Self(0);
    pub const NULL: Self = Self(1);
    pub const BOOLEAN: Self = Self(2);
    pub const NUMBER: Self = Self(4);
    pub const STRING: Self = Self(8);
    pub const ARRAY: Self = Self(16);
    pub const OBJECT: Self = Self(32);
    pub const ALL: Self = Self(63);
    /// Those that have others in them.
    pub const NESTED: Self = Self(Self::ARRAY.0 | Self::OBJECT.0);

    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn named(name: &str) -> Self {
        match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "number" | "integer" => Self::NUMBER,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self::NONE,
        }
    }

    pub fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(_) => Self::NUMBER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    /// The names of these kinds in a schema.
    pub fn names(self) -> Vec<&'static str> {
        let all = ["null", "boolean", "number", "string", "array", "object"];
        all.into_iter().filter(|name| self.has(Self::named(name))).collect()
    }

    fn of_type(value: &Value) -> Self {
        match value {
            Value::String(name) => Self::named(name),
            Value::Array(names) => {
                names.iter().filter_map(Value::as_str).fold(Self::NONE, |all, name| all.or(Self::named(name)))
            }
            _ => Self::ALL,
        }
    }

    /// The kinds that a schema allows, or more.
    pub fn of(schema: &Value, root: &Value) -> Self {
        Self::at_depth(schema, root, 0, &Cell::new(MAX_PARTS))
    }

    fn at_depth(schema: &Value, root: &Value, depth: usize, left: &Cell<usize>) -> Self {
        let Some(map) = schema.as_object().filter(|_| may_descend(depth, left)) else {
            return if schema == &Value::Bool(false) { Self::NONE } else { Self::ALL };
        };
        let inner = |schema: &Value| Self::at_depth(schema, root, depth + 1, left);
        let union = |list: &Value, kinds: &dyn Fn(&Value) -> Self| {
            list.as_array()
                .map_or(Self::ALL, |list| list.iter().fold(Self::NONE, |all, one| all.or(kinds(one))))
        };
        map.iter().fold(Self::ALL, |kinds, (key, value)| {
            kinds.and(match key.as_str() {
                "type" => Self::of_type(value),
                "const" => Self::of_value(value),
                "enum" => union(value, &Self::of_value),
                "anyOf" | "oneOf" => union(value, &inner),
                "allOf" => {
                    value.as_array().into_iter().flatten().fold(Self::ALL, |all, one| all.and(inner(one)))
                }
                "$ref" => resolve(root, value).map_or(Self::ALL, inner),
                _ => Self::ALL,
            })
        })
    }

    /// The kinds of an argument of this name, for the schema of all arguments; none if it says nothing.
    pub fn of_argument(schema: &Value, key: &str, root: &Value) -> Option<Self> {
        Self::of_argument_at(schema, key, root, 0, &Cell::new(MAX_PARTS))
    }

    fn of_argument_at(
        schema: &Value,
        key: &str,
        root: &Value,
        depth: usize,
        left: &Cell<usize>,
    ) -> Option<Self> {
        let map = schema.as_object().filter(|_| may_descend(depth, left))?;
        let inner = |schema: &Value| Self::of_argument_at(schema, key, root, depth + 1, left);
        let both = |a: Option<Self>, b: Option<Self>| a.map_or(b, |a| Some(b.map_or(a, |b| a.and(b))));
        let list = |value: &Value| -> Vec<Option<Self>> {
            value.as_array().into_iter().flatten().map(inner).collect()
        };
        let own = map.get("properties").and_then(|properties| properties.get(key));
        let own = own.or(map.get("additionalProperties").filter(|extra| extra.is_object()));
        let own = own.map(|property| Self::at_depth(property, root, 0, left));
        map.iter().fold(own, |kinds, (keyword, value)| {
            let more = match keyword.as_str() {
                "$ref" => resolve(root, value).and_then(inner),
                "allOf" => list(value).into_iter().fold(None, both),
                "anyOf" | "oneOf" => list(value).into_iter().flatten().reduce(Self::or),
                _ => None,
            };
            both(kinds, more)
        })
    }
}

/// Whether a part of a schema is read. Parts that refer to each other could be read for ever.
fn may_descend(depth: usize, left: &Cell<usize>) -> bool {
    let may = depth < MAX_DEPTH && left.get() > 0;
    left.set(left.get().saturating_sub(1));
    may
}

/// The JSON that a bare text means where these kinds are allowed. What is not sure to be of another kind is a
/// text.
pub(super) fn read(kinds: Kinds, text: &str) -> String {
    let trimmed = text.trim();
    let json = match trimmed {
        "True" => "true",
        "False" => "false",
        "None" => "null",
        other => other,
    };
    let kind = serde_json::from_str::<Value>(json).map_or(Kinds::NONE, |value| Kinds::of_value(&value));
    // Quotes mean a text of JSON only where the schema says nothing.
    let is_text =
        if kinds == Kinds::ALL { kind == Kinds::NONE } else { !kinds.without(Kinds::STRING).has(kind) };
    let must_be_json = !kinds.has(Kinds::STRING) && kind != Kinds::NONE;
    if is_text && !must_be_json { Value::from(text).to_string() } else { json.to_string() }
}

/// Keywords that say something about a value of any kind and cannot be followed.
const STRANGE: &[&str] = &["not", "if", "$dynamicRef", "$recursiveRef"];

/// Keywords about arrays and objects.
const SHAPES: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "items",
    "maxItems",
    "maxProperties",
    "minItems",
    "minProperties",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "required",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

fn unheld(path: &str, keyword: &str) -> Problem {
    let problem = "this model's format of calls has arguments as bare text, which cannot be held to it";
    Problem::new(&format!("{path}/{}", escaped(keyword)), problem)
}

/// One way to fit a schema.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub kinds: Kinds,
    /// The only values.
    pub values: Option<Vec<Value>>,
    pub min_length: u64,
    pub max_length: Option<u64>,
    pub patterns: Vec<String>,
    /// Formats of texts, with their paths.
    pub formats: Vec<(String, String)>,
    pub is_integer: bool,
    /// Whether numbers have bounds.
    pub is_bounded: bool,
    /// Whether it says something about arrays or objects.
    pub is_shaped: bool,
}

impl Way {
    fn and(&self, other: &Self) -> Self {
        let values = match (&self.values, &other.values) {
            (Some(a), Some(b)) => Some(a.iter().filter(|value| b.contains(value)).cloned().collect()),
            (a, b) => a.clone().or(b.clone()),
        };
        Self {
            kinds: self.kinds.and(other.kinds),
            values,
            min_length: self.min_length.max(other.min_length),
            max_length: [self.max_length, other.max_length].into_iter().flatten().min(),
            patterns: [&self.patterns[..], &other.patterns].concat(),
            formats: [&self.formats[..], &other.formats].concat(),
            is_integer: self.is_integer || other.is_integer,
            is_bounded: self.is_bounded || other.is_bounded,
            is_shaped: self.is_shaped || other.is_shaped,
        }
    }

    /// Whether every value fits.
    pub fn is_anything(&self) -> bool {
        self.kinds == Kinds::ALL && self.is_free() && !self.is_integer && !self.is_bounded && !self.is_shaped
    }

    /// Whether every text fits.
    pub fn is_free(&self) -> bool {
        let is_plain = self.values.is_none() && self.patterns.is_empty() && self.formats.is_empty();
        is_plain && self.min_length == 0 && self.max_length.is_none()
    }

    /// Whether a value fits that is null or a boolean.
    pub fn allows(&self, value: &Value) -> bool {
        let is_named = self.values.as_ref().is_none_or(|values| values.contains(value));
        self.kinds.has(Kinds::of_value(value)) && is_named
    }
}

impl Choice for Way {
    fn any() -> Self {
        Self {
            kinds: Kinds::ALL,
            values: None,
            min_length: 0,
            max_length: None,
            patterns: Vec::new(),
            formats: Vec::new(),
            is_integer: false,
            is_bounded: false,
            is_shaped: false,
        }
    }

    fn of_other(schema: &Value, path: &str) -> Result<Vec<Self>, Problem> {
        match schema {
            Value::Bool(false) => Ok(Vec::new()),
            _ => Err(Problem::new(path, "must be a JSON Schema")),
        }
    }

    fn of_keywords(map: &Map<String, Value>, path: &str) -> Result<Self, Problem> {
        let mut way = Self::any();
        for (key, value) in map {
            let number =
                || value.as_u64().ok_or_else(|| Problem::new(&format!("{path}/{key}"), "must be a number"));
            let text = || {
                let problem = || Problem::new(&format!("{path}/{key}"), "must be a text");
                value.as_str().map(str::to_string).ok_or_else(problem)
            };
            match key.as_str() {
                "type" => {
                    way.kinds = Kinds::of_type(value);
                    let has = |name: &str| {
                        value == name || value.as_array().is_some_and(|l| l.contains(&name.into()))
                    };
                    way.is_integer = has("integer") && !has("number");
                }
                "const" => way = way.and(&Self { values: Some(vec![value.clone()]), ..Self::any() }),
                "enum" => {
                    let values = value.as_array().cloned().unwrap_or_default();
                    way = way.and(&Self { values: Some(values), ..Self::any() });
                }
                "minLength" => way.min_length = number()?,
                "maxLength" => way.max_length = Some(number()?),
                "pattern" => way.patterns.push(text()?),
                "format" => way.formats.push((text()?, format!("{path}/format"))),
                "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                    way.is_bounded = true;
                }
                _ if SHAPES.contains(&key.as_str()) => way.is_shaped = true,
                _ if STRANGE.contains(&key.as_str()) => return Err(unheld(path, key)),
                _ => {}
            }
        }
        Ok(way)
    }

    fn one_of(
        list: impl FnOnce() -> Result<Vec<Vec<Self>>, Problem>,
        path: &str,
    ) -> Result<Vec<Self>, Problem> {
        let list = list()?;
        let may_be_text = |ways: &&Vec<Self>| ways.iter().any(|way| way.kinds.has(Kinds::STRING));
        if list.iter().filter(may_be_text).count() > 1 {
            return Err(Problem::new(path, "several of these could be a text; use `anyOf`"));
        }
        Ok(list.concat())
    }

    fn with(&self, other: &Self) -> Result<Option<Self>, Problem> {
        Ok(Some(self.and(other)).filter(|way| way.kinds != Kinds::NONE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Without a limit, this would take longer than anybody waits.
    #[test]
    fn schemas_that_refer_to_themselves_many_times_are_left() {
        let itself = vec![json!({ "$ref": "#" }); 9];
        let schema = json!({ "anyOf": itself, "properties": { "a": { "type": "string" } } });
        assert_eq!(Kinds::of(&schema, &schema), Kinds::ALL);
        assert_eq!(Kinds::of_argument(&schema, "a", &schema), Some(Kinds::STRING));
    }
}
