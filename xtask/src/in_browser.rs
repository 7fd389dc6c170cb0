//! Benches that run in Chromium. `tests/bench` measures; the commands prepare and report.

use crate::model;
use crate::tools::{chromium, output, root, run_with, target};
use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Where the results of `tests/bench/{bench}.bench.ts` are.
pub fn results(bench: &str) -> PathBuf {
    target().join(format!("bench/{bench}.json"))
}

/// Runs `tests/bench/{bench}.bench.ts` by a plan. Returns its results and the browser's version.
pub fn measure<T: DeserializeOwned>(bench: &str, mut plan: Value) -> Result<(T, String)> {
    let out = results(bench);
    std::fs::create_dir_all(target().join("bench"))?;
    plan["out"] = json!(out);
    let (chromium, models, plan) = (chromium(), model::folder()?, plan.to_string());
    let env = [
        ("NOMOAT_BENCH", plan.as_str()),
        ("NOMOAT_CHROMIUM", chromium.as_str()),
        ("NOMOAT_MODELS", &models.to_string_lossy()),
    ];
    let config = root().join("tests/bench/playwright.config.ts");
    let file = format!("{bench}.bench.ts");
    run_with("npx", &["playwright", "test", "--config", &config.to_string_lossy(), &file], &env)?;
    let results = std::fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    let version = output(&chromium, &["--version"]).map_or(chromium, |version| version.trim().into());
    Ok((serde_json::from_str(&results).context("the results in the browser")?, version))
}
