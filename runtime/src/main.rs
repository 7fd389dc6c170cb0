//! `nomoat`: runs models on this machine's GPU or CPU, without a browser.

use adapters::Adapters;
use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use nomoat_runtime::cpu::{self, Cpu};
use nomoat_runtime::engine::{
    self, Device, Engine, GrammarText, Headers, LoadOptions, Loading, Message, NamedSchema, Progress,
    Request, ResponseFormat, Usage, cpu_kernels,
};
use nomoat_runtime::gguf::Header;
use nomoat_runtime::gpu::{Gpu, GpuError, Options, self_test};
use nomoat_runtime::graph::KvFormat;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

mod adapters;
mod bench;
mod eval;
mod info;
mod prompt;
mod sampling;
mod serve;
mod tune;

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
        /// GGUF file; the first one of a split model.
        model: PathBuf,
        /// The user's message.
        #[arg(short, long)]
        prompt: String,
        /// Continue the prompt as plain text, without the chat template.
        #[arg(long)]
        raw: bool,
        /// The system message.
        #[arg(long)]
        system: Option<String>,
        /// Maximum number of tokens in the answer.
        #[arg(short = 'n', long)]
        max_tokens: Option<usize>,
        #[command(flatten)]
        sampling: Box<sampling::Args>,
        #[command(flatten)]
        form: Form,
        #[command(flatten)]
        adapters: Adapters,
        #[command(flatten)]
        draft: Draft,
        #[command(flatten)]
        load: Load,
    },
    /// Serve OpenAI's HTTP API: chat completions, completions, models.
    Serve {
        /// GGUF file; the first one of a split model.
        model: PathBuf,
        #[command(flatten)]
        serve: serve::Args,
        #[command(flatten)]
        draft: Draft,
        #[command(flatten)]
        load: Load,
    },
    /// Show a model's metadata and the memory that it needs.
    Info {
        /// GGUF file; the first one of a split model.
        model: PathBuf,
        /// List the tensors, too.
        #[arg(long)]
        tensors: bool,
        /// Context length to compute the memory for, in tokens.
        #[arg(long)]
        context_length: Option<usize>,
        /// The format of keys and values to compute the memory for: `f16`, `q8_0` or `q4_0`.
        #[arg(long, default_value = "f16", value_parser = kv_format)]
        kv_format: KvFormat,
    },
    /// Show the prompt that a model gets for a conversation, and its token ids.
    Prompt(prompt::Args),
    /// Measure a device: its limits, its kernels, whole models.
    Bench {
        #[command(subcommand)]
        command: bench::Command,
    },
    /// Teach a model by LoRA.
    Tune(Box<tune::Args>),
    /// Compare log-probabilities and greedy texts with a golden file; prints JSON. With adapters, compare
    /// log-probabilities at several strengths.
    Eval {
        /// GGUF file; the first one of a split model.
        model: PathBuf,
        /// Golden file.
        #[arg(long)]
        golden: PathBuf,
        /// Skip entries whose prompt and answer have more tokens than this.
        #[arg(long)]
        max_tokens: Option<usize>,
        #[command(flatten)]
        adapters: Adapters,
        #[command(flatten)]
        load: Load,
    },
}

/// What the answer must be.
#[derive(clap::Args)]
#[group(multiple = false)]
struct Form {
    /// The answer is a JSON object.
    #[arg(long)]
    json: bool,
    /// The answer is JSON that fits the schema in this file.
    #[arg(long)]
    json_schema: Option<PathBuf>,
    /// The answer matches this regular expression.
    #[arg(long)]
    regex: Option<String>,
    /// The answer is a sentence of the grammar in this file, in llguidance's dialect of Lark.
    #[arg(long)]
    lark: Option<PathBuf>,
    /// The answer is a sentence of the grammar in this file, in llama.cpp's format GBNF.
    #[arg(long)]
    gbnf: Option<PathBuf>,
}

impl Form {
    fn apply(self, request: &mut Request) -> Result<()> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        };
        if let Some(path) = self.json_schema {
            let schema = serde_json::from_str(&read(&path)?)
                .with_context(|| format!("{} is not JSON", path.display()))?;
            request.response_format = ResponseFormat::JsonSchema { json_schema: NamedSchema { schema } };
        } else if self.json {
            request.response_format = ResponseFormat::JsonObject;
        }
        request.grammar = match (self.regex, self.lark, self.gbnf) {
            (Some(regex), _, _) => Some(GrammarText::Regex(regex)),
            (None, Some(path), _) => Some(GrammarText::Lark(read(&path)?)),
            (None, None, Some(path)) => Some(GrammarText::Gbnf(read(&path)?)),
            (None, None, None) => None,
        };
        Ok(())
    }
}

