//! Requests with tools. The weights are random, so calls only come where they are required.

use super::constrained::json_model;
use super::*;
use serde_json::json;

/// Like Hermes' template.
const TEMPLATE: &str = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}\
    {% for m in messages %}{% if m.tool_calls %}{% for call in m.tool_calls %}\
    <tool_call>\n{{ call.function | tojson }}\n</tool_call>{% endfor %}{% else %}\
    {{ m.content }}{% endif %}{% endfor %}";

fn tools() -> serde_json::Value {
    let unit = json!({ "type": "string", "enum": ["C", "F"] });
    let parameters = json!({
        "type": "object", "properties": { "unit": unit, "hot": { "type": "boolean" } },
        "required": ["unit", "hot"], "additionalProperties": false
    });
    json!([
        { "type": "function", "function": { "name": "weather", "parameters": parameters } },
        { "type": "function", "function": { "name": "now" } },
    ])
}

fn request(fields: serde_json::Value, seed: u64) -> Request {
    let mut all = json!({
        "messages": [{ "role": "user", "content": "abc" }], "tools": tools(), "seed": seed, "max_tokens": 200
    });
    for (name, value) in fields.as_object().unwrap() {
        all[name] = value.clone();
    }
    Request::from_json(&all.to_string()).unwrap()
}

fn with_template(device: &TestDevice, template: &str) -> Engine<TestDevice> {
    engine(device, &json_model().with("tokenizer.chat_template", template), 1)
}

#[test]
fn a_required_call_fits_the_schema() {
    let device = TestDevice::default();
    // Templates with tools, and one without.
    for template in [TEMPLATE, "{{ messages[0].content }}{{ messages[-1].content }}"] {
        let mut engine = with_template(&device, template);
        let mut names = Vec::new();
        for seed in 0..6 {
            let told = answer(&mut engine, request(json!({ "tool_choice": "required" }), seed));
            assert_eq!((told.text.as_str(), told.reason), ("", FinishReason::ToolCalls));
            let [(name, Some(arguments))] = &told.calls[..] else { panic!("{:?}", told.calls) };
            match name.as_str() {
                "weather" => {
                    assert!(arguments["unit"] == "C" || arguments["unit"] == "F", "{arguments}");
                    assert!(arguments["hot"].is_boolean() && arguments.as_object().unwrap().len() == 2);
                }
                "now" => assert!(arguments.is_object()),
                other => panic!("{other}"),
            }
            names.push(name.clone());
        }
        let choice = json!({ "tool_choice": { "type": "function", "function": { "name": "weather" } } });
        let told = answer(&mut engine, request(choice, 1));
        assert_eq!(told.calls[0].0, "weather");
    }
}

/// Like Qwen3-Coder's.
const TAGGED: &str = "{% for tool in tools or [] %}{{ tool.function.name }}{% endfor %}\
    {% for m in messages %}{% if m.tool_calls %}{% for call in m.tool_calls %}\
    <tool_call>\n<function={{ call.function.name }}>\n\
    {% for k, v in call.function.arguments | items %}<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}\
    </function>\n</tool_call>{% endfor %}{% else %}{{ m.content }}{% endif %}{% endfor %}";

fn strict_tools() -> serde_json::Value {
    let mut tools = tools();
    tools[0]["function"]["strict"] = json!(true);
    tools
}

