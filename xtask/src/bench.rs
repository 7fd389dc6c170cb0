//! `cargo xtask bench web`: compares Nomoat with other runtimes in one browser. `tests/bench` measures; this
//! file prepares and reports.

use crate::report::{command, cores, machine, median, replace_section, table};
use crate::tools::{self, once, root, run, target};
use crate::{build, in_browser, model};
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The model that is measured unless another one is asked for. The report in the docs is about this one.
const MODEL: &str = "smollm2-135m-instruct";

/// What to measure.
#[derive(Args)]
pub struct Web {
    /// Device that the contenders should use.
    #[arg(long, value_enum, default_value = "all")]
    device: Device,
    /// Number of rounds; slow contenders run fewer.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Numbers of threads to measure with on the CPU [default: 1 and the number of cores].
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// Contenders besides Nomoat, or `none`.
    #[arg(long, value_delimiter = ',', default_value = "wllama,transformers.js,llama.cpp")]
    peers: Vec<String>,
    /// Run one short round, and do not write docs/benchmarks.md.
    #[arg(long)]
    quick: bool,
    /// Model, as `cargo xtask model list` calls it; `qwen2.5-coder-0.5b` and `gemma-3-270m` too. With another
    /// model than the default, docs/benchmarks.md has a section of its own.
    #[arg(long, default_value = MODEL)]
    model: String,
    /// Folder of another build of the package (its pkg/dist), to compare with. docs/benchmarks.md is then not
    /// written.
    #[arg(long)]
    baseline: Option<PathBuf>,
    /// Folder with an ONNX model, its tokenizer and configuration for transformers.js [default: made from the
    /// GGUF].
    #[arg(long)]
    onnx: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Device {
    Webgpu,
    Cpu,
    All,
}

/// The output of `tests/bench`.
#[derive(Deserialize)]
struct Results {
    date: String,
    entries: Vec<Entry>,
}

/// A contender on a device.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    version: String,
    how: How,
    rounds: Vec<Round>,
    not_run: Option<String>,
}

