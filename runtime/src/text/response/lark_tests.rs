//! Grammars of calls, for all formats: they accept what the template writes of a call, and refuse others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::oracle_tests::Case;
use super::shape::section;
use super::*;
use crate::gguf::Metadata;
use crate::text::bytes::byte_to_char;
use crate::text::chat::all_written;
use crate::text::chat::tests::expected;
use crate::text::grammar::{Constraint, Grammars, grammars_of};
use serde_json::{Value, json};

/// A vocabulary of bytes, and of markers, which are control tokens.
fn tokenizer(markers: &[String]) -> Arc<Tokenizer> {
    let bytes = (0..=255).map(|byte| (byte_to_char(byte).to_string(), 1));
    let control = ["<s>", "</s>"].map(String::from).into_iter().chain(markers.iter().cloned());
    let (tokens, types): (Vec<String>, Vec<i32>) = bytes.chain(control.map(|token| (token, 3))).unzip();
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.ggml.model", "gpt2");
    metadata.insert("tokenizer.ggml.pre", "gpt-2");
    metadata.insert("tokenizer.ggml.tokens", tokens);
    metadata.insert("tokenizer.ggml.token_type", types);
    metadata.insert("tokenizer.ggml.merges", &[][..] as &[&str]);
    metadata.insert("tokenizer.ggml.eos_token_id", 257_u32);
    Arc::new(Tokenizer::from_metadata(&mut metadata).unwrap())
}

/// What may be tokens in what a template writes: words in angle brackets, and capitals in square ones.
fn markers_in(text: &str) -> Vec<String> {
    let regex = fancy_regex::Regex::new(r"<[|｜][^<>]*?[|｜]>|</?[a-z_:]+>|\[/?[A-Z_]+\]").unwrap();
    let mut all: Vec<String> =
        regex.find_iter(text).map(|found| found.unwrap().as_str().to_string()).collect();
    all.sort();
    all.dedup();
    all.retain(|marker| !["<s>", "</s>", "<b>"].contains(&marker.as_str()));
    all
}

/// A model with this vocabulary, and its parser.
struct Model {
    tokenizer: Arc<Tokenizer>,
    grammars: Grammars,
}

impl Model {
    fn new(markers: &[String]) -> Self {
        let tokenizer = tokenizer(markers);
        let grammars = grammars_of(&tokenizer).unwrap();
        Self { tokenizer, grammars }
    }

    /// Markers where they are spelled, and bytes.
    fn ids(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut from = 0;
        let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
        for (start, end) in self.tokenizer.markers_in(text) {
            ids.extend(bytes(&text[from..start]));
            ids.push(self.tokenizer.id_of(&text[start..end]).unwrap());
            from = end;
        }
        ids.extend(bytes(&text[from..]));
        ids
    }

    /// Why an answer is refused, with its beginning that is not.
    fn refuses(&self, lark: &str, answer: &str) -> Option<String> {
        let mut grammar = match self.grammars.compile(&Constraint::Lark(lark.into())) {
            Ok(grammar) => grammar,
            Err(error) => return Some(format!("{error}\n{lark}")),
        };
        let ids = self.ids(answer);
        for (i, id) in ids.iter().enumerate() {
            if let Err(error) = grammar.accept(*id) {
                let before: Vec<u8> = ids[..i]
                    .iter()
                    .flat_map(|id| match self.tokenizer.is_control(*id) {
                        true => self.tokenizer.spelled(*id).unwrap().into_bytes(),
                        false => vec![*id as u8],
                    })
                    .collect();
                return Some(format!("{error} after {:?}", String::from_utf8_lossy(&before)));
            }
        }
        if grammar.is_complete() {
            return None;
        }
        grammar.prepare().unwrap();
        (!grammar.allows(257)).then(|| "not complete".into())
    }
}

fn function(name: &str, parameters: &Value) -> Value {
    let description = "A tool.";
    json!({ "type": "function", "function": {
        "name": name, "description": description, "parameters": parameters, "strict": true
    } })
}

/// Properties in alphabetical order, as maps have them here.
fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "a_text": { "type": "string", "description": "A text." },
            "b_code": { "type": "string", "minLength": 2, "description": "A program." },
            "c_pick": { "enum": ["1", "2"], "description": "A digit." },
            "d_maybe": { "type": ["string", "null"], "description": "A text or nothing." },
            "e_n": { "type": "integer", "minimum": 2, "description": "A number." },
            "f_x": { "anyOf": [{ "type": "number" }, { "type": "null" }], "description": "A number." },
            "g_ok": { "type": "boolean", "description": "Yes or no." },
            "h_id": { "$ref": "#/$defs/id", "description": "A name." },
            "i_day": { "type": "string", "format": "date", "description": "A day." },
            "j_list": { "type": "array", "items": { "type": "number" }, "description": "Numbers." },
            "k_map": { "type": "object", "additionalProperties": { "type": "string" }, "title": "Texts" }
        },
        "required": ["a_text", "e_n"], "additionalProperties": false,
        "$defs": { "id": { "type": "string", "pattern": "^[a-z]+$", "maxLength": 3 } }
    })
}

