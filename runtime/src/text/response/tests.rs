//! Streams of six templates, cut everywhere.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

/// A template's markers, the end of its prompt, an answer, its reasoning and its content.
const STREAMS: &[(&str, &str, &str, &str, &str)] = &[
    // Qwen3: the model opens its reasoning.
    (
        "<think> </think>",
        "<|im_start|>assistant\n",
        "<think>\nOne <é> and </thin one.\n\nTwo.\n</think>\n\n2 < 3 <thi",
        "One <é> and </thin one.\n\nTwo.",
        "2 < 3 <thi",
    ),
    // DeepSeek R1: the prompt has opened it.
    (
        "<think> </think>",
        "<｜Assistant｜><think>\n",
        "Hm 😀.\n</think>\n\n\\boxed{2}\n",
        "Hm 😀.",
        "\\boxed{2}\n",
    ),
    // gpt-oss: channels.
    (
        "<|channel|>analysis<|message|> <|end|>",
        "<|start|>assistant",
        "<|channel|>analysis<|message|>One and one.<|end|><|start|>assistant<|channel|>final<|message|>2 <|",
        "One and one.",
        "2 <|",
    ),
    // Ministral 3.
    ("[THINK] [/THINK]", "[/INST]", "[THINK]a[0] [/[/THINK]b[1] [THIN", "a[0] [/", "b[1] [THIN"),
    // Command R7B.
    (
        "<|START_THINKING|> <|END_THINKING|>",
        "<|CHATBOT_TOKEN|>",
        "<|START_THINKING|>中文 <|END_<|END_THINKING|>二",
        "中文 <|END_",
        "二",
    ),
    // Gemma 4.
    ("<|channel>thought <channel|>", "<|turn>model\n", "<|channel>thought\nA\n<channel|>B", "A", "B"),
];

fn format(template: &str) -> Format {
    Format { reasoning: Some(Reasoning::of(template).unwrap()), calls: None }
}

/// What a separator makes of pieces of bytes, which may end within a character.
fn separated(template: &str, prompt: &str, pieces: &[&[u8]]) -> (String, String) {
    let mut separator = Separator::new(format(template), prompt);
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
    for (template, prompt, answer, reasoning, content) in STREAMS {
        let expected = (reasoning.to_string(), content.to_string());
        let bytes = answer.as_bytes();
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(separated(template, prompt, &[a, b]), expected, "{answer:?} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(separated(template, prompt, &single), expected, "{answer:?} byte by byte");
    }
}

#[test]
fn text_without_reasoning_stays_as_it_is() {
    let answer = " \n<b>a</b> </think> [x]\n ";
    let all = (String::new(), answer.to_string());
    assert_eq!(separated("<think></think>", "assistant\n", &[answer.as_bytes()]), all);
    // A template without both markers has no format.
    assert_eq!(Reasoning::of("{{ '<think>' }}"), None);
}

#[test]
fn reasoning_that_never_ends_is_reasoning() {
    let expected = ("Hm. </thi".to_string(), String::new());
    assert_eq!(separated("<think></think>", "<think>", &[b"Hm. </thi"]), expected);
}

/// Whatever the format, what follows its ending is content.
#[test]
fn an_ending_begins_the_content() {
    for (template, prompt, ..) in STREAMS {
        let reasoning = Reasoning::of(template).unwrap();
        let format = Format { reasoning: Some(reasoning), ..Format::default() };
        let mut separator = Separator::new(format, prompt);
        separator.push(reasoning.open);
        assert!(separator.is_in_reasoning(), "{template}");
        let ended = separator.push(&format!("Hm{}", reasoning.ending()));
        assert_eq!((ended.reasoning.as_str(), ended.content.as_str()), ("Hm", ""), "{template}");
        assert!(!separator.is_in_reasoning() && !separator.is_undecided(), "{template}");
        assert_eq!(separator.push("4").content, "4", "{template}");
    }
}
