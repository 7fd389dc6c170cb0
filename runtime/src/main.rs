//! `nomoat`: the runtime on this machine's GPU or CPU, without a browser.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};
use nomoat_runtime::cpu::{self, Cpu};
use nomoat_runtime::engine::{
    Device, DeviceInfo, Engine, Event, LoadOptions, Loading, Message, Request, Sampling,
};
use nomoat_runtime::gpu::{Gpu, Options, self_test};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

mod bench;
mod eval;
mod info;

/// Runs GGUF language models on the GPU or the CPU.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer a prompt.
    Run {
        /// GGUF file; of a split model, the first.
        model: PathBuf,
        /// What to say to the model.
        #[arg(short, long)]
        prompt: String,
        /// Go on with the prompt as raw text instead of answering it as a chat message.
        #[arg(long)]
        raw: bool,
        /// What the model is told before the prompt.
        #[arg(long)]
        system: Option<String>,
        /// 0 takes the likeliest token always.
        #[arg(short, long, default_value_t = 0.0)]
        temperature: f32,
        /// Tokens of the answer at most.
        #[arg(short = 'n', long)]
        max_tokens: Option<usize>,
        /// Makes the choice of tokens repeatable.
        #[arg(long)]
        seed: Option<u64>,
        #[command(flatten)]
        load: Load,
    },
    /// Show metadata, tensors and the memory that the model needs.
    Info {
        /// GGUF file; of a split model, the first.
        model: PathBuf,
        /// Positions of the context to reckon with.
        #[arg(long)]
        context_length: Option<usize>,
    },
    /// Measure a device: its limits, kernels and whole models.
    Bench {
        #[command(subcommand)]
        command: bench::Command,
    },
    /// Compare with golden logits and texts; prints JSON.
    Eval {
        /// GGUF file; of a split model, the first.
        model: PathBuf,
        /// Golden file.
        #[arg(long)]
        golden: PathBuf,
        /// Leave out entries whose prompt and answer together have more tokens.
        #[arg(long)]
        max_tokens: Option<usize>,
        #[command(flatten)]
        load: Load,
    },
}

#[derive(clap::Args)]
struct Load {
    /// Where to compute.
    #[arg(long, default_value = "webgpu")]
    device: DeviceChoice,
    /// Threads on the CPU; default: one a core, at most 8.
    #[arg(long)]
    threads: Option<usize>,
    /// Positions that the context holds.
    #[arg(long)]
    context_length: Option<usize>,
    /// Which of the equivalent kernels to run: `exact` or `int8`; on a GPU such as `exact,shared:16,tile,f32`, too.
    #[arg(long, env = "NOMOAT_KERNELS", default_value = "")]
    kernels: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceChoice {
    /// Any GPU that wgpu finds.
    Webgpu,
    /// The processor.
    Cpu,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run { model, prompt, raw, system, temperature, max_tokens, seed, load } => {
            let mut engine = open(&model, &load)?;
            let mut request = Request { max_tokens, ..Default::default() };
            request.sampling = Sampling { temperature, seed, ..Default::default() };
            if raw {
                request.prompt = Some(prompt);
            } else {
                let message = |role: &str, content| Message { role: role.into(), content };
                let system = system.map(|text| message("system", text));
                request.messages = Some(system.into_iter().chain([message("user", prompt)]).collect());
            }
            pollster::block_on(answer(&mut engine, request))
        }
        Command::Bench { command } => bench::run(command),
        Command::Info { model, context_length } => info::print(&files(&model)?, context_length),
        Command::Eval { model, golden, max_tokens, load } => {
            let mut engine = open(&model, &load)?;
            pollster::block_on(eval::run(&mut engine, &golden, max_tokens))
        }
    }
}

