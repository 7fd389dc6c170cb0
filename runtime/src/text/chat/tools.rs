//! Tools in prompts: how a template writes them and their calls, and what stands in for a template that has
//! none.

use super::{ChatTemplate, Message, Variables};
use crate::text::response::{Calls, TRIAL, TYPED, Tools, after_question};
use minijinja::Value;
use minijinja::value::ValueKind;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who tells a model about tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolPrompt {
    /// Its chat template.
    Template,
    /// A text in the system message.
    BuiltIn,
}

/// How a template handles tools.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolUse {
    /// Who tells the model about them.
    pub prompt: ToolPrompt,
    /// How it writes calls.
    pub calls: Arc<Calls>,
    /// What the template wrote for the call [`TRIAL`], from the question on.
    pub written: String,
    /// What it wrote for that call and another one with other arguments; empty if it takes no two.
    pub written_two: String,
    /// Whether it takes a call's arguments as a text of JSON, not as a map.
    takes_text: bool,
    /// The content of a message that only calls tools, as the template takes it; none: null.
    empty: Option<&'static str>,
    /// Whether it leaves out calls, which are then a part of the content.
    leaves_out: bool,
}

pub(super) const QUESTION: &str = "trial question?";
const ID: &str = "trial0001";

impl ToolUse {
    /// Finds out by rendering a call.
    pub(super) fn of(template: &ChatTemplate) -> Self {
        Self::of_template(template).unwrap_or_else(|| Self {
            prompt: ToolPrompt::BuiltIn,
            calls: Calls::hermes(),
            written: written_by_hand(TRIAL.0, &arguments().to_string()),
            written_two: String::new(),
            takes_text: false,
            empty: Some(""),
            leaves_out: false,
        })
    }

    fn of_template(template: &ChatTemplate) -> Option<Self> {
        let source = template.source();
        if !source.contains("tools") {
            return None;
        }
        let tools = value_of(Tools::trial());
        let question = Message::new("user", QUESTION);
        let with = Variables { tools: Some(tools), is_whole: true, ..Variables::default() };
        let plain = template.tried(std::slice::from_ref(&question), &Variables::default());
        let told = template.tried(std::slice::from_ref(&question), &with)?;
        if plain.is_some_and(|plain| !told.contains(TRIAL.0) || plain.contains(TRIAL.0)) {
            return None;
        }
        let found = |calls, written: String, written_two: String, takes_text, empty| Self {
            prompt: ToolPrompt::Template,
            calls,
            written,
            written_two,
            takes_text,
            empty,
            leaves_out: false,
        };
        let given = template.response.as_ref().and_then(|given| given.calls.clone());
        for way in TRIALS {
            let written = |calls: &[Call]| written(template, &with, *way, calls);
            let Some(one) = written(&[(TRIAL.0, arguments())]) else { continue };
            let reads = |calls: &Arc<Calls>| calls.reads(&one, TRIAL.0, &arguments());
            let read = match &given {
                Some(given) => Some(given.clone()).filter(reads),
                None => Calls::that_reads(&one, TRIAL.0, &arguments()),
            };
            if let Some(calls) = read {
                let two = written(&[(TRIAL.0, arguments()), (TRIAL.0, typed_arguments())]);
                return Some(found(calls, one, two.unwrap_or_default(), way.1, way.0));
            }
        }
        if let Some(calls) = given {
            let one = calls.sample(&[(TRIAL.0, arguments())]);
            let two = calls.sample(&[(TRIAL.0, arguments()), (TRIAL.0, typed_arguments())]);
            let leaves_out = one.is_some() && !source.contains("tool_calls");
            let found = found(calls, one.unwrap_or_default(), two.unwrap_or_default(), false, Some(""));
            return Some(Self { leaves_out, ..found });
        }
        Some(found(Calls::spelled_in(&source)?, String::new(), String::new(), false, Some("")))
    }

    /// A conversation as the template takes it.
    pub fn prepare(&self, messages: &[Message], tools: Option<&Value>) -> Vec<Message> {
        let mut called = BTreeMap::new();
        let messages: Vec<Message> = messages
            .iter()
            .map(|message| {
                let message = with_name(self.with_content(self.with_arguments(message)), &called);
                called.extend(names_of(&message));
                self.with_calls(message)
            })
            .collect();
        match self.prompt {
            ToolPrompt::Template => messages,
            ToolPrompt::BuiltIn => built_in(&messages, tools),
        }
    }

