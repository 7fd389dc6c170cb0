//! What a JSON Schema says about values that a format writes as bare text, between tags: which kinds of
//! values a text may mean, and which texts are right.

use serde_json::{Map, Value};
use thiserror::Error;

/// Deeper references and combinations of schemas are not followed.
const MAX_DEPTH: usize = 32;
/// Ways to fit a schema at most.
const MAX_WAYS: usize = 64;

/// What a schema asks for and cannot be held.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the JSON Schema cannot be used: {path}: {problem}")]
pub struct Problem {
    /// The keyword, as a JSON Pointer in a URI fragment (RFC 6901).
    pub path: String,
    /// What is wrong.
    pub problem: String,
}

impl Problem {
    pub(super) fn new(path: &str, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    fn of_keyword(path: &str, keyword: &str) -> Self {
        let problem = "this model's format of calls has arguments as bare text, which cannot be held to it";
        Self::new(&format!("{path}/{keyword}"), problem)
    }
}

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
        Self::at_depth(schema, root, 0)
    }

    fn at_depth(schema: &Value, root: &Value, depth: usize) -> Self {
        let Some(map) = schema.as_object().filter(|_| depth < MAX_DEPTH) else {
            return if schema == &Value::Bool(false) { Self::NONE } else { Self::ALL };
        };
        let inner = |schema: &Value| Self::at_depth(schema, root, depth + 1);
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
    pub fn of_argument(schema: &Value, key: &str, root: &Value, depth: usize) -> Option<Self> {
        let map = schema.as_object().filter(|_| depth < MAX_DEPTH)?;
        let inner = |schema: &Value| Self::of_argument(schema, key, root, depth + 1);
        let both = |a: Option<Self>, b: Option<Self>| a.map_or(b, |a| Some(b.map_or(a, |b| a.and(b))));
        let list = |value: &Value| -> Vec<Option<Self>> {
            value.as_array().into_iter().flatten().map(inner).collect()
        };
        let own = map.get("properties").and_then(|properties| properties.get(key));
        let own = own.or(map.get("additionalProperties").filter(|extra| extra.is_object()));
        let own = own.map(|property| Self::of(property, root));
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

/// The part of a schema that a reference names.
pub(super) fn resolve<'a>(root: &'a Value, reference: &Value) -> Option<&'a Value> {
    root.pointer(reference.as_str()?.strip_prefix('#')?)
}

/// A name in a JSON Pointer (RFC 6901).
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
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

    /// From a schema's own keywords.
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
                _ if STRANGE.contains(&key.as_str()) => return Err(Problem::of_keyword(path, &escaped(key))),
                _ => {}
            }
        }
        Ok(way)
    }
}

/// The ways to fit a schema, some of which may be texts.
pub(super) fn ways(schema: &Value, root: &Value, path: &str) -> Result<Vec<Way>, Problem> {
    ways_at(schema, root, path, 0)
}

fn ways_at(schema: &Value, root: &Value, path: &str, depth: usize) -> Result<Vec<Way>, Problem> {
    let map = match schema {
        Value::Bool(true) => return Ok(vec![Way::any()]),
        Value::Bool(false) => return Ok(Vec::new()),
        Value::Object(map) if depth < MAX_DEPTH => map,
        Value::Object(_) => return Err(Problem::new(path, "it is nested too deeply")),
        _ => return Err(Problem::new(path, "must be a JSON Schema")),
    };
    let mut all = vec![Way::of_keywords(map, path)?];
    for (key, value) in map {
        let path = format!("{path}/{key}");
        let list = || -> Result<Vec<Vec<Way>>, Problem> {
            let list = value.as_array().ok_or_else(|| Problem::new(&path, "must be a list"))?;
            let inner = |(i, one)| ways_at(one, root, &format!("{path}/{i}"), depth + 1);
            list.iter().enumerate().map(inner).collect()
        };
        let choices = match key.as_str() {
            "$ref" => {
                let target =
                    resolve(root, value).ok_or_else(|| Problem::new(&path, "there is no such definition"))?;
                vec![ways_at(target, root, value.as_str().unwrap_or(&path), depth + 1)?]
            }
            "allOf" => list()?,
            "anyOf" => vec![list()?.concat()],
            "oneOf" => {
                let list = list()?;
                let kinds = |ways: &[Way]| ways.iter().fold(Kinds::NONE, |all, way| all.or(way.kinds));
                let texts = list.iter().filter(|ways| kinds(ways).has(Kinds::STRING)).count();
                if texts > 1 {
                    return Err(Problem::new(&path, "several of these could be a text; use `anyOf`"));
                }
                vec![list.concat()]
            }
            _ => continue,
        };
        for choice in choices {
            all = all.iter().flat_map(|a| choice.iter().map(|b| a.and(b))).collect();
            all.retain(|way| way.kinds != Kinds::NONE);
            if all.len() > MAX_WAYS {
                return Err(Problem::new(&path, "there are too many ways to fit it"));
            }
        }
    }
    Ok(all)
}
