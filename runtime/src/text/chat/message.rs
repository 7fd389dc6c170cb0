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
    /// A message of a text. The role is `system`, `user`, `assistant`, or another one that the template knows.
    pub fn new(role: &str, content: &str) -> Self {
        Self(Value::from_pairs([("role", role), ("content", content)]))
    }
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
            ("add_generation_prompt", Value::from(true)),
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
