//! How models write tool calls: descriptions of formats, and which of them a chat template writes.

use super::table::TABLE;
use super::{CallDelta, Separator, Tools};
use std::sync::Arc;

/// A section of tool calls in an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Calls {
    /// Each of these begins a section.
    pub open: Vec<String>,
    /// Ends it; empty: the end of a call does.
    pub close: String,
    /// Whether it is only looked for where no content has come before.
    pub at_start: bool,
    /// Whether what begins a section is only a marker if the name of a tool follows.
    pub only_tools: bool,
    /// How a call is written.
    pub syntax: Syntax,
}

/// How a call is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `{"name": "f", "arguments": {…}}`, alone, one after another, or in a list; the two keys.
    Json { name: String, arguments: String },
    /// `{"f": {…}}` in a list.
    NameIsKey,
    /// A name, then its arguments.
    Named {
        /// One of these is before the name; none: only the section's marker is.
        before: Vec<String>,
        /// Characters that end it.
        ends: String,
        /// After arguments in tags.
        after: String,
        /// How they are written.
        arguments: Written,
    },
}

/// How the arguments of a call are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// A JSON object.
    Json,
    /// `<parameter=k>v</parameter>`.
    Tags(Tags),
    /// `(k='v', n=7)` or `{k:<|"|>v<|"|>,n:7}`.
    Literals(Dialect),
    /// Tags named by keys, which may be in each other; what is before each tag.
    Elements(String),
}

/// Arguments in tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    /// Around a key.
    pub key: (String, String),
    /// Around a value.
    pub value: (String, String),
}

/// How values are written that are nearly JSON: names and other words may be without quotes, and values may
/// be those of Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Begins the arguments, is between a key and its value, and ends the arguments.
    pub signs: [char; 3],
    /// Around texts. In those of one character, a backslash escapes; others have the text as it is.
    pub quotes: Vec<(String, String)>,
}

impl Dialect {
    /// Calls as in Python.
    pub fn python() -> Self {
        let quote = |quote: &str| (quote.to_string(), quote.to_string());
        Self { signs: ['(', '=', ')'], quotes: vec![quote("'"), quote("\"")] }
    }

    /// Objects with texts in these quotes, or in those of JSON.
    pub fn object(quotes: Vec<(String, String)>) -> Self {
        let json = ("\"".to_string(), "\"".to_string());
        Self { signs: ['{', ':', '}'], quotes: [quotes, vec![json]].concat() }
    }
}

impl Calls {
    /// The first format that reads exactly this call in what a template wrote of it.
    pub fn that_reads(written: &str, name: &str, arguments: &serde_json::Value) -> Option<Arc<Self>> {
        TABLE.iter().find(|calls| calls.reads(written, name, arguments)).cloned()
    }

    /// Whether it reads exactly this call in what a template wrote of it.
    pub fn reads(self: &Arc<Self>, written: &str, name: &str, arguments: &serde_json::Value) -> bool {
        let read = whole(&Separator::of_calls(self.clone()).all(written).calls);
        matches!(&read[..], [(n, a)] if n == name && a.as_ref() == Some(arguments))
    }

