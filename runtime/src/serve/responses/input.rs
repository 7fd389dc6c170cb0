//! How a request for a response becomes a chat's. The package does the same
//! (`pkg/src/api/response-input.ts`).

use super::super::check;
use super::super::error::ApiError;
use super::super::params::IGNORED;
use serde_json::{Map, Value, json};

type Result<T> = std::result::Result<T, ApiError>;
type Object = Map<String, Value>;

/// Parameters that mean the same in a chat, with their names there.
const SAME: [(&str, &str); 5] = [
    ("max_output_tokens", "max_completion_tokens"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("seed", "seed"),
    ("parallel_tool_calls", "parallel_tool_calls"),
];

/// Parameters that are used here, or do not affect the answer.
const OTHERS: [&str; 9] = [
    "input",
    "instructions",
    "stream_options",
    "include",
    "truncation",
    "text",
    "tools",
    "tool_choice",
    "reasoning",
];

/// The chat of a response, whose parameters are not null. `find` gives items of earlier answers.
pub fn chat(given: &Object, find: impl Fn(&str) -> Option<Value>) -> Result<Object> {
    let mut chat = Object::new();
    chat.insert("messages".into(), messages(given, find)?.into());
    for (name, value) in given {
        if OTHERS.contains(&name.as_str()) || IGNORED.contains(&name.as_str()) {
            continue;
        }
        let same = SAME.iter().find(|(own, _)| own == name);
        let (_, same) = same.ok_or_else(|| ApiError::unknown(name))?;
        chat.insert((*same).to_owned(), value.clone());
    }
    check::integer(given, "max_output_tokens", 1, None)?;
    let overflow = match given.get("truncation").map(Value::as_str) {
        None => None,
        Some(Some("auto")) => Some("truncate"),
        Some(Some("disabled")) => Some("stop"),
        Some(_) => {
            return Err(ApiError::field("truncation", "`truncation` must be \"auto\" or \"disabled\"."));
        }
    };
    chat.extend(overflow.map(|overflow| ("context_overflow".into(), overflow.into())));
    if let Some(tools) = given.get("tools") {
        chat.insert("tools".into(), tools_of(tools)?.into());
    }
    if let Some(choice) = given.get("tool_choice") {
        chat.insert("tool_choice".into(), choice_of(choice)?);
    }
    if let Some(effort) = given.get("reasoning").map(|reasoning| only(reasoning, "reasoning", "effort")) {
        chat.extend(effort?.map(|effort| ("reasoning_effort".into(), effort.clone())));
    }
    if let Some(format) = given.get("text").map(|text| only(text, "text", "format")) {
        let format = format?.map(format_of).transpose()?;
        chat.extend(format.map(|format| ("response_format".into(), format)));
    }
    Ok(chat)
}

fn messages(given: &Object, find: impl Fn(&str) -> Option<Value>) -> Result<Vec<Value>> {
    let mut list = Vec::new();
    match given.get("instructions") {
        None => {}
        Some(Value::String(text)) => list.push(json!({ "role": "system", "content": text })),
        other => return Err(ApiError::mistyped("instructions", other, "`instructions` must be a text.")),
    }
    let items = match given.get("input") {
        Some(Value::String(text)) => {
            list.push(json!({ "role": "user", "content": text }));
            return Ok(list);
        }
        Some(Value::Array(items)) if !items.is_empty() => items,
        other => return Err(ApiError::list("input", other, INPUT)),
    };
    // What the model thought belongs to the answer that follows.
    let mut thought = String::new();
    let answer = |thought: &mut String, mut message: Value| {
        message["role"] = "assistant".into();
        if !thought.is_empty() {
            message["reasoning_content"] = std::mem::take(thought).into();
        }
        message
    };
    for (index, item) in items.iter().enumerate() {
        let at = format!("input[{index}]");
        let referred = referred(check::object(Some(item), &at)?, &at, &find)?;
        let item = referred.as_ref().unwrap_or(item);
        match item["type"].as_str().unwrap_or(if item["type"].is_null() { "message" } else { "" }) {
            "reasoning" => thought.push_str(&thought_of(&item["content"], &format!("{at}.content"))?),
            "function_call" => {
                let called = json!({ "name": item["name"], "arguments": item["arguments"] });
                let call = json!({ "id": item["call_id"], "type": "function", "function": called });
                let last = list.last_mut().filter(|last| last["role"] == "assistant" && thought.is_empty());
                match last {
                    // Calls of one answer belong to one message.
                    Some(last) => match last["tool_calls"].as_array_mut() {
                        Some(calls) => calls.push(call),
                        None => last["tool_calls"] = json!([call]),
                    },
                    None => list.push(answer(&mut thought, json!({ "content": null, "tool_calls": [call] }))),
                }
            }
            "function_call_output" => {
                let text = content_of(&item["output"], &format!("{at}.output"))?;
                list.push(json!({ "role": "tool", "tool_call_id": item["call_id"], "content": text }));
            }
            "message" => {
                let text = content_of(&item["content"], &format!("{at}.content"))?;
                list.push(if item["role"] == "assistant" {
                    answer(&mut thought, json!({ "content": text }))
                } else {
                    json!({ "role": item["role"], "content": text })
                });
            }
            _ => {
                let kind = item["type"].as_str().map_or_else(|| item["type"].to_string(), str::to_owned);
                let message = format!("Items of the type `{kind}` are not supported.");
                return Err(ApiError::field(&format!("{at}.type"), message));
            }
        }
    }
    Ok(list)
}

const INPUT: &str = "`input` must be a text or a list with at least one item.";

/// The item of an earlier answer, if this one refers to it.
fn referred(item: &Object, at: &str, find: &impl Fn(&str) -> Option<Value>) -> Result<Option<Value>> {
    if item.get("type").is_none_or(|kind| kind != "item_reference") {
        return Ok(None);
    }
    let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
    let found = find(id).ok_or_else(|| {
        let message = format!(
            "There is no item `{id}`: only the last answers are kept. Send the item itself, which clients do \
             with `store: false`."
        );
        ApiError::field(&format!("{at}.id"), message)
    });
    found.map(Some)
}

/// The text of a reasoning item. One that has only a summary says nothing to the model.
fn thought_of(content: &Value, at: &str) -> Result<String> {
    let parts = match content {
        Value::Null => return Ok(String::new()),
        Value::Array(parts) => parts,
        _ => return Err(ApiError::mistyped(at, Some(content), format!("`{at}` must be a list."))),
    };
    let texts = parts.iter().enumerate().map(|(index, part)| {
        let at = format!("{at}[{index}]");
        let message = format!("`{at}` must be {{ type: \"reasoning_text\", text }}.");
        let text = part["text"].as_str().filter(|_| part["type"] == "reasoning_text");
        text.map(str::to_owned).ok_or_else(|| ApiError::field(&at, message))
    });
    texts.collect()
}

/// A text, or text parts as a chat has them.
fn content_of(content: &Value, at: &str) -> Result<Value> {
    let parts = match content {
        Value::String(_) => return Ok(content.clone()),
        Value::Array(parts) => parts,
        _ => {
            let message = format!("`{at}` must be a text or a list of text parts.");
            return Err(ApiError::mistyped(at, Some(content), message));
        }
    };
    let texts = parts.iter().enumerate().map(|(index, part)| {
        let at = format!("{at}[{index}]");
        let message = format!("`{at}` must be {{ type: \"input_text\" or \"output_text\", text }}.");
        let is_text = part["type"] == "input_text" || part["type"] == "output_text";
        let text = part["text"].as_str().filter(|_| is_text);
        text.map(|text| json!({ "type": "text", "text": text })).ok_or_else(|| ApiError::field(&at, message))
    });
    Ok(Value::Array(texts.collect::<Result<_>>()?))
}

/// The only member of an object that is supported.
fn only<'a>(object: &'a Value, at: &str, name: &str) -> Result<Option<&'a Value>> {
    let object = check::object(Some(object), at)?;
    if let Some((other, _)) = object.iter().find(|(other, value)| *other != name && !value.is_null()) {
        return Err(ApiError::unknown(&format!("{at}.{other}")));
    }
    Ok(object.get(name).filter(|value| !value.is_null()))
}

