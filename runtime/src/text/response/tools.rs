//! The tools of a request, as far as answers depend on them.

use super::values::{Kinds, read};
use serde_json::Value;

/// The tools that a model may call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tools(Vec<Tool>);

/// A tool.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The JSON Schema of its arguments.
    pub parameters: Value,
    /// Whether calls must fit it.
    pub is_strict: bool,
}

impl Tools {
    /// From a list as in OpenAI's API; what is wrong with it otherwise.
    pub fn new(list: &Value) -> Result<Self, String> {
        let list = list.as_array().ok_or("`tools` must be a list")?;
        let mut tools: Vec<Tool> = Vec::new();
        for (i, tool) in list.iter().enumerate() {
            // Templates of some models are given functions without what is around them.
            let function = tool.get("function").unwrap_or(tool);
            let name = function.get("name").and_then(Value::as_str).filter(|name| is_name(name));
            let name = name.ok_or_else(|| {
                let rule = "a name of up to 64 letters, digits, `_`, `-` and `.`";
                format!("`tools[{i}].function.name` must be {rule}")
            })?;
            if tools.iter().any(|tool| tool.name == name) {
                return Err(format!("`tools[{i}].function.name`: there are two tools {name:?}"));
            }
            let none = serde_json::json!({ "type": "object", "properties": {} });
            let parameters = match function.get("parameters") {
                None | Some(Value::Null) => none,
                Some(Value::Object(map)) if map.is_empty() => none,
                Some(schema @ Value::Object(_)) => schema.clone(),
                Some(_) => return Err(format!("`tools[{i}].function.parameters` must be a JSON Schema")),
            };
            let is_strict = match function.get("strict") {
                None | Some(Value::Null) => false,
                Some(Value::Bool(strict)) => *strict,
                Some(_) => return Err(format!("`tools[{i}].function.strict` must be true or false")),
            };
            tools.push(Tool { name: name.to_string(), parameters, is_strict });
        }
        Ok(Self(tools))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Tool> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|tool| tool.name == name)
    }

    /// Whether this may begin the name of one; without any, all may.
    pub(super) fn may_begin(&self, text: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|tool| tool.name.starts_with(text))
    }

    /// The JSON Schema of a tool's arguments.
    pub(super) fn schema_of(&self, tool: &str) -> Option<&Value> {
        self.0.iter().find(|t| t.name == tool).map(|t| &t.parameters)
    }

    /// Only the one of this name; none if there is none.
    pub fn only(&self, name: &str) -> Option<Self> {
        self.0.iter().find(|tool| tool.name == name).map(|tool| Self(vec![tool.clone()]))
    }

    /// An argument that the model wrote as bare text, as JSON of a type that the schema says. Without one,
    /// what is JSON stays so.
    pub(super) fn json_of(&self, tool: &str, key: &str, text: &str) -> String {
        let schema = self.schema_of(tool);
        let kinds = schema.and_then(|schema| Kinds::of_argument(schema, key, schema));
        read(kinds.unwrap_or(Kinds::ALL), text)
    }
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(fits)
}
