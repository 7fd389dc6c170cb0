//! `nomoat serve` from outside: the answers of OpenAI's API, its errors, and who may ask.

#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(model: &str, args: &[&str]) -> Self {
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
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny").join(name);
    let entries: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let text = |name: &str| entries[0][name].as_str().unwrap().to_owned();
    (text("text"), entries[0]["prompt_ids"].as_array().unwrap().len(), text("greedy_text"))
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
    assert!(metrics.contains("\nnomoat_requests_total 12\n"), "{metrics}");
    assert!(metrics.contains("\nnomoat_requests_failed_total 0\n"), "{metrics}");
}

#[test]
fn wrong_requests_have_their_status_and_name_the_field() {
    let server = Server::start("llama.gguf", &[]);
    for (path, body, param) in [
        ("/v1/completions", json!({}), "prompt"),
        ("/v1/completions", json!({ "prompt": "a", "suffix": "b" }), "suffix"),
        ("/v1/completions", json!({ "prompt": "a", "temperature": "warm" }), "temperature"),
        ("/v1/completions", json!({ "prompt": "a", "stop": [""] }), "stop"),
        ("/v1/completions", json!({ "prompt": "a", "stream_options": {} }), "stream_options"),
        ("/v1/chat/completions", json!({ "messages": [] }), "messages"),
        ("/v1/chat/completions", json!({ "messages": [{ "role": "user" }], "audio": {} }), "audio"),
        ("/v1/chat/completions", json!({ "messages": [{ "role": "user" }], "n": 0 }), "n"),
    ] {
        let (status, reply) = server.post(path, &body);
        assert_eq!(status, 400, "{body}: {reply}");
        assert_eq!(reply["error"]["param"], param, "{body}: {reply}");
        assert_eq!(reply["error"]["type"], "invalid_request_error");
    }
    let chat = json!({ "messages": [{ "role": "user", "content": "Hi" }] });
    let (status, reply) = server.post("/v1/chat/completions", &chat);
    assert_eq!(status, 400);
    assert!(reply["error"]["message"].as_str().unwrap().contains("without a chat template"), "{reply}");

    let status = |method, path, headers: &[(&str, &str)]| server.ask(method, path, headers, "{}").0;
    assert_eq!(status("GET", "/v1/files", &[]), 404);
    assert_eq!(status("GET", "/v1/models/another/one", &[]), 404);
    assert_eq!(status("GET", "/v1/completions", &[]), 405);
    assert_eq!(status("POST", "/v1/completions", &[("Content-Type", "text/plain")]), 415);
    assert_eq!(server.ask("POST", "/v1/completions", &[JSON], "[").0, 400);
}

#[test]
fn only_those_may_ask_who_should() {
    let server = Server::start("llama.gguf", &["--api-key", "secret"]);
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
    assert!(!origin("https://evil.org").contains("access-control-allow-origin"));
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
