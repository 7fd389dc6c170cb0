//! `/v1/embeddings`.

use super::Shared;
use super::check;
use super::error::ApiError;
use super::params::{object, prompts};
use super::worker::{Failure, Told};
use base64::prelude::{BASE64_STANDARD, Engine};
use nomoat_runtime::engine::{Progress, Request};
use serde_json::{Map, Value, json};

/// Texts of a request at most; OpenAI's limit.
const MAX_INPUTS: usize = 2048;

/// The embeddings that a body asks for.
pub async fn answer(shared: &Shared, body: &[u8]) -> Result<Value, ApiError> {
    let mut given = object(body)?;
    let inputs = prompts(&mut given, "input", MAX_INPUTS)?;
    check::integer(&given, "dimensions", 1, None)?;
    let dimensions = given.remove("dimensions").and_then(|n| usize::try_from(n.as_u64()?).ok()).unwrap_or(0);
    let is_base64 = match given.remove("encoding_format").as_ref().map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => {
            let message = "`encoding_format` must be \"float\" or \"base64\".";
            return Err(ApiError::field("encoding_format", message));
        }
    };
    check_rest(&given)?;
    let request =
        |prompt| Request { prompt: Some(prompt), embedding: Some(dimensions), ..Request::default() };
    let mut vectors: Vec<Vec<f32>> = vec![Vec::new(); inputs.len()];
    let mut steps = shared.requests.ask(inputs.into_iter().map(request).collect());
    let (mut open, mut n_tokens) = (vectors.len(), 0);
    while open > 0 {
        let stopping = || Failure { code: "internal", message: "the server is stopping".into() };
        let (index, told) = steps.recv().await.ok_or_else(stopping)?;
        let Told::Progress(progress) = told? else { continue };
        if let Progress::Embedding { embedding, prompt_tokens } = *progress {
            open -= 1;
            n_tokens += prompt_tokens;
            vectors[index] = embedding;
        }
    }
    let data = vectors.iter().enumerate().map(|(index, vector)| {
        let bytes = || vector.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>();
        let embedding = if is_base64 { BASE64_STANDARD.encode(bytes()).into() } else { json!(vector) };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    Ok(json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": shared.model,
        "usage": { "prompt_tokens": n_tokens, "total_tokens": n_tokens },
    }))
}

/// Refuses what is not known.
fn check_rest(given: &Map<String, Value>) -> Result<(), ApiError> {
    match given.keys().find(|name| !["model", "user"].contains(&name.as_str())) {
        Some(name) => Err(ApiError::unknown(name)),
        None => Ok(()),
    }
}
