//! Tool calls: what 70 templates write of a call is read as that call, however it is cut.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use serde_json::json;

/// Format, answer, content, calls: worked out by hand.
type Case = (&'static [&'static str], &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The first marker of a format of the table, an answer, its content, and its calls.
const ANSWERS: &[Case] = &[
    (
        &["<tool_call>", "</tool_call>"],
        "Let me see.\n<tool_call>\n{\"arguments\": {\"a\": \"}\\\"é\"}, \"name\": \"f\"}\n</tool_call>\n\
         <tool_call>\n{\"name\": \"g\"}\n</tool_call>",
        "Let me see.",
        &[("f", r#"{"a": "}\"é"}"#), ("g", "{}")],
    ),
    // Arguments as a text, as in OpenAI's API; another key.
    (
        &["<tool_call>", "</tool_call>"],
        r#"<tool_call>{"id": [1, "}"], "name": "f", "arguments": "{\"a\": 1}"}</tool_call>"#,
        "",
        &[("f", r#"{"a": 1}"#)],
    ),
    // No call in it, one that does not end, a marker that does not.
    (
        &["<tool_call>", "</tool_call>"],
        "a <tool_call> b </tool_call> c",
        "a <tool_call> b </tool_call> c",
        &[],
    ),
    (
        &["<tool_call>", "</tool_call>"],
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"a",
        "",
        &[("f", "{\"a")],
    ),
    (&["<tool_call>", "</tool_call>"], "a\n<tool_ca", "a\n<tool_ca", &[]),
    (
        &["[TOOL_CALLS]"],
        "[TOOL_CALLS]f[CALL_ID]x1[ARGS]{\"a\": [1]}[TOOL_CALLS]g[ARGS]{}",
        "",
        &[("f", r#"{"a": [1]}"#), ("g", "{}")],
    ),
    // Nothing marks it: JSON without a tool's name is content.
    (&["{\"name\":"], "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "", &[("f", r#"{"a": 1}"#)]),
    (&["{\"name\":"], "{\"name\": \"Bob\", \"age\": 3} x", "{\"name\": \"Bob\", \"age\": 3} x", &[]),
    (&["{\"name\":"], "a {\"name\": \"f\"}", "a {\"name\": \"f\"}", &[]),
    // What gpt-oss writes.
    (
        &["<|channel|>commentary to=functions."],
        "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{\"a\": 1}",
        "",
        &[("f", r#"{"a": 1}"#)],
    ),
    (
        &["<|tool_calls_section_begin|>"],
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"a\": 1}\
         <|tool_call_end|><|tool_calls_section_end|>",
        "",
        &[("f", r#"{"a": 1}"#)],
    ),
];

/// The arguments of `f` are typed by its schema, where a format does not type them.
const TAGGED: &[(&str, &str)] = &[
    (
        "</function>",
        "<tool_call>\n<function=f>\n<parameter=text>\n1 < 2\n</parameter>\n<parameter=n>\n2\n</parameter>\n\
         <parameter=other>\n[1, 2.0]\n</parameter>\n</function>\n</tool_call>",
    ),
    (
        "<arg_key>",
        "<tool_call>f\n<arg_key>text</arg_key>\n<arg_value>1 < 2</arg_value>\n<arg_key>n</arg_key>\n\
         <arg_value>2</arg_value>\n<arg_key>other</arg_key>\n<arg_value>[1, 2.0]</arg_value>\n</tool_call>",
    ),
];

fn tools() -> Arc<Tools> {
    let properties = json!({ "text": { "type": "string" }, "n": { "type": ["integer", "null"] } });
    let f = json!({ "name": "f", "parameters": { "type": "object", "properties": properties } });
    Arc::new(Tools::new(&json!([{ "type": "function", "function": f }, { "name": "g" }])).unwrap())
}

fn separator(calls: &Arc<Calls>) -> Separator {
    Separator::new(Format { calls: Some(calls.clone()), ..Format::default() }, "").with_tools(tools(), false)
}

/// Content and calls of an answer whose pieces are these.
fn read(calls: &Arc<Calls>, pieces: &[&str]) -> (String, Vec<(String, String)>) {
    let mut separator = separator(calls);
    let mut parts = Parts::default();
    for piece in pieces {
        parts.append(separator.push(piece));
    }
    parts.append(separator.flush());
    let calls = parts.calls.into_iter().map(|call| (call.name.unwrap_or_default(), call.arguments));
    (parts.content, calls.collect())
}

/// The same for every cut.
fn read_cut(calls: &Arc<Calls>, answer: &str) -> (String, Vec<(String, String)>) {
    let whole = read(calls, &[answer]);
    for (cut, _) in answer.char_indices() {
        let (a, b) = answer.split_at(cut);
        assert_eq!(read(calls, &[a, b]), whole, "{answer:?} cut at {cut}");
    }
    let single: Vec<&str> = answer.split("").collect();
    assert_eq!(read(calls, &single), whole, "{answer:?} character by character");
    whole
}

#[test]
fn calls_are_separated_however_the_answer_is_cut() {
    for (markers, answer, content, calls) in ANSWERS {
        let format = Calls::with_markers(markers);
        let expected: Vec<_> =
            calls.iter().map(|(name, args)| (name.to_string(), args.to_string())).collect();
        assert_eq!(read_cut(&format, answer), (content.to_string(), expected), "{answer}");
    }
}

#[test]
fn arguments_in_tags_have_the_types_of_the_schema() {
    for (marker, answer) in TAGGED {
        let (content, calls) = read_cut(&Calls::with_markers(&["<tool_call>", marker]), answer);
        assert_eq!(content, "");
        assert_eq!(calls.len(), 1, "{answer}");
        assert_eq!(calls[0].0, "f");
        assert_eq!(calls[0].1, r#"{"text": "1 < 2", "n": 2, "other": [1, 2.0]}"#);
    }
}

#[test]
fn only_one_call_counts_where_only_one_may_be_made() {
    let mut separator = Separator::new(Format { calls: Some(Calls::hermes()), ..Format::default() }, "");
    separator = separator.with_tools(tools(), true);
    let first = separator.push("<tool_call>{\"name\": \"f\"");
    assert!(!separator.is_complete());
    let second = separator.push("}</tool_call><tool_call>{\"name\": \"g\"}");
    assert!(separator.is_complete());
    let mut all = first;
    all.append(second);
    assert_eq!(whole(&all.calls), [("f".to_string(), Some(json!({})))]);
}

#[test]
fn tools_are_checked() {
    for (list, words) in [
        (json!({}), "must be a list"),
        (json!([{ "function": {} }]), "tools[0].function.name"),
        (json!([{ "function": { "name": "a b" } }]), "tools[0].function.name"),
        (json!([{ "name": "f" }, { "name": "f" }]), "two tools"),
        (json!([{ "name": "f", "parameters": [] }]), "tools[0].function.parameters"),
    ] {
        let error = Tools::new(&list).unwrap_err();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    }
}
