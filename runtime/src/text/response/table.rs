//! The formats of tool calls that are known.

use super::calls::{Calls, Dialect, Syntax, Tags, Written};
use std::sync::{Arc, LazyLock};

/// What begins a section, and what ends it.
type Around<'a> = (&'a [&'a str], &'a str);

type Pair<'a> = (&'a str, &'a str);

fn calls((open, close): Around, syntax: Syntax) -> Calls {
    let open = open.iter().map(ToString::to_string).collect();
    Calls { open, close: close.into(), at_start: false, only_tools: false, syntax }
}

fn at_start(calls: Calls) -> Calls {
    Calls { at_start: true, ..calls }
}

fn only_tools(calls: Calls) -> Calls {
    Calls { only_tools: true, ..calls }
}

fn keyed(around: Around, name: &str, arguments: &str) -> Calls {
    calls(around, Syntax::Json { name: name.into(), arguments: arguments.into() })
}

fn json(open: &[&str], close: &str) -> Calls {
    keyed((open, close), "name", "arguments")
}

fn with(around: Around, before: &[&str], ends: &str, after: &str, arguments: Written) -> Calls {
    let before = before.iter().filter(|text| !text.is_empty()).map(ToString::to_string).collect();
    calls(around, Syntax::Named { before, ends: ends.into(), after: after.into(), arguments })
}

fn named(around: Around, before: &str, ends: &str) -> Calls {
    with(around, &[before], ends, "", Written::Json)
}

fn tagged(around: Around, (before, ends): Pair, key: Pair, value: Pair, after: &str) -> Calls {
    let pair = |(a, b): Pair| (a.to_string(), b.to_string());
    with(around, &[before], ends, after, Written::Tags(Tags { key: pair(key), value: pair(value) }))
}

fn listed(around: Around, before: &[&str], ends: &str) -> Calls {
    with(around, before, ends, "", Written::Literals(Dialect::python()))
}

fn literal(around: Around, before: &str, quotes: Pair) -> Calls {
    let dialect = Dialect::object(vec![(quotes.0.into(), quotes.1.into())]);
    with(around, &[before], "{", "", Written::Literals(dialect))
}

fn elements(around: Around, (before, ends): Pair, mark: &str, after: &str) -> Calls {
    with(around, &[before], ends, after, Written::Elements(mark.into()))
}

/// The formats that are known. Those that a part of another one would match come later.
pub(super) static TABLE: LazyLock<Vec<Arc<Calls>>> =
    LazyLock::new(|| rows().into_iter().map(Arc::new).collect());