    /// What a model writes of calls where its template does not show it; none if that is not known.
    pub fn sample(&self, calls: &[(&str, serde_json::Value)]) -> Option<String> {
        let Syntax::Named { arguments: Written::Literals(dialect), .. } = &self.syntax else { return None };
        if *dialect != Dialect::python() {
            return None;
        }
        let value = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) if !text.contains(['\'', '\\', '\n']) => format!("'{text}'"),
            serde_json::Value::Bool(true) => "True".into(),
            serde_json::Value::Bool(false) => "False".into(),
            serde_json::Value::Null => "None".into(),
            other => other.to_string(),
        };
        let call = |(name, arguments): &(&str, serde_json::Value)| {
            let arguments = arguments.as_object().into_iter().flatten();
            let all: Vec<String> = arguments.map(|(key, one)| format!("{key}={}", value(one))).collect();
            format!("{name}({})", all.join(", "))
        };
        let all: Vec<String> = calls.iter().map(call).collect();
        Some(format!("{}[{}]{}", self.open.first()?, all.join(", "), self.close))
    }

    /// Hermes' format, which is also used for models whose template has no tools.
    pub fn hermes() -> Arc<Self> {
        TABLE[0].clone()
    }

    /// The first format whose markers a template spells, for one that writes no calls itself.
    pub fn spelled_in(source: &str) -> Option<Arc<Self>> {
        let is_spelled = |calls: &Calls| {
            !calls.at_start
                && !calls.close.is_empty()
                && source.contains(&calls.close)
                && calls.open.iter().any(|open| source.contains(open))
        };
        TABLE.iter().find(|calls| is_spelled(calls)).cloned()
    }

    /// The first format with all of these markers.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub fn with_markers(markers: &[&str]) -> Arc<Self> {
        let has = |calls: &Calls| markers.iter().all(|marker| calls.markers().any(|own| own == *marker));
        TABLE.iter().find(|calls| has(calls)).unwrap().clone()
    }

    /// Whether what begins a section is the beginning of a call.
    pub(super) fn keeps_open(&self) -> bool {
        self.open.iter().any(|open| open.starts_with('{'))
    }

    pub(super) fn markers(&self) -> impl Iterator<Item = &str> {
        let own: Vec<&str> = match &self.syntax {
            Syntax::Named { before, after, arguments, .. } => {
                let around: Vec<&str> = match arguments {
                    Written::Json => Vec::new(),
                    Written::Tags(Tags { key, value }) => vec![&key.0, &key.1, &value.0, &value.1],
                    Written::Literals(dialect) => {
                        dialect.quotes.iter().flat_map(|(a, b)| [a.as_str(), b]).collect()
                    }
                    Written::Elements(mark) => vec![mark],
                };
                before.iter().chain([after]).map(String::as_str).chain(around).collect()
            }
            _ => Vec::new(),
        };
        self.open.iter().chain([&self.close]).map(String::as_str).chain(own)
    }
}

/// Names and arguments of the calls that pieces make up. Arguments that are no JSON are none.
pub fn whole(pieces: &[CallDelta]) -> Vec<(String, Option<serde_json::Value>)> {
    let mut calls: Vec<(String, String)> = Vec::new();
    for piece in pieces {
        if piece.index == calls.len() {
            calls.push(Default::default());
        }
        if let Some((name, arguments)) = calls.get_mut(piece.index) {
            name.push_str(piece.name.as_deref().unwrap_or_default());
            arguments.push_str(&piece.arguments);
        }
    }
    calls.into_iter().map(|(name, arguments)| (name, serde_json::from_str(&arguments).ok())).collect()
}

/// The tool call with which a template is tried.
pub const TRIAL: (&str, &str, &str) = ("trial_of_tool", "trial_key", "trial value");

/// Arguments of a second call that a template is tried with: a number, and others that are no texts.
pub const TYPED: [(&str, &str); 5] = [
    ("typed_a", "7"),
    ("typed_b", "true"),
    ("typed_c", "null"),
    ("typed_d", "[7]"),
    ("typed_e", "{\"x\": 7}"),
];

/// What a template wrote of the trial's answer: what follows the question.
pub fn after_question<'a>(rendered: &'a str, question: &str) -> Option<&'a str> {
    rendered.rsplit_once(question).map(|(_, answer)| answer)
}

impl Tools {
    /// The tool of the trial.
    pub fn trial() -> serde_json::Value {
        let (name, key, _) = TRIAL;
        serde_json::json!([{ "type": "function", "function": {
            "name": name, "description": "A trial.",
            "parameters": {
                "type": "object", "properties": { key: { "type": "string", "description": "A text." } },
                "required": [key]
            }
        }}])
    }
}
