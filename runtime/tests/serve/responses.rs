//! `/v1/responses` with a model of random weights; unit tests check its events one by one.

use super::tools::model;
use super::{JSON, Server};
use serde_json::{Value, json};

const PATH: &str = "/v1/responses";

/// The names and data of a streamed response.
fn events(server: &Server, body: &Value) -> Vec<Value> {
    let (status, head, text) = server.ask("POST", PATH, &[JSON], &body.to_string());
    assert_eq!(status, 200, "{text}");
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    let mut names = text.lines().filter_map(|line| line.strip_prefix("event: "));
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events: Vec<Value> = data.map(|data| serde_json::from_str(data).unwrap()).collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["type"], names.next().unwrap());
        assert_eq!(event["sequence_number"], number);
    }
    events
}

fn weather() -> Value {
    let parameters = json!({
        "type": "object", "properties": { "unit": { "enum": ["C", "F"] } },
        "required": ["unit"], "additionalProperties": false
    });
    json!({ "type": "function", "name": "weather", "parameters": parameters, "strict": true })
}

#[test]
fn a_response_is_the_chats_answer_whole_and_in_events() {
    let server = Server::start(model(), &[]);
    let chat = json!({
        "messages": [{ "role": "system", "content": "ab" }, { "role": "user", "content": "cd" }],
        "max_completion_tokens": 5, "temperature": 0
    });
    let (_, chat) = server.post("/v1/chat/completions", &chat);
    let expected = &chat["choices"][0]["message"]["content"];
    assert_ne!(expected, "");
    let mut body = json!({ "instructions": "ab", "input": "cd", "max_output_tokens": 5, "temperature": 0 });
    let (status, whole) = server.post(PATH, &body);
    assert_eq!((status, &whole["object"]), (200, &json!("response")), "{whole}");
    assert_eq!(&whole["output"][0]["content"][0]["text"], expected, "{whole}");
    assert_eq!(
        (&whole["status"], &whole["output"][0]["status"]),
        (&json!("incomplete"), &json!("incomplete"))
    );
    assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
    let counts = ["input_tokens", "output_tokens", "total_tokens"].map(|name| &whole["usage"][name]);
    let chats = ["prompt_tokens", "completion_tokens", "total_tokens"].map(|name| &chat["usage"][name]);
    assert_eq!(counts, chats);

    body["stream"] = true.into();
    let events = events(&server, &body);
    let names: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        names[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added"
        ]
    );
    assert_eq!(
        names[names.len() - 4..],
        [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete"
        ]
    );
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    let text: String = deltas.map(|event| event["delta"].as_str().unwrap()).collect();
    assert_eq!(*expected, text);
    let last = &events.last().unwrap()["response"];
    assert_eq!(&last["output"][0]["content"][0]["text"], expected);
    assert_eq!(last["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
}

#[test]
fn a_tool_is_called_and_its_result_goes_back_by_reference_or_as_it_is() {
    let server = Server::start(model(), &[]);
    let question = json!({ "role": "user", "content": "abc" });
    let mut body = json!({
        "input": [question], "tools": [weather()], "tool_choice": { "type": "function", "name": "weather" },
        "seed": 1, "store": true
    });
    let (status, reply) = server.post(PATH, &body);
    assert_eq!((status, &reply["status"]), (200, &json!("completed")), "{reply}");
    let call = &reply["output"][0];
    assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("weather")), "{reply}");
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments == json!({ "unit": "C" }) || arguments == json!({ "unit": "F" }), "{arguments}");

    body["stream"] = true.into();
    let events = events(&server, &body);
    let deltas = events.iter().filter(|event| event["type"] == "response.function_call_arguments.delta");
    let pieces: Vec<&str> = deltas.map(|event| event["delta"].as_str().unwrap()).collect();
    assert!(pieces.len() > 1, "{pieces:?}");
    let streamed = &events.last().unwrap()["response"]["output"][0];
    assert_eq!((&streamed["arguments"], &json!(pieces.concat())), (&call["arguments"], &call["arguments"]));

    let result = json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "warm" });
    let mut later = |items: Vec<Value>| {
        body["input"] = items.into();
        body["tool_choice"] = "none".into();
        body["stream"] = false.into();
        body["store"] = false.into();
        body["max_output_tokens"] = 3.into();
        server.post(PATH, &body)
    };
    // The streamed answer's items are kept, too; those of answers that may not be stored are not.
    let reference = |item: &Value| json!({ "type": "item_reference", "id": item["id"] });
    let (status, as_it_is) = later(vec![question.clone(), call.clone(), result.clone()]);
    assert_eq!((status, &as_it_is["output"][0]["type"]), (200, &json!("message")), "{as_it_is}");
    for item in [call, streamed] {
        let mut result = result.clone();
        result["call_id"] = item["call_id"].clone();
        let (status, by_reference) = later(vec![question.clone(), reference(item), result]);
        assert_eq!(status, 200, "{by_reference}");
        assert_eq!(by_reference["usage"]["input_tokens"], as_it_is["usage"]["input_tokens"]);
    }
    let (status, reply) = later(vec![reference(&as_it_is["output"][0])]);
    assert_eq!((status, &reply["error"]["param"]), (400, &json!("input[0].id")), "{reply}");
}

#[test]
fn an_answer_fits_the_format() {
    let server = Server::start(model(), &[]);
    let schema = weather()["parameters"].clone();
    let format = json!({ "type": "json_schema", "name": "answer", "schema": schema, "strict": true });
    let body = json!({ "input": "abc", "text": { "format": format }, "seed": 3 });
    let (status, reply) = server.post(PATH, &body);
    assert_eq!((status, &reply["status"]), (200, &json!("completed")), "{reply}");
    let text = reply["output"][0]["content"][0]["text"].as_str().unwrap();
    let answer: Value = serde_json::from_str(text).unwrap();
    assert!(answer == json!({ "unit": "C" }) || answer == json!({ "unit": "F" }), "{answer}");
    assert_eq!(reply["text"]["format"], format);
}
