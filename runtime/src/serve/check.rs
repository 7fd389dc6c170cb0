//! What a request must look like. The package checks the same (`pkg/src/request.ts`), and both are tested by
//! `tests/golden/errors.json`.

use super::error::ApiError;
use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, ApiError>;

/// Numbers, their lowest and highest values: OpenAI's, and those of other samplers. Without a lowest value
/// they are above 0.
const NUMBERS: [(&str, Option<f64>, f64); 16] = [
    ("temperature", Some(0.0), 2.0),
    ("top_p", None, 1.0),
    ("min_p", Some(0.0), 1.0),
    ("typical_p", None, 1.0),
    ("top_n_sigma", Some(-1.0), 100.0),
    ("xtc_probability", Some(0.0), 1.0),
    ("xtc_threshold", Some(0.0), 1.0),
    ("dry_multiplier", Some(0.0), 100.0),
    ("dry_base", Some(1.0), 100.0),
    ("dynatemp_range", Some(0.0), 100.0),
    ("dynatemp_exponent", Some(0.0), 100.0),
    ("mirostat_tau", Some(0.0), 100.0),
    ("mirostat_eta", Some(0.0), 1.0),
    ("repetition_penalty", None, 100.0),
    ("presence_penalty", Some(-2.0), 2.0),
    ("frequency_penalty", Some(-2.0), 2.0),
];
/// Integers and their lowest values.
const INTEGERS: [(&str, i64); 7] = [
    ("max_completion_tokens", 1),
    ("max_tokens", 1),
    ("thinking_token_budget", 0),
    ("top_k", 0),
    ("dry_allowed_length", 1),
    ("dry_penalty_last_n", -1),
    ("seed", 0),
];
const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// Numbers must be in their ranges.
pub fn numbers(given: &Map<String, Value>) -> Result<()> {
    for (name, least) in INTEGERS {
        integer(given, name, least, None)?;
    }
    for (name, low, high) in NUMBERS {
        let Some(value) = given.get(name) else { continue };
        let from = low.map_or_else(|| "above 0".to_owned(), |low| format!("from {low}"));
        let message = format!("`{name}` must be a number {from} to {high}.");
        let Some(number) = value.as_f64() else {
            return Err(ApiError::mistyped(name, Some(value), message));
        };
        if number > high {
            return Err(ApiError::coded(name, "decimal_above_max_value", message));
        }
        if low.map_or(number <= 0.0, |low| number < low) {
            return Err(ApiError::coded(name, "decimal_below_min_value", message));
        }
    }
    Ok(())
}

/// A parameter must be an integer in this range, if it is there.
pub fn integer(given: &Map<String, Value>, name: &str, least: i64, most: Option<i64>) -> Result<()> {
    let Some(value) = given.get(name) else { return Ok(()) };
    let to = most.map_or_else(String::new, |most| format!(" to {most}"));
    let message = format!("`{name}` must be an integer from {least}{to}.");
    // Above all that fits 63 bits there are seeds.
    let number = value.as_i64().or_else(|| value.as_u64().map(|_| i64::MAX));
    match number {
        None => Err(ApiError::mistyped(name, Some(value), message)),
        Some(number) if number < least => Err(ApiError::coded(name, "integer_below_min_value", message)),
        Some(number) if most.is_some_and(|most| number > most) => {
            Err(ApiError::coded(name, "integer_above_max_value", message))
        }
        Some(_) => Ok(()),
    }
}

/// An object, or an error that names the field.
pub fn object<'a>(value: Option<&'a Value>, at: &str) -> Result<&'a Map<String, Value>> {
    let wrong = || ApiError::mistyped(at, value, format!("`{at}` must be an object."));
    value.and_then(Value::as_object).ok_or_else(wrong)
}

/// Messages must have a known role and, but for calls, a text or parts.
pub fn messages(messages: Option<&Value>) -> Result<()> {
    let list = messages.and_then(Value::as_array).filter(|list| !list.is_empty());
    let message = "`messages` must be a list with at least one message.";
    let list = list.ok_or_else(|| ApiError::list("messages", messages, message))?;
    for (i, item) in list.iter().enumerate() {
        let at = format!("messages[{i}]");
        let fields = object(Some(item), &at)?;
        let role_at = format!("{at}.role");
        let message = format!("`{role_at}` must be one of {}.", ROLES.join(", "));
        match fields.get("role") {
            Some(Value::String(role)) if ROLES.contains(&role.as_str()) => {}
            Some(Value::String(_)) => return Err(ApiError::field(&role_at, message)),
            role => return Err(ApiError::mistyped(&role_at, role, message)),
        }
        let calls = fields.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
        let content_at = format!("{at}.content");
        let message = format!("`{content_at}` must be a string or a list of text parts.");
        match fields.get("content") {
            Some(Value::String(_) | Value::Array(_)) => {}
            None | Some(Value::Null) if calls => {}
            content => return Err(ApiError::mistyped(&content_at, content, message)),
        }
    }
    Ok(())
}

/// Tools must be functions. What these hold is checked by the runtime.
pub fn tools(tools: Option<&Value>) -> Result<()> {
    let Some(tools) = tools else { return Ok(()) };
    let Some(list) = tools.as_array() else {
        return Err(ApiError::mistyped("tools", Some(tools), "`tools` must be a list."));
    };
    for (i, tool) in list.iter().enumerate() {
        let at = format!("tools[{i}]");
        let fields = object(Some(tool), &at)?;
        if fields.get("type").is_none_or(|kind| kind != "function") {
            let at = format!("{at}.type");
            return Err(ApiError::field(&at, format!("`{at}` must be \"function\".")));
        }
        object(fields.get("function"), &format!("{at}.function"))?;
    }
    Ok(())
}
