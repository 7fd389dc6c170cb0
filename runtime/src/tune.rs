//! `nomoat tune`: teaches a model by LoRA, and compares with golden values of another implementation.

use super::DeviceChoice;
use super::bench::shape::Name;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use nomoat_runtime::cpu::{self, Cpu};
use nomoat_runtime::gpu::{self, Gpu, Options, self_test};
use nomoat_runtime::graph::Graph;
use nomoat_runtime::load::{FileLoader, Sink, formats};
use nomoat_runtime::model::{Config, Tensors, build};
use nomoat_runtime::quant::Format;
use nomoat_runtime::text::{ChatTemplate, Tokenizer};
use nomoat_runtime::train::{
    Advance, Files, Plan, Point, Schedule, Settings, Student, Teaches, Texts, TrainError, TrainingRun,
};
use std::path::{Path, PathBuf};
use std::time::Instant;

mod estimate;
mod golden;

#[derive(clap::Args)]
pub struct Args {
    /// GGUF file; the first one of a split model.
    #[arg(required_unless_present = "shape")]
    model: Option<PathBuf>,
    /// Folder of golden values to compare with; prints JSON.
    #[arg(long, conflicts_with = "data", required_unless_present_any = ["data", "estimate"])]
    golden: Option<PathBuf>,
    /// Print how much memory training takes beside the model, by rank and tokens; reads no weights.
    #[arg(long, conflicts_with_all = ["data", "golden"])]
    estimate: bool,
    /// With --estimate: a model by its dimensions, in place of a file.
    #[arg(long, value_enum, requires = "estimate", conflicts_with = "model")]
    shape: Option<Name>,
    /// With --golden: at most so many steps each of SFT and DPO; what needs all of them is left out.
    #[arg(long, requires = "golden")]
    steps: Option<usize>,
    /// JSONL file: `messages`, or `prompt` and `completion`; with --dpo `prompt`, `chosen` and `rejected`.
    #[arg(long, requires = "output")]
    data: Option<PathBuf>,
    /// Where the adapter goes: a file that ends in `.gguf`, or a folder in PEFT's format.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Learn which of two answers is better.
    #[arg(long)]
    dpo: bool,
    /// DPO: how strongly to stay near the base model.
    #[arg(long, default_value_t = 0.1)]
    beta: f64,
    /// Rank of the matrices.
    #[arg(long, default_value_t = 8)]
    rank: usize,
    /// What is added is multiplied by alpha / rank [default: twice the rank].
    #[arg(long)]
    alpha: Option<f32>,
    /// Projections that learn, such as `attn_q,attn_v` [default: all].
    #[arg(long, value_delimiter = ',')]
    targets: Vec<String>,
    /// Highest learning rate.
    #[arg(long, default_value_t = 5e-4)]
    rate: f32,
    /// Steps in which the learning rate rises.
    #[arg(long, default_value_t = 0)]
    warm_up: usize,
    /// How the learning rate goes on.
    #[arg(long, value_enum, default_value = "cosine")]
    schedule: ScheduleChoice,
    /// Weight decay.
    #[arg(long, default_value_t = 0.0)]
    decay: f32,
    /// Largest norm of a step's gradient.
    #[arg(long, default_value_t = 1.0)]
    clip: f32,
    /// Times that all examples are used.
    #[arg(long, default_value_t = 3)]
    epochs: usize,
    /// Examples per step.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Share of the examples that is not learnt; the loss on them is shown after each epoch.
    #[arg(long, default_value_t = 0.0)]
    validation: f32,
    /// End when that loss has not fallen for so many epochs, and keep the best; 0: never.
    #[arg(long, default_value_t = 0)]
    patience: usize,
    /// Most tokens of an example; longer ones are left out.
    #[arg(long, default_value_t = 1024)]
    max_tokens: usize,
    /// Seed of the start and of the examples' order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Device to train on.
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// Threads on the CPU [default: one per core, at most 8].
    #[arg(long)]
    threads: Option<usize>,
    /// Memory for what layers compute, in MB; less is slower.
    #[arg(long, default_value_t = 384)]
    kept: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum ScheduleChoice {
    /// It stays.
    Constant,
    /// It falls to 0.
    Cosine,
}

/// A model that can be trained.
struct Model<D: Teaches> {
    device: D,
    config: Config,
    graph: Graph,
    weights: D::Weights,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
}

/// Loads a model; `allocate` makes its weights.
fn load<D: Teaches<Weights: Sink>>(
    model: &Path,
    device: D,
    allocate: impl FnOnce(&D, &Graph, &[Format]) -> Result<D::Weights>,
) -> Result<Model<D>> {
    let paths = super::files(model)?;
    let mut headers = super::headers(&paths)?;
    let metadata = &mut headers[0].metadata;
    let tokenizer = Tokenizer::from_metadata(metadata)?;
    let template = ChatTemplate::from_metadata(metadata, &tokenizer)?;
    let config = Config::from_metadata(metadata, tokenizer.vocab_size())?;
    let tensors = Tensors::of(&headers)?;
    let graph = build(&config, &tensors)?;
    let formats = formats(&graph, &tensors)?;
    let mut weights = allocate(&device, &graph, &formats)?;
    for (path, header) in paths.iter().zip(&headers) {
        let mut loader = FileLoader::new(super::size(path)?, header, &graph, &formats);
        super::read_pieces(path, |piece| Ok(loader.push(piece, &mut weights)?))?;
        loader.finish()?;
    }
    Ok(Model { device, config, graph, weights, tokenizer, template })
}

/// Trains or compares.
pub fn run(args: &Args) -> Result<()> {
    if args.estimate {
        return estimate::run(args);
    }
    let Some(path) = &args.model else { bail!("name a model") };
    pollster::block_on(async {
        match args.device {
            DeviceChoice::Cpu => {
                let cpu = Cpu::open(args.threads.unwrap_or_else(cpu::default_threads))?;
                let model =
                    load(path, cpu, |_, graph, formats| Ok(cpu::Weights::allocate(graph, formats, false)?))?;
                go(args, path, &model).await
            }
            DeviceChoice::Webgpu => {
                let gpu = Gpu::open(Options::default()).await?;
                self_test::run(&gpu).await?;
                eprintln!("[{}]", gpu.info().name);
                let model =
                    load(path, gpu, |gpu, graph, formats| Ok(gpu::Weights::allocate(gpu, graph, formats)?))?;
                go(args, path, &model).await
            }
        }
    })
}

async fn go<D: Teaches>(args: &Args, path: &Path, model: &Model<D>) -> Result<()> {
    match (&args.golden, &args.data, &args.output) {
        (Some(folder), ..) => golden::run(model, folder, args.kept << 20, args.steps).await,
        (None, Some(data), Some(output)) => teach(model, &path.to_string_lossy(), args, data, output).await,
        _ => bail!("choose examples by --data and where the adapter goes by -o"),
    }
}

async fn teach<D: Teaches>(
    model: &Model<D>,
    name: &str,
    args: &Args,
    data: &Path,
    output: &Path,
) -> Result<()> {
    let Some(template) = &model.template else { bail!("this is a base model without a chat template") };
    let text = std::fs::read_to_string(data).with_context(|| format!("cannot open {}", data.display()))?;
    let settings = Settings {
        rank: args.rank,
        alpha: args.alpha,
        targets: args.targets.clone(),
        dpo: args.dpo,
        beta: args.beta,
        learning_rate: args.rate,
        warm_up: args.warm_up,
        schedule: match args.schedule {
            ScheduleChoice::Constant => Schedule::Constant,
            ScheduleChoice::Cosine => Schedule::Cosine,
        },
        weight_decay: args.decay,
        clip: args.clip,
        epochs: args.epochs,
        batch: args.batch,
        validation: args.validation,
        patience: args.patience,
        max_tokens: args.max_tokens,
        seed: args.seed,
        kept_bytes: args.kept << 20,
    };
    let student = Student {
        name,
        architecture: &model.config.architecture,
        graph: &model.graph,
        texts: Texts { template, tokenizer: &model.tokenizer },
        context_length: model.config.context_length,
    };
    let warn = |refused: &[(usize, String)]| {
        for (line, why) in refused {
            eprintln!("warning: {}, line {line}: {why}", data.display());
        }
    };
    let mut run = match TrainingRun::new(&model.device, student, settings, text) {
        Err(TrainError::Empty { refused, .. }) => {
            warn(&refused);
            let with = if args.dpo { " with --dpo" } else { "" };
            bail!("{} has nothing to learn from{with}", data.display());
        }
        run => run?,
    };
    if !is_gguf(output) {
        run.files().check_peft()?;
    }
    let plan = run.plan();
    warn(&plan.refused);
    let progress = Progress::new(&plan);
    let graph = run.graph();
    let mut training = model.device.training(run.learnt(), &graph, &model.weights, run.kept_bytes())?;
    let mut speed = Speed::new();
    loop {
        let part = run.advance(&mut training).await?;
        progress.show(&part, speed.after(&part));
        if part.is_done {
            break;
        }
    }
    progress.bar.finish_and_clear();
    save(&run.files(), &run.parameters().await?, name, output)
}

/// Tokens per second, since the last point of the curve.
struct Speed {
    since: Instant,
    rows: usize,
}

impl Speed {
    fn new() -> Self {
        Self { since: Instant::now(), rows: 0 }
    }

