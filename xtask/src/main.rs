//! `cargo xtask`: sets up, builds, serves, tests and packs Nomoat. It is the only build script.

mod bench;
mod bench_cpu;
mod bench_gpu;
mod bench_tune;
mod build;
mod in_browser;
mod large;
mod lines;
mod memory;
mod model;
mod reload;
mod report;
mod serve;
mod test;
mod tools;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Nomoat's build, test and serve commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build everything, fetch a model and serve the chat page.
    Chat {
        /// A model of the catalogue, or the path of a GGUF file.
        #[arg(long, default_value = "smollm2-135m-instruct")]
        model: String,
        /// Port on localhost [default: the first free one from 8080].
        #[arg(long)]
        port: Option<u16>,
        /// Do not open the browser.
        #[arg(long)]
        no_open: bool,
    },
    /// Install what the tests need, then run all checks and tests.
    Test {
        /// Run only this step.
        #[arg(long)]
        only: Option<String>,
        /// Evaluate all golden entries instead of the short ones.
        #[arg(long)]
        full: bool,
    },
    /// Run the fast part of the tests: formatting, lints, native tests.
    Check,
    /// Build the runtime, the package and the page.
    Build,
    /// Pack the npm package.
    Pack,
    /// Measure speed and memory.
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// List or download models of the catalogue.
    Model {
        #[command(subcommand)]
        command: ModelCommand,
    },
}

#[derive(Subcommand)]
enum BenchCommand {
    /// Compare Nomoat with other runtimes, in one browser and on one model.
    Web(bench::Web),
    /// Measure the GPU's limits, the kernels and a whole model with random weights, natively.
    Gpu(bench_gpu::Options),
    /// Measure the CPU's kernels, natively and as wasm in Chromium.
    Cpu(bench_cpu::Cpu),
    /// Run a model of 13 billion random parameters on WebGPU in Chromium, and natively with small bindings.
    Large(large::Large),
    /// Measure the memory of the chat page on the CPU, in a browser with a memory limit.
    Memory(memory::Memory),
    /// Measure how soon a long conversation goes on after a reload, on the CPU in a browser.
    Reload(reload::Reload),
    /// Measure steps of training on the CPU in Chromium, and by PyTorch and PEFT.
    Tune(bench_tune::Tune),
}

#[derive(Subcommand)]
enum ModelCommand {
    /// List the models, and which are downloaded.
    List,
    /// Download a model and verify it.
    Fetch {
        /// The model's id in the catalogue.
        id: String,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Chat { model, port, no_open } => {
            build::all()?;
            serve::chat(&model, port, !no_open)
        }
        Command::Test { only, full } => test::run(only.as_deref(), full),
        Command::Check => test::check(),
        Command::Build => build::all(),
        Command::Pack => build::pack().map(|path| println!("{}", path.display())),
        Command::Bench { command: BenchCommand::Web(options) } => bench::web(&options),
        Command::Bench { command: BenchCommand::Gpu(options) } => bench_gpu::run(&options),
        Command::Bench { command: BenchCommand::Cpu(options) } => bench_cpu::run_all(&options),
        Command::Bench { command: BenchCommand::Memory(options) } => memory::run(&options),
        Command::Bench { command: BenchCommand::Large(options) } => large::run(&options),
        Command::Bench { command: BenchCommand::Reload(options) } => reload::run(&options),
        Command::Bench { command: BenchCommand::Tune(options) } => bench_tune::run_all(&options),
        Command::Model { command: ModelCommand::List } => model::list(),
        Command::Model { command: ModelCommand::Fetch { id } } => {
            model::fetch(&id).map(|paths| paths.iter().for_each(|path| println!("{}", path.display())))
        }
    }
}
