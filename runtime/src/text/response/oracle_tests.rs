//! Answers as templates write them, against transformers' `ResponseParser`.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::text::chat::tests::expected;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What `tests/templates/parsed.py` makes.
#[derive(Deserialize)]
struct Parsed {
    cases: Vec<Case>,
    /// Response templates, as JSON.
    responses: BTreeMap<String, String>,
}

impl Parsed {
    fn new() -> Self {
        let file = &include_bytes!("../../../../tests/templates/parsed.json.gz")[..];
        serde_json::from_reader(GzDecoder::new(file)).unwrap()
    }
}

#[derive(Deserialize)]
pub(super) struct Case {
    pub template: String,
    /// The response template.
    response: String,
    pub answer: String,
    /// The end of the prompt.
    pub prompt: String,
    text: String,
    content: String,
    reasoning: String,
    calls: Vec<(String, Value)>,
}

/// Tokens that end a turn; an engine does not pass them on.
const ENDS: &[&str] =
    &["<|im_end|>", "<|eot_id|>", "<|return|>", "<|call|>", "<turn|>", "<|tool_response>", "[e~["];

impl Case {
    pub fn all() -> Vec<Self> {
        Parsed::new().cases
    }

    /// The answer without the end of the turn.
    pub fn text(&self) -> &str {
        let text = self.text.trim_end();
        ENDS.iter().find_map(|end| text.strip_suffix(*end)).unwrap_or(text)
    }
}

/// Response templates with what is not supported, and the key that says so: a tag whose end depends on its
/// beginning, and a name that must not be another one.
const REFUSED: &[(&str, &str)] = &[
    ("functionary", "fields.content.close_pattern"),
    ("minimax_m3", "fields.tool_calls.content_args.tag_pattern"),
];

/// What was found in the chat template, and what was given, read the same.
#[test]
fn answers_are_separated_as_by_transformers() {
    let Parsed { cases, responses } = Parsed::new();
    let expected = expected();
    let tools = Arc::new(Tools::new(&serde_json::to_value(expected.tools("call")).unwrap()).unwrap());
    let (mut n_given, mut refused) = (0, BTreeMap::new());
    for case in &cases {
        let chat = expected.templates[&case.template].chat();
        case.check(Format { calls: Some(chat.tool_use().calls), ..chat.format() }, &tools, "found");
        match Given::new(&responses[&case.response]) {
            Ok(Given { reasoning, content, calls }) => {
                n_given += 1;
                case.check(Format { reasoning, content, calls }, &tools, "given");
            }
            Err(error) => _ = refused.insert(case.response.as_str(), error.key),
        }
    }
    let refused: Vec<(&str, &str)> = refused.iter().map(|(name, key)| (*name, key.as_str())).collect();
    assert_eq!(refused, REFUSED);
    assert_eq!((cases.len(), n_given), (116, 102));
}

impl Case {
    fn check(&self, format: Format, tools: &Arc<Tools>, how: &str) {
        let mut separator = Separator::new(format, &self.prompt).with_tools(tools.clone(), false);
        let mut parts = Parts::default();
        for c in self.text().chars() {
            parts.append(separator.push(&c.to_string()));
        }
        parts.append(separator.flush());
        let name = format!("{}: {} ({how})", self.template, self.answer);
        assert_eq!(parts.content.trim(), self.content, "{name}");
        assert_eq!(parts.reasoning.trim(), self.reasoning, "{name}");
        let wanted: Vec<(String, Option<Value>)> =
            self.calls.iter().map(|(name, arguments)| (name.clone(), Some(arguments.clone()))).collect();
        assert_eq!(whole(&parts.calls), wanted, "{name}");
    }
}