/// A response's tools as a chat's, where they lie one level deeper. What they hold is checked with the rest
/// of the chat.
fn tools_of(tools: &Value) -> Result<Vec<Value>> {
    let wrong = || ApiError::mistyped("tools", Some(tools), "`tools` must be a list.");
    let tools = tools.as_array().ok_or_else(wrong)?;
    let tools = tools.iter().enumerate().map(|(index, tool)| {
        let mut described = check::object(Some(tool), &format!("tools[{index}]"))?.clone();
        let kind = described.remove("type");
        Ok(json!({ "type": kind, "function": described }))
    });
    tools.collect()
}

fn choice_of(choice: &Value) -> Result<Value> {
    let name = choice["name"].as_str().filter(|_| choice["type"] == "function");
    match (choice, name) {
        (Value::String(_), _) => Ok(choice.clone()),
        (_, Some(name)) => Ok(json!({ "type": "function", "function": { "name": name } })),
        _ => {
            let message =
                "`tool_choice` must be \"auto\", \"none\", \"required\" or { type: \"function\", name }.";
            Err(ApiError::field("tool_choice", message))
        }
    }
}

/// `text.format` as `response_format` of a chat, where the schema lies one level deeper.
fn format_of(format: &Value) -> Result<Value> {
    let mut rest = check::object(Some(format), "text.format")?.clone();
    let kind = rest.remove("type");
    Ok(if kind.as_ref().is_some_and(|kind| kind == "json_schema") {
        json!({ "type": kind, "json_schema": rest })
    } else {
        json!({ "type": kind })
    })
}
