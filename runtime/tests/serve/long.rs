//! Conversations that are longer than the context.

use super::Server;
use serde_json::{Value, json};

#[test]
fn what_is_left_out_of_a_long_conversation_is_told() {
    let server = Server::start(super::tools::model(), &["--template", "plain", "--context-length", "64"]);
    let role = |i: usize| if i.is_multiple_of(2) { "user" } else { "assistant" };
    let message = |i: usize| json!({ "role": role(i), "content": "abcdefgh" });
    let body = |n: usize, overflow: &str| {
        let messages: Vec<Value> = (0..n).map(message).collect();
        json!({ "messages": messages, "context_overflow": overflow, "max_tokens": 3, "temperature": 0 })
    };
    let (status, reply) = server.post("/v1/chat/completions", &body(3, "truncate"));
    assert_eq!((status, &reply["omitted_messages"]), (200, &Value::Null), "{reply}");
    let (status, reply) = server.post("/v1/chat/completions", &body(31, "truncate"));
    assert_eq!(status, 200, "{reply}");
    let omitted = reply["omitted_messages"].as_u64().unwrap();
    assert!(omitted > 0 && omitted % 2 == 0, "{reply}");
    let mut streamed = body(31, "truncate");
    streamed["stream"] = true.into();
    let chunks = server.stream("/v1/chat/completions", &streamed);
    let chunks = chunks.iter().filter_map(|chunk| serde_json::from_str::<Value>(chunk).ok());
    let told: Vec<u64> = chunks.filter_map(|chunk| chunk["omitted_messages"].as_u64()).collect();
    assert_eq!(told, [omitted]);
    let (status, reply) = server.post("/v1/chat/completions", &body(31, "stop"));
    assert_eq!((status, &reply["error"]["code"]), (400, &json!("context_length_exceeded")), "{reply}");
    assert_eq!(reply["error"]["param"], "messages");
    let (status, reply) = server.post("/v1/responses", &json!({ "input": "abcdefgh".repeat(10) }));
    assert_eq!((status, &reply["error"]["code"]), (400, &json!("context_length_exceeded")), "{reply}");
    assert_eq!(reply["error"]["param"], "input");
}
