//! How a chat template marks reasoning, found out by rendering a conversation whose reasoning is known.

use super::tools::{QUESTION, value_of};
use super::{ChatTemplate, Message, Variables};
use crate::text::response::{Reasoning, Tools, after_question};
use minijinja::Value;
use serde_json::json;

const THOUGHT: &str = "trial thought";
const ANSWER: &str = "trial answer";

/// The format of a template; none if it knows no reasoning.
pub(super) fn of(template: &ChatTemplate) -> Option<Reasoning> {
    let source = template.source();
    Reasoning::of_channels(&source)
        .or_else(|| derived(template, &source))
        .or_else(|| Reasoning::spelled_in(&source))
}

/// The format that trials show.
pub(super) fn derived(template: &ChatTemplate, source: &str) -> Option<Reasoning> {
    let trial = Trial::new(template);
    trial.written().or_else(|| trial.emptied()).or_else(|| trial.opened(source))
}

/// What a template writes after a question.
struct Trial<'a> {
    template: &'a ChatTemplate,
    /// Where the answer is to have reasoning.
    asked: String,
    /// Where it is not.
    unwanted: String,
    /// Before an earlier answer that has none.
    plain: String,
}

impl<'a> Trial<'a> {
    fn new(template: &'a ChatTemplate) -> Self {
        let after = |wanted, rest: &[serde_json::Value]| rendered(template, wanted, rest, false);
        let text = |written: Option<String>| written.unwrap_or_default().trim_end().to_string();
        let talk = [answer(false, json!({})), json!({ "role": "user", "content": "trial, again" })];
        let plain = after(true, &talk).and_then(|w| Some(w.split_once(ANSWER)?.0.to_string()));
        Self {
            template,
            asked: text(after(true, &[])),
            unwanted: text(after(false, &[])),
            plain: text(plain),
        }
    }

    /// From the markers around the reasoning of an answer.
    fn written(&self) -> Option<Reasoning> {
        let call = json!({ "id": "trial0001", "type": "function",
            "function": { "name": "trial_of_tool", "arguments": { "trial_key": "trial value" } } });
        let parts = json!([{ "type": "thinking", "thinking": THOUGHT }, { "type": "text", "text": ANSWER }]);
        [
            (answer(true, json!({})), false),
            // Some write it only before a call.
            (answer(true, json!({ "tool_calls": [call] })), true),
            (json!({ "role": "assistant", "content": parts }), false),
        ]
        .into_iter()
        .find_map(|(answer, has_call)| {
            let written = rendered(self.template, true, &[answer], has_call)?;
            let (before, after) = written.split_once(THOUGHT)?;
            self.around(before, after, has_call)
        })
    }

    fn around(&self, before: &str, after: &str, has_call: bool) -> Option<Reasoning> {
        let (middle, rest) = match after.split_once(ANSWER) {
            Some((middle, rest)) => (middle.trim(), rest),
            None => (after.trim(), ""),
        };
        let before = before.trim_end();
        let longer = |text: &str, begin: &str| text.strip_prefix(begin).map(|rest| rest.trim().to_string());
        let open = longer(before, &self.asked)
            .filter(|rest| !rest.is_empty())
            .or_else(|| longer(&self.asked, before).filter(|rest| !rest.is_empty()))
            .or_else(|| last_run(before).map(str::to_string))?;
        let close = first_run(middle, before).to_string();
        // A list that was written as JSON or in Python's way.
        let is_marker = |text: &str| !text.is_empty() && !text.contains(['{', '"', '\'']);
        if !is_marker(&open) || !is_marker(&close) {
            return None;
        }
        let begins = match middle[close.len()..].trim() {
            begins if !has_call && last_tag(begins).is_some() => begins.to_string(),
            _ => String::new(),
        };
        let mut found = Reasoning { open, close, begins, dropped: Vec::new() };
        found.dropped = self.dropped(&found, before, rest);
        Some(found)
    }

    /// Markers around content, where it has such.
    fn dropped(&self, found: &Reasoning, before: &str, rest: &str) -> Vec<String> {
        if found.begins.is_empty() {
            return Vec::new();
        }
        // Of an answer without reasoning.
        let own =
            self.plain.strip_prefix(&self.asked).map(str::trim).filter(|own| !own.contains(&found.close));
        let own = own.unwrap_or_default();
        let header = found.begins.strip_suffix(own).filter(|_| !own.is_empty()).map(str::trim_end);
        let mut dropped = vec![header.filter(|text| !text.is_empty()).unwrap_or(&found.begins), own];
        let markers = [found.open.as_str(), &found.close, &found.begins];
        let end = known_tags(first_run(rest, before), &markers);
        if end != found.close {
            dropped.extend([end, known_tags(&rest[end.len()..], &markers)]);
        }
        dropped.into_iter().filter(|text| !text.is_empty()).map(str::to_string).collect()
    }