    fn after(&mut self, part: &Advance) -> f64 {
        self.rows += part.rows;
        let speed = self.rows as f64 / self.since.elapsed().as_secs_f64();
        if part.point.is_some() {
            *self = Self::new();
        }
        speed
    }
}

/// What a person sees while the model learns: a bar on a terminal, else a line for each point of the curve.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// Says what is going to be done, and what it takes.
    fn new(plan: &Plan) -> Self {
        let held_out = if plan.validation > 0 {
            format!(", {} of them held out", plan.validation)
        } else {
            String::new()
        };
        let (examples, megabytes) = (plan.examples + plan.validation, plan.bytes.div_ceil(1_000_000));
        let &Plan { tokens, steps, parameters, .. } = plan;
        eprintln!(
            "[{examples} examples{held_out}, {tokens} tokens; {steps} steps; \
            {parameters} numbers are learnt; up to {megabytes} MB beside the model]"
        );
        let bar = ProgressBar::new(plan.steps as u64);
        let style = ProgressStyle::with_template("{bar:24} {pos} of {len}, {eta} left{msg}");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self { bar }
    }

    fn show(&self, part: &Advance, speed: f64) {
        self.bar.set_position(part.step as u64);
        let Some(point) = &part.point else { return };
        let message = format!("{}, {speed:.0} tokens/s", told(point));
        if let Some(loss) = point.validation {
            // It stays, above the bar.
            self.bar.suspend(|| eprintln!("after step {}: loss {loss:.4} on what is held out", part.step));
        } else if self.bar.is_hidden() {
            eprintln!("step {} of {}: {message}", part.step, part.steps);
        }
        self.bar.set_message(format!(": {message}"));
    }
}

