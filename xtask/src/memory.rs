//! `cargo xtask bench memory`: the memory of the page with the test model on the CPU, in a browser with a
//! limit.

use crate::report::{command, machine, replace_section};
use crate::{build, in_browser, model, tools};
use anyhow::Result;
use clap::Args;
use serde::Deserialize;
use serde_json::json;

const MODEL: &str = "smollm2-135m-instruct";

/// The limit of the browser's memory.
#[derive(Args)]
pub struct Memory {
    /// Limit in MiB for all processes of the browser; it needs a cgroup.
    #[arg(long, default_value_t = 1024)]
    limit: u64,
}

/// The output of `tests/bench/footprint.bench.ts`.
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
    let plan = json!({ "limitBytes": options.limit << 20 });
    let (results, browser) = in_browser::measure::<Results>("footprint", plan)?;
    let section = section(&results, &browser);
    println!("{section}");
    replace_section("bench memory", &section)
}

fn section(results: &Results, browser: &str) -> String {
    let mib = |bytes: f64| format!("{:.0} MiB", bytes / 1024.0 / 1024.0);
    let known = |bytes: Option<f64>| bytes.map_or("unknown".into(), mib);
    let (limit, counted) = match &results.limit {
        Limit::Held { version, killed } => (
            format!(
                "A cgroup (v{version}) limited all processes of the browser to {}; {killed} were killed for \
                 lack of memory.",
                mib(results.limit_bytes),
            ),
            "with shared memory counted once",
        ),
        Limit::Not { missing } => (
            format!("There was no limit, because no cgroup could be made ({missing})."),
            "with shared memory counted once per process",
        ),
    };
    format!(
        "## Memory of the chat page on the CPU\n\n`{}`, {}, {browser}.\n\n\
         SmolLM2-135M-Instruct, Q4_1, in the built page: a first visit with the download, an answer, and a \
         second visit. Device: {}. Answer: {}. {limit} Resident memory of all processes, {counted} and \
         without pages of files: {} at the peak, {} with a blank page.",
        command(),
        machine(),
        results.device.replace('\u{2002}', " "),
        results.figures.replace('\u{2002}', " "),
        known(results.peak_bytes),
        known(results.blank_bytes),
    )
}
