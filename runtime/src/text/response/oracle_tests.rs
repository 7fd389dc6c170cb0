//! Answers as templates write them, against transformers' `ResponseParser`.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::text::chat::tests::expected;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;

/// What `tests/templates/parsed.py` makes.
#[derive(Deserialize)]
pub(super) struct Case {
    pub template: String,
    pub answer: String,
    /// The end of the prompt.
    pub prompt: String,
    text: String,
    content: String,
    reasoning: String,
    calls: Vec<(String, Value)>,
}

/// Tokens that end a turn; an engine does not pass them on.
const ENDS: &[&str] = &["<|im_end|>", "<|eot_id|>", "<|return|>", "<|call|>"];

impl Case {
    pub fn all() -> Vec<Self> {
        let file = &include_bytes!("../../../../tests/templates/parsed.json.gz")[..];
        serde_json::from_reader(GzDecoder::new(file)).unwrap()
    }

    /// The answer without the end of the turn.
    pub fn text(&self) -> &str {
        let text = self.text.trim_end();
        ENDS.iter().find_map(|end| text.strip_suffix(*end)).unwrap_or(text)
    }
}

#[test]
fn answers_are_separated_as_by_transformers() {
    let cases = Case::all();
    let expected = expected();
    let tools = Arc::new(Tools::new(&serde_json::to_value(expected.tools("call")).unwrap()).unwrap());
    for case in &cases {
        let chat = expected.templates[&case.template].chat();
        let format = Format { calls: Some(chat.tool_use().calls), ..chat.format() };
        let mut separator = Separator::new(format, &case.prompt).with_tools(tools.clone(), false);
        let mut parts = Parts::default();
        for c in case.text().chars() {
            parts.append(separator.push(&c.to_string()));
        }
        parts.append(separator.flush());
        let name = format!("{}: {}", case.template, case.answer);
        assert_eq!(parts.content.trim(), case.content, "{name}");
        assert_eq!(parts.reasoning.trim(), case.reasoning, "{name}");
        let wanted: Vec<(String, Option<Value>)> =
            case.calls.iter().map(|(name, arguments)| (name.clone(), Some(arguments.clone()))).collect();
        assert_eq!(whole(&parts.calls), wanted, "{name}");
    }
    assert_eq!(cases.len(), 79);
}
