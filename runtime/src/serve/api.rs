//! The handlers.

use super::embeddings;
use super::error::ApiError;
use super::params::{self, Params};
use super::reply::{Kind, Reply};
use super::responses;
use super::{Shared, is_local_host};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Result<T> = std::result::Result<T, ApiError>;

pub async fn chat(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Result<Response> {
    is_json(&headers)?;
    reply(&shared, Kind::Chat, params::chat(&body)?).await.map_err(|error| error.of_prompt("messages"))
}

pub async fn completions(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    is_json(&headers)?;
    reply(&shared, Kind::Text, params::completions(&body)?).await
}

pub async fn responses(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response> {
    is_json(&headers)?;
    responses::answer(shared, &body).await.map_err(|error| error.of_prompt("input"))
}

pub async fn embeddings(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>> {
    is_json(&headers)?;
    embeddings::answer(&shared, &body).await.map(Json)
}

async fn reply(shared: &Shared, kind: Kind, params: Params) -> Result<Response> {
    let is_streamed = params.stream;
    let reply = Reply::new(kind, &shared.model, params, &shared.requests);
    if is_streamed { reply.streamed().await } else { reply.whole().await }
}

/// Web pages may send other types without asking the server first.
fn is_json(headers: &HeaderMap) -> Result<()> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "Send JSON, with the header `Content-Type: application/json`.";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

pub async fn models(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "object": "list", "data": [described(&shared)] }))
}

pub async fn model(State(shared): State<Arc<Shared>>, Path(model): Path<String>) -> Result<Json<Value>> {
    if model == shared.model {
        return Ok(Json(described(&shared)));
    }
    let message = format!("The model that is loaded is {}, not {model}.", shared.model);
    Err(ApiError::new(StatusCode::NOT_FOUND, "model_not_found", message).about("model"))
}

fn described(shared: &Shared) -> Value {
    json!({ "id": shared.model, "object": "model", "created": shared.created, "owned_by": "nomoat" })
}

/// Whether the server runs. Needs no key.
pub async fn health() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Counts in Prometheus's text format.
pub async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let metrics = &shared.metrics;
    let list: [(&str, &str, &str, &AtomicU64); 6] = [
        ("requests_total", "counter", "Choices that were asked for.", &metrics.requests),
        ("requests_failed_total", "counter", "Choices that ended with an error.", &metrics.failed),
        ("requests_running", "gauge", "Choices that are being answered.", &metrics.running),
        ("prompt_tokens_total", "counter", "Tokens of prompts.", &metrics.prompt_tokens),
        (
            "cached_tokens_total",
            "counter",
            "Those of them that were not computed again.",
            &metrics.cached_tokens,
        ),
        ("completion_tokens_total", "counter", "Tokens of answers.", &metrics.completion_tokens),
    ];
    let lines = list.map(|(name, kind, help, value)| {
        let value = value.load(Ordering::Relaxed);
        format!("# HELP nomoat_{name} {help}\n# TYPE nomoat_{name} {kind}\nnomoat_{name} {value}\n")
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], lines.concat())
}

/// Refuses requests without the API key, if there is one.
pub async fn authorised(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Result<Response> {
    let Some(key) = &shared.api_key else { return Ok(next.run(request).await) };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if is_same(given.as_bytes(), key.as_bytes()) {
        return Ok(next.run(request).await);
    }
    let message = "Send the server's API key, with the header `Authorization: Bearer KEY`.";
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message))
}

/// Compares in a time that does not tell where two keys of the same length differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// On a local address, refuses names that are not this machine's: a page could let its own name lead here.
pub async fn local_host(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Result<Response> {
    let host = request.headers().get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !shared.is_local || is_local_host(host) {
        return Ok(next.run(request).await);
    }
    let message = format!("This server is for this machine only, not for {host}.");
    Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden_host", message))
}

pub async fn unknown(method: Method, uri: Uri) -> ApiError {
    let help = match uri.path() {
        "/chat/completions" | "/completions" | "/responses" | "/embeddings" | "/models" => {
            " The API's address ends in /v1."
        }
        _ => "",
    };
    let message = format!("There is no {method} {} here.{help}", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "unknown_url", message)
}

pub async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("{} does not take {method}.", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
