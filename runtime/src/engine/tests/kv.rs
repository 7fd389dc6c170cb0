//! Keys and values in each format, on every device.

use super::*;
#[cfg(feature = "cpu")]
use crate::cpu::Cpu;
#[cfg(feature = "gpu")]
use crate::gpu::{Gpu, Options};
use crate::graph::KvFormat;
use std::collections::HashMap;

/// A model with heads of 32 numbers.
fn model() -> TestModel {
    let mut model = TestModel::new()
        .with("llama.attention.key_length", 32_u32)
        .with("llama.attention.value_length", 32_u32)
        .with("llama.rope.dimension_count", 32_u32);
    for layer in 0..2 {
        for (part, shape) in
            [("attn_q", [128, 32]), ("attn_k", [64, 32]), ("attn_v", [64, 32]), ("attn_output", [32, 128])]
        {
            model = model.with_tensor(&format!("blk.{layer}.{part}.weight"), &shape);
        }
    }
    model
}

fn engine_of<D: Device>(device: &D, kv_format: KvFormat) -> Engine<D> {
    let options = LoadOptions { parallel: Some(4), kv_format, ..Default::default() };
    load(device, &model().files(1), options).unwrap().0
}

/// Answers alone and together, and pages that are kept: the formats differ in what they take and in their
/// names.
fn check<D: Device>(device: &D) {
    let prompt = "a prompt that is a little longer than what a page has";
    let prompts = [prompt, "another one", "the third of all", prompt];
    // Two layers of four blocks, at four contexts of 96 positions.
    let sizes = [(KvFormat::F16, 2 * 128), (KvFormat::Q8_0, 4 * 34), (KvFormat::Q4_0, 4 * 18)];
    let mut names = Vec::new();
    let mut pages: Vec<(Vec<u32>, Vec<u8>)> = Vec::new();
    for (format, bytes) in sizes {
        let mut engine = engine_of(device, format);
        assert_eq!(engine.info().kv_bytes, 2 * 4 * CONTEXT as u64 * bytes, "{format:?}");
        let alone = prompts.map(|prompt| answer(&mut engine_of(device, format), greedy(prompt, 12)).text);
        assert!(alone.iter().all(|text| !text.is_empty()));
        for prompt in prompts {
            engine.start(greedy(prompt, 12)).unwrap();
        }
        let mut telling: HashMap<SequenceId, Telling> = HashMap::new();
        let mut told = Vec::new();
        while told.len() < prompts.len() {
            let event = pollster::block_on(engine.advance()).unwrap();
            let ended = telling.entry(event.sequence).or_default().push(event.progress);
            told.extend(ended.map(|told| (event.sequence, told.text)));
        }
        told.sort_by_key(|(sequence, _)| *sequence);
        let texts: Vec<String> = told.into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, alone, "{format:?}");
        assert!(engine.scheduler.cache.has_all_pages());

        let PromptPages { ids, names: its, cached, .. } = engine.prompt_pages(&greedy(prompt, 12));
        assert_eq!(cached, 1);
        assert!(!names.contains(&its[0]), "{format:?}");
        let page = pollster::block_on(engine.read_page(&its[0])).unwrap().unwrap();
        let mut other = engine_of(device, format);
        // Nothing of another format is taken.
        assert!(pages.iter().all(|(ids, page)| !other.restore_page(None, ids, page)));
        assert!(other.restore_page(None, &ids[..graph::PAGE as usize], &page));
        let told = answer(&mut other, greedy(prompt, 12));
        assert_eq!((told.text, told.usage.cached_tokens), (alone[0].clone(), 32));
        names.push(its[0].clone());
        pages.push((ids[..graph::PAGE as usize].to_vec(), page));
    }
}

#[test]
fn every_format_answers_on_the_test_device() {
    check(&TestDevice::default());
}

#[cfg(feature = "cpu")]
#[test]
fn every_format_answers_on_the_cpu() {
    check(&Cpu::open(2).unwrap());
}

#[cfg(feature = "gpu")]
#[test]
fn every_format_answers_on_the_gpu() {
    check(&pollster::block_on(Gpu::open(Options::default())).unwrap());
}

#[test]
fn heads_that_are_not_whole_blocks_are_an_error() {
    let load = |kv_format| {
        let options = LoadOptions { kv_format, ..Default::default() };
        load(&TestDevice::default(), &TestModel::new().files(1), options)
    };
    for format in [KvFormat::Q8_0, KvFormat::Q4_0] {
        let message = invalid(load(format));
        for part in [format.name(), "a multiple of 32", "heads of 16", "f16"] {
            assert!(message.contains(part), "{part}: {message}");
        }
    }
    assert!(load(KvFormat::F16).is_ok());
}