    /// With calls in the content, where the template leaves them out.
    fn with_calls(&self, message: Message) -> Message {
        let Some(calls) =
            list_of(&message.0, "tool_calls").filter(|calls| self.leaves_out && !calls.is_empty())
        else {
            return message;
        };
        let parts: Vec<(String, Value)> = calls.iter().map(parts_of).collect();
        let json = |arguments: &Value| serde_json::to_value(arguments).unwrap_or_default();
        let all: Vec<Call> = parts.iter().map(|(name, arguments)| (name.as_str(), json(arguments))).collect();
        let text = format!("{}{}", text_of(&message), self.calls.sample(&all).unwrap_or_default());
        Message(with_field(&message.0, "content", Value::from(text)))
    }

    /// OpenAI's API has no content, or null, in a message that only calls tools; most templates take a text.
    fn with_content(&self, message: Message) -> Message {
        let content = message.0.get_attr("content").unwrap_or_default();
        let is_empty = match content.as_str() {
            Some(text) => text.is_empty() && list_of(&message.0, "tool_calls").is_some(),
            None => content.is_none() || content.is_undefined(),
        };
        let text = if message.role() == "assistant" { self.empty } else { Some("") };
        match is_empty {
            true => Message(with_field(&message.0, "content", text.map_or(Value::from(()), Value::from))),
            false => message,
        }
    }

    /// OpenAI's API has arguments as a text; most templates take a map.
    fn with_arguments(&self, message: &Message) -> Message {
        let Some(calls) = list_of(&message.0, "tool_calls") else { return message.clone() };
        let calls = calls.into_iter().map(|call| {
            let Ok(function) = call.get_attr("function") else { return call };
            let Ok(given) = function.get_attr("arguments") else { return call };
            let arguments = match (given.as_str(), self.takes_text) {
                (Some(text), false) => match serde_json::from_str::<Value>(text) {
                    Ok(map) if map.kind() == ValueKind::Map => map,
                    _ => given,
                },
                (None, true) => Value::from(json_text(&given)),
                _ => given,
            };
            let function = super::message::with(&function, "arguments", arguments);
            super::message::with(&call, "function", function)
        });
        let calls = Value::from(calls.collect::<Vec<_>>());
        Message(super::message::with(&message.0, "tool_calls", calls))
    }
}

/// The names of a message's calls by their ids.
fn names_of(message: &Message) -> Vec<(String, String)> {
    let calls = list_of(&message.0, "tool_calls").unwrap_or_default();
    let name = |call: &Value| {
        let function = call.get_attr("function").ok()?;
        Some((call.get_attr("id").ok()?.as_str()?.into(), function.get_attr("name").ok()?.as_str()?.into()))
    };
    calls.iter().filter_map(name).collect()
}

/// OpenAI's API has no name in a tool's result; some templates need it.
fn with_name(message: Message, called: &BTreeMap<String, String>) -> Message {
    let text = |key| message.0.get_attr(key).ok().filter(|value: &Value| value.as_str().is_some());
    let id = text("tool_call_id").filter(|_| message.role() == "tool" && text("name").is_none());
    let Some(name) = id.and_then(|id| called.get(id.as_str()?)) else { return message };
    Message(with_field(&message.0, "name", Value::from(name.as_str())))
}

/// A map with this value for a key that it may lack.
fn with_field(map: &Value, name: &str, value: Value) -> Value {
    let keys = map.try_iter().into_iter().flatten().filter(|key| key.as_str() != Some(name));
    let own = keys.map(|key| (key.clone(), map.get_item(&key).unwrap_or_default()));
    Value::from_pairs(own.chain([(Value::from(name), value)]))
}

/// A way to write a conversation with calls: the content, whether arguments are a text, and whether the
/// tools' results follow.
type Way = (Option<&'static str>, bool, bool);

/// Ways of which templates take some.
const TRIALS: &[Way] = &[
    (Some(""), false, false),
    (Some(""), false, true),
    (Some(""), true, false),
    (Some(""), true, true),
    (None, false, false),
    (None, true, true),
];

/// A name and arguments.
pub(in crate::text) type Call<'a> = (&'a str, serde_json::Value);

fn arguments() -> serde_json::Value {
    json!({ TRIAL.1: TRIAL.2 })
}

fn typed_arguments() -> serde_json::Value {
    let value = |json| serde_json::from_str::<serde_json::Value>(json).unwrap_or_default();
    TYPED.iter().map(|(key, json)| (key.to_string(), value(json))).collect()
}

/// What a template writes of calls, after the question.
fn written(template: &ChatTemplate, with: &Variables, way: Way, calls: &[Call]) -> Option<String> {
    let text = template.tried(&trial(way, calls), with)?;
    Some(after_question(&text, QUESTION)?.to_string())
}

