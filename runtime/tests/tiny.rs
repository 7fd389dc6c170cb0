//! Tiny models of every family on the GPU and on the CPU against what llama.cpp computes. See
//! `tests/golden/README.md`. `src/model/golden.rs` compares the ten likeliest tokens of each step; devices
//! give the log-probability of one.

#![cfg(all(feature = "gpu", feature = "cpu"))]
#![allow(clippy::unwrap_used)]

use nomoat_runtime::cpu::Cpu;
use nomoat_runtime::engine::{Device, Engine, LoadOptions, Loading, Progress, Request, Sampling};
use nomoat_runtime::gpu::{Gpu, Options};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Golden {
    text: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    greedy_text: String,
    steps: Vec<Likeliest>,
    prompt_logprobs: Vec<f32>,
}

#[derive(Deserialize)]
struct Likeliest {
    ids: Vec<u32>,
    logprobs: Vec<f32>,
}

/// All tiny models, without their extension.
fn models() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let models: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "gguf")).collect();
    assert!(!models.is_empty());
    models
}

async fn load<D: Device>(device: &D, path: &Path) -> Engine<D> {
    let file = std::fs::read(path).unwrap();
    let mut loading = Loading::<D>::new(&[file.len() as u64], LoadOptions::default());
    assert_eq!(loading.push_header(0, &file).unwrap(), 0);
    loading.prepare(device).await.unwrap();
    loading.push_data(device, 0, &file).await.unwrap();
    loading.finish(device).await.unwrap().0
}

/// The likeliest continuation. Tokens are characters, so its text tells them.
async fn answer<D: Device>(engine: &mut Engine<D>, golden: &Golden) -> String {
    let sampling = Sampling { temperature: 0.0, ..Default::default() };
    let (prompt, max_tokens) = (Some(golden.text.clone().into()), Some(golden.greedy_ids.len()));
    engine.start(Request { prompt, max_tokens, sampling, ..Default::default() }).unwrap();
    let mut answer = String::new();
    loop {
        match engine.advance().await.unwrap().progress {
            Progress::Prefill { .. } | Progress::Prompt { .. } | Progress::Embedding { .. } => {}
            Progress::Token { text, .. } => answer.push_str(&text),
            Progress::End { text, .. } => return answer + &text,
        }
    }
}

async fn check<D: Device>(device: &D, path: &Path) {
    let name = path.file_stem().unwrap().to_string_lossy();
    let golden = std::fs::read_to_string(path.with_extension("json")).unwrap();
    let [golden] = serde_json::from_str::<[Golden; 1]>(&golden).unwrap();
    let mut engine = load(device, path).await;
    assert_eq!(engine.tokenizer().encode(&golden.text, true).unwrap(), golden.prompt_ids);
    assert_eq!(answer(&mut engine, &golden).await, golden.greedy_text, "{name}");

    let ids: Vec<u32> = golden.prompt_ids.iter().chain(&golden.greedy_ids).copied().collect();
    let likeliest: Vec<u32> = golden.steps.iter().map(|step| step.ids[0]).collect();
    let logprobs = golden.prompt_logprobs.iter().chain(golden.steps.iter().map(|step| &step.logprobs[0]));
    for one_by_one in [false, true] {
        let score = engine.score(&ids, one_by_one).await.unwrap();
        assert_eq!(score.logprobs.len(), ids.len() - 1);
        let off =
            score.logprobs.iter().zip(logprobs.clone()).map(|(found, expected)| (found - expected).abs());
        let mean = off.sum::<f32>() / score.logprobs.len() as f32;
        println!("{name}, one by one {one_by_one}: mean difference {mean}");
        assert!(mean <= 0.01, "{name}: {mean}");
        assert_eq!(score.top[golden.prompt_logprobs.len()..], likeliest, "{name}");
    }
}

#[test]
fn the_gpu_computes_what_llama_cpp_computes() {
    pollster::block_on(async {
        let gpu = Gpu::open(Options::default()).await.unwrap();
        for path in models() {
            check(&gpu, &path).await;
        }
    });
}

#[test]
fn the_cpu_computes_what_llama_cpp_computes() {
    let cpu = Cpu::open(2).unwrap();
    for path in models() {
        pollster::block_on(check(&cpu, &path));
    }
}
