//! Response templates that are given or known, and formats whose prompt begins a part of the answer.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::gguf::Metadata;
use crate::text::chat::tests::expected;
use crate::text::tests::pieces;
use crate::text::{ChatTemplate, Message, ToolPrompt, Variables};
use serde_json::{Value, json};

fn smallest() -> Value {
    json!({ "start_anchor": "assistant\n", "fields": { "content": { "content": "text" } } })
}

/// What is wrong with the smallest response template and this value in it.
fn refused(pointer: &str, value: Value) -> String {
    let mut template = smallest();
    let (outer, key) = pointer.rsplit_once('/').unwrap();
    template.pointer_mut(outer).unwrap()[key] = value;
    Given::new(&template.to_string()).unwrap_err().key
}

#[test]
fn what_is_not_supported_is_named() {
    let call = json!({ "type": "function", "function": { "name": "{name}", "arguments": "{content}" } });
    let calls = |open: &str, content: &str, args: Value| {
        let mut field =
            json!({ "open_pattern": open, "close": "</c>", "content": content, "transform": call });
        field["content_args"] = args;
        field
    };
    let name = "<c>(?P<name>\\w+)";
    for (pointer, value, key) in [
        ("/version", json!(2), "version"),
        ("/more", json!(1), "more"),
        ("/start_anchor", json!(""), "start_anchor"),
        ("/start_anchor_pattern", json!("a"), "start_anchor_pattern"),
        ("/defaults", json!({ "content": "a" }), "defaults.content"),
        ("/fields", json!({}), "fields"),
        ("/fields/audio", json!({ "open": "a" }), "fields.audio"),
        ("/fields/content/content", json!("int"), "fields.content.content"),
        ("/fields/content/join", json!(", "), "fields.content.join"),
        ("/fields/content/optional", json!(false), "fields.content.optional"),
        ("/fields/content/close", json!([]), "fields.content.close"),
        ("/fields/content/close_pattern", json!("(a+)+$"), "fields.content.close_pattern"),
        ("/fields/content/other", json!(1), "fields.content.other"),
        ("/fields/thinking", json!({ "close": "</t>" }), "fields.thinking.open"),
        ("/fields/thinking", json!({ "open": "<t>" }), "fields.thinking.close"),
        ("/fields/tool_calls", json!({ "open": "<c>" }), "fields.tool_calls.transform"),
        ("/fields/tool_calls", calls(name, "kv-lines", json!({})), "fields.tool_calls.content"),
        ("/fields/tool_calls", calls(name, "json", json!({ "x": 1 })), "fields.tool_calls.content_args.x"),
        (
            "/fields/tool_calls",
            calls(name, "xml-inline", json!({})),
            "fields.tool_calls.content_args.tag_pattern",
        ),
        ("/fields/tool_calls", calls("(a|b)c(?=d)", "json", json!({})), "fields.tool_calls.open_pattern"),
    ] {
        assert_eq!(refused(pointer, value.clone()), key, "{value}");
    }
    assert!(Given::new(&smallest().to_string()).is_ok());
}

#[test]
fn hostile_response_templates_end_in_errors() {
    for text in ["[]".into(), "{".into(), "[".repeat(60_000), format!("\"{}\"", "a".repeat(100_000))] {
        assert_eq!(Given::new(&text).unwrap_err().key, "response_template");
    }
    let key = "fields.content.close_pattern";
    let patterns =
        ["(?:a|b)".repeat(1000), "a|".repeat(1000), "(".repeat(2000), "(?:(?:".repeat(300), "a".repeat(3000)];
    for pattern in patterns {
        assert_eq!(refused("/fields/content/close_pattern", pattern.into()), key);
    }
}

/// Two fields that have markers, and text that has none: worked out by hand.
#[test]
fn text_without_a_field_is_left_out() {
    let template = json!({ "start_anchor": "A:", "fields": {
        "thinking": { "open": "<t>", "close": ["</t>"] },
        "content": { "open": "<c>", "close": "</c>" }
    } });
    let Given { reasoning, content, calls } = Given::new(&template.to_string()).unwrap();
    let format = Format { reasoning, content, calls };
    let answer = "a <t> b </t> c <c> d\n</c> e";
    for (cut, _) in answer.char_indices() {
        let mut separator = Separator::new(format.clone(), "A:");
        let mut parts = separator.push(&answer[..cut]);
        parts.append(separator.push(&answer[cut..]));
        parts.append(separator.flush());
        assert_eq!((parts.reasoning.as_str(), parts.content.trim_end()), ("b", "d"), "cut at {cut}");
    }
}

