//! `nomoat tune --estimate`: the memory that training takes, without reading any weights.

use super::Args;
use crate::bench::model::read_header;
use crate::bench::table::table;
use anyhow::{Result, bail};
use nomoat_runtime::graph::Graph;
use nomoat_runtime::model::{Config, Tensors, build};
use nomoat_runtime::quant::Format;
use nomoat_runtime::text::Tokenizer;
use nomoat_runtime::train::{LoraSpec, TrainingGraph};

/// The rows and the columns of the table.
const RANKS: [usize; 5] = [4, 8, 16, 32, 64];
const TOKENS: [usize; 4] = [256, 512, 1024, 2048];

/// Prints what training takes beside the model, by rank and by the tokens that are computed together.
pub fn run(args: &Args) -> Result<()> {
    let graph = graph(args)?;
    let header: Vec<String> = std::iter::once("rank".to_string())
        .chain(["numbers learnt".to_string()])
        .chain(TOKENS.iter().map(|tokens| format!("{tokens} tokens")))
        .collect();
    let mut rows = Vec::new();
    for rank in RANKS {
        let spec = LoraSpec { rank, alpha: rank as f32, targets: args.targets.clone() };
        let training = TrainingGraph::new(&graph, &spec)?;
        let mut row = vec![rank.to_string(), training.n_parameters.to_string()];
        row.extend(
            TOKENS
                .iter()
                .map(|tokens| format!("{} MB", training.bytes(*tokens, args.kept << 20).div_ceil(1_000_000))),
        );
        rows.push(row);
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    print!("{}", table(&header, &rows));
    Ok(())
}

/// The graph of a file, or of a model by its dimensions.
fn graph(args: &Args) -> Result<Graph> {
    match (args.shape, &args.model) {
        // The format of the weights changes nothing here.
        (Some(name), _) => Ok(read_header(&name.shape(), Format::Q4_0)?.2),
        (None, Some(model)) => {
            let mut headers = crate::headers(&crate::files(model)?)?;
            let tokenizer = Tokenizer::from_metadata(&mut headers[0].metadata)?;
            let config = Config::from_metadata(&headers[0].metadata, tokenizer.vocab_size())?;
            Ok(build(&config, &Tensors::of(&headers)?)?)
        }
        (None, None) => bail!("name a model, or its dimensions by --shape"),
    }
}