    /// From the empty reasoning of answers that have none.
    fn emptied(&self) -> Option<Reasoning> {
        [&self.unwanted, &self.plain].into_iter().find_map(|written| {
            let close = last_tag(written)?;
            let open = close.replacen('/', "", 1);
            let before = written[..written.len() - close.len()].trim_end();
            let is_pair = close[1..].starts_with('/') && before.ends_with(&open);
            is_pair.then(|| Reasoning { open, close: close.into(), ..Reasoning::default() })
        })
    }

    /// From the end of the prompt, where the template knows the tag that closes it.
    fn opened(&self, source: &str) -> Option<Reasoning> {
        let open = last_tag(&self.asked)?;
        let close = format!("{}/{}", &open[..1], &open[1..]);
        // One that is also there without reasoning begins an answer.
        let is_found = source.contains(&close) && !self.plain.ends_with(open);
        is_found.then(|| Reasoning { open: open.into(), close, ..Reasoning::default() })
    }
}

/// What a template writes after the question of a conversation that goes on with these messages.
fn rendered(
    template: &ChatTemplate,
    is_wanted: bool,
    rest: &[serde_json::Value],
    has_tools: bool,
) -> Option<String> {
    let messages: Vec<Message> = std::iter::once(Message::new("user", QUESTION))
        .chain(rest.iter().map(|message| Message(value_of(message.clone()))))
        .collect();
    let mut variables = Variables::default();
    for name in ["enable_thinking", "thinking"] {
        variables.other.insert(name.into(), Value::from(is_wanted));
    }
    if is_wanted {
        variables.other.insert("reasoning_effort".into(), Value::from("high"));
    }
    variables.tools = has_tools.then(|| value_of(Tools::trial()));
    let rendered = template.tried(&messages, &variables)?;
    after_question(&rendered, QUESTION).map(str::to_string)
}

/// An answer, with reasoning under each of the names that templates know.
fn answer(has_reasoning: bool, more: serde_json::Value) -> serde_json::Value {
    let mut message = json!({ "role": "assistant", "content": ANSWER });
    if let (Some(message), serde_json::Value::Object(more)) = (message.as_object_mut(), more) {
        message.extend(more);
        for name in ["reasoning_content", "reasoning", "thinking"].iter().filter(|_| has_reasoning) {
            message.insert((*name).into(), THOUGHT.into());
        }
    }
    message
}

/// Where the tag begins that a text ends with, such as `<think>` or `[THINK]`.
fn last_tag(text: &str) -> Option<&str> {
    let begins = match text.chars().last()? {
        '>' => '<',
        ']' => '[',
        _ => return None,
    };
    text.rfind(begins).map(|at| &text[at..])
}

/// Where the tag ends that begins at `at`.
fn tag_end(text: &str, at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let ends = match rest.chars().next()? {
        '<' => '>',
        '[' => ']',
        _ => return None,
    };
    Some(at + rest.find(ends)? + 1)
}

/// The tag at the end of a text; if it is there more than once, with as many tags before it as make it
/// unlike all others.
fn last_run(text: &str) -> Option<&str> {
    let first = last_tag(text)?;
    let mut at = text.len() - first.len();
    while text.find(&text[at..]).is_some_and(|other| other < at) {
        let Some(end) = text[..at].rfind(['>', ']']) else { return Some(first) };
        let Some(tag) = last_tag(&text[..=end]) else { return Some(first) };
        at = end + 1 - tag.len();
    }
    Some(&text[at..])
}

/// The tag at the beginning of a text, or its first line; if the tag is also in the text before, with as many
/// tags after it as make it unlike all there, unless that is everything.
fn first_run<'a>(text: &'a str, before: &str) -> &'a str {
    let Some(first) = tag_end(text, 0) else { return text.lines().next().unwrap_or_default().trim_end() };
    let mut end = first;
    while before.contains(&text[..end]) {
        let next = text[end..].find(['<', '[']).and_then(|at| tag_end(text, end + at));
        end = match next {
            Some(next) if next < text.len() => next,
            _ => return &text[..first],
        };
    }
    &text[..end]
}

/// The beginning of a text whose tags are all in these markers.
fn known_tags<'a>(text: &'a str, markers: &[&str]) -> &'a str {
    let mut end = 0;
    while let Some(at) = text[end..].find(['<', '[']).map(|at| end + at)
        && let Some(next) = tag_end(text, at)
        && markers.iter().any(|marker| marker.contains(&text[at..next]))
    {
        end = next;
    }
    &text[..end]
}
