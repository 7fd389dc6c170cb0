//! `nomoat serve` from outside: the answers of OpenAI's API, its errors, and who may ask.

#![allow(clippy::unwrap_used)]

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

mod common;
#[path = "serve/draft.rs"]
mod draft;
#[path = "serve/long.rs"]
mod long;
#[path = "serve/responses.rs"]
mod responses;
#[path = "serve/tools.rs"]
mod tools;

struct Server {
    process: Child,
    address: String,
}

impl Server {
    /// Serves one of the tiny models, or a file by its whole path.
    fn start(model: impl AsRef<Path>, args: &[&str]) -> Self {
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny").join(model);
        let mut process = Command::new(env!("CARGO_BIN_EXE_nomoat"))
            .arg("serve")
            .arg(model)
            .args(["--device", "cpu", "--port", "0"])
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix("/v1")).unwrap();
        Self { address: address.to_owned(), process }
    }

    /// Sends a request; returns the status, the head and the body.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        write!(stream, "{request}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), body.to_owned())
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let (status, _, body) = self.ask("POST", path, &[JSON], &body.to_string());
        (status, serde_json::from_str(&body).unwrap())
    }

    /// The data of a stream's events.
    fn stream(&self, path: &str, body: &Value) -> Vec<String> {
        let (status, head, body) = self.ask("POST", path, &[JSON], &body.to_string());
        assert_eq!(status, 200, "{body}");
        assert!(head.contains("content-type: text/event-stream"), "{head}");
        body.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

/// The prompt of a golden file, the number of its tokens, and llama.cpp's continuation.
fn golden(name: &str) -> (String, usize, String) {
    let entry = golden_entry(name);
    let text = |name: &str| entry[name].as_str().unwrap().to_owned();
    (text("text"), entry["prompt_ids"].as_array().unwrap().len(), text("greedy_text"))
}

#[test]
fn completions_are_llama_cpps_alone_together_and_streamed() {
    let server = Server::start("llama.gguf", &["--parallel", "2"]);
    let (prompt, n_prompt, expected) = golden("llama.json");
    let body = json!({ "prompt": prompt, "max_tokens": 24, "temperature": 0 });
    let is_right = |reply: &(u16, Value)| {
        assert_eq!(reply.0, 200, "{}", reply.1);
        assert_eq!(reply.1["choices"][0]["text"], expected.as_str());
    };
    let reply = server.post("/v1/completions", &body);
    is_right(&reply);
    assert_eq!(reply.1["object"], "text_completion");
    assert_eq!(reply.1["usage"]["prompt_tokens"], n_prompt);
    assert_eq!(reply.1["usage"]["completion_tokens"], 24);
    // The prompt's tokens as they are.
    let mut of_ids = body.clone();
    of_ids["prompt"] = golden_entry("llama.json")["prompt_ids"].clone();
    is_right(&server.post("/v1/completions", &of_ids));
    // Six at once, of which some wait.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| server.post("/v1/completions", &body))).collect();
        threads.into_iter().for_each(|thread| is_right(&thread.join().unwrap()));
    });

    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({ "include_usage": true });
    streamed["echo"] = true.into();
    let mut data = server.stream("/v1/completions", &streamed);
    assert_eq!(data.pop().unwrap(), "[DONE]");
    let pieces: Vec<Value> = data.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect();
    let (usage, pieces) = pieces.split_last().unwrap();
    let text: String = pieces.iter().map(|piece| piece["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(text, format!("{prompt}{expected}"));
    assert_eq!(pieces.last().unwrap()["choices"][0]["finish_reason"], "length");
    assert_eq!(usage["usage"]["total_tokens"], n_prompt + 24);

    let several = json!({ "prompt": [prompt, prompt], "n": 2, "max_tokens": 24, "temperature": 0 });
    let (_, reply) = server.post("/v1/completions", &several);
    let choices = reply["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    assert!(choices.iter().all(|choice| choice["text"] == expected.as_str()), "{reply}");
    assert_eq!(reply["usage"]["prompt_tokens"], 2 * n_prompt);
    assert_eq!(reply["usage"]["completion_tokens"], 4 * 24);

    let (_, _, metrics) = server.ask("GET", "/metrics", &[], "");
    assert!(metrics.contains("\nnomoat_requests_total 13\n"), "{metrics}");
    assert!(metrics.contains("\nnomoat_requests_failed_total 0\n"), "{metrics}");
}

/// An entry of a golden file.
fn golden_entry(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny").join(name);
    let entries: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    entries[0].clone()
}

#[test]
fn log_probabilities_are_llama_cpps() {
    let server = Server::start("llama.gguf", &[]);
    let entry = golden_entry("llama.json");
    let (prompt, n_prompt, expected) = golden("llama.json");
    let mut body =
        json!({ "prompt": prompt, "max_tokens": 24, "temperature": 0, "logprobs": 3, "echo": true });
    let (status, reply) = server.post("/v1/completions", &body);
    assert_eq!(status, 200, "{reply}");
    let logprobs = &reply["choices"][0]["logprobs"];
    let list = |name: &str| logprobs[name].as_array().unwrap().clone();
    let (tokens, token_logprobs, top) = (list("tokens"), list("token_logprobs"), list("top_logprobs"));
    assert_eq!(
        (tokens.len(), token_logprobs.len(), top.len()),
        (n_prompt + 24, n_prompt + 24, n_prompt + 24)
    );
    assert_eq!((&token_logprobs[0], &top[0]), (&Value::Null, &Value::Null));
    let ids =
        [entry["prompt_ids"].as_array().unwrap().clone(), entry["greedy_ids"].as_array().unwrap().clone()];
    let ids = ids.concat();
    let steps = |name: &str| entry[name].as_array().unwrap().clone();
    // What llama.cpp says of the token after each of the prompt's, and of the answer's.
    let said = [steps("prompt_steps")[..n_prompt - 1].to_vec(), steps("steps")].concat();
    let mut compared = 0;
    for ((step, id), (found, top)) in said.iter().zip(&ids[1..]).zip(token_logprobs.iter().zip(&top).skip(1))
    {
        let likely: Vec<f64> =
            step["logprobs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
        let mut named: Vec<f64> = top.as_object().unwrap().values().map(|p| p.as_f64().unwrap()).collect();
        named.sort_by(|a, b| b.total_cmp(a));
        for (found, likely) in named.iter().zip(&likely[..3]) {
            assert!((found - likely).abs() < 0.02, "{found}, not {likely}");
        }
        if let Some(at) = step["ids"].as_array().unwrap().iter().position(|other| other == id) {
            assert!((found.as_f64().unwrap() - likely[at]).abs() < 0.02, "{found}, not {}", likely[at]);
            compared += 1;
        }
    }
    assert!(compared >= 24, "{compared}");
    let spelled: String = tokens[n_prompt..].iter().map(|token| token.as_str().unwrap()).collect();
    assert_eq!(spelled, expected);
    // Streamed, the same comes in pieces.
    body["stream"] = true.into();
    let mut pieces = server.stream("/v1/completions", &body);
    assert_eq!(pieces.pop().unwrap(), "[DONE]");
    let mut streamed = [Vec::new(), Vec::new()];
    for piece in pieces {
        let piece: Value = serde_json::from_str(&piece).unwrap();
        for (list, name) in streamed.iter_mut().zip(["token_logprobs", "text_offset"]) {
            list.extend(piece["choices"][0]["logprobs"][name].as_array().into_iter().flatten().cloned());
        }
    }
    assert_eq!(streamed, [token_logprobs, list("text_offset")]);
}

#[test]
fn embeddings_are_the_models_last_rows() {
    let server = Server::start("llama.gguf", &["--parallel", "2"]);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/embeddings.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let ask = |body: Value| server.post("/v1/embeddings", &body);
    let (status, reply) = ask(json!({ "input": [golden["text"], "another", golden["text"]] }));
    assert_eq!(status, 200, "{reply}");
    let numbers = |value: &Value| -> Vec<f64> {
        value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let expected = numbers(&golden["mean"]);
    let distance = |found: &[f64]| -> f64 {
        assert_eq!(found.len(), expected.len());
        found.iter().zip(&expected).map(|(f, e)| (f - e).abs()).fold(0.0, f64::max)
    };
    let vectors: Vec<Vec<f64>> = (0..3).map(|i| numbers(&reply["data"][i]["embedding"])).collect();
    assert!(distance(&vectors[0]) < 0.004 && distance(&vectors[2]) < 0.004, "{reply}");
    assert!(distance(&vectors[1]) > 0.05);
    let n = golden["prompt_ids"].as_array().unwrap().len();
    assert!(reply["usage"]["prompt_tokens"].as_u64().unwrap() as usize > 2 * n);
    // The same tokens, packed.
    let (_, reply) =
        ask(json!({ "input": golden["prompt_ids"], "encoding_format": "base64", "dimensions": 3 }));
    assert_eq!(reply["usage"]["total_tokens"], n);
    let bytes = BASE64_STANDARD.decode(reply["data"][0]["embedding"].as_str().unwrap()).unwrap();
    let (numbers, rest) = bytes.as_chunks();
    assert!(numbers.len() == 3 && rest.is_empty());
    let length = expected[..3].iter().map(|number| number * number).sum::<f64>().sqrt();
    for (number, expected) in numbers.iter().zip(&expected) {
        let found = f64::from(f32::from_le_bytes(*number));
        assert!((found - expected / length).abs() < 0.004 / length, "{found}, not {expected} / {length}");
    }
    for (body, param) in [
        (json!({ "input": [] }), "input"),
        (json!({ "input": ["a", ""] }), "input"),
        (json!({ "input": [[1], "a", {}] }), "input"),
        (json!({ "input": "a", "encoding_format": "int8" }), "encoding_format"),
        (json!({ "input": "a", "dimensions": 33 }), "dimensions"),
        (json!({ "input": "a", "pooling": "cls" }), "pooling"),
    ] {
        let (status, reply) = ask(body);
        assert_eq!((status, &reply["error"]["param"]), (400, &Value::from(param)), "{reply}");
    }
}

#[test]
fn wrong_requests_have_their_status_and_name_the_field() {
    let server = Server::start("llama.gguf", &[]);
    // The package is checked against the same file.
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/errors.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(cases.len() > 70);
    for case in &cases {
        let (status, reply) =
            server.post(&format!("/v1/{}", case["path"].as_str().unwrap()), &case["request"]);
        let error = &reply["error"];
        assert_eq!((status, &error["code"], &error["param"]), (400, &case["code"], &case["param"]), "{case}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    for (body, param) in [
        (json!({ "prompt": "a", "suffix": "b" }), "suffix"),
        (json!({ "prompt": [3, 4], "echo": true }), "echo"),
        (json!({ "prompt": [[3, 4], []] }), "prompt"),
        (json!({ "prompt": "a", "logit_bias": { "4000000": 1 } }), "logit_bias.4000000"),
    ] {
        let (status, reply) = server.post("/v1/completions", &body);
        let error = &reply["error"];
        assert_eq!(
            (status, &error["code"], &error["param"]),
            (400, &json!("invalid_value"), &json!(param)),
            "{reply}"
        );
    }
    let chat = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    let (status, reply) = server.post("/v1/chat/completions", &chat);
    assert_eq!(status, 400);
    assert!(reply["error"]["message"].as_str().unwrap().contains("without a chat template"), "{reply}");

    for path in ["/chat/completions", "/responses"] {
        let (status, reply) = server.post(path, &json!({ "input": "Hi" }));
        assert_eq!((status, &reply["error"]["code"]), (404, &json!("unknown_url")));
        assert!(reply["error"]["message"].as_str().unwrap().contains("ends in /v1"), "{reply}");
    }
    let status = |method, path, headers: &[(&str, &str)]| server.ask(method, path, headers, "{}").0;
    assert_eq!(status("GET", "/v1/files", &[]), 404);
    assert_eq!(status("GET", "/v1/models/another/one", &[]), 404);
    assert_eq!(status("GET", "/v1/completions", &[]), 405);
    assert_eq!(status("POST", "/v1/completions", &[("Content-Type", "text/plain")]), 415);
    assert_eq!(server.ask("POST", "/v1/completions", &[JSON], "[").0, 400);
}

#[test]
fn only_those_may_ask_who_should() {
    let other = ["--allow-origin", "https://chat.example"];
    let server = Server::start("llama.gguf", &[&["--api-key", "secret"], &other[..]].concat());
    let ask = |path, headers: &[(&str, &str)]| server.ask("GET", path, headers, "");
    let key = ("Authorization", "Bearer secret");
    assert_eq!(ask("/v1/models", &[]).0, 401);
    assert_eq!(ask("/v1/models", &[("Authorization", "Bearer secre")]).0, 401);
    assert_eq!(ask("/metrics", &[]).0, 401);
    assert_eq!(ask("/health", &[]).0, 200);
    assert_eq!(ask("/v1/models", &[key]).0, 200);
    assert_eq!(ask("/v1/models", &[key, ("Host", "evil.org")]).0, 403);
    let origin = |origin| ask("/v1/models", &[key, ("Origin", origin)]).1;
    assert!(origin("http://localhost:3000").contains("access-control-allow-origin: http://localhost:3000"));
    assert!(origin("https://chat.example").contains("access-control-allow-origin: https://chat.example"));
    for wrong in ["https://evil.org", "http://chat.example", "https://chat.example.evil.org"] {
        assert!(!origin(wrong).contains("access-control-allow-origin"), "{wrong}");
    }
}

#[cfg(unix)]
#[test]
fn it_completes_answers_before_it_ends() {
    let mut server = Server::start("llama.gguf", &[]);
    let (prompt, _, expected) = golden("llama.json");
    let body = json!({ "prompt": prompt, "max_tokens": 24, "temperature": 0, "stream": true }).to_string();
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!("POST /v1/completions HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", server.address);
    write!(stream, "{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    while !first.starts_with("data: ") {
        first.clear();
        assert!(reader.read_line(&mut first).unwrap() > 0);
    }
    let id = server.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let text: String = std::iter::once(first.as_str())
        .chain(rest.lines())
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok())
        .filter_map(|piece| piece["choices"][0]["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, expected);
    assert!(server.process.wait().unwrap().success());
}
