//! `cargo xtask bench memory`: what the page with the test model on the CPU takes, in a browser held to a limit.

use crate::report::{command, machine, replace_section};
use crate::tools::{self, output, root, run_with, target};
use crate::{build, model};
use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::json;

const MODEL: &str = "smollm2-135m-instruct";

/// How much the browser may take.
#[derive(Args)]
pub struct Memory {
    /// MiB for all processes of the browser, where a cgroup can be made.
    #[arg(long, default_value_t = 1024)]
    limit: u64,
}

/// What `tests/bench/footprint.bench.ts` writes.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Results {
    limit_bytes: f64,
    limit: Limit,
    device: String,
    figures: String,
    peak_bytes: Option<f64>,
    blank_bytes: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Limit {
    Held { version: u8, killed: u32 },
    Not { missing: String },
}

/// Builds, measures, prints and writes the results.
pub fn run(options: &Memory) -> Result<()> {
    build::all()?;
    tools::test_packages()?;
    model::fetch(MODEL)?;
    let out = target().join("bench/memory.json");
    std::fs::create_dir_all(target().join("bench"))?;
    let chromium = std::env::var("NOMOAT_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
    let plan = json!({ "limitBytes": options.limit << 20, "out": out }).to_string();
    let models = model::folder()?;
    let env = [
        ("NOMOAT_BENCH", plan.as_str()),
        ("NOMOAT_CHROMIUM", &chromium),
        ("NOMOAT_MODELS", &models.to_string_lossy()),
    ];
    let config = root().join("tests/bench/playwright.config.ts");
    run_with("npx", &["playwright", "test", "--config", &config.to_string_lossy(), "footprint.bench"], &env)?;
    let results: Results = serde_json::from_str(&std::fs::read_to_string(&out)?).context("the results")?;
    let browser = output(&chromium, &["--version"]).unwrap_or(chromium);
    let section = section(&results, browser.trim());
    println!("{section}");
    replace_section("bench memory", &section)
}

fn section(results: &Results, browser: &str) -> String {
    let mib = |bytes: f64| format!("{:.0} MiB", bytes / 1024.0 / 1024.0);
    let known = |bytes: Option<f64>| bytes.map_or("unknown".into(), mib);
    let (limit, counted) = match &results.limit {
        Limit::Held { version, killed } => (
            format!(
                "The browser's processes were held to {} by a cgroup (v{version}), and {killed} were ended for want of memory.",
                mib(results.limit_bytes),
            ),
            "shared memory once, the pages of files left out",
        ),
        Limit::Not { missing } => (
            format!("No cgroup could be made, so nothing was limited ({missing})."),
            "shared memory once for each process, the pages of files left out",
        ),
    };
    format!(
        "## Memory of the chat page on the CPU\n\n`{}`, {}, {browser}.\n\n\
         SmolLM2-135M-Instruct, Q4_1, on the page as it is built: a first visit with its download, an answer, and a second visit. It ran on \
         {}, the answer: {}. {limit} Resident in all processes, {counted}: {} at the peak, {} with a blank page.",
        command(),
        machine(),
        results.device.replace('\u{2002}', " "),
        results.figures.replace('\u{2002}', " "),
        known(results.peak_bytes),
        known(results.blank_bytes),
    )
}