#[derive(clap::Args)]
struct Load {
    /// Device to run on.
    #[arg(long, default_value = "webgpu")]
    device: DeviceChoice,
    /// Threads on the CPU [default: one per core, at most 8].
    #[arg(long)]
    threads: Option<usize>,
    /// Context length, in tokens.
    #[arg(long)]
    context_length: Option<usize>,
    /// How keys and values are stored: `f16`, `q8_0` or `q4_0`.
    #[arg(long, default_value = "f16", value_parser = kv_format)]
    kv_format: KvFormat,
    /// A built-in chat template, such as `vicuna` or `plain`, instead of the file's.
    #[arg(long)]
    template: Option<String>,
    /// JSON file with a response template, as Hugging Face's tokenizers have it: how answers are marked,
    /// instead of what the chat template shows.
    #[arg(long, value_name = "FILE")]
    response_template: Option<PathBuf>,
    /// Kernels to run: `exact` or `int8`; on a GPU also variants, such as `exact,shared:16,tile,f32`.
    #[arg(long, env = "NOMOAT_KERNELS", default_value = "")]
    kernels: String,
    /// The most MiB that a kernel on the GPU binds of a buffer: small devices in browsers allow 128.
    #[arg(long)]
    max_binding: Option<u64>,
}

#[derive(clap::Args, Default)]
struct Draft {
    /// GGUF file of a smaller model with the same vocabulary, which guesses tokens. It changes no text, and
    /// is used where it makes answers faster.
    #[arg(long)]
    draft: Option<PathBuf>,
}

