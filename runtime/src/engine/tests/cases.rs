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
    let yo = Message::new("user", "yo");
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

/// Keys that mean the same as others, and values that are unusual: the answer is that of the usual file.
#[test]
fn unusual_keys_and_types_give_the_answer_of_the_usual_ones() {
    let device = TestDevice::default();
    let told = |pairs: &[(&str, Value)]| {
        let model = pairs.iter().fold(TestModel::new(), |model, (key, value)| model.with(key, value.clone()));
        answer(&mut engine(&device, &model, 1), greedy("hello world this is it", 12))
    };
    const FACTOR: &str = "llama.rope.scaling.factor";
    let plain = told(&[]);
    let linear = told(&[("llama.rope.scaling.type", "linear".into()), (FACTOR, 4.0_f32.into())]);
    let base = told(&[("llama.rope.freq_base", 1e6_f32.into())]);
    assert!(plain.text != linear.text && plain.text != base.text && linear.text != base.text);
    assert_eq!(told(&[(FACTOR, 4.0_f32.into())]), linear);
    assert_eq!(told(&[("llama.rope.scale_linear", 4.0_f32.into())]), linear);
    assert_eq!(told(&[("llama.rope.freq_base", 1_000_000_u32.into())]), base);
    for (key, value) in [
        ("llama.context_length", 4_194_304_u32.into()),
        ("llama.attention.head_count_kv", vec![2_u32; 2].into()),
        ("llama.attention.sliding_window", 0_u32.into()),
        ("llama.embedding_length", Value::F32(32.0)),
    ] {
        assert_eq!(told(&[(key, value)]), plain, "{key}");
    }
}

#[test]
fn a_huge_context_allocates_nothing_by_itself() {
    let device = TestDevice::default();
    let files = TestModel::new().with("llama.context_length", u64::MAX).files(1);
    let load = |options: LoadOptions| load(&device, &files, options);
    let (model, _) = load(LoadOptions::default()).unwrap();
    assert_eq!((model.info().context_length, model.info().trained_context_length), (4096, 1 << 30));
    let all = LoadOptions { context_length: Some(usize::MAX), parallel: Some(8), ..Default::default() };
    let error = load(all).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::ContextMemory { wanted, limit } if wanted == 1 << 30 && limit < 1 << 30));
}

#[test]
fn a_bias_for_a_token_that_is_not_there_is_an_error() {
    let (_, mut engine) = single();
    let mut request = greedy("hello", 4);
    request.sampling.logit_bias.insert(words().len() as u32, 1.0);
    let error = engine.start(request).unwrap_err();
    assert!(error.to_string().contains(&format!("logit_bias.{}", words().len())), "{error}");
}
