//! How models write tool calls: a table of formats, and which of them a chat template writes.

use super::{CallDelta, Separator, Tools};

/// A section of tool calls in an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Calls {
    /// Each of these begins a section.
    pub open: &'static [&'static str],
    /// Ends it; empty: the end of a call's JSON does.
    pub close: &'static str,
    /// Whether it is only looked for where no content has come before.
    pub at_start: bool,
    /// How a call is written.
    pub syntax: Syntax,
}

/// How a call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// `{"name": "f", "arguments": {…}}`, alone, one after another, or in a list; the two keys.
    Json { name: &'static str, arguments: &'static str },
    /// `{"f": {…}}` in a list.
    NameIsKey,
    /// A name, then its arguments.
    Named {
        /// Before the name.
        before: &'static str,
        /// Characters that end it.
        ends: &'static str,
        /// After arguments in tags.
        after: &'static str,
        /// Arguments in tags; none: a JSON object.
        tags: Option<Tags>,
    },
}

/// Arguments in tags, such as `<parameter=k>v</parameter>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// Around a key.
    pub key: (&'static str, &'static str),
    /// Around a value.
    pub value: (&'static str, &'static str),
}

const NAME: Syntax = Syntax::Json { name: "name", arguments: "arguments" };

const fn json(open: &'static [&'static str], close: &'static str) -> Calls {
    Calls { open, close, at_start: false, syntax: NAME }
}

const fn named(
    (open, close): (&'static [&'static str], &'static str),
    before: &'static str,
    ends: &'static str,
) -> Calls {
    Calls { open, close, at_start: false, syntax: Syntax::Named { before, ends, after: "", tags: None } }
}

const fn tagged(
    (open, close): (&'static [&'static str], &'static str),
    (before, ends): (&'static str, &'static str),
    key: (&'static str, &'static str),
    value: (&'static str, &'static str),
    after: &'static str,
) -> Calls {
    let syntax = Syntax::Named { before, ends, after, tags: Some(Tags { key, value }) };
    Calls { open, close, at_start: false, syntax }
}

/// Hermes' format, which is also used for models whose template has no tools.
pub static HERMES: Calls = json(&["<tool_call>"], "</tool_call>");

