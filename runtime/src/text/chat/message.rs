//! What templates get: messages, tools, documents and other variables.

use minijinja::Value;
use minijinja::value::ValueKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One message of a conversation, as the template sees it: a map with `role` and usually `content`, which is
/// a text or a list of parts; `tool_calls`, `tool_call_id`, `name`, `reasoning_content` and other fields that
/// the template knows.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Message(pub(super) Value);

impl Message {
    /// A message of a text. The role is `system`, `user`, `assistant`, or another one that the template
    /// knows.
    pub fn new(role: &str, content: &str) -> Self {
        Self(Value::from_pairs([("role", role), ("content", content)]))
    }
}

impl Message {
    /// Its role.
    pub fn role(&self) -> String {
        self.0.get_attr("role").unwrap_or_default().to_string()
    }

    /// The same message with another text; none if it has no text.
    pub(super) fn with_other_text(&self) -> Option<Self> {
        let change = |text: &str| format!("x{text}x");
        let content = self.0.get_attr("content").ok()?;
        let text = |value: &Value| value.as_str().filter(|text| !text.trim().is_empty()).map(change);
        let other = match text(&content) {
            Some(text) => Value::from(text),
            None if content.kind() == ValueKind::Seq => {
                let mut changed = false;
                let mut parts = Vec::new();
                for part in content.try_iter().ok()? {
                    let other = part.get_attr("text").ok().as_ref().and_then(text);
                    changed |= other.is_some();
                    parts.push(other.map_or(part.clone(), |text| with(&part, "text", Value::from(text))));
                }
                changed.then(|| Value::from(parts))?
            }
            None => return None,
        };
        Some(Self(with(&self.0, "content", other)))
    }
}

/// A map with another value for a key that it has.
pub(super) fn with(map: &Value, key: &str, value: Value) -> Value {
    let keys = map.try_iter().into_iter().flatten();
    Value::from_pairs(keys.map(|k| {
        let old = map.get_item(&k).unwrap_or_default();
        let new = if k.as_str() == Some(key) { value.clone() } else { old };
        (k, new)
    }))
}

impl TryFrom<Value> for Message {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match value.get_attr("role") {
            Ok(role) if role.as_str().is_some() && value.kind() == ValueKind::Map => Ok(Self(value)),
            _ => Err("a message is an object with a role, which is a string"),
        }
    }
}

impl From<Message> for Value {
    fn from(message: Message) -> Value {
        message.0
    }
}

/// What a template gets beside the messages.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct Variables {
    /// Descriptions of the tools that the model may call, as in OpenAI's API.
    pub tools: Option<Value>,
    /// Documents that the answer should use.
    pub documents: Option<Value>,
    /// Other variables that the template knows, such as `enable_thinking` or `reasoning_effort`.
    #[serde(rename = "chat_template_kwargs")]
    pub other: BTreeMap<String, Value>,
    /// Whether the conversation ends with its last message, so that no answer is begun: to learn from it.
    #[serde(skip)]
    pub is_whole: bool,
}

impl Variables {
    /// All variables of a template. Absent tools and documents are `none`, as in transformers.
    pub(super) fn context(&self, messages: Value, bos: &str, eos: &str) -> Value {
        let list = |list: &Option<Value>| list.clone().unwrap_or_else(|| Value::from(()));
        let other = self.other.iter().map(|(name, value)| (name.clone(), value.clone()));
        let own = [
            ("messages", messages),
            ("tools", list(&self.tools)),
            ("documents", list(&self.documents)),
            ("add_generation_prompt", Value::from(!self.is_whole)),
            ("bos_token", Value::from(bos)),
            ("eos_token", Value::from(eos)),
        ];
        Value::from_pairs(other.chain(own.map(|(name, value)| (name.to_string(), value))))
    }
}

/// The same value with all its strings changed, those of nested maps and lists too. Keys stay.
pub(super) fn map_strings(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value.kind() {
        ValueKind::String => Value::from(change(value.as_str().unwrap_or_default())),
        ValueKind::Map => {
            let keys = value.try_iter().into_iter().flatten();
            Value::from_pairs(keys.map(|key| {
                let item = value.get_item(&key).unwrap_or_default();
                (key, map_strings(&item, change))
            }))
        }
        ValueKind::Seq => {
            let items = value.try_iter().into_iter().flatten();
            Value::from(items.map(|item| map_strings(&item, change)).collect::<Vec<_>>())
        }
        _ => value.clone(),
    }
}
