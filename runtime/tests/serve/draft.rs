//! The server with a draft model.

use super::{Server, golden};
use serde_json::json;
use std::path::{Path, PathBuf};

fn tiny(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny").join(name)
}

/// A model drafts itself and is right; one of another family with the same vocabulary is not.
#[test]
fn texts_are_llama_cpps() {
    let (prompt, _, expected) = golden("llama.json");
    for (draft, is_right) in [("llama.gguf", true), ("mistral3.gguf", false)] {
        let server = Server::start("llama.gguf", &["--draft", tiny(draft).to_str().unwrap()]);
        let body = json!({ "prompt": prompt, "max_tokens": 24, "temperature": 0 });
        let (mut right, mut wrong) = (0, 0);
        // The draft model may read only a little of the prompt each time, until it has saved some.
        for _ in 0..100 {
            let (status, reply) = server.post("/v1/completions", &body);
            assert_eq!(status, 200, "{reply}");
            assert_eq!(reply["choices"][0]["text"], expected.as_str(), "{draft}");
            let details = &reply["usage"]["completion_tokens_details"];
            let count = |name: &str| details[name].as_u64().unwrap();
            right += count("accepted_prediction_tokens");
            wrong += count("rejected_prediction_tokens");
        }
        assert!(if is_right { right > 0 && wrong == 0 } else { wrong > right }, "{draft}: {right}, {wrong}");
    }
}
