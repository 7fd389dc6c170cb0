//! Errors as OpenAI's servers send them.

use super::worker::Failure;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// An error with its HTTP status.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    code: &'static str,
    message: String,
    /// The field that is wrong.
    param: Option<String>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None }
    }

    /// A field has a wrong value.
    pub fn field(name: &str, message: impl Into<String>) -> Self {
        let param = Some(name.to_owned());
        Self { param, ..Self::new(StatusCode::BAD_REQUEST, "invalid_request", message) }
    }

    /// A field is not known or not supported.
    pub fn unknown(name: &str) -> Self {
        Self::field(name, format!("`{name}` is not supported."))
    }

    /// A field that must be there is not.
    pub fn missing(name: &str, message: impl Into<String>) -> Self {
        Self::field(name, message)
    }

    /// What kind of error it is.
    pub fn code(&self) -> &str {
        self.code
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// `{"error": {message, type, param, code}}`
    pub fn body(&self) -> Value {
        let kind = if self.status.is_server_error() { "server_error" } else { "invalid_request_error" };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let status = match failure.code {
            "invalid_request" | "context_length_exceeded" | "template" => StatusCode::BAD_REQUEST,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // The runtime's messages about a field begin with its name.
        let param = failure.message.strip_prefix("malformed request: ").unwrap_or(&failure.message);
        let param = param.strip_prefix('`').and_then(|rest| Some(rest.split_once('`')?.0.to_owned()));
        Self { param, ..Self::new(status, failure.code, failure.message) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}
