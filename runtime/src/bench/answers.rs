//! `nomoat bench answers`: whole answers of a model: one and four at once, and with guessed tokens.

use super::table::{number, table};
use anyhow::{Context, Result, ensure};
use nomoat_runtime::engine::{Device, Engine, Progress, Request, Sampling, SequenceId, Usage};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(clap::Args)]
pub struct Extent {
    /// Tokens of an answer at most.
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    /// The fastest of so many rounds counts. What is compared takes turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// A text that is repeated with one change. Names and numbers make it hard to guess without looking.
const TEXT: &str = "\
    The ferry to Arran leaves Ardrossan at 9:45 and calls at Brodick an hour later. Marta had \
    packed two jars of plum jam, a torch and the blue notebook, in which she kept the names of all \
    34 lighthouses. Her brother Emil carried the telescope. On the upper deck they met Professor \
    Lindqvist, who was counting gannets for the university of Uppsala and had reached 117 before \
    the rain came. He offered them tea from a dented flask and told them about the winter of 1962, \
    when the sea froze as far as Pladda.";

/// Texts that go on without repeating anything on purpose.
const OTHERS: [&str; 4] = [
    "In the spring of that year the old clockmaker received a letter from a town that he had never heard of. \
     It said that",
    "The three most important things to know about growing tomatoes on a balcony are these. First,",
    "Once upon a time a fox and a heron shared a small island in the middle of a wide river. One evening",
    "The history of paper begins in China, where it was made of bark and rags. From there",
];

fn request(prompt: &str, tokens: usize, speculate: Option<bool>) -> Request {
    let sampling = Sampling { temperature: 0.0, ..Default::default() };
    Request {
        prompt: Some(prompt.into()),
        max_tokens: Some(tokens),
        sampling,
        speculate,
        ..Default::default()
    }
}

/// Tokens per second while all of some answers run, from the last of their first tokens to the first end, and
/// the counts of the answer that ends first.
async fn rate<D: Device>(engine: &mut Engine<D>, requests: &[Request]) -> Result<(f64, Usage)> {
    let mut told: HashMap<SequenceId, usize> = HashMap::new();
    for request in requests {
        told.insert(engine.start(request.clone())?.sequence, 0);
    }
    let mut begun = None;
    let mut n_tokens = 0;
    loop {
        let event = engine.advance().await?;
        match event.progress {
            Progress::Token { .. } => {
                n_tokens += usize::from(begun.is_some());
                *told.entry(event.sequence).or_default() += 1;
                if begun.is_none() && told.values().all(|n| *n > 0) {
                    begun = Some(Instant::now());
                }
            }
            Progress::End { usage, .. } => {
                let time: Duration = begun.context("an answer has ended before all had begun")?.elapsed();
                engine.cancel_all();
                let wanted = requests[0].max_tokens.unwrap_or_default();
                ensure!(n_tokens > wanted / 5, "an answer has ended after {n_tokens} of {wanted} tokens");
                return Ok(((n_tokens + 1) as f64 / time.as_secs_f64(), usage));
            }
            _ => {}
        }
    }
}

/// The fastest rates of some runs, which take turns.
async fn fastest<D: Device>(
    engine: &mut Engine<D>,
    rounds: usize,
    runs: &[&[Request]],
) -> Result<Vec<(f64, Usage)>> {
    let mut best = vec![(0.0, Usage::default()); runs.len()];
    for _ in 0..rounds {
        for (run, best) in runs.iter().zip(&mut best) {
            let found = rate(engine, run).await?;
            if found.0 > best.0 {
                *best = found;
            }
        }
    }
    Ok(best)
}

/// Prints what it measures.
pub async fn run<D: Device>(engine: &mut Engine<D>, &Extent { tokens, rounds }: &Extent) -> Result<()> {
    let four = OTHERS.map(|prompt| request(prompt, tokens, Some(false)));
    let rates = fastest(engine, rounds, &[&four[..1], &four[..2], &four]).await?;
    let rows = [1, 2, 4]
        .iter()
        .zip(&rates)
        .map(|(n, (rate, _))| vec![n.to_string(), number(*rate), format!("{:.2}", rate / rates[0].0)]);
    let header = ["answers at once", "tokens/s in all", "times one"];
    println!("{}", table(&header, &rows.collect::<Vec<_>>()));

    // Small models repeat a text if it was repeated before.
    let again = TEXT.replace("9:45", "10:15");
    let repeat = format!("{TEXT}\n\n{again}\n\nThe ferry to Arran leaves Ardrossan at 11:20");
    let prompts = [("repeats a text with one change", repeat.as_str())];
    let others = OTHERS.map(|prompt| ("another text", prompt));
    let mut rows = Vec::new();
    for (name, prompt) in prompts.into_iter().chain(others) {
        let [off, on] = [Some(false), None].map(|speculate| [request(prompt, tokens, speculate)]);
        let rates = fastest(engine, rounds, &[&off, &on]).await?;
        let Usage { drafted_tokens, accepted_tokens, .. } = rates[1].1;
        rows.push(vec![
            name.to_string(),
            number(rates[0].0),
            number(rates[1].0),
            format!("{:.2}", rates[1].0 / rates[0].0),
            format!("{accepted_tokens} of {drafted_tokens}"),
        ]);
    }
    let header = ["the answer", "tokens/s", "with guesses", "times", "guesses that were right"];
    println!("{}", table(&header, &rows));
    Ok(())
}
