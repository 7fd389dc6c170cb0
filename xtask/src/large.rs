//! `cargo xtask bench large`: a model of the shape of LLaMA-2-13B with random weights, over 7 GB, on WebGPU
//! in Chromium, on the CPU there, which refuses it, and natively with small bindings.

use crate::report::{command, machine, replace_section};
use crate::tools::{self, output, run as execute, target};
use crate::{build, in_browser};
use anyhow::{Result, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use std::path::Path;

const PROMPT: &str = "Once";

/// How much is measured.
#[derive(Args)]
pub struct Large {
    /// Tokens of the answer. A software adapter takes half a minute for each.
    #[arg(long, default_value_t = 4)]
    tokens: usize,
    /// The most MiB that kernels bind of a buffer, natively.
    #[arg(long, default_value_t = 128)]
    max_binding: u64,
}

/// The output of `tests/bench/large.bench.ts`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Results {
    adapter: String,
    max_binding_bytes: f64,
    file_bytes: f64,
    load_ms: f64,
    first_ms: f64,
    token_ms: f64,
    wasm_bytes: f64,
    gpu_bytes: f64,
    text: String,
    refusal: String,
    refused_after_bytes: f64,
}

/// Builds, measures, prints and writes the results.
pub fn run(options: &Large) -> Result<()> {
    build::all()?;
    tools::test_packages()?;
    let nomoat = tools::nomoat()?;
    let model = target().join("bench/llama-13b.gguf");
    let path = model.to_string_lossy();
    if !model.exists() {
        std::fs::create_dir_all(target().join("bench"))?;
        let part = format!("{path}.part");
        execute(&nomoat, &["bench", "gpu", "--shape", "llama-13b", "--write-model", &part])?;
        std::fs::rename(part, &model)?;
    }
    let plan = json!({ "model": model, "prompt": PROMPT, "tokens": options.tokens });
    let (results, browser) = in_browser::measure::<Results>("large", plan)?;
    let natively = natively(&nomoat, &model, options)?;
    ensure!(natively == results.text, "natively it says {natively:?}, in the browser {:?}", results.text);
    let section = section(&results, &browser, options);
    println!("{section}");
    replace_section("bench large", &section)
}

fn natively(nomoat: &str, model: &Path, options: &Large) -> Result<String> {
    let (tokens, binding) = (options.tokens.to_string(), options.max_binding.to_string());
    let model = model.to_string_lossy();
    let args = ["run", &model, "--prompt", PROMPT, "--raw", "--temperature", "0", "--context-length", "64"];
    let args = [&args[..], &["--max-tokens", &tokens, "--max-binding", &binding]].concat();
    Ok(output(nomoat, &args)?.trim_end_matches('\n').into())
}

fn section(results: &Results, browser: &str, options: &Large) -> String {
    let gib = |bytes: f64| format!("{:.2} GiB", bytes / f64::from(1 << 30));
    let mib = |bytes: f64| format!("{:.0} MiB", bytes / f64::from(1 << 20));
    let Results { load_ms, first_ms, token_ms, .. } = *results;
    format!(
        "## A model of 13 billion parameters\n\n`{}`, {}, {browser}; WebGPU adapter: {}.\n\n\
         The shape of LLaMA-2-13B in Q4_0 with random weights, {}, from a server on the same machine. It \
         loads in {:.0} s, through bindings of at most {}; it takes {} of the GPU, and the wasm \
         memory is {} at its end. The first token comes after {:.0} s, each of the next after {:.0} s. \
         Natively, with bindings of at most {} MiB, the {} tokens are the same. The CPU refuses it after {} \
         of the file: \u{201c}{}\u{201d}",
        command(),
        machine(),
        results.adapter,
        gib(results.file_bytes),
        load_ms / 1e3,
        gib(results.max_binding_bytes),
        gib(results.gpu_bytes),
        mib(results.wasm_bytes),
        first_ms / 1e3,
        token_ms / 1e3,
        options.max_binding,
        options.tokens,
        mib(results.refused_after_bytes),
        results.refusal,
    )
}