#[derive(Deserialize, PartialEq)]
struct How {
    device: String,
    threads: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Round {
    ran: String,
    adapter: Option<String>,
    load_ms: f64,
    first_token_ms: f64,
    first_prompt_tokens: u32,
    decode: Part,
    prefill: Option<Part>,
    wasm_bytes: f64,
    wasm_memory_bytes: Option<f64>,
    peak_bytes: Option<f64>,
    blank_bytes: Option<f64>,
}

/// Tokens and the time they took.
#[derive(Deserialize)]
struct Part {
    tokens: u32,
    ms: f64,
}

impl Part {
    fn per_second(&self) -> f64 {
        f64::from(self.tokens) / self.ms * 1000.0
    }
}

/// Builds, measures, prints and writes the results.
pub fn web(options: &Web) -> Result<()> {
    build::all()?;
    tools::test_packages()?;
    let model = model::fetch(&options.model)?.remove(0);
    let bench = root().join("tests/bench");
    let folder = bench.to_string_lossy();
    once("bench-npm", &[bench.join("package-lock.json")], &[&bench.join("node_modules")], || {
        run("npm", &["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder.as_ref()])
    })?;
    run("npx", &["tsc", "--noEmit", "-p", folder.as_ref()])?;

    let (results, browser) = in_browser::measure::<Results>("web", plan(options, &model))?;
    let section = section(&results, &options.model, &browser);
    println!("{section}\nAll measurements: {}", in_browser::results("web").display());
    if options.quick || options.baseline.is_some() {
        return Ok(());
    }
    match options.model.as_str() {
        MODEL => replace_section("bench web", &section),
        other => replace_section(&format!("bench web {other}"), &section),
    }
}

fn plan(options: &Web, model: &Path) -> serde_json::Value {
    let mut threads = options.threads.clone();
    if threads.is_empty() {
        threads = vec![1, cores()];
        threads.dedup();
    }
    let wants = |name: &str| options.peers.iter().any(|peer| peer == name);
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.into());
    let mut peers = options.peers.clone();
    peers.extend(options.baseline.iter().map(|_| "baseline".into()));
    let onnx = match &options.onnx {
        Some(folder) => Ok(absolute(folder)),
        None if options.model != MODEL => Err(anyhow::anyhow!("the script converts {MODEL} only")),
        None if wants("transformers.js") => onnx_model(model),
        None => Err(anyhow::anyhow!("it is not in --peers")),
    };
    let native = if wants("llama.cpp") && options.device != Device::Webgpu {
        native_llama()
    } else {
        Err(anyhow::anyhow!("it is not in --peers, or the CPU is not measured"))
    };
    json!({
        "device": match options.device {
            Device::Webgpu => "webgpu",
            Device::Cpu => "cpu",
            Device::All => "all",
        },
        "rounds": if options.quick { 1 } else { options.rounds },
        "threads": threads,
        "model": model,
        "baseline": options.baseline.as_deref().map(absolute),
        "peers": peers,
        "quick": options.quick,
        "onnx": match onnx {
            Ok(folder) => json!({ "folder": folder }),
            Err(error) => json!({ "missing": format!("there is no ONNX model: {error:#}") }),
        },
        "nativeMissing": native.err().map(|error| format!("its package cannot be installed: {error:#}")),
    })
}

/// Installs native llama.cpp.
fn native_llama() -> Result<()> {
    ensure!(cfg!(all(target_os = "linux", target_arch = "x86_64")), "it needs Linux on x86-64");
    let bench = root().join("tests/bench/llama.cpp");
    let folder = bench.to_string_lossy();
    once("bench-llama.cpp", &[bench.join("package-lock.json")], &[&bench.join("node_modules")], || {
        // The optional packages are builds for other devices. Some are not published, so `npm ci` would fail.
        let flags = ["--no-save", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"];
        run("npm", &[["install", "--prefix", folder.as_ref()].as_slice(), &flags].concat())
    })
}

/// Python packages that `onnx-from-gguf.py` uses.
const PYTHON: [&str; 3] = ["gguf==0.19.0", "numpy==2.4.6", "onnx==1.23.2"];

/// Converts the GGUF to an ONNX model, if it or the script has changed.
fn onnx_model(model: &Path) -> Result<PathBuf> {
    let script = root().join("tests/bench/onnx-from-gguf.py");
    let (folder, env) = (target().join("bench/onnx"), target().join("bench/python"));
    let verified = model.with_extension("verified");
    once("bench-onnx", &[script.clone(), verified], &[&folder.join("onnx/model_q4.onnx")], || {
        run("python3", &["-m", "venv", env.to_string_lossy().as_ref()])?;
        let python = env.join(if cfg!(windows) { "Scripts/python" } else { "bin/python" });
        let [python, script, model, folder] =
            [&python, &script, model, &folder].map(|path| path.to_string_lossy());
        run(&python, &[["-m", "pip", "install", "--quiet"].as_slice(), &PYTHON].concat())?;
        run(&python, &[script.as_ref(), model.as_ref(), folder.as_ref()])
    })?;
    Ok(folder)
}

/// A column of the tables.
struct Column {
    name: &'static str,
    /// Its value in a round.
    value: fn(&Round) -> Option<f64>,
    /// How the value is written.
    written: fn(f64) -> String,
    more_is_better: bool,
}

const COLUMNS: [Column; 7] = [
    Column { name: "load", value: |r| Some(r.load_ms), written: seconds, more_is_better: false },
    Column {
        name: "first token",
        value: |r| Some(r.first_token_ms),
        written: seconds,
        more_is_better: false,
    },
    Column {
        name: "prefill tokens/s",
        value: |r| r.prefill.as_ref().map(Part::per_second),
        written: plain,
        more_is_better: true,
    },
    Column {
        name: "decode tokens/s",
        value: |r| Some(r.decode.per_second()),
        written: plain,
        more_is_better: true,
    },
    Column {
        name: "wasm",
        value: |r| Some(r.wasm_bytes).filter(|bytes| *bytes > 0.0),
        written: megabytes,
        more_is_better: false,
    },
    Column { name: "wasm memory", value: |r| r.wasm_memory_bytes, written: mebibytes, more_is_better: false },
    Column { name: "peak memory", value: |r| r.peak_bytes, written: mebibytes, more_is_better: false },
];

fn seconds(ms: f64) -> String {
    format!("{:.2} s", ms / 1000.0)
}

fn plain(value: f64) -> String {
    format!("{value:.*}", if value < 10.0 { 2 } else { 1 })
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

fn mebibytes(bytes: f64) -> String {
    format!("{:.0} MiB", bytes / 1024.0 / 1024.0)
}

/// The report, as a section of `docs/benchmarks.md`.
fn section(results: &Results, model: &str, browser: &str) -> String {
    let rounds = || results.entries.iter().flat_map(|entry| &entry.rounds);
    let adapter = rounds().find_map(|round| round.adapter.as_deref()).unwrap_or("none");
    let blank = median(rounds().filter_map(|round| round.blank_bytes)).map_or("unknown".into(), mebibytes);
    let question = counts(rounds().map(|round| round.first_prompt_tokens));
    let prompt = counts(rounds().filter_map(|round| Some(round.prefill.as_ref()?.tokens)));
    let (title, what) = match model {
        MODEL => (String::new(), "SmolLM2-135M-Instruct, Q4_1 with a Q8_0 embedding"),
        other => (format!(": {other}"), other),
    };
    let mut text = format!(
        "## In the browser, compared with other runtimes{}\n\n\
         `{}`, {}. {}. {browser}; WebGPU adapter: {adapter}.\n\n\
         {what}, from a server on the same machine; temperature 0. Contenders take turns in one run. Each \
         round has a new browser with an empty profile; figures \
         are medians over the rounds. Runs on: what the contender really used. Load: from the import of the \
         library to a loaded model. First token: the time to the first token of the first question, which \
         has {question} tokens. Prefill: a prompt of {prompt} tokens, without those found in a cache, up to \
         the first token of the answer; skipped where it would take minutes. Decode: the tokens after the \
         first one. Wasm: uncompressed bytes of the wasm files. Wasm memory: at the end, where it can be \
         read. Peak memory: resident memory of all processes of the browser, without its code; with a blank \
         page it is {blank}. In brackets: how many times better Nomoat is on the same device.\n",
        title,
        command(),
        results.date,
        machine(),
    );
    let mut notes = Vec::new();
    let mut seen: Vec<&How> = Vec::new();
    for Entry { how, .. } in &results.entries {
        if seen.contains(&how) {
            continue;
        }
        seen.push(how);
        let group: Vec<&Entry> = results.entries.iter().filter(|entry| entry.how == *how).collect();
        text += &format!("\n### {}\n\n{}", heading(how), group_table(&group));
        notes.extend(group.iter().filter_map(|entry| {
            let (why, rounds) = (entry.not_run.as_ref()?, entry.rounds.len());
            Some(format!("- {}, {}: stopped after {rounds} rounds: {why}.", entry.name, heading(how)))
        }));
    }
    if results.entries.iter().any(|entry| entry.name == "transformers.js" && !entry.rounds.is_empty()) {
        notes.push(
            "- transformers.js cannot read GGUF. It runs an ONNX model that `tests/bench/onnx-from-gguf.py` \
             makes from the same file (or the one given): the same shapes, weights quantised again to 4 bits \
             in blocks of 32 (`q4`), a float embedding."
                .into(),
        );
    }
    if results.entries.iter().any(|entry| entry.name == "llama.cpp" && !entry.rounds.is_empty()) {
        notes.push(
            "- llama.cpp is a native reference, not a contender in the browser: node-llama-cpp's build in a \
             Node process, on the same file."
                .into(),
        );
    }
    if !notes.is_empty() {
        text += &format!("\n{}\n", notes.join("\n"));
    }
    text
}

/// The distinct values of some counts, in words.
fn counts(tokens: impl Iterator<Item = u32>) -> String {
    let different: BTreeSet<u32> = tokens.collect();
    let words: Vec<String> = different.iter().map(u32::to_string).collect();
    if words.is_empty() { "unknown".into() } else { words.join(" or ") }
}

fn heading(how: &How) -> String {
    match (how.device.as_str(), how.threads) {
        ("webgpu", _) => "WebGPU".into(),
        (_, Some(1)) => "CPU, 1 thread".into(),
        (_, Some(n)) => format!("CPU, {n} threads"),
        (device, None) => device.into(),
    }
}

fn group_table(group: &[&Entry]) -> String {
    let middle = |entry: &Entry, column: &Column| median(entry.rounds.iter().filter_map(column.value));
    let ours = group.iter().find(|entry| entry.name == "Nomoat" && !entry.rounds.is_empty());
    let rows: Vec<Vec<String>> = group
        .iter()
        .map(|entry| {
            let ran = entry.rounds.first().map_or("not run", |round| round.ran.as_str());
            let mut row = vec![format!("{} {}", entry.name, entry.version), ran.to_string()];
            for column in &COLUMNS {
                let Some(value) = middle(entry, column) else {
                    row.push("-".into());
                    continue;
                };
                let ratio = ours
                    .filter(|_| entry.name != "Nomoat")
                    .and_then(|ours| middle(ours, column))
                    .map(|best| if column.more_is_better { best / value } else { value / best });
                let written = (column.written)(value);
                row.push(ratio.map_or(written.clone(), |ratio| format!("{written} ({}×)", plain(ratio))));
            }
            row.push(entry.rounds.len().to_string());
            row
        })
        .collect();
    let names = COLUMNS.map(|column| column.name);
    table(&[["", "runs on"].as_slice(), &names, &["rounds"]].concat(), &rows)
}
