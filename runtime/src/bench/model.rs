//! Models with random weights on a GPU, built in the same way as from files, and steps on them.

use super::shape::{RUN, Shape, blocks};
use anyhow::{Result, ensure};
use nomoat_runtime::gguf::{Header, HeaderReader};
use nomoat_runtime::gpu::{Executor, Gpu, Subject, Weights};
use nomoat_runtime::graph::{Capacity, Graph, Output, PAGE, Source, Step, Token, WeightId};
use nomoat_runtime::load::{Sink, formats};
use nomoat_runtime::model::{Config, Tensors, build};
use nomoat_runtime::quant::Format;
use nomoat_runtime::text::Tokenizer;
use std::time::Instant;

/// Most bytes waiting in the device's queue.
const QUEUED: usize = 64 << 20;

/// A model on a device.
pub struct Model {
    pub graph: Graph,
    pub formats: Vec<Format>,
    pub weights: Weights,
    /// Bytes that its tensors would take in a file.
    pub tensor_bytes: u64,
}

/// The header of a file with this shape, its configuration and its graph.
pub fn read_header(shape: &Shape, format: Format) -> Result<(Header, Config, Graph)> {
    let writer = shape.writer(format);
    let bytes = writer.header()?;
    let mut reader = HeaderReader::new(bytes.len() as u64 + writer.data_bytes()?);
    ensure!(reader.push(&bytes)? == 0, "the header is not complete");
    let mut header = reader.finish()?;
    let tokenizer = Tokenizer::from_metadata(&mut header.metadata)?;
    let config = Config::from_metadata(&header.metadata, tokenizer.vocab_size())?;
    let graph = build(&config, &Tensors::of(std::slice::from_ref(&header))?)?;
    Ok((header, config, graph))
}

impl Model {
    pub async fn new(gpu: &Gpu, shape: &Shape, format: Format) -> Result<Self> {
        let (header, _, graph) = read_header(shape, format)?;
        let headers = [header];
        let formats = formats(&graph, &Tensors::of(&headers)?)?;
        let mut weights = Weights::allocate(gpu, &graph, &formats)?;
        gpu.settle().await?;
        let mut queued = 0;
        for (i, weight) in graph.weights.iter().enumerate() {
            if weight.is_vector {
                // Constants are written already; write_vector would overwrite them.
                if !matches!(weight.source, Source::Constant(_)) {
                    weights.write_vector(WeightId(i), &vec![1.0; weight.n_cols]);
                }
                continue;
            }
            let format = formats[i];
            let (mut quants, mut scales) = (Vec::new(), Vec::new());
            let n_blocks = weight.n_rows * weight.n_cols / format.block_len();
            format.repack(&blocks(format, weight.n_cols, n_blocks, i as u64), &mut quants, &mut scales);
            for first in (0..n_blocks).step_by(RUN) {
                let n = RUN.min(n_blocks - first);
                let (quants, scales) =
                    (&quants[..n * format.quants_bytes()], &scales[..n * format.scales_bytes()]);
                weights.write_blocks(WeightId(i), first, quants, scales);
                queued += quants.len() + scales.len();
                if queued > QUEUED {
                    queued = 0;
                    gpu.settle().await?;
                }
            }
        }
        gpu.settle().await?;
        let tensor_bytes = headers[0].tensors.iter().map(|tensor| tensor.n_bytes).sum();
        Ok(Self { graph, formats, weights, tensor_bytes })
    }

    pub fn subject(&self) -> Subject<'_> {
        Subject { graph: &self.graph, weights: &self.weights, formats: &self.formats }
    }
}

/// A step of one sequence that owns its rows.
pub struct OwnedStep {
    tokens: Vec<Token>,
    outputs: Vec<Output>,
    pages: Vec<u32>,
}

impl OwnedStep {
    /// A step of tokens at these positions; the last one may have an output, whose token goes to slot 0.
    pub fn new(positions: std::ops::Range<u32>, has_output: bool) -> Self {
        let pages = (0..positions.end.div_ceil(PAGE)).collect();
        let row = positions.len() as u32 - 1;
        let token = |position| Token {
            id: 100 + position % 50,
            position,
            sequence: 0,
            cell: position,
            ..Token::default()
        };
        let outputs = vec![Output { slot: 0, ..Output::likeliest(row, 0) }; usize::from(has_output)];
        Self { tokens: positions.map(token).collect(), outputs, pages }
    }

    /// A step of one token, the one that the step before chose.
    pub fn next(position: u32) -> Self {
        let mut step = Self::new(position..position + 1, true);
        step.tokens[0].id = Token::FROM_SLOT;
        step
    }

    pub fn step(&self) -> Step<'_> {
        Step {
            tokens: &self.tokens,
            outputs: &self.outputs,
            choices: &[],
            pages: &self.pages,
            max_pages: self.pages.len() as u32,
        }
    }
}

/// An executor for steps of at most `tokens` rows, in a context of `context` positions.
pub fn executor(gpu: &Gpu, model: &Model, tokens: u32, context: u32) -> Result<Executor> {
    let pages = context.div_ceil(PAGE);
    let capacity = Capacity { tokens, outputs: 1, sequences: 1, max_pages: pages, pages };
    Ok(Executor::new(gpu, &model.graph, &model.weights, capacity)?)
}

/// The steps of a prompt, with at most `chunk` rows each.
pub fn prompt(n_tokens: u32, chunk: u32) -> Vec<OwnedStep> {
    let end = |start: u32| (start + chunk).min(n_tokens);
    let starts = (0..n_tokens).step_by(chunk as usize);
    starts.map(|start| OwnedStep::new(start..end(start), end(start) == n_tokens)).collect()
}

/// How long a run of steps took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub tokens: usize,
    pub submits: usize,
    pub dispatches: usize,
    /// From the start of the first step to the result of the last one.
    pub seconds: f64,
    /// The part of them that the host spent encoding and submitting.
    pub host_seconds: f64,
}

/// Runs steps as the engine does, with several in flight. `next` returns `None` at the end.
pub async fn run<'r>(
    executor: &mut Executor,
    mut next: impl FnMut(usize) -> Option<&'r OwnedStep>,
) -> Result<Times> {
    executor.drain().await?;
    let mut times = Times::default();
    let start = Instant::now();
    while let Some(rows) = next(times.submits) {
        if executor.in_flight() == executor.depth() {
            executor.result().await?;
        }
        let begun = Instant::now();
        executor.submit(&rows.step())?;
        times.host_seconds += begun.elapsed().as_secs_f64();
        times.tokens += rows.tokens.len();
        times.submits += 1;
        times.dispatches += executor.dispatches();
    }
    executor.drain().await?;
    times.seconds = start.elapsed().as_secs_f64();
    Ok(times)
}
