//! How a chat's answer becomes a response or its events. The package does the same
//! (`pkg/src/api/response-builder.ts`), and both are checked against `tests/golden/responses`.

use super::super::error::ApiError;
use super::super::reply::{Piece, call_id, now};
use nomoat_runtime::engine::{FinishReason, Usage};
use serde_json::{Map, Value, json};

/// Builds the objects of one response.
pub struct Builder {
    /// The response as it begins.
    head: Value,
    /// In the order in which they begin; each ends when the next one begins.
    output: Vec<Item>,
    /// Events so far.
    n_events: usize,
}

/// An item of the output.
struct Item {
    id: String,
    kind: Kind,
    /// The text, or a call's arguments.
    text: String,
    status: &'static str,
}

#[derive(PartialEq)]
enum Kind {
    Message,
    Reasoning,
    Call { call_id: String, name: String },
}

impl Builder {
    pub fn new(model: &str, given: &Map<String, Value>) -> Self {
        let or = |name: &str, otherwise: Value| given.get(name).cloned().unwrap_or(otherwise);
        let format = given.get("text").and_then(|text| text.get("format")).filter(|format| !format.is_null());
        let head = json!({
            "id": random_id("resp"),
            "object": "response",
            "created_at": now(),
            "model": model,
            "status": "in_progress",
            "error": null,
            "incomplete_details": null,
            "instructions": or("instructions", Value::Null),
            "max_output_tokens": or("max_output_tokens", Value::Null),
            "metadata": or("metadata", json!({})),
            "output": [],
            "parallel_tool_calls": or("parallel_tool_calls", true.into()),
            "previous_response_id": null,
            "temperature": or("temperature", 1.into()),
            "text": { "format": format.cloned().unwrap_or_else(|| json!({ "type": "text" })) },
            "tool_choice": or("tool_choice", "auto".into()),
            "tools": or("tools", json!([])),
            "top_p": or("top_p", 1.into()),
            "usage": null,
        });
        Self { head, output: Vec::new(), n_events: 0 }
    }

    /// The response in one piece, of a chat's calls.
    pub fn whole(
        &mut self,
        text: String,
        reasoning: String,
        calls: &[Value],
        finish_reason: Option<FinishReason>,
        usage: Usage,
    ) -> Value {
        if !reasoning.is_empty() {
            self.output.push(Item::new(Kind::Reasoning, reasoning));
        }
        if !text.is_empty() || calls.is_empty() {
            self.output.push(Item::new(Kind::Message, text));
        }
        for call in calls {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let function = &call["function"];
            let kind = Kind::Call { call_id: text(&call["id"]), name: text(&function["name"]) };
            self.output.push(Item::new(kind, text(&function["arguments"])));
        }
        self.ended(finish_reason, usage)
    }

    /// The first events of a stream.
    pub fn begin(&mut self) -> Vec<Value> {
        let head = self.head.clone();
        ["response.created", "response.in_progress"]
            .map(|name| self.event(json!({ "type": name, "response": head })))
            .into()
    }

    /// The events of a piece; `usage` is told at the end.
    pub fn add(&mut self, piece: Piece, usage: Usage) -> Vec<Value> {
        let Piece { text, reasoning, calls, end, .. } = piece;
        let mut events = Vec::new();
        if !reasoning.is_empty() {
            if self.output.last().is_none_or(|last| last.kind != Kind::Reasoning) {
                self.start(Kind::Reasoning, &mut events);
            }
            self.append("response.reasoning_text.delta", &reasoning, &mut events);
        }
        if !text.is_empty() {
            if self.output.last().is_none_or(|last| last.kind != Kind::Message) {
                self.start(Kind::Message, &mut events);
            }
            self.append("response.output_text.delta", &text, &mut events);
        }
        for call in calls {
            if let Some(name) = call.name {
                self.start(Kind::Call { call_id: call_id(), name }, &mut events);
            }
            if !call.arguments.is_empty() {
                self.append("response.function_call_arguments.delta", &call.arguments, &mut events);
            }
        }
        if let Some(end) = end {
            self.end(end.finish_reason, usage, &mut events);
        }
        events
    }

    /// The event of an answer that failed.
    pub fn fail(&mut self, error: &ApiError) -> Value {
        let mut response = self.head.clone();
        response["status"] = "failed".into();
        response["error"] = json!({ "code": error.code(), "message": error.message() });
        self.event(json!({ "type": "response.failed", "response": response }))
    }

    fn end(&mut self, finish_reason: FinishReason, usage: Usage, events: &mut Vec<Value>) {
        if self.output.iter().all(|item| item.kind == Kind::Reasoning) {
            self.start(Kind::Message, events);
        }
        let response = self.ended(Some(finish_reason), usage);
        self.done(events);
        let name = if response["status"] == "completed" { "completed" } else { "incomplete" };
        events.push(self.event(json!({ "type": format!("response.{name}"), "response": response })));
    }

