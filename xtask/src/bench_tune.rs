//! `cargo xtask bench tune`: steps of LoRA in Chromium on the CPU, and by PyTorch and PEFT.

use crate::report::{command, machine, median, replace_section, table};
use crate::tools::{self, once, root, run, target};
use crate::{build, in_browser, model};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;

const MODEL: &str = "smollm2-135m-instruct";

/// What to measure.
#[derive(Args)]
pub struct Tune {
    /// Rounds of both, one after the other.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Steps of a round; the first two do not count.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Threads of both.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Leave out PyTorch, whose packages take 6 GB, and do not write docs/benchmarks.md.
    #[arg(long)]
    alone: bool,
}

const RANK: usize = 8;
/// Steps of a round that warm up.
const WARM_UP: usize = 2;
/// Python packages of the peer.
const PYTHON: [&str; 4] = ["torch==2.15.0", "transformers==5.24.0", "peft==0.21.2", "gguf==0.19.0"];

/// The output of `tests/bench/tune.bench.ts`.
#[derive(Deserialize)]
struct Results {
    rows: usize,
    ours: Vec<Round>,
    theirs: Vec<Round>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Round {
    seconds: Vec<f64>,
    losses: Vec<f64>,
    peak_bytes: Option<f64>,
    blank_bytes: Option<f64>,
    wasm_bytes: Option<f64>,
    device: Option<String>,
    version: Option<String>,
}

/// Builds, measures, prints and writes the results.
pub fn run_all(options: &Tune) -> Result<()> {
    ensure!(options.steps > WARM_UP && options.rounds > 0, "use more than {WARM_UP} steps");
    build::all()?;
    tools::test_packages()?;
    let model = model::fetch(MODEL)?.remove(0);
    let python = match options.alone {
        true => json!({ "missing": "it was left out" }),
        false => json!({ "path": python()? }),
    };
    let plan = json!({
        "model": model,
        "python": python,
        "rounds": options.rounds,
        "steps": options.steps,
        "threads": options.threads,
        "rank": RANK,
    });
    let (results, browser) = in_browser::measure::<Results>("tune", plan)?;
    let section = section(&results, options, &browser)?;
    println!("{section}\nAll measurements: {}", in_browser::results("tune").display());
    match options.alone {
        true => Ok(()),
        false => replace_section("bench tune", &section),
    }
}

/// A Python with the peer's packages.
fn python() -> Result<PathBuf> {
    let env = target().join("bench/tune-python");
    let python = env.join(if cfg!(windows) { "Scripts/python" } else { "bin/python" });
    once("bench-tune-python", &[root().join("xtask/src/bench_tune.rs")], &[&python], || {
        run("python3", &["-m", "venv", env.to_string_lossy().as_ref()])?;
        let install = ["-m", "pip", "install", "--quiet"];
        run(&python.to_string_lossy(), &[install.as_slice(), &PYTHON].concat())
    })?;
    Ok(python)
}

fn section(results: &Results, options: &Tune, browser: &str) -> Result<String> {
    let seconds =
        |rounds: &[Round]| median(rounds.iter().flat_map(|r| r.seconds.iter().skip(WARM_UP).copied()));
    let most = |numbers: &dyn Fn(&Round) -> Option<f64>, rounds: &[Round]| {
        rounds.iter().filter_map(numbers).reduce(f64::max)
    };
    let mib = |bytes: Option<f64>| bytes.map_or("unknown".into(), |b| format!("{:.0} MiB", b / 1048576.0));
    let first = |rounds: &[Round]| rounds.first().and_then(|r| r.losses.first().copied());
    let ours = seconds(&results.ours).context("no steps were measured")?;
    let theirs = seconds(&results.theirs);
    let of = |text: &dyn Fn(&Round) -> Option<&String>, rounds: &[Round]| {
        rounds.first().and_then(text).cloned().unwrap_or_default()
    };
    let mut rows = vec![vec![
        format!("Nomoat, {}", of(&|r| r.device.as_ref(), &results.ours)),
        format!("{ours:.2} s"),
        format!("{:.0}", results.rows as f64 / ours),
        mib(most(&|r| r.peak_bytes, &results.ours)),
    ]];
    let mut ratio = String::new();
    if let Some(theirs) = theirs {
        rows.push(vec![
            format!("{}, f32", of(&|r| r.version.as_ref(), &results.theirs)),
            format!("{theirs:.2} s"),
            format!("{:.0}", results.rows as f64 / theirs),
            mib(most(&|r| r.peak_bytes, &results.theirs)),
        ]);
        let losses = first(&results.ours).zip(first(&results.theirs)).context("no losses")?;
        ensure!((losses.0 - losses.1).abs() < 0.01, "the contenders did other things: losses {losses:?}");
        ratio = format!(
            " Nomoat takes {:.2} of the time of PyTorch. The loss before the first step is {:.4} and {:.4}.",
            ours / theirs,
            losses.0,
            losses.1,
        );
    }
    Ok(format!(
        "## Training on the CPU\n\n`{}`, {}, {browser}.\n\n\
         SmolLM2-135M-Instruct, Q4_1, LoRA of rank {RANK} on all projections, one example of {} rows a step, \
         {} threads. Medians of {} steps in {} rounds, in which the contenders take turns. Memory is the \
         peak of resident memory: of all processes of the browser, without pages of files ({} of it are the \
         wasm memory, {} a blank page), and of the Python process.{ratio}\n\n{}",
        command(),
        machine(),
        results.rows,
        options.threads,
        options.steps - WARM_UP,
        options.rounds,
        mib(most(&|r| r.wasm_bytes, &results.ours)),
        mib(most(&|r| r.blank_bytes, &results.ours)),
        table(&["", "a step", "rows/s", "memory"], &rows),
    ))
}
