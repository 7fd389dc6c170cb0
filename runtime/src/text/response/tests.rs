//! Streams of six templates, cut everywhere.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::text::chat::tests::{chat, expected};
use std::collections::BTreeMap;

/// A template, the end of its prompt, an answer, its reasoning and its content.
const STREAMS: &[(&str, &str, &str, &str, &str)] = &[
    // The model opens its reasoning.
    (
        "Qwen-Qwen3-0.6B",
        "<|im_start|>assistant\n",
        "<think>\nOne <é> and </thin one.\n\nTwo.\n</think>\n\n2 < 3 <thi",
        "One <é> and </thin one.\n\nTwo.",
        "2 < 3 <thi",
    ),
    // The prompt has opened it.
    (
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
        "<｜Assistant｜><think>\n",
        "Hm 😀.\n</think>\n\n\\boxed{2}\n",
        "Hm 😀.",
        "\\boxed{2}\n",
    ),
    // Channels.
    (
        "openai-gpt-oss-120b",
        "<|start|>assistant",
        "<|channel|>analysis<|message|>One and one.<|end|><|start|>assistant<|channel|>final<|message|>2 <|",
        "One and one.",
        "2 <|",
    ),
    (
        "mistralai-Ministral-3-14B-Reasoning-2512",
        "[/INST]",
        "[THINK]a[0] [/[/THINK]b[1] [THIN",
        "a[0] [/",
        "b[1] [THIN",
    ),
    (
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
        "<|CHATBOT_TOKEN|>",
        "<|START_THINKING|>中文 <|END_<|END_THINKING|>二",
        "中文 <|END_",
        "二",
    ),
    ("google-gemma-4-31B-it", "<|turn>model\n", "<|channel>thought\nA\n<channel|>B", "A", "B"),
];

/// The formats of these templates.
fn formats() -> BTreeMap<&'static str, Format> {
    let expected = expected();
    STREAMS.iter().map(|(name, ..)| (*name, expected.templates[*name].chat().format())).collect()
}

/// The format of a template that spells these markers.
fn spelled(template: &str) -> Format {
    chat(&format!("{{{{ messages[0].content }}}}{{# {template} #}}")).format()
}

/// What a separator makes of pieces of bytes, which may end within a character.
fn separated(format: &Format, prompt: &str, pieces: &[&[u8]]) -> (String, String) {
    let mut separator = Separator::new(format.clone(), prompt);
    let (mut reasoning, mut content, mut held) = (String::new(), String::new(), Vec::new());
    let mut take = |parts: Parts| {
        reasoning.push_str(&parts.reasoning);
        content.push_str(&parts.content);
    };
    for piece in pieces {
        held.extend_from_slice(piece);
        let valid = std::str::from_utf8(&held).map_or_else(|error| error.valid_up_to(), str::len);
        let rest = held.split_off(valid);
        take(separator.push(std::str::from_utf8(&held).unwrap()));
        held = rest;
    }
    take(separator.flush());
    (reasoning, content)
}

#[test]
fn reasoning_is_separated_however_the_answer_is_cut() {
    let formats = formats();
    for (template, prompt, answer, reasoning, content) in STREAMS {
        let expected = (reasoning.to_string(), content.to_string());
        let bytes = answer.as_bytes();
        let format = &formats[template];
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(separated(format, prompt, &[a, b]), expected, "{answer:?} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(separated(format, prompt, &single), expected, "{answer:?} byte by byte");
    }
}

#[test]
fn text_without_reasoning_stays_as_it_is() {
    let answer = " \n<b>a</b> </think> [x]\n ";
    let all = (String::new(), answer.to_string());
    assert_eq!(separated(&spelled("<think></think>"), "assistant\n", &[answer.as_bytes()]), all);
    // A template without both markers has no format.
    assert_eq!(spelled("<think>"), Format::default());
}

#[test]
fn white_space_before_reasoning_is_left_out() {
    let expected = ("a".to_string(), "b".to_string());
    assert_eq!(separated(&spelled("<think></think>"), "", &[b"\n <think>a</think> b"]), expected);
}

#[test]
fn reasoning_that_never_ends_is_reasoning() {
    let expected = ("Hm. </thi".to_string(), String::new());
    assert_eq!(separated(&spelled("<think></think>"), "<think>", &[b"Hm. </thi"]), expected);
}

/// Whatever the format, what follows its ending is content.
#[test]
fn an_ending_begins_the_content() {
    for (template, format) in formats() {
        let reasoning = format.reasoning.clone().unwrap();
        let mut separator = Separator::new(format, &reasoning.open);
        assert!(separator.is_in_reasoning(), "{template}");
        let ended = separator.push(&format!("Hm{}", reasoning.ending()));
        assert_eq!((ended.reasoning.as_str(), ended.content.as_str()), ("Hm", ""), "{template}");
        assert!(!separator.is_in_reasoning() && !separator.is_undecided(), "{template}");
        assert_eq!(separator.push("4").content, "4", "{template}");
    }
}
