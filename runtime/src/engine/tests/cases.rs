//! Files from the field whose vocabularies are odd (`tests/cases`), and answers that end where they should.
//!
//! The models of the files say "hi!", their end of turn, "Usr" and their end of document.

use super::*;
use crate::cpu::Cpu;
use crate::engine::Message;
use crate::gguf::Value;
use flate2::read::GzDecoder;
use std::io::Read;
use std::path::Path;

fn case(name: &str) -> Engine<Cpu> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/cases");
    let file = std::fs::File::open(folder.join(format!("{name}.gguf.gz"))).unwrap();
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    load(&Cpu::open(1).unwrap(), &[bytes], LoadOptions::default()).unwrap().0
}

/// The answer to "yo" of at most 12 tokens.
fn chat(name: &str, stop: &[&str]) -> (String, FinishReason) {
    let yo = Message { role: "user".into(), content: "yo".into() };
    let stop = stop.iter().map(|stop| stop.to_string()).collect();
    let request = Request { prompt: None, messages: Some(vec![yo]), stop, ..greedy("", 12) };
    let told = answer(&mut case(name), request);
    (told.text, told.reason)
}

#[test]
fn an_end_of_turn_ends_the_answer_whatever_type_or_name_it_has() {
    let cases = [
        "chain_plain",
        "eog_user_defined",
        "eog_normal_end_only",
        "eog_name_end_of_utterance",
        "type_eos_array",
    ];
    for name in cases {
        assert_eq!(chat(name, &[]), ("hi!".into(), FinishReason::Stop), "{name}");
    }
}

#[test]
fn a_stop_string_may_be_a_control_token() {
    // This one says <|im_start|> after "hi!".
    assert_eq!(chat("stop_control", &["<|im_start|>"]), ("hi!".into(), FinishReason::Stop));
    let (text, _) = chat("stop_control", &["<|tool|>"]);
    assert!(text.starts_with("hi!") && text.len() > 3, "{text}");
}

#[test]
fn odd_ids_are_told_and_change_nothing() {
    let device = TestDevice::default();
    let model = TestModel::new().with("tokenizer.ggml.eot_token_id", 1_000_000u32);
    let mut odd = engine(&device, &model, 1);
    let warnings = &odd.info().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("eot_token_id is 1000000"), "{warnings:?}");
    assert_eq!(answer(&mut odd, greedy("hello", 9)), alone(&device, greedy("hello", 9)));
    assert!(engine(&device, &TestModel::new(), 1).info().warnings.is_empty());
}

#[test]
fn bos_is_added_where_a_number_says_so_or_by_default() {
    let device = TestDevice::default();
    let told = |model: TestModel| answer(&mut engine(&device, &model, 1), greedy("hello", 9));
    let add_bos = |value: Value| TestModel::new().with("tokenizer.ggml.add_bos_token", value);
    let (with, without) = (told(add_bos(Value::Bool(true))), told(add_bos(Value::Bool(false))));
    assert_eq!(with.usage.prompt_tokens, without.usage.prompt_tokens + 1);
    assert_ne!(with.text, without.text);
    assert_eq!(told(add_bos(Value::U8(1))), with);
    assert_eq!(told(add_bos(Value::U8(0))), without);
    // A SentencePiece file without these keys has BOS 1 and EOS 2.
    let keys = ["add_bos_token", "bos_token_id", "eos_token_id"];
    let bare =
        keys.iter().fold(TestModel::new(), |model, key| model.without(&format!("tokenizer.ggml.{key}")));
    assert_eq!(told(bare), with);
}