/// The formats that are known. Those that a part of another one would match come later.
static TABLE: &[&Calls] = &[
    &HERMES,
    // Qwen3-Coder, Qwen3.5, Nemotron 3, StepFun.
    &tagged(
        (&["<tool_call>"], "</tool_call>"),
        ("<function=", ">"),
        ("<parameter=", ">"),
        ("", "</parameter>"),
        "</function>",
    ),
    // Seed-OSS.
    &tagged(
        (&["<seed:tool_call>"], "</seed:tool_call>"),
        ("<function=", ">"),
        ("<parameter=", ">"),
        ("", "</parameter>"),
        "</function>",
    ),
    // GLM, Ling, Laguna, Spark.
    &tagged(
        (&["<tool_call>"], "</tool_call>"),
        ("", "\n<"),
        ("<arg_key>", "</arg_key>"),
        ("<arg_value>", "</arg_value>"),
        "",
    ),
    // Hy3.
    &tagged(
        (&["<tool_calls:opensource>"], "</tool_calls:opensource>"),
        ("<tool_call:opensource>", "<"),
        ("<arg_key:opensource>", "</arg_key:opensource>"),
        ("<arg_value:opensource>", "</arg_value:opensource>"),
        "</tool_call:opensource>",
    ),
    // MiniMax M2.
    &tagged(
        (&["<minimax:tool_call>"], "</minimax:tool_call>"),
        ("<invoke name=\"", "\""),
        ("<parameter name=\"", "\">"),
        ("", "</parameter>"),
        "</invoke>",
    ),
    // Muse Glimmer.
    &tagged(
        (&["<atem:function_calls>"], "</atem:function_calls>"),
        ("<atem:invoke name=\"", "\""),
        ("<atem:parameter name=\"", "\">"),
        ("", "</atem:parameter>"),
        "</atem:invoke>",
    ),
    // DeepSeek V3.2 and V4.
    &tagged(
        (&["<｜DSML｜function_calls>"], "</｜DSML｜function_calls>"),
        ("<｜DSML｜invoke name=\"", "\""),
        ("<｜DSML｜parameter name=\"", "\""),
        (">", "</｜DSML｜parameter>"),
        "</｜DSML｜invoke>",
    ),
    &tagged(
        (&["<｜DSML｜tool_calls>"], "</｜DSML｜tool_calls>"),
        ("<｜DSML｜invoke name=\"", "\""),
        ("<｜DSML｜parameter name=\"", "\""),
        (">", "</｜DSML｜parameter>"),
        "</｜DSML｜invoke>",
    ),
    // MiniCPM5.
    &tagged(
        (&["<function name=\""], "</function>"),
        ("", "\""),
        ("<param name=\"", "\">"),
        ("", "</param>"),
        "",
    ),
    // Kimi K3.
    &tagged(
        (&["<|open|>tools<|sep|>"], "<|close|>tools<|sep|>"),
        ("<|open|>call tool=\"", "\""),
        ("<|open|>argument key=\"", "\""),
        ("<|sep|>", "<|close|>argument<|sep|>"),
        "<|close|>call<|sep|>",
    ),
    // Mistral Small 3.2, Ministral, Devstral.
    &named((&["[TOOL_CALLS]"], ""), "", "["),
    // Mistral Nemo.
    &json(&["[TOOL_CALLS]"], ""),
    // Kimi K2.
    &named(
        (&["<|tool_calls_section_begin|>"], "<|tool_calls_section_end|>"),
        "<|tool_call_begin|>functions.",
        ":",
    ),
    // DeepSeek R1, then V3.1.
    &named(
        (&["<｜tool▁calls▁begin｜>"], "<｜tool▁calls▁end｜>"),
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
        "\n",
    ),
    &named((&["<｜tool▁calls▁begin｜>"], "<｜tool▁calls▁end｜>"), "<｜tool▁call▁begin｜>", "<"),
    // Solar Open.
    &named((&["<|tool_calls|>"], "<|calls|>"), "<|tool_call:name|>", "<"),
    // Functionary 3.1.
    &named((&["<function="], "</function>"), "", ">"),
    // gpt-oss; what the model writes, and what its template does.
    &Calls {
        open: &["<|channel|>commentary to=functions.", "to=functions."],
        close: "",
        at_start: true,
        syntax: Syntax::Named { before: "", ends: " <", after: "", tags: None },
    },
    // Apriel and MiniMax M1, Nemotron Nano 2, Command R7B, Apertus.
    &json(&["<tool_calls>"], "</tool_calls>"),
    &json(&["<TOOLCALL>"], "</TOOLCALL>"),
    &Calls {
        open: &["<|START_ACTION|>"],
        close: "<|END_ACTION|>",
        at_start: false,
        syntax: Syntax::Json { name: "tool_name", arguments: "parameters" },
    },
    &Calls {
        open: &["<|tools_prefix|>"],
        close: "<|tools_suffix|>",
        at_start: false,
        syntax: Syntax::NameIsKey,
    },
    // Phi-4-mini, Granite 3, GigaChat, Firefunction.
    &json(&["<|tool_call|>"], "<|/tool_call|>"),
    &json(&["<|tool_call|>"], ""),
    &json(&["<|function_call|>"], ""),
    &json(&["function call<|role_sep|>"], ""),
    &json(&["functools"], ""),
    // Llama 3: nothing marks a call.
    &Calls {
        open: &["{\"name\":"],
        close: "",
        at_start: true,
        syntax: Syntax::Json { name: "name", arguments: "parameters" },
    },
];

impl Calls {
    /// The first format that reads exactly this call in what a template wrote of it.
    pub fn that_reads(written: &str, name: &str, arguments: &serde_json::Value) -> Option<&'static Self> {
        TABLE.iter().copied().find(|calls| {
            let read = whole(&Separator::of_calls(calls).all(written).calls);
            matches!(&read[..], [(n, a)] if n == name && a.as_ref() == Some(arguments))
        })
    }

    /// The first format whose markers a template spells, for one that writes no calls itself.
    pub fn spelled_in(source: &str) -> Option<&'static Self> {
        let is_spelled = |calls: &Calls| {
            !calls.at_start
                && !calls.close.is_empty()
                && source.contains(calls.close)
                && calls.open.iter().any(|open| source.contains(open))
        };
        TABLE.iter().copied().find(|calls| is_spelled(calls))
    }

    /// The first format with all of these markers.
    #[cfg(test)]
    #[allow(clippy::unwrap_used)]
    pub fn with_markers(markers: &[&str]) -> &'static Self {
        let has = |calls: &Calls| markers.iter().all(|marker| calls.markers().any(|own| own == *marker));
        TABLE.iter().copied().find(|calls| has(calls)).unwrap()
    }

    /// Whether what begins a section is the beginning of a call.
    pub(super) fn keeps_open(&self) -> bool {
        self.open.iter().any(|open| open.starts_with('{'))
    }

    pub(super) fn markers(&self) -> impl Iterator<Item = &'static str> + use<> {
        let own = match self.syntax {
            Syntax::Named { before, after, tags, .. } => {
                let tags = tags.map_or([""; 4], |tags| [tags.key.0, tags.key.1, tags.value.0, tags.value.1]);
                [&[before, after][..], &tags].concat()
            }
            _ => Vec::new(),
        };
        self.open.iter().copied().chain([self.close]).chain(own)
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
