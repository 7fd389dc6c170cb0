//! `nomoat bench`: measures devices, and how close kernels come to their limits.

pub mod adapter;
pub mod answers;
mod gpu;
mod masks;
pub mod model;
mod report;
pub mod shape;
pub mod table;

use super::{Draft, Load, Task, with_models};
use anyhow::Result;
use clap::Subcommand;
use nomoat_runtime::cpu::{Cpu, bench, default_threads};
use std::path::PathBuf;

#[derive(Subcommand)]
pub enum Command {
    /// Measure the CPU's kernels; prints JSON.
    Cpu {
        /// Threads [default: one per core, at most 8].
        #[arg(long)]
        threads: Option<usize>,
        /// Quantise activations to 8 bits.
        #[arg(long)]
        int8: bool,
    },
    /// Measure answers of a model: one and four at once, and with guessed tokens.
    Answers {
        /// GGUF file; the first one of a split model.
        model: PathBuf,
        #[command(flatten)]
        extent: answers::Extent,
        #[command(flatten)]
        draft: Draft,
        #[command(flatten)]
        load: Load,
    },
    /// Measure the GPU's limits, its kernels, and a whole model with random weights.
    Gpu(gpu::Options),
    /// Measure the masks of constrained answers, for a model's vocabulary; prints JSON.
    Masks {
        /// GGUF file; the first one of a split model.
        model: PathBuf,
    },
    /// Measure what an adapter costs while a model answers; prints JSON.
    Adapter(Box<adapter::Options>),
}

pub fn run(command: Command) -> Result<()> {
    match command {
        Command::Answers { model, extent, draft, load } => {
            with_models(&model, &draft, &load, Task::BenchAnswers(extent))
        }
        Command::Gpu(options) => gpu::run(&options),
        Command::Masks { model } => masks::run(&model),
        Command::Adapter(options) => {
            let adapter::Options { model, extent, load } = *options;
            crate::with_model(&model, &load, crate::Task::BenchAdapter(extent))
        }
        Command::Cpu { threads, int8 } => {
            let mut cpu = Cpu::open(threads.unwrap_or_else(default_threads))?;
            cpu.set_int8(int8);
            println!("{}", serde_json::to_string(&bench::run(&cpu)?)?);
            Ok(())
        }
    }
}