async fn answer(engine: &mut Engine, request: Request) -> Result<()> {
    engine.start(request)?;
    let mut out = std::io::stdout();
    loop {
        match engine.advance().await? {
            Event::Prefill { .. } => {}
            Event::Token { text, .. } => {
                write!(out, "{text}")?;
                out.flush()?;
            }
            Event::End { text, usage, timings, context_full, .. } => {
                writeln!(out, "{text}")?;
                if context_full {
                    eprintln!("[the context of {} tokens is full]", engine.info().context_length);
                }
                let computed = usage.prompt_tokens - usage.cached_tokens;
                eprintln!(
                    "[{computed} prompt tokens, {:.1} tokens/s; {} tokens, {:.1} tokens/s; {} dispatches a token]",
                    computed as f64 / timings.prefill_ms * 1e3,
                    usage.completion_tokens,
                    usage.completion_tokens.saturating_sub(1) as f64 / timings.decode_ms * 1e3,
                    timings.dispatches_per_token,
                );
                return Ok(());
            }
        }
    }
}

/// The files of a model: the one named or, if its name ends in `-00001-of-0000N.gguf`, all N.
fn files(model: &Path) -> Result<Vec<PathBuf>> {
    let name = model.to_string_lossy();
    let Some((stem, count)) = name.strip_suffix(".gguf").and_then(|s| s.split_once("-00001-of-")) else {
        return Ok(vec![model.to_path_buf()]);
    };
    let n: usize = count.parse().with_context(|| format!("{name} does not end in a number of files"))?;
    Ok((1..=n).map(|i| PathBuf::from(format!("{stem}-{i:05}-of-{count}.gguf"))).collect())
}

fn open(model: &Path, load: &Load) -> Result<Engine> {
    let start = Instant::now();
    let device = match load.device {
        DeviceChoice::Webgpu => pollster::block_on(async {
            let gpu = Gpu::open(Options { kernels: load.kernels.clone(), ..Default::default() }).await?;
            self_test::run(&gpu).await?;
            Ok::<_, nomoat_runtime::gpu::GpuError>(Device::Gpu(gpu))
        })?,
        DeviceChoice::Cpu => {
            let mut cpu = Cpu::open(load.threads.unwrap_or_else(cpu::default_threads))?;
            cpu.set_int8(load.kernels.split(',').any(|word| word == "int8"));
            Device::Cpu(cpu)
        }
    };
    let opened = start.elapsed();
    let paths = files(model)?;
    let sizes = paths.iter().map(|path| size(path)).collect::<Result<Vec<_>>>()?;
    let mut loading = Loading::new(&sizes, LoadOptions { context_length: load.context_length });
    for (i, path) in paths.iter().enumerate() {
        push_header(&mut loading, i, path)?;
    }
    let engine = pollster::block_on(async {
        loading.prepare(&device).await?;
        for (i, path) in paths.iter().enumerate() {
            let mut file = File::open(path)?;
            let mut piece = vec![0; 1 << 20];
            loop {
                let n = file.read(&mut piece).with_context(|| format!("reading {}", path.display()))?;
                if n == 0 {
                    break;
                }
                loading.push_data(&device, i, &piece[..n]).await?;
            }
        }
        Ok::<_, anyhow::Error>(loading.finish(&device).await?.0)
    })?;
    let device = match device.info() {
        DeviceInfo::Gpu(gpu) => {
            format!("{} ({}), kernels {}", gpu.name, gpu.backend, gpu.kernels)
        }
        DeviceInfo::Cpu(cpu) => {
            format!("{} ({}, {} threads, {})", cpu.name, cpu.simd, cpu.threads, cpu.kernels)
        }
    };
    eprintln!(
        "[{} on {device}, device ready in {:.1} s, model in {:.1} s]",
        engine.info().name,
        opened.as_secs_f64(),
        (start.elapsed() - opened).as_secs_f64(),
    );
    Ok(engine)
}

fn size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?.len())
}

/// Feeds a file's header, and no more of it than that.
fn push_header(loading: &mut Loading, file: usize, path: &Path) -> Result<()> {
    let mut reader = File::open(path)?;
    let mut piece = vec![0; 64 << 10];
    loop {
        let n = reader.read(&mut piece)?;
        if loading.push_header(file, &piece[..n])? == 0 {
            return Ok(());
        }
        anyhow::ensure!(n > 0, "{} ends within its header", path.display());
    }
}