    /// The response at the end of its answer.
    fn ended(&mut self, finish_reason: Option<FinishReason>, usage: Usage) -> Value {
        let is_cut = finish_reason == Some(FinishReason::Length);
        for item in &mut self.output {
            item.status = "completed";
        }
        // What was cut off is the last one.
        if let Some(last) = self.output.last_mut().filter(|_| is_cut) {
            last.status = "incomplete";
        }
        let mut response = self.head.clone();
        response["status"] = if is_cut { "incomplete" } else { "completed" }.into();
        if is_cut {
            response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        response["output"] = self.output.iter().map(Item::to_json).collect();
        let Usage { prompt_tokens, completion_tokens, cached_tokens, reasoning_tokens, .. } = usage;
        response["usage"] = json!({
            "input_tokens": prompt_tokens,
            "input_tokens_details": { "cached_tokens": cached_tokens },
            "output_tokens": completion_tokens,
            "output_tokens_details": { "reasoning_tokens": reasoning_tokens },
            "total_tokens": prompt_tokens + completion_tokens,
        });
        response
    }

    fn event(&mut self, mut body: Value) -> Value {
        body["sequence_number"] = self.n_events.into();
        self.n_events += 1;
        body
    }

    /// An item begins, still empty. The one before it has ended.
    fn start(&mut self, kind: Kind, events: &mut Vec<Value>) {
        if let Some(last) = self.output.last_mut() {
            last.status = "completed";
            self.done(events);
        }
        let item = Item::new(kind, String::new());
        let (mut empty, part) = (item.to_json(), item.part());
        self.output.push(item);
        if part.is_some() {
            empty["content"] = json!([]);
        }
        let output_index = self.output.len() - 1;
        let added =
            json!({ "type": "response.output_item.added", "output_index": output_index, "item": empty });
        events.push(self.event(added));
        if let Some(part) = part {
            let added = json!({ "type": "response.content_part.added", "part": part });
            self.placed(added, events);
        }
    }

    /// Adds to the last item.
    fn append(&mut self, name: &str, delta: &str, events: &mut Vec<Value>) {
        let Some(last) = self.output.last_mut() else { return };
        last.text.push_str(delta);
        self.placed(json!({ "type": name, "delta": delta }), events);
    }

    /// The events at the end of the last item.
    fn done(&mut self, events: &mut Vec<Value>) {
        let Some(last) = self.output.last() else { return };
        let (item, part, text) = (last.to_json(), last.part(), last.text.clone());
        let done = match &last.kind {
            Kind::Call { name, .. } => {
                json!({ "type": "response.function_call_arguments.done", "name": name, "arguments": text })
            }
            Kind::Message => json!({ "type": "response.output_text.done", "text": text }),
            Kind::Reasoning => json!({ "type": "response.reasoning_text.done", "text": text }),
        };
        self.placed(done, events);
        if let Some(part) = part {
            self.placed(json!({ "type": "response.content_part.done", "part": part }), events);
        }
        let output_index = self.output.len() - 1;
        let done = json!({ "type": "response.output_item.done", "output_index": output_index, "item": item });
        events.push(self.event(done));
    }

    /// An event about the last item, which says so.
    fn placed(&mut self, mut event: Value, events: &mut Vec<Value>) {
        let Some(last) = self.output.last() else { return };
        event["item_id"] = last.id.clone().into();
        event["output_index"] = (self.output.len() - 1).into();
        if !matches!(last.kind, Kind::Call { .. }) {
            event["content_index"] = 0.into();
        }
        if event["type"].as_str().is_some_and(|name| name.starts_with("response.output_text")) {
            event["logprobs"] = json!([]);
        }
        events.push(self.event(event));
    }
}

impl Item {
    fn new(kind: Kind, text: String) -> Self {
        let prefix = match kind {
            Kind::Message => "msg",
            Kind::Reasoning => "rs",
            Kind::Call { .. } => "fc",
        };
        Self { id: random_id(prefix), kind, text, status: "in_progress" }
    }

    /// Its content; none of a call.
    fn part(&self) -> Option<Value> {
        match self.kind {
            Kind::Message => {
                Some(json!({ "type": "output_text", "text": self.text, "annotations": [], "logprobs": [] }))
            }
            Kind::Reasoning => Some(json!({ "type": "reasoning_text", "text": self.text })),
            Kind::Call { .. } => None,
        }
    }

    fn to_json(&self) -> Value {
        let mut item = match &self.kind {
            Kind::Message => json!({ "type": "message", "role": "assistant", "content": [self.part()] }),
            Kind::Reasoning => json!({ "type": "reasoning", "summary": [], "content": [self.part()] }),
            Kind::Call { call_id, name } => {
                let arguments = &self.text;
                json!({ "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments })
            }
        };
        item["id"] = self.id.clone().into();
        item["status"] = self.status.into();
        item
    }
}

/// 96 random bits after a prefix.
fn random_id(prefix: &str) -> String {
    let (high, low) = (getrandom::u64().unwrap_or(0), getrandom::u32().unwrap_or(0));
    format!("{prefix}_{high:016x}{low:08x}")
}
