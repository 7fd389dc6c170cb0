//! Which keyword of a JSON Schema is to blame when it cannot be compiled.

use crate::{GrammarError, Grammars};
use serde_json::{Map, Value};

/// Compilations at most. Beyond that, the error names the part that was reached.
const MAX_TRIALS: usize = 500;

/// Keywords whose value is a schema, a list of schemas, or schemas by name.
const PARTS: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "contains",
    "definitions",
    "$defs",
    "dependentSchemas",
    "else",
    "if",
    "items",
    "not",
    "oneOf",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];

/// The error of a schema that failed with this message. It names the innermost part that fails by itself, and
/// there the first keyword without which it does not.
pub(crate) fn blame(schema: &Value, problem: String) -> GrammarError {
    let Ok(grammars) = Grammars::single_byte() else {
        return GrammarError::Schema { path: "#".into(), problem };
    };
    let mut search = Search { grammars, root: schema, trials: MAX_TRIALS };
    let (path, problem) = search.innermost(schema, "#".into(), problem);
    GrammarError::Schema { path, problem }
}

struct Search<'a> {
    grammars: Grammars,
    root: &'a Value,
    trials: usize,
}

impl Search<'_> {
    /// What is wrong with a part of the schema, if that is found out by itself.
    fn problem(&mut self, part: &Value) -> Option<String> {
        self.trials = self.trials.checked_sub(1)?;
        let mut part = part.clone();
        if let (Some(part), Some(root)) = (part.as_object_mut(), self.root.as_object()) {
            // References are to definitions of the root.
            for key in ["$schema", "$defs", "definitions"] {
                if let (Some(value), false) = (root.get(key), part.contains_key(key)) {
                    part.insert(key.into(), value.clone());
                }
            }
        }
        self.grammars.of_schema(&part).err()
    }

    fn innermost(&mut self, part: &Value, path: String, problem: String) -> (String, String) {
        let Some(map) = part.as_object() else { return (path, problem) };
        for (key, value) in map.iter().filter(|(key, _)| PARTS.contains(&key.as_str())) {
            let path = format!("{path}/{}", escaped(key));
            let named = matches!(
                key.as_str(),
                "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas"
            );
            let parts: Vec<(String, &Value)> = match value {
                Value::Object(parts) if named => {
                    parts.iter().map(|(name, part)| (format!("{path}/{}", escaped(name)), part)).collect()
                }
                Value::Array(parts) => {
                    parts.iter().enumerate().map(|(i, part)| (format!("{path}/{i}"), part)).collect()
                }
                other => vec![(path, other)],
            };
            for (path, part) in parts.into_iter().filter(|(_, part)| part.is_object()) {
                if let Some(problem) = self.problem(part) {
                    return self.innermost(part, path, problem);
                }
            }
        }
        let keys: Vec<String> = map.keys().cloned().collect();
        for key in keys {
            let rest: Map<String, Value> =
                map.iter().filter(|(other, _)| **other != key).map(|(k, v)| (k.clone(), v.clone())).collect();
            // With nothing but definitions of the root, any other keyword could be missing, too.
            if self.trials > 0 && self.problem(&Value::Object(rest)).is_none() {
                return (format!("{path}/{}", escaped(&key)), problem);
            }
        }
        (path, problem)
    }
}

/// A name in a JSON Pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