#[test]
fn strict_calls_in_a_text_fit_the_schema() {
    let device = TestDevice::default();
    for template in [TEMPLATE, TAGGED, "{{ messages[0].content }}{{ messages[-1].content }}"] {
        let mut engine = with_template(&device, template);
        // The weights are random: the answer has begun a call.
        let begun = engine.tokenizer().encode("I see.\n<tool_call>", false).unwrap();
        for seed in 0..8 {
            let mut tools = strict_tools();
            if seed % 2 == 0 {
                tools.as_array_mut().unwrap().pop();
            }
            let fields = json!({
                "tools": tools, "continue_ids": begun, "parallel_tool_calls": false, "max_tokens": 900
            });
            let told = answer(&mut engine, request(fields, seed));
            let [(name, arguments)] = &told.calls[..] else { panic!("{:?}", told.calls) };
            match (name.as_str(), arguments) {
                ("weather", Some(arguments)) => {
                    assert!(arguments["unit"] == "C" || arguments["unit"] == "F", "{arguments}");
                    assert!(arguments["hot"].is_boolean() && arguments.as_object().unwrap().len() == 2);
                    assert_eq!((told.text.as_str(), told.reason), ("", FinishReason::ToolCalls));
                }
                // It is not strict: it may have any arguments, for ever.
                ("now", _) if seed % 2 == 1 => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn strict_tools_change_no_text_without_a_call() {
    let device = TestDevice::default();
    // The second one has words that begin with a space, of which the first one of an answer has none.
    for (model, word) in [(json_model(), "a"), (TestModel::new(), "▁a")] {
        let mut engine = engine(&device, &model.with("tokenizer.chat_template", TAGGED), 1);
        let id = engine.tokenizer().id_of(word).unwrap().to_string();
        for bias in [0, 100] {
            let fields = json!({ "max_tokens": 40, "temperature": 0, "logit_bias": { id.as_str(): bias } });
            let loose = answer(&mut engine, request(fields.clone(), 1));
            let mut fields = fields;
            fields["tools"] = strict_tools();
            let strict = answer(&mut engine, request(fields, 1));
            assert!(bias == 0 || strict.text.starts_with('a'), "{:?}", strict.text);
            assert_eq!((strict.text, strict.calls), (loose.text, loose.calls));
        }
    }
}

#[test]
fn schemas_of_tools_that_cannot_be_held_name_their_keyword() {
    let device = TestDevice::default();
    let tool = |property: serde_json::Value, root: serde_json::Value| {
        let mut parameters = json!({ "type": "object", "properties": { "a": property } });
        parameters.as_object_mut().unwrap().extend(root.as_object().unwrap().clone());
        json!([{ "type": "function", "function": { "name": "f", "parameters": parameters, "strict": true } }])
    };
    let string = |more: serde_json::Value| {
        let mut all = json!({ "type": "string" });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    // In both formats, and where arguments are bare text.
    let both = [
        (tool(json!({ "type": "array", "contains": {} }), json!({})), "#/properties/a/contains"),
        (tool(string(json!({ "not": { "const": "b" } })), json!({})), "#/properties/a/not"),
        (tool(string(json!({ "format": "phone" })), json!({})), "#/properties/a/format"),
        (tool(string(json!({ "pattern": "^(?!b)" })), json!({})), "#/properties/a/pattern"),
        (tool(json!({}), json!({ "not": {} })), "#/not"),
    ];
    let tagged = [
        (tool(json!({}), json!({ "oneOf": [{ "required": ["a"] }] })), "#/oneOf"),
        (tool(json!({}), json!({ "minProperties": 1 })), "#/minProperties"),
        (tool(json!({}), json!({ "properties": { "<a>": {} } })), "#/properties/<a>"),
    ];
    for (template, cases) in [(TEMPLATE, &both[..]), (TAGGED, &both), (TAGGED, &tagged)] {
        let mut engine = with_template(&device, template);
        for (tools, path) in cases {
            for choice in ["auto", "required"] {
                let fields = json!({ "tools": tools, "tool_choice": choice });
                let message = invalid(engine.start(request(fields, 1)));
                let words = format!("tool \"f\": the JSON Schema cannot be used: {path}: ");
                assert!(message.starts_with(&words), "{message:?} does not say {words:?}");
            }
        }
    }
}

#[test]
fn who_tells_about_tools() {
    let device = TestDevice::default();
    let told = |template| with_template(&device, template).info().tools;
    assert_eq!(told(TEMPLATE), Some(crate::text::ToolPrompt::Template));
    assert_eq!(told("{{ messages[0].content }}"), Some(crate::text::ToolPrompt::BuiltIn));
}

#[test]
fn without_a_choice_tools_change_only_the_prompt() {
    let device = TestDevice::default();
    let mut engine = with_template(&device, TEMPLATE);
    let none = answer(&mut engine, request(json!({ "tool_choice": "none", "max_tokens": 5 }), 1));
    let without = answer(&mut engine, request(json!({ "tools": null, "max_tokens": 5 }), 1));
    let auto = answer(&mut engine, request(json!({ "max_tokens": 5 }), 1));
    assert_eq!((none.usage.prompt_tokens, none.text), (without.usage.prompt_tokens, without.text));
    assert!(auto.usage.prompt_tokens > without.usage.prompt_tokens);
    assert_eq!(auto.calls, []);
}

#[test]
fn wrong_tools_are_refused() {
    let device = TestDevice::default();
    let mut engine = with_template(&device, TEMPLATE);
    for (fields, words) in [
        (json!({ "tools": [{ "type": "function" }] }), "tools[0].function.name"),
        (json!({ "tools": [{ "function": { "name": "f", "strict": 1 } }] }), "tools[0].function.strict"),
        (json!({ "tools": null, "tool_choice": "required" }), "needs `tools`"),
        (json!({ "tool_choice": { "function": { "name": "other" } } }), "no tool \"other\""),
    ] {
        let message = invalid(engine.start(request(fields, 1)));
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
}