fn kv_format(name: &str) -> Result<KvFormat, String> {
    KvFormat::from_name(name).ok_or_else(|| "use f16, q8_0 or q4_0".into())
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceChoice {
    /// The GPU, through wgpu.
    Webgpu,
    /// The CPU.
    Cpu,
}

fn main() -> ExitCode {
    // In `nomoat info MODEL | head -1` the closed pipe ends the program, where `println!` would panic.
    sigpipe::reset();
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
        Command::Run { model, prompt, raw, system, max_tokens, sampling, form, adapters, draft, load } => {
            let mut request = Request { max_tokens, ..Default::default() };
            request.sampling = sampling.settings();
            form.apply(&mut request)?;
            if raw {
                request.prompt = Some(prompt.into());
            } else {
                let message = |role: &str, content: String| Message::new(role, &content);
                let system = system.map(|text| message("system", text));
                request.messages = Some(system.into_iter().chain([message("user", prompt)]).collect());
            }
            with_models(&model, &draft, &load, Task::Answer(Box::new(request), adapters))
        }
        Command::Serve { model, serve, draft, load } => {
            with_models(&model, &draft, &load, Task::Serve(serve))
        }
        Command::Prompt(args) => prompt::print(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Bench { command } => bench::run(command),
        Command::Info { model, tensors, context_length, kv_format } => {
            info::print(&files(&model)?, tensors, context_length, kv_format)
        }
        Command::Eval { model, golden, max_tokens, adapters, load } => {
            with_model(&model, &load, Task::Eval { golden, max_tokens, adapters })
        }
    }
}

/// What to do with a model.
enum Task {
    Answer(Box<Request>, Adapters),
    Eval { golden: PathBuf, max_tokens: Option<usize>, adapters: Adapters },
    Serve(serve::Args),
    BenchAnswers(bench::answers::Extent),
    BenchAdapter(bench::adapter::Extent),
}

/// Opens the device, loads the model and does the task.
fn with_model(model: &Path, load: &Load, task: Task) -> Result<()> {
    with_models(model, &Draft::default(), load, task)
}

/// The same with a draft model, if there is one.
fn with_models(model: &Path, draft: &Draft, load: &Load, task: Task) -> Result<()> {
    let models = (model, draft.draft.as_deref());
    let start = Instant::now();
    match load.device {
        DeviceChoice::Webgpu => {
            let gpu = pollster::block_on(async {
                let max_binding_size = load.max_binding.map_or(u64::MAX, |mib| mib << 20);
                let options =
                    Options { kernels: load.kernels.clone(), max_binding_size, ..Default::default() };
                let gpu = Gpu::open(options).await?;
                self_test::run(&gpu).await?;
                Ok::<_, GpuError>(gpu)
            })?;
            let info = gpu.info();
            let name = format!("{} ({}), kernels {}", info.name, info.backend, info.kernels);
            on_device(&gpu, &name, start, models, load, task)
        }
        DeviceChoice::Cpu => {
            let int8 = cpu_kernels(&load.kernels)?;
            let mut cpu = Cpu::open(load.threads.unwrap_or_else(cpu::default_threads))?;
            cpu.set_int8(int8);
            let info = cpu.info();
            let name = format!("{} ({}, {} threads, {})", info.name, info.simd, info.threads, info.kernels);
            on_device(&cpu, &name, start, models, load, task)
        }
    }
}

fn on_device<D: Device>(
    device: &D,
    name: &str,
    start: Instant,
    (model, draft): (&Path, Option<&Path>),
    load: &Load,
    task: Task,
) -> Result<()> {
    let opened = start.elapsed();
    let (parallel, memory) = match &task {
        Task::Serve(args) => (args.parallel, serve::memory()),
        Task::Answer(..) | Task::Eval { .. } | Task::BenchAnswers(_) | Task::BenchAdapter(_) => (Some(1), 0),
    };
    let Load { context_length, kv_format, .. } = *load;
    let template = load.template.clone();
    let response = load.response_template.as_ref();
    let response_template = response
        .map(|path| std::fs::read_to_string(path).with_context(|| format!("cannot open {}", path.display())))
        .transpose()?;
    let options = LoadOptions {
        context_length,
        parallel,
        memory,
        kv_format,
        template,
        response_template,
        ..Default::default()
    };
    let mut engine = open(device, model, options)?;
    if let Some(draft) = draft {
        open_draft(device, draft, &mut engine)?;
    }
    let drafted = engine.info().draft.as_ref().map(|name| format!(", drafted by {name},"));
    eprintln!(
        "[{}{} on {name}; device opened in {:.1} s, model loaded in {:.1} s]",
        engine.info().name,
        drafted.unwrap_or_default(),
        opened.as_secs_f64(),
        (start.elapsed() - opened).as_secs_f64(),
    );
    for warning in &engine.info().warnings {
        eprintln!("warning: {warning}");
    }
    match task {
        Task::Answer(request, adapters) => {
            let adapters = adapters.load(&mut engine)?;
            pollster::block_on(answer(&mut engine, Request { adapters, ..*request }))
        }
        Task::Eval { golden, max_tokens, adapters } if adapters.is_empty() => {
            pollster::block_on(eval::run(&mut engine, &golden, max_tokens))
        }
        Task::Eval { golden, adapters, .. } => {
            let uses = adapters.load(&mut engine)?;
            pollster::block_on(adapters::eval(&mut engine, &golden, &uses))
        }
        Task::Serve(args) => serve::run(&mut engine, &args),
        Task::BenchAnswers(extent) => pollster::block_on(bench::answers::run(&mut engine, &extent)),
        Task::BenchAdapter(extent) => pollster::block_on(bench::adapter::run(&mut engine, model, &extent)),
    }
}

async fn answer<D: Device>(engine: &mut Engine<D>, request: Request) -> Result<()> {
    engine.start(request)?;
    let mut out = std::io::stdout();
    loop {
        match engine.advance().await?.progress {
            Progress::Prefill { .. } | Progress::Prompt { .. } | Progress::Embedding { .. } => {}
            Progress::Token { text, reasoning, .. } => {
                // What the model thinks is no part of its answer.
                eprint!("{reasoning}");
                write!(out, "{text}")?;
                out.flush()?;
            }
            Progress::End { text, reasoning, usage, timings, context_full, .. } => {
                eprint!("{reasoning}");
                writeln!(out, "{text}")?;
                if context_full {
                    eprintln!("[the context of {} tokens is full]", engine.info().context_length);
                }
                let computed = usage.prompt_tokens - usage.cached_tokens;
                eprintln!(
                    "[prompt: {computed} tokens, {:.1} tokens/s; answer: {} tokens, {:.1} tokens/s, \
                     {} dispatches per token{}]",
                    computed as f64 / timings.prefill_ms * 1e3,
                    usage.completion_tokens,
                    usage.completion_tokens.saturating_sub(1) as f64 / timings.decode_ms * 1e3,
                    timings.dispatches_per_token,
                    guesses(&usage),
                );
                return Ok(());
            }
        }
    }
}

/// What became of guessed tokens, if there were any.
fn guesses(usage: &Usage) -> String {
    match usage {
        Usage { drafted_tokens: 0, .. } => String::new(),
        Usage { drafted_tokens: n, accepted_tokens, .. } => {
            format!("; {accepted_tokens} of {n} guesses were right")
        }
    }
}

/// The files of a model: the given one, or all N if its name ends in `-00001-of-0000N.gguf`.
fn files(model: &Path) -> Result<Vec<PathBuf>> {
    let name = model.to_string_lossy();
    let Some((stem, count)) = name.strip_suffix(".gguf").and_then(|s| s.split_once("-00001-of-")) else {
        return Ok(vec![model.to_path_buf()]);
    };
    let n: usize = count
        .parse()
        .with_context(|| format!("{name}: the name of a split model ends in -00001-of-NNNNN.gguf"))?;
    Ok((1..=n).map(|i| PathBuf::from(format!("{stem}-{i:05}-of-{count}.gguf"))).collect())
}

fn open<D: Device>(device: &D, model: &Path, options: LoadOptions) -> Result<Engine<D>> {
    let paths = files(model)?;
    let mut loading = Loading::new(&sizes(&paths)?, options);
    push_files(device, &paths, &mut loading)?;
    Ok(pollster::block_on(loading.finish(device))?.0)
}

fn open_draft<D: Device>(device: &D, model: &Path, engine: &mut Engine<D>) -> Result<()> {
    let paths = files(model)?;
    let mut loading = Loading::draft(&sizes(&paths)?, engine);
    push_files(device, &paths, &mut loading).with_context(|| model.display().to_string())?;
    pollster::block_on(loading.finish_draft(device, engine))?;
    Ok(())
}

fn push_files<D: Device>(device: &D, paths: &[PathBuf], loading: &mut Loading<D>) -> Result<()> {
    for (i, path) in paths.iter().enumerate() {
        push_header(path, |bytes| loading.push_header(i, bytes))?;
    }
    pollster::block_on(loading.prepare(device))?;
    for (i, path) in paths.iter().enumerate() {
        read_pieces(path, |piece| Ok(pollster::block_on(loading.push_data(device, i, piece))?))?;
    }
    Ok(())
}

/// The headers of a model's files, of which there is one at least.
fn headers(paths: &[PathBuf]) -> Result<Vec<Header>> {
    let mut headers = Headers::new(&sizes(paths)?);
    for (i, path) in paths.iter().enumerate() {
        push_header(path, |bytes| headers.push(i, bytes))?;
    }
    let headers = headers.finish()?;
    ensure!(!headers.is_empty(), "the model has no files");
    Ok(headers)
}

fn sizes(paths: &[PathBuf]) -> Result<Vec<u64>> {
    paths.iter().map(|path| size(path)).collect()
}

/// Passes a file's bytes on in pieces of up to 1 MiB.
fn read_pieces(path: &Path, mut push: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let (mut file, mut piece) = (open_file(path)?, vec![0; 1 << 20]);
    loop {
        let n = file.read(&mut piece).with_context(|| format!("cannot read {}", path.display()))?;
        if n == 0 {
            return Ok(());
        }
        push(&piece[..n])?;
    }
}

fn size(path: &Path) -> Result<u64> {
    Ok(std::fs::metadata(path).with_context(|| format!("cannot open {}", path.display()))?.len())
}

fn open_file(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Reads a file until its header is complete. `push` takes the bytes, and returns 0 then.
fn push_header(path: &Path, mut push: impl FnMut(&[u8]) -> Result<usize, engine::Error>) -> Result<()> {
    let mut reader = open_file(path)?;
    let mut piece = vec![0; 64 << 10];
    loop {
        let n = reader.read(&mut piece).with_context(|| format!("cannot read {}", path.display()))?;
        if push(&piece[..n]).with_context(|| path.display().to_string())? == 0 {
            return Ok(());
        }
        ensure!(n > 0, "{} ends inside its header: download it again", path.display());
    }
}
