//! Tiny models of every family on the GPU and on the CPU against what llama.cpp computes. See
//! `tests/golden/README.md`.

#![cfg(all(feature = "gpu", feature = "cpu"))]
#![allow(clippy::unwrap_used)]

use nomoat_runtime::cpu::Cpu;
use nomoat_runtime::engine::{
    Device, Engine, LoadOptions, Loading, MAX_TOP_LOGPROBS, Progress, Prompt, Request, Sampling, Spelled,
};
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

/// The mean distance of the ten likeliest tokens' log-probabilities from llama.cpp's, in the places of the
/// answer's tokens: in one prefill, and token by token.
async fn distances<D: Device>(engine: &mut Engine<D>, golden: &Golden) -> [f32; 2] {
    let sampling = Sampling { temperature: 0.0, ..Default::default() };
    let request = Request { top_logprobs: Some(MAX_TOP_LOGPROBS), sampling, ..Default::default() };
    let whole: Vec<u32> = golden.prompt_ids.iter().chain(&golden.greedy_ids).copied().collect();
    let prefill = Request {
        prompt: Some(Prompt::Ids(whole)),
        prompt_logprobs: true,
        max_tokens: Some(1),
        ..request.clone()
    };
    let (prompt, max_tokens) = (Some(Prompt::Ids(golden.prompt_ids.clone())), Some(golden.greedy_ids.len()));
    let decode = Request { prompt, max_tokens, ..request };
    let mut distances = [0.0; 2];
    for (request, distance) in [prefill, decode].into_iter().zip(&mut distances) {
        let is_prefill = request.prompt_logprobs;
        let mut found = Vec::new();
        engine.start(request).unwrap();
        loop {
            let progress = engine.advance().await.unwrap().progress;
            let is_last = progress.is_last();
            match progress {
                Progress::Prompt { mut logprobs } => found = logprobs.split_off(golden.prompt_ids.len()),
                Progress::Token { logprob, .. } | Progress::End { logprob, .. } if !is_prefill => {
                    found.extend(logprob);
                }
                _ => {}
            }
            if is_last {
                break;
            }
        }
        assert_eq!(found.len(), golden.steps.len());
        let mut off = Vec::new();
        for (found, golden) in found.iter().zip(&golden.steps) {
            for (id, expected) in golden.ids.iter().zip(&golden.logprobs) {
                let token = Spelled::new(*id, engine.tokenizer());
                let top = found.top_logprobs.iter().find(|top| top.token == token);
                off.push((top.map_or(f32::NEG_INFINITY, |top| top.logprob) - expected).abs());
            }
        }
        assert_eq!(off.len(), 10 * golden.steps.len());
        *distance = off.iter().sum::<f32>() / off.len() as f32;
    }
    distances
}

async fn check<D: Device>(device: &D, path: &Path) {
    let name = path.file_stem().unwrap().to_string_lossy();
    let golden = std::fs::read_to_string(path.with_extension("json")).unwrap();
    let [golden] = serde_json::from_str::<[Golden; 1]>(&golden).unwrap();
    let mut engine = load(device, path).await;
    assert_eq!(engine.tokenizer().encode(&golden.text, true).unwrap(), golden.prompt_ids);
    assert_eq!(answer(&mut engine, &golden).await, golden.greedy_text, "{name}");

    let distances = distances(&mut engine, &golden).await;
    println!("{name}, ten likeliest: {distances:?}");
    assert!(distances.iter().all(|distance| *distance <= 0.01), "{name}: {distances:?}");

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
