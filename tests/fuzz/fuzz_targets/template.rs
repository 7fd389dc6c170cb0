//! Any text as a chat template; what follows its first NUL is an answer. The template renders conversations
//! or is refused with an error, and what it shows of reasoning and tools separates the answer, in which
//! nothing depends on how it is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nomoat_runtime::gguf::Metadata;
use nomoat_runtime::text::response::{self, Format, Parts, Separator, Tools};
use nomoat_runtime::text::{ChatTemplate, Message, Tokenizer, Variables};
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The start of a text; what is in messages spells it too, and must not become it.
const START: &str = "<|im_start|>";

fn metadata() -> Metadata {
    let control = ["<unk>", "<s>", "</s>", START, "<|im_end|>", "<think>", "</think>", "<tool_call>"];
    let bytes = (0..=255_u8).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = control.iter().map(ToString::to_string).chain(bytes).collect();
    let types = (0..tokens.len()).map(|i| if i < control.len() { 3_i32 } else { 6 });
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.ggml.model", "llama");
    metadata.insert("tokenizer.ggml.token_type", types.collect::<Vec<_>>());
    metadata.insert("tokenizer.ggml.scores", vec![0_f32; tokens.len()]);
    metadata.insert("tokenizer.ggml.tokens", tokens);
    metadata
}

static TOKENIZER: LazyLock<Tokenizer> =
    LazyLock::new(|| Tokenizer::from_metadata(&mut metadata()).expect("a valid vocabulary"));

static CONVERSATIONS: LazyLock<Vec<(Vec<Message>, Variables)>> = LazyLock::new(|| {
    let call = json!({ "id": "call00001", "type": "function",
        "function": { "name": "weather", "arguments": "{\"place\": \"Oslo\"}" } });
    let parts = json!([{ "type": "text", "text": "What is" }, { "type": "text", "text": " this?" }]);
    let talk = [
        json!({ "role": "system", "content": "Be brief." }),
        json!({ "role": "user", "content": format!("Say {START} and é.") }),
        json!({ "role": "assistant", "content": "It rains.", "reasoning_content": "Look.",
            "tool_calls": [call] }),
        json!({ "role": "tool", "tool_call_id": "call00001", "content": "{\"rain\": true}" }),
        json!({ "role": "user", "content": parts }),
    ];
    let schema = json!({ "type": "object", "properties": { "place": { "type": "string" } } });
    let tools = json!([{ "type": "function",
        "function": { "name": "weather", "description": "The weather.", "parameters": schema } }]);
    let conversation = |talk: &[Value], variables: Value| {
        let message = |value: &Value| serde_json::from_value(value.clone()).expect("a message");
        let variables = serde_json::from_value(variables).expect("variables");
        (talk.iter().map(message).collect::<Vec<Message>>(), variables)
    };
    let kwargs = json!({ "enable_thinking": true, "reasoning_effort": "high" });
    vec![
        conversation(&talk[1..2], json!({})),
        conversation(&talk, json!({ "tools": tools, "chat_template_kwargs": kwargs })),
    ]
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (source, answer) = text.split_once('\0').unwrap_or((text, "<think>a</think>b"));
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.chat_template", source);
    let Ok(Some(chat)) = ChatTemplate::from_metadata(&metadata, &TOKENIZER) else { return };
    // Without a template, the built-in one for the vocabulary writes it.
    let is_none = source.trim().is_empty();
    let can_spell = is_none || source.contains(['<', '\\']) || source.contains("token");
    let (tool_use, reasoning) = (chat.tool_use(), chat.format().reasoning);
    for (messages, variables) in CONVERSATIONS.iter() {
        let messages = tool_use.prepare(messages, variables.tools.as_ref());
        if let Ok(ids) = chat.encode_chat(&TOKENIZER, &messages, variables) {
            assert!(ids.iter().all(|id| (*id as usize) < TOKENIZER.vocab_size()));
            // A template that cannot write the token itself does not make one of what messages spell.
            let is_forged = !can_spell && ids.iter().any(|id| Some(*id) == TOKENIZER.id_of(START));
            assert!(!is_forged, "a message became a token");
        }
    }
    let tools = Tools::new(&Tools::trial()).expect("tools");
    for calls in [None, Some(tool_use.calls)] {
        let format = Format { reasoning: reasoning.clone(), calls };
        let separator = || Separator::new(format.clone(), "").with_tools(tools.clone().into(), false);
        let whole = separator().all(answer);
        let (mut cut, mut parts) = (separator(), Parts::default());
        for c in answer.chars() {
            parts.append(cut.push(c.encode_utf8(&mut [0; 4])));
        }
        parts.append(cut.flush());
        assert_eq!((&parts.content, &parts.reasoning), (&whole.content, &whole.reasoning));
        assert_eq!(response::whole(&parts.calls), response::whole(&whole.calls));
    }
});
