//! Tools, with a model of random weights: what fits the schema is the grammar's doing.

use super::{Server, common};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Writes a model with one layer, whose tokens are printable characters. Its template knows no tools.
pub fn model() -> PathBuf {
    let control = ["<unk>", "<s>", "</s>"].map(String::from);
    let printable = (33..127_u8).map(|byte| char::from(byte).to_string());
    // A space and a line feed.
    let tokens: Vec<String> = control.into_iter().chain(printable).chain(["Ġ".into(), "Ċ".into()]).collect();
    let kinds: Vec<i32> = (0..tokens.len()).map(|id| if id < 3 { 3 } else { 1 }).collect();
    let (writer, sizes) = common::one_layer(tokens.len() as u64, 4, 4096);
    let template = "{% for m in messages %}{{ m.content }}\n{% endfor %}";
    let writer = writer
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.tokens", tokens)
        .metadata("tokenizer.ggml.token_type", kinds)
        .metadata("tokenizer.ggml.merges", vec!["a b".to_owned()])
        .metadata("tokenizer.ggml.bos_token_id", 1_u32)
        .metadata("tokenizer.ggml.eos_token_id", 2_u32)
        .metadata("tokenizer.chat_template", template);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tools.gguf");
    let mut file = std::fs::File::create(&path).unwrap();
    let weights = |index: usize, out: &mut dyn std::io::Write| {
        let weight = |i: u64| (12.9898 * (i + 1000 * index as u64) as f32).sin() * 0.4;
        out.write_all(&(0..sizes[index]).flat_map(|i| weight(i).to_le_bytes()).collect::<Vec<u8>>())
    };
    writer.write(&mut file, weights).unwrap();
    path
}

#[test]
fn a_required_call_comes_whole_and_in_pieces() {
    let server = Server::start(model(), &[]);
    let parameters = json!({
        "type": "object", "properties": { "unit": { "enum": ["C", "F"] }, "hot": { "type": "boolean" } },
        "required": ["unit", "hot"], "additionalProperties": false
    });
    let weather = json!({ "type": "function", "function": { "name": "weather", "parameters": parameters } });
    let question = json!({ "role": "user", "content": "abc" });
    let mut body = json!({
        "messages": [question], "tools": [weather], "tool_choice": "required", "seed": 1, "logprobs": true
    });
    let (status, reply) = server.post("/v1/chat/completions", &body);
    assert_eq!(status, 200, "{reply}");
    let choice = &reply["choices"][0];
    let (message, call) = (&choice["message"], &choice["message"]["tool_calls"][0]);
    assert_eq!((&choice["finish_reason"], &message["content"]), (&json!("tool_calls"), &Value::Null));
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("weather")));
    assert_eq!(call["id"].as_str().unwrap().len(), 9);
    assert!(reply["timings"]["decode_tokens_per_second"].as_f64().unwrap() > 0.0, "{reply}");
    let arguments: Value = serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["unit"] == "C" || arguments["unit"] == "F", "{arguments}");
    assert!(arguments["hot"].is_boolean() && arguments.as_object().unwrap().len() == 2, "{arguments}");
    let told = |choice: &Value| -> String {
        let list = choice["logprobs"]["content"].as_array().cloned().unwrap_or_default();
        list.iter().map(|token| token["token"].as_str().unwrap()).collect()
    };
    assert!(told(choice).contains("weather"), "{}", told(choice));

    body["stream"] = true.into();
    let mut data = server.stream("/v1/chat/completions", &body);
    assert_eq!(data.pop().unwrap(), "[DONE]");
    let pieces: Vec<Value> = data.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect();
    let choices: Vec<&Value> = pieces.iter().map(|piece| &piece["choices"][0]).collect();
    assert_eq!(choices.last().unwrap()["finish_reason"], "tool_calls");
    assert!(choices.iter().all(|choice| choice["delta"]["content"].as_str().unwrap_or_default().is_empty()));
    let deltas: Vec<&Value> =
        choices.iter().map(|it| &it["delta"]["tool_calls"][0]).filter(|it| !it.is_null()).collect();
    assert_eq!(
        (&deltas[0]["function"]["name"], deltas[0]["id"].as_str().unwrap().len()),
        (&json!("weather"), 9)
    );
    assert!(deltas.len() > 2 && deltas[1..].iter().all(|delta| delta["id"].is_null()));
    assert!(deltas.iter().all(|delta| delta["index"] == 0));
    let joined: String =
        deltas.iter().map(|delta| delta["function"]["arguments"].as_str().unwrap()).collect();
    assert_eq!(call["function"]["arguments"], joined.as_str());
    assert_eq!(choices.iter().map(|choice| told(choice)).collect::<String>(), told(choice));

    // The tool's result goes back.
    let result = json!({ "role": "tool", "tool_call_id": call["id"], "content": "warm" });
    let messages = json!([question, message, result]);
    let after = json!({ "messages": messages, "tools": [weather], "tool_choice": "none", "max_tokens": 3 });
    let (status, reply) = server.post("/v1/chat/completions", &after);
    assert_eq!((status, &reply["choices"][0]["message"]["tool_calls"]), (200, &Value::Null), "{reply}");
    assert!(reply["choices"][0]["message"]["content"].is_string(), "{reply}");

    let named = json!({ "type": "function", "function": { "name": "other" } });
    for wrong in [json!({ "tools": [], "tool_choice": "required" }), json!({ "tool_choice": named })] {
        let mut body = json!({ "messages": [question], "tools": [weather] });
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let (status, reply) = server.post("/v1/chat/completions", &body);
        assert_eq!((status, &reply["error"]["param"]), (400, &json!("tool_choice")), "{reply}");
    }

    // Where the model decides, only calls of strict tools are held to a schema, which must be possible.
    for (strict, expected) in [(json!(true), 400), (json!(false), 200), (Value::Null, 200)] {
        let parameters = json!({ "type": "object", "not": {} });
        let function = json!({ "name": "weather", "parameters": parameters, "strict": strict });
        let tools = json!([{ "type": "function", "function": function }]);
        let body = json!({ "messages": [question], "tools": tools, "max_tokens": 3 });
        let (status, reply) = server.post("/v1/chat/completions", &body);
        assert_eq!(status, expected, "{reply}");
        let names_it = reply["error"]["message"].as_str().is_some_and(|message| message.contains("#/not"));
        assert_eq!(names_it, expected == 400, "{reply}");
    }
}
