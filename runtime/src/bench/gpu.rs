//! `nomoat bench gpu`: measures a device's limits, its kernels at a model's shapes, and the whole model.

use super::model::{Model, OwnedStep, Times, executor, prompt, run as run_steps};
use super::report::{Report, Row, Run, Whole, kernels_text, limits_text, whole_text};
use super::shape::{Name, Shape};
use anyhow::{Context, Result, bail};
use clap::Args;
use nomoat_runtime::engine::Device;
use nomoat_runtime::gpu::{self, Executor, Gpu, GpuError, Meter, OpTime, self_test};
use nomoat_runtime::quant::Format;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// The model whose dimensions are used; weights are random.
    #[arg(long, value_enum, default_value = "smollm2-135m")]
    shape: Name,
    /// Format of its matrices.
    #[arg(long, value_parser = parse_format, default_value = "q4_0")]
    format: Format,
    /// Measure less: the kernels of one weight format, and shorter runs.
    #[arg(long)]
    quick: bool,
    /// Most seconds for each run of the whole model.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Kernels to run, such as `int8` or `exact,shared:16,tile,f32`.
    #[arg(long, env = "NOMOAT_KERNELS", default_value = "")]
    kernels: String,
    /// Write all measurements to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure nothing; write the model to this GGUF file, for other programs.
    #[arg(long)]
    write_model: Option<PathBuf>,
}

/// Formats whose kernels are measured: those of models that are run.
fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| *format != Format::F32)
}

fn parse_format(name: &str) -> Result<Format, String> {
    let found = formats().find(|format| format.name().eq_ignore_ascii_case(name));
    let names: Vec<String> = formats().map(|format| format.name().to_lowercase()).collect();
    found.ok_or_else(|| format!("use one of {}", names.join(", ")))
}

/// Bytes of the layers on which kernels are measured, but at least two layers.
const LAYERS: u64 = 256 << 20;
/// Positions of the longer context.
const LONG: u32 = 4096;
/// Tokens of a decode run.
const TOKENS: usize = 128;

pub fn run(options: &Options) -> Result<()> {
    let (shape, format) = (options.shape.shape(), options.format);
    if let Some(path) = &options.write_model {
        return shape.write(format, path).with_context(|| path.display().to_string());
    }
    pollster::block_on(measure(options, &shape, format))
}

async fn measure(options: &Options, shape: &Shape, format: Format) -> Result<()> {
    let start = Instant::now();
    let gpu = open(&options.kernels).await?;
    let meter = Meter::new(&gpu).await.context("measuring the device")?;
    let mut failures = Vec::new();
    let mut bench = Bench { gpu: &gpu, meter, shape, format, options };

    // The chosen format comes first, with all ops.
    let others = formats().filter(|other| *other != format && !options.quick);
    let mut timed = Vec::new();
    for format in std::iter::once(format).chain(others) {
        match bench.kernels(format).await {
            Ok(ops) => timed.extend(ops),
            Err(error) => failures.push(format!("kernels on {}: {error:#}", format.name())),
        }
    }
    if let Err(error) = bench.meter.measure_limits().await {
        failures.push(format!("the limits, the second time: {error}"));
    }
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        date: today(),
        device: gpu.info().clone(),
        has_clock: bench.meter.has_clock(),
        limits: *bench.meter.limits(),
        shape: shape.name,
        format: format.name(),
        kernels: timed.into_iter().map(|(op, format, context)| bench.row(op, format, context)).collect(),
        model: None,
        failures,
    };
    println!("{}\n{}", limits_text(&report), kernels_text(&report));

    match bench.whole().await {
        Ok(whole) => {
            println!("{}", whole_text(&report, &whole));
            report.model = Some(whole);
        }
        Err(error) => report.failures.push(format!("the whole model: {error:#}")),
    }
    for failure in &report.failures {
        println!("Not measured: {failure}.");
    }
    eprintln!("[{:.0} s in all]", start.elapsed().as_secs_f64());
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| path.display().to_string())?;
    }
    if report.kernels.is_empty() && report.model.is_none() {
        bail!("nothing could be measured; the reasons are above");
    }
    Ok(())
}

fn today() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let date = chrono::DateTime::from_timestamp(since as i64, 0).unwrap_or_default();
    date.format("%Y-%m-%d").to_string()
}

/// Opens a device that passes the self-test. Without one, the error says what to install.
async fn open(kernels: &str) -> Result<Gpu> {
    let options = gpu::Options { kernels: kernels.into(), ..Default::default() };
    let gpu = match Gpu::open(options).await {
        Err(error @ GpuError::NoAdapter(_)) => {
            let needs = if cfg!(target_os = "linux") {
                "Install a Vulkan driver: the loader (libvulkan.so.1) and the GPU vendor's driver, which has \
                 a file in /usr/share/vulkan/icd.d or /etc/vulkan/icd.d; or Mesa's lavapipe, a software \
                 driver"
            } else {
                "Install a GPU driver with Vulkan, Metal or Direct3D 12"
            };
            bail!("there is no GPU to measure: {error}. {needs}.");
        }
        opened => opened?,
    };
    self_test::run(&gpu).await?;
    eprintln!("[{} ({}), kernels {}]", gpu.info().name, gpu.info().backend, gpu.info().kernels);
    Ok(gpu)
}

struct Bench<'a> {
    gpu: &'a Gpu,
    meter: Meter,
    shape: &'a Shape,
    format: Format,
    options: &'a Options,
}