/// The losses of a point of the curve.
fn told(point: &Point) -> String {
    let loss = point.loss.or(point.validation).unwrap_or_default();
    let margin = point.margin.zip(point.accuracy);
    let margin = margin.map(|(margin, right)| format!(", margin {margin:.3}, right {right:.2}"));
    format!("loss {loss:.4}{}", margin.unwrap_or_default())
}

/// Whether an adapter is saved as a GGUF file.
fn is_gguf(output: &Path) -> bool {
    output.extension().is_some_and(|extension| extension == "gguf")
}

fn save(files: &Files, parameters: &[f32], base: &str, output: &Path) -> Result<()> {
    let cannot = |path: &Path| format!("cannot write {}", path.display());
    if is_gguf(output) {
        let file = std::fs::File::create(output).with_context(|| cannot(output))?;
        files.write_gguf(parameters, std::io::BufWriter::new(file)).with_context(|| cannot(output))?;
    } else {
        let (weights, config) = files.write_peft(parameters, base)?;
        std::fs::create_dir_all(output).with_context(|| cannot(output))?;
        std::fs::write(output.join("adapter_model.safetensors"), weights).with_context(|| cannot(output))?;
        std::fs::write(output.join("adapter_config.json"), config).with_context(|| cannot(output))?;
    }
    println!("{}", output.display());
    Ok(())
}