fn trial((content, takes_text, has_result): Way, calls: &[Call]) -> Vec<Message> {
    let mut results = Vec::new();
    let calls: Vec<serde_json::Value> = calls
        .iter()
        .map(|(name, arguments)| {
            let given = if takes_text { json!(arguments.to_string()) } else { arguments.clone() };
            let result =
                json!({ "role": "tool", "tool_call_id": ID, "name": name, "content": "trial result" });
            results.extend(has_result.then_some(result));
            json!({ "id": ID, "type": "function", "function": { "name": name, "arguments": given } })
        })
        .collect();
    let answer = json!({ "role": "assistant", "content": content, "tool_calls": calls });
    let mut messages = vec![json!({ "role": "user", "content": QUESTION }), answer];
    messages.extend(results);
    messages.into_iter().map(|message| Message(value_of(message))).collect()
}

/// What a template writes of calls of these tools, in all the ways in which it can.
#[cfg(test)]
pub(in crate::text) fn all_written(
    template: &ChatTemplate,
    tools: &serde_json::Value,
    calls: &[Call],
) -> Vec<String> {
    let with = Variables { tools: Some(value_of(tools.clone())), is_whole: true, ..Variables::default() };
    TRIALS.iter().filter_map(|way| written(template, &with, *way, calls)).collect()
}

fn list_of(map: &Value, key: &str) -> Option<Vec<Value>> {
    let list = map.get_attr(key).ok().filter(|list| list.kind() == ValueKind::Seq)?;
    Some(list.try_iter().ok()?.collect())
}

pub(super) fn value_of(json: serde_json::Value) -> Value {
    serde_json::from_value(json).unwrap_or_default()
}

fn json_text(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// A call as the built-in text asks for it.
fn written_by_hand(name: &str, arguments: &str) -> String {
    let name = serde_json::Value::from(name);
    format!("<tool_call>\n{{\"name\": {name}, \"arguments\": {arguments}}}\n</tool_call>")
}

/// What the system message says about tools.
fn system_text(tools: &Value) -> String {
    let lines: Vec<String> = tools.try_iter().into_iter().flatten().map(|tool| json_text(&tool)).collect();
    format!(
        "You can call tools. These are the tools, one on each line:\n<tools>\n{}\n</tools>\n\
         To call a tool, write its name and its arguments as JSON between these tags:\n\
         <tool_call>\n{{\"name\": \"...\", \"arguments\": {{...}}}}\n</tool_call>\n\
         You then get what it returns. Call a tool only if it helps to answer.",
        lines.join("\n")
    )
}

/// The name and the arguments of a call.
fn parts_of(call: &Value) -> (String, Value) {
    let function = call.get_attr("function").unwrap_or_default();
    let field = |name| function.get_attr(name).unwrap_or_default();
    (field("name").to_string(), field("arguments"))
}

/// The conversation with tools, calls and results in texts, for a template that has no place for them.
fn built_in(messages: &[Message], tools: Option<&Value>) -> Vec<Message> {
    let mut out: Vec<Message> = Vec::new();
    let mut follows_result = false;
    for message in messages {
        let text = text_of(message);
        let is_result = message.role() == "tool";
        if is_result {
            let result = format!("<tool_response>\n{text}\n</tool_response>");
            match out.last_mut().filter(|_| follows_result) {
                Some(last) => *last = Message::new("user", &format!("{}\n{result}", text_of(last))),
                None => out.push(Message::new("user", &result)),
            }
        } else if let Some(calls) = list_of(&message.0, "tool_calls").filter(|calls| !calls.is_empty()) {
            let mut parts: Vec<String> = Some(text).filter(|text| !text.is_empty()).into_iter().collect();
            for call in calls {
                let (name, arguments) = parts_of(&call);
                parts.push(written_by_hand(&name, &json_text(&arguments)));
            }
            out.push(Message::new("assistant", &parts.join("\n")));
        } else {
            out.push(message.clone());
        }
        follows_result = is_result;
    }
    let Some(tools) = tools.filter(|tools| tools.len().is_some_and(|n| n > 0)) else { return out };
    let told = system_text(tools);
    match out.first().filter(|first| first.role() == "system") {
        Some(first) => out[0] = Message::new("system", &format!("{}\n\n{told}", text_of(first))),
        None => out.insert(0, Message::new("system", &told)),
    }
    out
}

/// A message's text; parts that are no text are left out.
fn text_of(message: &Message) -> String {
    let content = message.0.get_attr("content").unwrap_or_default();
    match content.kind() {
        ValueKind::String => content.as_str().unwrap_or_default().to_string(),
        ValueKind::Seq => {
            let parts = content.try_iter().into_iter().flatten();
            parts.filter_map(|part| Some(part.get_attr("text").ok()?.as_str()?.to_string())).collect()
        }
        ValueKind::None | ValueKind::Undefined => String::new(),
        _ => json_text(&content),
    }
}
