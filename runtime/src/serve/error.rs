//! Errors as OpenAI's servers send them.

use super::worker::Failure;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// OpenAI's parameters that are refused.
const REFUSED: [&str; 20] = [
    "functions",
    "function_call",
    "verbosity",
    "modalities",
    "audio",
    "web_search_options",
    "moderation",
    "best_of",
    "previous_response_id",
    "conversation",
    "background",
    "prompt",
    "context_management",
    "max_tool_calls",
    "top_logprobs",
    "image",
    "access_programs",
    "reasoning.summary",
    "reasoning.generate_summary",
    "text.verbosity",
];

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

    /// The same error, about a field.
    pub fn about(self, name: &str) -> Self {
        Self { param: Some(name.to_owned()), ..self }
    }

    /// The same error; if the prompt is too long, it is about this field.
    pub fn of_prompt(self, name: &str) -> Self {
        if self.code == "context_length_exceeded" { self.about(name) } else { self }
    }

    /// A field has a wrong value.
    pub fn field(name: &str, message: impl Into<String>) -> Self {
        Self::coded(name, "invalid_value", message)
    }

    /// A field is wrong for a reason that OpenAI's API has a code for.
    pub fn coded(name: &str, code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message).about(name)
    }

    /// A field is not known or not supported.
    pub fn unknown(name: &str) -> Self {
        let code = if REFUSED.contains(&name) { "unsupported_parameter" } else { "unknown_parameter" };
        Self::coded(name, code, format!("`{name}` is not supported."))
    }

    /// A field is missing, or is of another type than it must be.
    pub fn mistyped(name: &str, value: Option<&Value>, message: impl Into<String>) -> Self {
        let is_missing = value.is_none_or(Value::is_null);
        Self::coded(name, if is_missing { "missing_required_parameter" } else { "invalid_type" }, message)
    }

    /// A list is missing, empty, too long or no list.
    pub fn list(name: &str, value: Option<&Value>, message: impl Into<String>) -> Self {
        match value.and_then(Value::as_array) {
            None => Self::mistyped(name, value, message),
            Some(list) if list.is_empty() => Self::coded(name, "empty_array", message),
            Some(_) => Self::field(name, message),
        }
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
        let said = failure.message.strip_prefix("malformed request: ").unwrap_or(&failure.message);
        let (param, problem) = match said.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
            Some((param, problem)) => (Some(param.to_owned()), problem.trim_start_matches(": ")),
            None => (None, ""),
        };
        let code = match (failure.code, &param) {
            ("invalid_request", Some(_)) if problem.starts_with("invalid type") => "invalid_type",
            ("invalid_request", Some(_)) if problem.starts_with("missing field") => {
                "missing_required_parameter"
            }
            ("invalid_request", Some(_)) => "invalid_value",
            (code, _) => code,
        };
        Self { param, ..Self::new(status, code, failure.message) }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body())).into_response()
    }
}
