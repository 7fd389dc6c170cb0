//! `cargo xtask bench reload`: how soon a conversation of about 2,000 tokens goes on after a reload of the
//! page, with the keys and values that the browser has stored and without them.

use crate::report::{command, machine, median, replace_section};
use crate::{build, in_browser, model, tools};
use anyhow::{Context, Result};
use clap::Args;
use serde::Deserialize;
use serde_json::json;

const MODEL: &str = "smollm2-135m-instruct";

#[derive(Args)]
pub struct Reload {
    /// Rounds, of which the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// The output of `tests/bench/reload.bench.ts`.
#[derive(Deserialize)]
struct Results {
    device: String,
    rounds: Vec<Round>,
}

#[derive(Deserialize)]
struct Round {
    kept: Answer,
    anew: Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    first_ms: f64,
    tokens: u32,
    cached: u32,
}

/// Builds, measures, prints and writes the results.
pub fn run(options: &Reload) -> Result<()> {
    build::all()?;
    tools::test_packages()?;
    model::fetch(MODEL)?;
    let (results, browser) = in_browser::measure::<Results>("reload", json!({ "rounds": options.rounds }))?;
    let section = section(&results, &browser)?;
    println!("{section}");
    replace_section("bench reload", &section)
}

fn section(results: &Results, browser: &str) -> Result<String> {
    let seconds = |of: fn(&Round) -> &Answer| {
        median(results.rounds.iter().map(|round| of(round).first_ms / 1e3)).context("there are no rounds")
    };
    let (kept, anew) = (seconds(|round| &round.kept)?, seconds(|round| &round.anew)?);
    let Answer { tokens, cached, .. } =
        results.rounds.first().map(|round| &round.kept).context("no rounds")?;
    Ok(format!(
        "## A long conversation after a reload\n\n`{}`, {}, {browser}.\n\n\
         SmolLM2-135M-Instruct, Q4_1, on {}: a prompt of {tokens} tokens, of which {cached} were in the \
         browser's storage (`promptCacheBytes`). Time to the first token, medians of {} rounds: {kept:.2} s; \
         {anew:.2} s with nothing stored. That is {:.0} % less. The greedy texts are the same.",
        command(),
        machine(),
        results.device,
        results.rounds.len(),
        (1.0 - kept / anew) * 100.0,
    ))
}
