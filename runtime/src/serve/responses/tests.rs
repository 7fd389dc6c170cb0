//! The golden responses, which the package is checked against too: what a request becomes, and its events.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::super::reply::{End, Piece};
use super::super::worker::Failure;
use super::builder::Builder;
use super::*;
use nomoat_runtime::engine::{CallDelta, FinishReason, Timings, Usage};
use serde_json::{Map, json};
use std::collections::HashMap;
use std::path::Path;

fn golden(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/responses").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A case's request, as the server reads it.
fn request(case: &Value) -> Map<String, Value> {
    params::object(case["request"].to_string().as_bytes()).unwrap()
}

/// The pieces of the answer, and its counts.
fn answer(case: &Value) -> (Vec<Piece>, Usage) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let piece = |value: &Value| {
        let calls = value["calls"].as_array().into_iter().flatten().map(|call| CallDelta {
            index: call["index"].as_u64().unwrap() as usize,
            name: call["name"].as_str().map(str::to_owned),
            arguments: text(&call["arguments"]),
        });
        let calls = calls.collect();
        Piece {
            text: text(&value["text"]),
            reasoning: text(&value["reasoning"]),
            calls,
            ..Piece::new(0, Vec::new())
        }
    };
    let mut pieces: Vec<Piece> = case["pieces"].as_array().unwrap().iter().map(piece).collect();
    let end = &case["end"];
    let count = |i: usize| end["counts"][i].as_u64().unwrap_or(0) as usize;
    let usage = Usage {
        prompt_tokens: count(0),
        completion_tokens: count(1),
        cached_tokens: count(2),
        reasoning_tokens: count(3),
        ..Usage::default()
    };
    if end.is_object() {
        let finish_reason = match end["finish_reason"].as_str().unwrap() {
            "stop" => FinishReason::Stop,
            "length" => FinishReason::Length,
            "tool_calls" => FinishReason::ToolCalls,
            other => panic!("{other}"),
        };
        let timings = Timings { prefill_ms: 1.0, decode_ms: 1.0, dispatches_per_token: 1 };
        let last = End { finish_reason, context_full: false, usage, timings };
        pieces.push(Piece { end: Some(last), ..piece(end) });
    }
    (pieces, usage)
}

/// Replaces ids by their kind and number, and times by 0. Each event has at most one new id of a kind.
#[derive(Default)]
struct Normal {
    names: HashMap<String, String>,
    counts: HashMap<String, usize>,
}

impl Normal {
    fn walk(&mut self, value: &mut Value, key: &str) {
        let is_hex = |text: &str, n| text.len() == n && text.bytes().all(|b| b.is_ascii_hexdigit());
        match value {
            Value::Number(_) if key == "created_at" => *value = 0.into(),
            Value::String(text) => {
                let kind = match text.split_once('_') {
                    Some((kind, hex)) if key != "call_id" && is_hex(hex, 24) => kind,
                    None if key == "call_id" && is_hex(text, 9) => "call",
                    _ => return,
                };
                let count = self.counts.entry(kind.to_owned()).or_default();
                let name = self.names.entry(text.clone()).or_insert_with(|| {
                    *count += 1;
                    format!("{kind}_{}", *count - 1)
                });
                *text = name.clone();
            }
            Value::Array(list) => list.iter_mut().for_each(|item| self.walk(item, "")),
            Value::Object(map) => map.iter_mut().for_each(|(name, member)| self.walk(member, name)),
            _ => {}
        }
    }
}

#[test]
fn requests_become_the_golden_chats() {
    for case in golden("cases.json") {
        let chat = input::chat(&request(&case), |_| None).unwrap();
        assert_eq!(Value::Object(chat.clone()), case["chat"], "{}", case["name"]);
        // Which is a chat's request.
        params::chat_of(chat).unwrap();
    }
}

#[test]
fn answers_become_the_golden_events() {
    for case in golden("cases.json") {
        let (pieces, usage) = answer(&case);
        let mut builder = Builder::new("m", &request(&case));
        let mut found = builder.begin();
        found.extend(pieces.into_iter().flat_map(|piece| builder.add(piece, usage)));
        if let Some(message) = case["fails"]["message"].as_str() {
            assert_eq!(case["fails"]["code"], "internal");
            found.push(builder.fail(&Failure { code: "internal", message: message.into() }.into()));
        }
        let mut normal = Normal::default();
        found.iter_mut().for_each(|event| normal.walk(event, ""));
        let mut begun = case["response"].clone();
        for name in ["error", "incomplete_details", "usage"] {
            begun[name] = Value::Null;
        }
        begun["status"] = "in_progress".into();
        begun["output"] = json!([]);
        let mut expected = case["events"].as_array().unwrap().clone();
        for (number, event) in expected.iter_mut().enumerate() {
            event["sequence_number"] = number.into();
            match event["response"].as_str() {
                Some("begun") => event["response"] = begun.clone(),
                Some(_) => event["response"] = case["response"].clone(),
                None => drop(event.as_object_mut().unwrap().remove("response")),
            }
        }
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "{}", case["name"]);
        }
        assert_eq!(found.len(), expected.len(), "{}", case["name"]);
    }
}

#[test]
fn answers_become_the_golden_responses() {
    for case in golden("cases.json").into_iter().filter(|case| case["fails"].is_null()) {
        let (pieces, usage) = answer(&case);
        let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::new());
        let mut finish_reason = None;
        for piece in pieces {
            text.push_str(&piece.text);
            reasoning.push_str(&piece.reasoning);
            piece.calls.into_iter().for_each(|call| add_call(&mut calls, call));
            finish_reason = piece.end.map(|end| end.finish_reason);
        }
        let mut builder = Builder::new("m", &request(&case));
        let mut found = builder.whole(text, reasoning, &calls, finish_reason, usage);
        Normal::default().walk(&mut found, "");
        let mut expected = case["response"].clone();
        // In one piece, items are sorted by their kinds.
        if let (Some(kinds), Some(items)) = (case["whole"].as_array(), expected["output"].as_array_mut()) {
            items.sort_by_key(|item| kinds.iter().position(|kind| *kind == item["type"]));
        }
        assert_eq!(found, expected, "{}", case["name"]);
    }
}
