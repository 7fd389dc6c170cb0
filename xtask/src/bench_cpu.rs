//! `cargo xtask bench cpu`: measures the CPU's kernels and the memory's bandwidth, natively and as wasm in
//! Chromium.

use crate::report::{command, cores, machine, replace_section, table};
use crate::tools::{self, output_of, root, run};
use crate::{build, in_browser};
use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::json;

/// What to measure.
#[derive(Args)]
pub struct Cpu {
    /// Numbers of threads to measure with [default: 1 and the number of cores].
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
}

/// The output of `nomoat bench cpu`, and of the same measurement in the browser.
#[derive(Deserialize)]
struct Report {
    simd: String,
    threads: usize,
    bandwidth: f64,
    bandwidth_in_turns: f64,
    ops: Vec<Measured>,
}

#[derive(Deserialize)]
struct Measured {
    op: String,
    rows: u32,
    seconds: f64,
    bytes: f64,
    macs: f64,
}

/// Builds, measures, prints and writes the results.
pub fn run_all(options: &Cpu) -> Result<()> {
    let mut threads = options.threads.clone();
    if threads.is_empty() {
        threads = vec![1, cores()];
        threads.dedup();
    }
    let nomoat = tools::nomoat()?;
    let wasm = build::with_bench()?;
    tools::test_packages()?;
    let mut natively = Vec::new();
    for n in &threads {
        let report = output_of(&nomoat, &["bench", "cpu", "--threads", &n.to_string()])?;
        natively.push(serde_json::from_str::<Report>(&report).context("the native results")?);
    }

    let folder = root().join("tests/bench");
    let folder = folder.to_string_lossy();
    run("npx", &["tsc", "--noEmit", "-p", folder.as_ref()])?;
    let plan = json!({ "threads": threads, "wasm": wasm });
    let (wasm, browser) = in_browser::measure::<Vec<Report>>("cpu", plan)?;
    let mut text = format!(
        "## The CPU's kernels\n\n`{}`, {}. {}.\n\n\
         Shapes are those of SmolLM2-135M. `30×`: a step does the op 30 times, each time with different \
         weights, so that they are not in a cache; activations are, as in a model. The fastest of many steps \
         counts. GB/s: weights, or keys and values, each counted once. Share: of the bandwidth at which all \
         threads together read 128 MiB, each a part of its own; in turns: in pieces of 16 KiB. GMAC/s: \
         multiply-adds. With 1 row, as in decode, memory is the limit; with 128 rows, as in prefill, \
         arithmetic is.\n",
        command(),
        machine(),
        browser,
    );
    for report in natively.iter().zip(&wasm).flat_map(|(native, wasm)| [native, wasm]) {
        text += &section(report);
    }
    println!("{text}");
    replace_section("bench cpu", &text)
}

fn section(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .ops
        .iter()
        .map(|Measured { op, rows, seconds, bytes, macs }| {
            let of = |amount: f64, digits: usize| match amount {
                0.0 => "-".into(),
                _ => format!("{:.digits$}", amount / seconds / 1e9),
            };
            let share = match bytes {
                0.0 => "-".into(),
                _ => format!("{:.0} %", bytes / seconds / report.bandwidth * 100.0),
            };
            vec![
                op.clone(),
                rows.to_string(),
                format!("{:.3}", seconds * 1e3),
                of(*bytes, 2),
                share,
                of(*macs, 1),
            ]
        })
        .collect();
    let threads = if report.threads == 1 { "1 thread".into() } else { format!("{} threads", report.threads) };
    format!(
        "\n### {}, {threads}: memory bandwidth {:.1} GB/s, in turns {:.1} GB/s\n\n{}",
        report.simd,
        report.bandwidth / 1e9,
        report.bandwidth_in_turns / 1e9,
        table(&["op", "rows", "ms", "GB/s", "share", "GMAC/s"], &rows)
    )
}