fn rows() -> Vec<Calls> {
    vec![
        json(&["<tool_call>"], "</tool_call>"),
        // Qwen3-Coder, Qwen3.5, Nemotron 3, StepFun.
        tagged(
            (&["<tool_call>"], "</tool_call>"),
            ("<function=", ">"),
            ("<parameter=", ">"),
            ("", "</parameter>"),
            "</function>",
        ),
        // Seed-OSS.
        tagged(
            (&["<seed:tool_call>"], "</seed:tool_call>"),
            ("<function=", ">"),
            ("<parameter=", ">"),
            ("", "</parameter>"),
            "</function>",
        ),
        // GLM, Ling, Laguna, Spark.
        tagged(
            (&["<tool_call>"], "</tool_call>"),
            ("", "\n<"),
            ("<arg_key>", "</arg_key>"),
            ("<arg_value>", "</arg_value>"),
            "",
        ),
        // Hy3.
        tagged(
            (&["<tool_calls:opensource>"], "</tool_calls:opensource>"),
            ("<tool_call:opensource>", "<"),
            ("<arg_key:opensource>", "</arg_key:opensource>"),
            ("<arg_value:opensource>", "</arg_value:opensource>"),
            "</tool_call:opensource>",
        ),
        // MiniMax M2.
        tagged(
            (&["<minimax:tool_call>"], "</minimax:tool_call>"),
            ("<invoke name=\"", "\""),
            ("<parameter name=\"", "\">"),
            ("", "</parameter>"),
            "</invoke>",
        ),
        // Muse Glimmer.
        tagged(
            (&["<atem:function_calls>"], "</atem:function_calls>"),
            ("<atem:invoke name=\"", "\""),
            ("<atem:parameter name=\"", "\">"),
            ("", "</atem:parameter>"),
            "</atem:invoke>",
        ),
        // DeepSeek V3.2 and V4.
        tagged(
            (&["<｜DSML｜function_calls>"], "</｜DSML｜function_calls>"),
            ("<｜DSML｜invoke name=\"", "\""),
            ("<｜DSML｜parameter name=\"", "\""),
            (">", "</｜DSML｜parameter>"),
            "</｜DSML｜invoke>",
        ),
        tagged(
            (&["<｜DSML｜tool_calls>"], "</｜DSML｜tool_calls>"),
            ("<｜DSML｜invoke name=\"", "\""),
            ("<｜DSML｜parameter name=\"", "\""),
            (">", "</｜DSML｜parameter>"),
            "</｜DSML｜invoke>",
        ),
        // MiniCPM5.
        tagged(
            (&["<function name=\""], "</function>"),
            ("", "\""),
            ("<param name=\"", "\">"),
            ("", "</param>"),
            "",
        ),
        // Kimi K3.
        tagged(
            (&["<|open|>tools<|sep|>"], "<|close|>tools<|sep|>"),
            ("<|open|>call tool=\"", "\""),
            ("<|open|>argument key=\"", "\""),
            ("<|sep|>", "<|close|>argument<|sep|>"),
            "<|close|>call<|sep|>",
        ),
        // Mistral Small 3.2, Ministral, Devstral.
        named((&["[TOOL_CALLS]"], ""), "", "["),
        // Mistral Nemo.
        json(&["[TOOL_CALLS]"], ""),
        // Kimi K2.
        named(
            (&["<|tool_calls_section_begin|>"], "<|tool_calls_section_end|>"),
            "<|tool_call_begin|>functions.",
            ":",
        ),
        // DeepSeek R1, then V3.1.
        named(
            (&["<｜tool▁calls▁begin｜>"], "<｜tool▁calls▁end｜>"),
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
            "\n",
        ),
        named((&["<｜tool▁calls▁begin｜>"], "<｜tool▁calls▁end｜>"), "<｜tool▁call▁begin｜>", "<"),
        // Solar Open.
        named((&["<|tool_calls|>"], "<|calls|>"), "<|tool_call:name|>", "<"),
        // Functionary 3.1.
        named((&["<function="], "</function>"), "", ">"),
        // gpt-oss; what the model writes, and what its template does.
        at_start(named((&["<|channel|>commentary to=functions.", "to=functions."], ""), "", " <")),
        // Apriel and MiniMax M1, Nemotron Nano 2, Command R7B, Apertus.
        json(&["<tool_calls>"], "</tool_calls>"),
        json(&["<TOOLCALL>"], "</TOOLCALL>"),
        keyed((&["<|START_ACTION|>"], "<|END_ACTION|>"), "tool_name", "parameters"),
        calls((&["<|tools_prefix|>"], "<|tools_suffix|>"), Syntax::NameIsKey),
        // Phi-4-mini, Granite 3, GigaChat, Firefunction.
        json(&["<|tool_call|>"], "<|/tool_call|>"),
        json(&["<|tool_call|>"], ""),
        json(&["<|function_call|>"], ""),
        json(&["function call<|role_sep|>"], ""),
        json(&["functools"], ""),
        // LFM2.
        listed((&["<|tool_call_start|>"], "<|tool_call_end|>"), &["[", ","], "("),
        // Gemma 4.
        literal((&["<|tool_call>"], "<tool_call|>"), "call:", ("<|\"|>", "<|\"|>")),
        // MiniMax M3.
        elements(
            (&["]<]minimax[>[<tool_call>"], "]<]minimax[>[</tool_call>"),
            ("<invoke name=\"", "\""),
            "]<]minimax[>[",
            "]<]minimax[>[</invoke>",
        ),
        // Functionary 3.2: the prompt ends with the marker.
        only_tools(named((&[">>>"], ""), "", "\n")),
        // Llama 3: nothing marks a call.
        only_tools(at_start(keyed((&["{\"name\":"], ""), "name", "parameters"))),
    ]
}
