//! `nomoat eval`: compares teacher-forced log-probabilities and greedy texts with another implementation's.

use anyhow::{Context, Result};
use nomoat_runtime::engine::{Device, Engine, Progress, Request, Sampling};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A prompt with its known continuation; the fields of a golden file that are used here.
#[derive(Deserialize)]
struct Entry {
    text: String,
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    greedy_text: String,
    steps: Vec<GoldenStep>,
}

/// The most likely next tokens of one step, best first.
#[derive(Deserialize)]
struct GoldenStep {
    ids: Vec<u32>,
    logprobs: Vec<f64>,
}

#[derive(Clone, Copy, Serialize)]
struct Scores {
    /// Share of steps whose most likely token is the golden file's.
    top1_agreement: f64,
    /// Mean absolute difference of the golden token's log-probability (natural logarithm), over all steps.
    mean_abs_dlogprob: f64,
    /// The same as `top1_agreement`, without the steps whose two best golden tokens are closer than [`TIE`].
    top1_without_ties: f64,
    /// Entries whose greedy text equals the golden one.
    greedy_exact: usize,
}

/// Two tokens this close in log-probability are a tie: 8-bit activations move each by about 0.03, so which of
/// them comes out best depends on the order of a sum.
const TIE: f64 = 0.05;

pub async fn run<D: Device>(engine: &mut Engine<D>, golden: &Path, max_tokens: Option<usize>) -> Result<()> {
    let text =
        std::fs::read_to_string(golden).with_context(|| format!("cannot read {}", golden.display()))?;
    let mut entries: Vec<Entry> =
        serde_json::from_str(&text).with_context(|| format!("{} is not a golden file", golden.display()))?;
    let limit = max_tokens.unwrap_or(usize::MAX);
    entries.retain(|entry| entry.prompt_ids.len() + entry.greedy_ids.len() <= limit);
    anyhow::ensure!(!entries.is_empty(), "all entries have more than {limit} tokens: raise --max-tokens");

    let mut exact = 0;
    for entry in &entries {
        exact += usize::from(greedy(engine, entry).await? == without_end(engine, entry));
    }
    let prefill = score(engine, &entries, false, exact).await?;
    let token_by_token = score(engine, &entries, true, exact).await?;
    let worse = Scores {
        top1_agreement: prefill.top1_agreement.min(token_by_token.top1_agreement),
        mean_abs_dlogprob: prefill.mean_abs_dlogprob.max(token_by_token.mean_abs_dlogprob),
        top1_without_ties: prefill.top1_without_ties.min(token_by_token.top1_without_ties),
        greedy_exact: exact,
    };
    let report = serde_json::json!({
        "top1_agreement": worse.top1_agreement,
        "mean_abs_dlogprob": worse.mean_abs_dlogprob,
        "top1_without_ties": worse.top1_without_ties,
        "greedy_exact": worse.greedy_exact,
        "entries": entries.len(),
        "steps": entries.iter().map(|e| e.steps.len()).sum::<usize>(),
        "prefill": prefill,
        "token_by_token": token_by_token,
    });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// Scores `prompt_ids + greedy_ids` and compares each golden step.
async fn score<D: Device>(
    engine: &mut Engine<D>,
    entries: &[Entry],
    one_by_one: bool,
    greedy_exact: usize,
) -> Result<Scores> {
    let (mut agreed, mut off, mut n) = (0.0, 0.0, 0.0);
    let (mut decided, mut agreed_decided) = (0.0, 0.0);
    for entry in entries {
        let ids: Vec<u32> = entry.prompt_ids.iter().chain(&entry.greedy_ids).copied().collect();
        let score = engine.score(&ids, one_by_one).await?;
        let first = entry.prompt_ids.len() - 1;
        for (i, (step, golden)) in entry.steps.iter().zip(&entry.greedy_ids).enumerate() {
            let at =
                step.ids.iter().position(|id| id == golden).context("a golden step lacks its own token")?;
            let agrees = f64::from(u8::from(score.top[first + i] == step.ids[0]));
            agreed += agrees;
            if step.logprobs[0] - step.logprobs[1] >= TIE {
                decided += 1.0;
                agreed_decided += agrees;
            }
            off += (f64::from(score.logprobs[first + i]) - step.logprobs[at]).abs();
            n += 1.0;
        }
    }
    Ok(Scores {
        top1_agreement: agreed / n,
        mean_abs_dlogprob: off / n,
        top1_without_ties: agreed_decided / decided,
        greedy_exact,
    })
}

async fn greedy<D: Device>(engine: &mut Engine<D>, entry: &Entry) -> Result<String> {
    let mut request = Request { prompt: Some(entry.text.clone().into()), ..Default::default() };
    request.max_tokens = Some(entry.greedy_ids.len());
    request.sampling = Sampling { temperature: 0.0, ..Default::default() };
    engine.start(request)?;
    let mut answer = String::new();
    loop {
        match engine.advance().await?.progress {
            Progress::Prefill { .. } | Progress::Prompt { .. } | Progress::Embedding { .. } => {}
            Progress::Token { text, .. } => answer.push_str(&text),
            Progress::End { text, .. } => return Ok(answer + &text),
        }
    }
}

/// The golden text without its end-of-turn token, as answers show it.
fn without_end<D: Device>(engine: &Engine<D>, entry: &Entry) -> String {
    match entry.greedy_ids.split_last() {
        Some((last, rest)) if engine.tokenizer().stop_ids().contains(last) => engine.tokenizer().decode(rest),
        _ => entry.greedy_text.clone(),
    }
}
