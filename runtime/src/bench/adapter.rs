//! `nomoat bench adapter`: what an adapter costs while decoding.

use anyhow::{Context, Result, ensure};
use nomoat_runtime::adapter::AdapterFiles;
use nomoat_runtime::engine::{AdapterUse, Device, Engine, Message, Progress, Request};
use nomoat_runtime::model::{Config, Tensors, build};
use nomoat_runtime::text::Tokenizer;
use nomoat_runtime::train::{Files, LoraSpec, TrainingGraph};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Options {
    /// GGUF file; the first one of a split model.
    pub model: PathBuf,
    #[command(flatten)]
    pub extent: Extent,
    #[command(flatten)]
    pub load: crate::Load,
}

/// How much is measured.
#[derive(clap::Args)]
pub struct Extent {
    /// Rank on all projections.
    #[arg(long, default_value_t = 16)]
    rank: usize,
    /// Tokens of an answer.
    #[arg(long, default_value_t = 64)]
    tokens: usize,
    /// Answers with and without the adapter, in turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// An adapter that changes nothing: A has numbers, B has none.
fn adapter(model: &Path, rank: usize) -> Result<Vec<u8>> {
    let mut headers = crate::headers(&crate::files(model)?)?;
    let tokenizer = Tokenizer::from_metadata(&mut headers[0].metadata)?;
    let config = Config::from_metadata(&headers[0].metadata, tokenizer.vocab_size())?;
    let spec = LoraSpec { rank, alpha: rank as f32, targets: Vec::new() };
    let graph = TrainingGraph::new(&build(&config, &Tensors::of(&headers)?)?, &spec)?;
    let mut parameters = vec![0.0; graph.n_parameters];
    for lora in &graph.loras {
        parameters[lora.a()].fill(0.01);
    }
    let mut file = Vec::new();
    Files { graph: &graph, architecture: &config.architecture }.write_gguf(&parameters, &mut file)?;
    Ok(file)
}

/// Measures and prints JSON.
pub async fn run<D: Device>(engine: &mut Engine<D>, model: &Path, options: &Extent) -> Result<()> {
    ensure!(options.tokens > 1 && options.rounds > 0, "use two tokens and one round at least");
    let file = adapter(model, options.rank)?;
    let info = engine.load_adapter("bench", AdapterFiles::Gguf(&file))?;
    let uses = vec![AdapterUse { name: "bench".into(), scale: 1.0 }];
    let (mut plain, mut adapted, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=options.rounds {
        for is_adapted in [round % 2 == 0, round % 2 != 0] {
            let adapters = if is_adapted { uses.clone() } else { Vec::new() };
            let (ms, text) = answer(engine, options.tokens, adapters).await?;
            texts.push(text);
            if round > 0 {
                let all = if is_adapted { &mut adapted } else { &mut plain };
                all.push(ms);
            }
        }
    }
    ensure!(texts.windows(2).all(|pair| pair[0] == pair[1]), "the adapter changes what is said");
    let (plain, adapted) = (Spread::of(plain)?, Spread::of(adapted)?);
    let percent = |with: f64, without: f64| 100.0 * (with / without - 1.0);
    let report = serde_json::json!({
        "rank": info.rank,
        "parameters": info.parameters,
        "tokens": options.tokens,
        "rounds": options.rounds,
        "ms_per_token": { "median": plain.median, "fastest": plain.fastest },
        "ms_per_token_with_adapter": { "median": adapted.median, "fastest": adapted.fastest },
        "cost_percent": {
            "median": percent(adapted.median, plain.median),
            "fastest": percent(adapted.fastest, plain.fastest),
        },
    });
    println!("{report:#}");
    Ok(())
}

struct Spread {
    median: f64,
    fastest: f64,
}

impl Spread {
    fn of(mut all: Vec<f64>) -> Result<Self> {
        all.sort_by(f64::total_cmp);
        let fastest = *all.first().context("nothing was measured")?;
        Ok(Self { median: all[all.len() / 2], fastest })
    }
}

/// Milliseconds per token of an answer after its first token, and its text.
async fn answer<D: Device>(
    engine: &mut Engine<D>,
    tokens: usize,
    adapters: Vec<AdapterUse>,
) -> Result<(f64, String)> {
    let message = Message::new("user", "Write a long story about a lighthouse and its keeper.");
    let mut request = Request {
        messages: Some(vec![message]),
        max_tokens: Some(tokens),
        adapters,
        speculate: Some(false),
        ..Request::default()
    };
    request.sampling.temperature = 0.0;
    engine.start(request)?;
    let mut whole = String::new();
    loop {
        match engine.advance().await?.progress {
            Progress::Token { text, .. } => whole += &text,
            Progress::End { text, usage, timings, .. } => {
                ensure!(usage.completion_tokens == tokens, "the answer ended early; use fewer --tokens");
                return Ok((timings.decode_ms / (tokens - 1) as f64, whole + &text));
            }
            _ => {}
        }
    }
}
