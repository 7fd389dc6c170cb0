//! `nomoat eval`: teacher-forced log-probabilities and greedy texts against golden ones of another implementation.

use anyhow::{Context, Result};
use nomoat_runtime::engine::{Engine, Event, Request, Sampling};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One prompt with its known continuation; other fields of the format are not needed here.
#[derive(Deserialize)]
struct Entry {
    text: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    greedy_text: String,
    steps: Vec<Likeliest>,
}

/// The likeliest next tokens in one place, best first.
#[derive(Deserialize)]
struct Likeliest {
    ids: Vec<u32>,
    logprobs: Vec<f64>,
}

#[derive(Clone, Copy, Serialize)]
struct Scores {
    /// Share of steps whose likeliest token is the golden one.
    top1_agreement: f64,
    /// Of the golden next token, over all steps, in natural logarithm.
    mean_abs_dlogprob: f64,
    /// Entries whose own greedy text equals the golden one.
    greedy_exact: usize,
}

pub async fn run(engine: &mut Engine, golden: &Path, max_tokens: Option<usize>) -> Result<()> {
    let text =
        std::fs::read_to_string(golden).with_context(|| format!("cannot read {}", golden.display()))?;
    let mut entries: Vec<Entry> = serde_json::from_str(&text).context("not a golden file")?;
    let limit = max_tokens.unwrap_or(usize::MAX);
    entries.retain(|entry| entry.prompt_ids.len() + entry.greedy_ids.len() <= limit);
    anyhow::ensure!(!entries.is_empty(), "no entry has as few as {limit} tokens");

    let mut exact = 0;
    for entry in &entries {
        exact += usize::from(greedy(engine, entry).await? == without_end(engine, entry));
    }
    let prefill = score(engine, &entries, false, exact).await?;
    let token_by_token = score(engine, &entries, true, exact).await?;
    let worse = Scores {
        top1_agreement: prefill.top1_agreement.min(token_by_token.top1_agreement),
        mean_abs_dlogprob: prefill.mean_abs_dlogprob.max(token_by_token.mean_abs_dlogprob),
        greedy_exact: exact,
    };
    let report = serde_json::json!({
        "top1_agreement": worse.top1_agreement,
        "mean_abs_dlogprob": worse.mean_abs_dlogprob,
        "greedy_exact": worse.greedy_exact,
        "entries": entries.len(),
        "steps": entries.iter().map(|e| e.steps.len()).sum::<usize>(),
        "prefill": prefill,
        "token_by_token": token_by_token,
    });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// Feeds `prompt_ids + greedy_ids[..-1]` and looks at each golden step.
async fn score(
    engine: &mut Engine,
    entries: &[Entry],
    one_by_one: bool,
    greedy_exact: usize,
) -> Result<Scores> {
    let (mut agreed, mut off, mut n) = (0.0, 0.0, 0.0);
    for entry in entries {
        let ids: Vec<u32> = entry.prompt_ids.iter().chain(&entry.greedy_ids).copied().collect();
        let score = engine.score(&ids, one_by_one).await?;
        let first = entry.prompt_ids.len() - 1;
        for (i, (step, golden)) in entry.steps.iter().zip(&entry.greedy_ids).enumerate() {
            let at =
                step.ids.iter().position(|id| id == golden).context("a golden token is not in its step")?;
            agreed += f64::from(u8::from(score.top[first + i] == step.ids[0]));
            off += (f64::from(score.logprobs[first + i]) - step.logprobs[at]).abs();
            n += 1.0;
        }
    }
    Ok(Scores { top1_agreement: agreed / n, mean_abs_dlogprob: off / n, greedy_exact })
}

async fn greedy(engine: &mut Engine, entry: &Entry) -> Result<String> {
    let mut request = Request { prompt: Some(entry.text.clone()), ..Default::default() };
    request.max_tokens = Some(entry.greedy_ids.len());
    request.sampling = Sampling { temperature: 0.0, ..Default::default() };
    engine.start(request)?;
    let mut answer = String::new();
    loop {
        match engine.advance().await? {
            Event::Prefill { .. } => {}
            Event::Token { text, .. } => answer.push_str(&text),
            Event::End { text, .. } => return Ok(answer + &text),
        }
    }
}

/// The golden text as an answer shows it: without the end-of-turn token.
fn without_end(engine: &Engine, entry: &Entry) -> String {
    match entry.greedy_ids.split_last() {
        Some((last, rest)) if engine.tokenizer().stop_ids().contains(last) => engine.tokenizer().decode(rest),
        _ => entry.greedy_text.clone(),
    }
}