impl Bench<'_> {
    /// Times all ops with the chosen format, with other formats only those that read matrices. Returns each
    /// with its format and context.
    async fn kernels(&mut self, format: Format) -> Result<Vec<(OpTime, Format, u32)>> {
        let layers = (LAYERS / self.shape.layer_bytes(format)).clamp(2, self.shape.n_layers);
        eprintln!("[kernels on {}: {layers} layers]", format.name());
        // The embedding is the output projection, too, to save memory.
        let shape = Shape { n_layers: layers, is_tied: true, ..*self.shape };
        let model = Model::new(self.gpu, &shape, format).await?;
        let is_chosen = format == self.format;
        // (rows, positions that the last one attends to, beginning of the ops' descriptions)
        let mut parts: Vec<(u32, u32, &str)> = vec![(1, 128, ""), (128, 128, "")];
        if is_chosen {
            parts.extend([(1, LONG, "attention"), (128, LONG, "attention")]);
        }
        if !self.options.quick {
            parts.push((512, 512, ""));
        }
        let most = parts.iter().map(|(rows, ..)| *rows).max().unwrap_or(1);
        let mut executor = executor(self.gpu, &model, most, LONG)?;
        let mut all = Vec::new();
        for (rows, context, start) in parts {
            let step = OwnedStep::new(context - rows..context, true);
            let wanted = |op: &str, n| n == rows && op.starts_with(start) && (is_chosen || reads_matrix(op));
            let times = self.meter.ops(&mut executor, model.subject(), &step.step(), wanted).await?;
            all.extend(times.into_iter().map(|time| (time, format, context)));
        }
        Ok(all)
    }

    fn row(&self, time: OpTime, format: Format, context: u32) -> Row {
        let floors = self.meter.limits().floors(time.bytes, time.macs, time.arithmetic);
        let limit = if floors[0] >= floors[1] { "memory" } else { time.arithmetic.name() };
        let share = floors[0].max(floors[1]) / time.seconds;
        let weights = (reads_matrix(&time.op) || time.op.starts_with("embed")).then(|| format.name());
        Row { weights, context, limit, share, time }
    }

    /// Measures prefill and decode of the whole model.
    async fn whole(&mut self) -> Result<Whole> {
        eprintln!("[{} in {}]", self.shape.name, self.format.name());
        let model = Model::new(self.gpu, self.shape, self.format).await?;
        let chunk = self.gpu.max_rows();
        let context_length = LONG + TOKENS as u32 + 1;
        let mut executor = executor(self.gpu, &model, chunk, context_length)?;
        let mut whole = Whole {
            tensor_bytes: model.tensor_bytes,
            weight_bytes: model.weights.bytes(),
            other_bytes: executor.bytes(),
            context_length,
            chunk,
            runs: Vec::new(),
        };
        let seconds = if self.options.quick { self.options.seconds / 4.0 } else { self.options.seconds };

        for n_tokens in [128, 512] {
            let steps = prompt(n_tokens, chunk);
            let times = fastest(&mut executor, |i| steps.get(i), seconds).await?;
            let mut floors = [0.0; 2];
            for rows in &steps[..times.submits] {
                let floor = self.meter.step_floors(&executor, model.subject(), &rows.step());
                floors = [floors[0] + floor[0], floors[1] + floor[1]];
            }
            whole.runs.push(self.run(format!("pp{n_tokens}"), times, floors, None));
        }
        for context in [0, LONG] {
            let first = OwnedStep::new(context..context + 1, true);
            let rest = (context + 1..).take(TOKENS - 1).map(OwnedStep::next);
            let steps: Vec<OwnedStep> = std::iter::once(first).chain(rest).collect();
            let times = fastest(&mut executor, |i| steps.get(i), seconds).await?;
            let middle = steps[times.tokens / 2].step();
            let device = match self.meter.has_clock() {
                true => Some(self.meter.step(&mut executor, &middle).await?),
                false => None,
            };
            let floors = self.meter.step_floors(&executor, model.subject(), &middle);
            let floors = floors.map(|floor| floor * times.tokens as f64);
            whole.runs.push(self.run(format!("tg{TOKENS} at {context}"), times, floors, device));
        }
        Ok(whole)
    }

    fn run(&self, name: String, times: Times, floors: [f64; 2], device_seconds: Option<f64>) -> Run {
        let each = |total: f64| total / times.tokens as f64;
        Run {
            name,
            tokens: times.tokens,
            tokens_per_second: times.tokens as f64 / times.seconds,
            device_seconds,
            host_seconds: each(times.host_seconds),
            dispatches: each(times.dispatches as f64),
            submits: each(times.submits as f64),
            limit: if floors[0] >= floors[1] { "memory" } else { "arithmetic" },
            share: floors[0].max(floors[1]) / times.seconds,
        }
    }
}

/// Rounds of a run. The first one only warms up.
const ROUNDS: u32 = 4;

/// The fastest of several rounds of a run. A run that takes long has only one round, which ends when the time
/// is over.
async fn fastest<'r>(
    executor: &mut Executor,
    next: impl Fn(usize) -> Option<&'r OwnedStep>,
    seconds: f64,
) -> Result<Times> {
    let start = Instant::now();
    // Pipelines are compiled by now; this does whatever else happens at first use.
    run_steps(executor, |i| next(i).filter(|_| i < 2)).await?;
    let is_over = || start.elapsed().as_secs_f64() > seconds;
    let mut best = run_steps(executor, |i| next(i).filter(|_| i == 0 || !is_over())).await?;
    for round in 1..ROUNDS {
        if start.elapsed().as_secs_f64() * f64::from(round + 1) / f64::from(round) > seconds {
            break;
        }
        let times = run_steps(executor, &next).await?;
        if round == 1 || times.seconds < best.seconds {
            best = times;
        }
    }
    Ok(best)
}

/// Whether an op is a projection, by its description.
fn reads_matrix(op: &str) -> bool {
    ["q, k, v ", "gate, up ", "project ", "norm, project "].iter().any(|start| op.starts_with(start))
}
