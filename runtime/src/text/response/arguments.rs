//! Which arguments the schema of a tool asks for, where a format writes each of them between tags.

use super::schema::{Choice, Problem, choices, escaped};
use serde_json::{Map, Value};

/// Keywords about objects that are not followed, unless they say nothing.
const STRANGE: &[&str] = &[
    "$dynamicRef",
    "$recursiveRef",
    "const",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "enum",
    "if",
    "not",
    "patternProperties",
    "propertyNames",
];

/// Arguments of a call: one way to fit the schema.
#[derive(Clone, Debug, Default)]
pub(super) struct Arguments {
    /// Names, schemas, and where these are.
    pub properties: Vec<(String, Value, String)>,
    pub required: Vec<String>,
    /// Where the schema forbids others.
    closed: Option<String>,
}

impl Arguments {
    /// All ways to fit a schema, which is a part of another one.
    pub fn of(schema: &Value, root: &Value, path: &str) -> Result<Vec<Self>, Problem> {
        let mut all: Vec<Self> = choices(schema, root, path)?;
        for arguments in &mut all {
            for name in arguments.required.clone() {
                if !arguments.properties.iter().any(|(other, ..)| *other == name) {
                    if let Some(path) = &arguments.closed {
                        return Err(Problem::new(path, format!("it forbids {name:?}, which is required")));
                    }
                    let path = format!("{path}/required");
                    arguments.properties.push((name, Value::Bool(true), path));
                }
            }
        }
        Ok(all)
    }
}

impl Choice for Arguments {
    fn any() -> Self {
        Self::default()
    }

    fn of_other(_: &Value, path: &str) -> Result<Vec<Self>, Problem> {
        Err(Problem::new(path, "arguments are an object"))
    }

    fn of_keywords(map: &Map<String, Value>, path: &str) -> Result<Self, Problem> {
        let mut own = Self::default();
        let properties = map.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            own.properties.push((
                name.clone(),
                schema.clone(),
                format!("{path}/properties/{}", escaped(name)),
            ));
        }
        let required = map.get("required").and_then(Value::as_array);
        own.required
            .extend(required.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_string)));
        for (key, value) in map {
            let path = format!("{path}/{}", escaped(key));
            let is_object =
                || value == "object" || value.as_array().is_some_and(|list| list.contains(&"object".into()));
            let n = || value.as_u64().unwrap_or(u64::MAX);
            match key.as_str() {
                "type" if !is_object() => return Err(Problem::new(&path, "arguments are an object")),
                "additionalProperties" if value == false => own.closed = Some(path),
                "minProperties" if n() > own.required.len() as u64 => {
                    return Err(Problem::new(&path, "it asks for more arguments than are required by name"));
                }
                "maxProperties" if n() < own.properties.len() as u64 => {
                    return Err(Problem::new(&path, "there are more properties"));
                }
                _ if STRANGE.contains(&key.as_str()) => {
                    let problem = "the arguments of this model's format of calls cannot be held to it";
                    return Err(Problem::new(&path, problem));
                }
                _ => {}
            }
        }
        Ok(own)
    }

    fn one_of(_: impl FnOnce() -> Result<Vec<Vec<Self>>, Problem>, path: &str) -> Result<Vec<Self>, Problem> {
        Err(Problem::new(path, "it cannot be held; use `anyOf`"))
    }

    fn with(&self, other: &Self) -> Result<Option<Self>, Problem> {
        let mut both = self.clone();
        for (name, schema, path) in &other.properties {
            match both.properties.iter_mut().find(|(own, ..)| own == name) {
                Some((_, own, _)) => *own = serde_json::json!({ "allOf": [own.clone(), schema] }),
                None => both.properties.push((name.clone(), schema.clone(), path.clone())),
            }
        }
        for part in [self, other] {
            let knows = |name: &String| part.properties.iter().any(|(own, ..)| own == name);
            if let Some(path) =
                part.closed.as_ref().filter(|_| !both.properties.iter().all(|(name, ..)| knows(name)))
            {
                return Err(Problem::new(path, "it forbids arguments that another part of the schema has"));
            }
        }
        both.required.extend(other.required.iter().filter(|name| !self.required.contains(name)).cloned());
        both.closed = self.closed.clone().or(other.closed.clone());
        Ok(Some(both))
    }
}