#[test]
fn known_response_templates_are_right() {
    assert_eq!(Given::all_known().filter(|(_, given)| given.is_err()).collect::<Vec<_>>(), []);
    let expected = expected();
    let tools = serde_json::to_value(expected.tools("call")).unwrap();
    let tools = Arc::new(Tools::new(&tools).unwrap());
    for name in ["LFM2-8B-A1B", "LFM2.5-Instruct"] {
        let chat = expected.templates[name].chat();
        let tool_use = chat.tool_use();
        assert_eq!(tool_use.prompt, ToolPrompt::Template, "{name}");
        // As its makers' page has it.
        let answer = "<|tool_call_start|>[get_weather(city=\"Rome\", days=3)]<|tool_call_end|>Looking.";
        let format = Format { calls: Some(tool_use.calls.clone()), ..chat.format() };
        let parts = Separator::new(format, "").with_tools(tools.clone(), false).all(answer);
        let call = json!({ "city": "Rome", "days": 3 });
        assert_eq!(whole(&parts.calls), [("get_weather".to_string(), Some(call.clone()))], "{name}");
        assert_eq!(parts.content, "Looking.", "{name}");
        // The template leaves out calls: they are a part of the content.
        let calls = json!([{ "id": "a", "type": "function",
            "function": { "name": "get_weather", "arguments": call.to_string() } }]);
        let messages = json!([{ "role": "user", "content": "Weather?" },
            { "role": "assistant", "content": null, "tool_calls": calls }]);
        let messages: Vec<Message> = serde_json::from_value(messages).unwrap();
        let variables = Variables { tools: expected.tools("call").cloned(), ..Variables::default() };
        let messages = tool_use.prepare(&messages, variables.tools.as_ref());
        let prompt = chat.render(&messages, &variables).unwrap();
        let shown =
            "assistant\n<|tool_call_start|>[get_weather(city='Rome', days=3)]<|tool_call_end|><|im_end|>";
        assert!(prompt.contains(shown), "{name}: {prompt}");
    }
}

/// The prompt of Functionary 3.2 ends with `>>>`.
#[test]
fn the_prompt_may_begin_a_marker() {
    let chat = expected().templates["meetkai-functionary-medium-v3.2"].chat();
    let tools = Arc::new(Tools::new(&json!([{ "name": "f" }])).unwrap());
    let calls = Format { calls: Some(chat.tool_use().calls), ..chat.format() };
    for (format, answer, content, n_calls) in [
        (chat.format(), "all\nHello >>> you", "Hello >>> you", 0),
        (chat.format(), "Hello", "Hello", 0),
        (calls.clone(), "all\nHi >>> f x.>>>f\n{\"a\": 1}", "Hi >>> f x.", 1),
        (calls.clone(), "f\n{}>>>f\n{}", "", 2),
        (calls.clone(), "g\n{}", "g\n{}", 0),
        (calls, "", "", 0),
    ] {
        for (cut, _) in answer.char_indices() {
            let mut separator =
                Separator::new(format.clone(), "assistant\n\n>>>").with_tools(tools.clone(), false);
            let mut parts = separator.push(&answer[..cut]);
            parts.append(separator.push(&answer[cut..]));
            parts.append(separator.flush());
            assert_eq!(
                (parts.content.as_str(), whole(&parts.calls).len()),
                (content, n_calls),
                "{answer} cut at {cut}"
            );
        }
    }
}

#[test]
fn a_file_may_have_a_response_template() {
    let mut metadata = pieces();
    let tokenizer = Tokenizer::from_metadata(&mut metadata).unwrap();
    metadata.insert("tokenizer.chat_template", "{{ messages[0].content }}{# <think></think> #}");
    let opens = |metadata: &Metadata, given: Option<&str>| {
        let template = ChatTemplate::from_metadata(metadata, &tokenizer).unwrap().unwrap();
        let template = match given {
            Some(json) => template.with_response_template(json),
            None => Ok(template),
        };
        template.map(|template| template.format().reasoning.unwrap().open.clone())
    };
    let of = |open: &str| {
        let fields = json!({ "thinking": { "open": open, "close": "</r>" } });
        json!({ "start_anchor": "A:", "fields": fields }).to_string()
    };
    assert_eq!(opens(&metadata, None).unwrap(), "<think>");
    metadata.insert("tokenizer.response_template", of("<r>").as_str());
    assert_eq!(opens(&metadata, None).unwrap(), "<r>");
    assert_eq!(opens(&metadata, Some(&of("<s>"))).unwrap(), "<s>");
    let error = opens(&metadata, Some("{}")).unwrap_err();
    assert_eq!(error.code(), "invalid_request");
    assert!(error.to_string().contains("`start_anchor`"), "{error}");
    // What is not supported stays unused.
    metadata.insert("tokenizer.response_template", "{}");
    assert_eq!(opens(&metadata, None).unwrap(), "<think>");
}