const PROGRAM: &str = "if (a < b && c > \"d\") {\n    return '</a>';\n}";

/// Arguments that fit.
fn right() -> Vec<Value> {
    vec![
        json!({ "a_text": "Zürich", "e_n": 2 }),
        json!({ "a_text": "5", "b_code": PROGRAM, "c_pick": "2", "d_maybe": "some \"text\"", "e_n": 30,
                "f_x": 1.5, "g_ok": true, "h_id": "abc", "i_day": "2026-11-27" }),
        json!({ "a_text": "null", "d_maybe": null, "e_n": 7, "f_x": null, "g_ok": false }),
        json!({ "a_text": "[1]", "e_n": 7, "j_list": [], "k_map": {} }),
        json!({ "a_text": "a", "e_n": 7, "j_list": [1, 2.5], "k_map": { "b": "c", "d": "</e>" } }),
    ]
}

/// Arguments that do not.
fn wrong() -> Vec<Value> {
    vec![
        json!({ "a_text": "a" }),
        json!({ "e_n": 2 }),
        json!({ "a_text": "a", "e_n": "many" }),
        json!({ "a_text": "a", "e_n": 1 }),
        json!({ "a_text": "a", "e_n": 2, "f_x": true }),
        json!({ "a_text": "a", "e_n": 2, "other": "a" }),
        json!({ "a_text": "a", "b_code": "<", "e_n": 2 }),
        json!({ "a_text": "a", "c_pick": "3", "e_n": 2 }),
        json!({ "a_text": "a", "e_n": 2, "g_ok": "yes" }),
        json!({ "a_text": "a", "e_n": 2, "h_id": "abcd" }),
        json!({ "a_text": "a", "e_n": 2, "h_id": "A" }),
        json!({ "a_text": "a", "e_n": 2, "i_day": "tomorrow" }),
        json!({ "a_text": "a", "e_n": 2, "j_list": ["a"] }),
        json!({ "a_text": "a", "e_n": 2, "k_map": { "a": 1 } }),
    ]
}

/// Templates fail with some schemas; calls are written in the same way whatever the tools are.
fn shown() -> Value {
    let property = json!({ "type": "string", "description": "A text." });
    let parameters =
        json!({ "type": "object", "properties": { "a_text": property }, "required": ["a_text"] });
    json!([function("make_it", &parameters)])
}

/// Templates that write lists and maps as Python does, in which there is no JSON to hold.
const PYTHON: &[&str] = &["ByteDance-Seed-OSS", "openbmb-MiniCPM5-1B"];

/// Whether a template writes these arguments in a way that can be held. MiniCPM5's marks some texts as data
/// of XML, Reka's escapes what is not ASCII.
fn is_plain(name: &str, arguments: &Value) -> bool {
    let has = |key: &str| arguments.get(key).is_some();
    let is_python = PYTHON.contains(&name) && (has("j_list") || has("k_map"));
    let is_escaped = name == "Reka-Edge" && !arguments.to_string().is_ascii();
    let is_data = name == "openbmb-MiniCPM5-1B" && has("b_code");
    // A text with quotes, which it does not escape; what is null, which it leaves out.
    let is_lost = match name {
        "LFM2.5-8B-A1B" => has("b_code"),
        "MiniMax-M3" => {
            // A number in a map of texts is a text there.
            let is_text = arguments.pointer("/k_map/a").is_some_and(Value::is_number);
            is_text || ["d_maybe", "f_x"].iter().any(|key| arguments.get(key).is_some_and(Value::is_null))
        }
        _ => false,
    };
    !(is_python || is_escaped || is_data || is_lost)
}

#[test]
fn grammars_hold_calls_as_templates_write_them() {
    let expected = expected();
    let list = json!([function("make_it", &parameters()), function("now", &json!({}))]);
    let tools = Arc::new(Tools::new(&list).unwrap());
    let (mut problems, mut n) = (Vec::new(), 0);
    for (name, template) in &expected.templates {
        let chat = template.chat();
        let tool_use = chat.tool_use();
        // Some write no calls, but show or are known to have a format.
        let writes_calls = template.source.contains("tool_calls") || name.starts_with("Kimi");
        if tool_use.prompt == crate::text::ToolPrompt::BuiltIn || tool_use.written.is_empty() || !writes_calls
        {
            continue;
        }
        n += 1;
        let sample = format!("{}{}", tool_use.written, tool_use.written_two);
        for markers in [Vec::new(), markers_in(&sample)] {
            let model = Model::new(&markers);
            let format = Format { calls: Some(tool_use.calls.clone()), ..Format::default() };
            let wanted = |otherwise| {
                let wanted = Wanted { tools: &tools, otherwise, reasoning: None, is_reasoning: false };
                wanted.lark(&tool_use, &model.tokenizer).unwrap()
            };
            let (required, free) = (wanted(Otherwise::Nothing), wanted(Otherwise::Text));
            let kind = if markers.is_empty() { "text" } else { "tokens" };
            let mut blame =
                |what: &str, why: String| problems.push(format!("{name} ({kind}): {what}: {why}"));
            let written = |function: &str, arguments: &Value| {
                let all = all_written(&chat, &shown(), &[(function, arguments.clone())]);
                let sections =
                    all.iter().filter_map(|text| Some(section(&tool_use.calls, text)?.to_string()));
                sections.into_iter().next()
            };
            for arguments in right().iter().filter(|arguments| is_plain(name, arguments)) {
                let Some(text) = written("make_it", arguments) else {
                    blame("nothing written", arguments.to_string());
                    continue;
                };
                // What ends the answer is not passed on.
                let text = match model.ids(&text).last() {
                    Some(id) if model.tokenizer.stop_ids().contains(id) => {
                        let end = model.tokenizer.spelled(*id).unwrap();
                        text.strip_suffix(&end).unwrap().to_string()
                    }
                    _ => text,
                };
                if let Some(why) = model.refuses(&required, &text) {
                    blame("refused", format!("{text:?}: {why}"));
                }
                let answer =
                    if tool_use.calls.at_start { text.clone() } else { format!("Let me see.\n{text}") };
                if let Some(why) = model.refuses(&free, &answer) {
                    blame("refused in a text", format!("{answer:?}: {why}"));
                }
                let read = Separator::new(format.clone(), "").with_tools(tools.clone(), false).all(&text);
                if whole(&read.calls) != [("make_it".to_string(), Some(arguments.clone()))] {
                    blame("read", format!("{text:?} as {:?}", read.calls));
                }
            }
            for arguments in wrong().iter().filter(|arguments| is_plain(name, arguments)) {
                let text = written("make_it", arguments).unwrap_or_default();
                for (lark, what) in [(&required, "accepted"), (&free, "accepted in a text")] {
                    if model.refuses(lark, &text).is_none() {
                        blame(what, format!("{text:?}"));
                    }
                }
            }
            let other = written("make_that", &right()[0]).unwrap_or_default();
            if model.refuses(&required, &other).is_none() {
                blame("accepted", other);
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    assert_eq!(n, 56);
}

/// Whole answers: reasoning, text and calls.
#[test]
fn answers_with_strict_calls_are_accepted_as_templates_write_them() {
    let expected = expected();
    let mut list = serde_json::to_value(expected.tools("call")).unwrap();
    for tool in list.as_array_mut().unwrap() {
        tool["function"]["strict"] = json!(true);
    }
    let tools = Tools::new(&list).unwrap();
    let mut problems = Vec::new();
    for case in Case::all() {
        let chat = expected.templates[&case.template].chat();
        let (tool_use, format) = (chat.tool_use(), chat.format());
        // gpt-oss is known by the last two.
        let mut all = format!("{}{}{}", tool_use.written, tool_use.written_two, case.text());
        all.push_str("<|return|><|call|>");
        if let Some(reasoning) = &format.reasoning {
            all.extend(reasoning.markers().map(str::to_string).chain([reasoning.begins.clone()]));
        }
        for markers in [Vec::new(), markers_in(&all)] {
            // Channels are tokens.
            if markers.is_empty() && tool_use.calls.at_start && !tool_use.calls.keeps_open() {
                continue;
            }
            let model = Model::new(&markers);
            let reasoning = format.reasoning.as_deref();
            let is_reasoning = reasoning.is_some_and(|reasoning| reasoning.is_opened_by(&case.prompt));
            let wanted = Wanted { tools: &tools, otherwise: Otherwise::Text, reasoning, is_reasoning };
            let lark = wanted.lark(&tool_use, &model.tokenizer).unwrap();
            if let Some(why) = model.refuses(&lark, case.text()) {
                problems.push(format!("{}: {} ({}): {why}", case.template, case.answer, markers.len()));
            }
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
