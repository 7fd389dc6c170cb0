//! `nomoat bench gpu`: a device's limits, what kernels reach of them at a model's shapes, and whole models.

use super::model::{Model, Rows, Times, executor, prompt, run as run_steps};
use super::shape::{Name, Shape};
use super::table::{mebibytes, number, percent, table};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use nomoat_runtime::engine::Device;
use nomoat_runtime::gpu::{self, DeviceInfo, Gpu, GpuError, Limits, Meter, OpTime, self_test};
use nomoat_runtime::graph::Feed;
use nomoat_runtime::quant::Format;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// What to measure.
#[derive(Args)]
pub struct Options {
    /// Whose dimensions the model has; its weights are made up.
    #[arg(long, value_enum, default_value = "smollm2-135m")]
    shape: Name,
    /// What its matrices are stored in.
    #[arg(long, value_enum, default_value = "q4_0")]
    format: FormatChoice,
    /// Less of everything: kernels of one weight format, shorter runs.
    #[arg(long)]
    quick: bool,
    /// Seconds that each of the runs of a whole model may take.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Which of the equivalent kernels to run, such as `int8` or `exact,shared:16,tile,f32`.
    #[arg(long, env = "NOMOAT_KERNELS", default_value = "")]
    kernels: String,
    /// Write all that was measured to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Measure nothing; write the model to this file, as GGUF, for other programs.
    #[arg(long)]
    write_model: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum FormatChoice {
    F16,
    #[value(name = "q4_0")]
    Q4_0,
    #[value(name = "q4_1")]
    Q4_1,
    #[value(name = "q8_0")]
    Q8_0,
}

impl FormatChoice {
    fn format(self) -> Format {
        match self {
            FormatChoice::F16 => Format::F16,
            FormatChoice::Q4_0 => Format::Q4_0,
            FormatChoice::Q4_1 => Format::Q4_1,
            FormatChoice::Q8_0 => Format::Q8_0,
        }
    }
}

/// Formats whose kernels are measured.
const FORMATS: [Format; 4] = [Format::F16, Format::Q4_0, Format::Q4_1, Format::Q8_0];
/// Bytes of layers that kernels are measured on, or two layers.
const LAYERS: u64 = 256 << 20;
/// Positions of the longer context.
const LONG: u32 = 4096;
/// Tokens that decode makes.
const TOKENS: usize = 128;

/// All that was measured.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    device: DeviceInfo,
    /// Whether kernels are timed by the device's own clock.
    has_clock: bool,
    limits: Limits,
    shape: &'static str,
    format: &'static str,
    kernels: Vec<Row>,
    model: Option<Whole>,
    /// What could not be measured, and why.
    failures: Vec<String>,
}

/// An op at a number of rows.
#[derive(Serialize)]
struct Row {
    /// The format of its weights, where it has any.
    weights: Option<&'static str>,
    /// Positions that the last row sees.
    context: u32,
    /// What bounds it: `memory`, or the arithmetic.
    limit: &'static str,
    /// Of the limit: the time that the limit allows, by the time taken.
    share: f64,
    #[serde(flatten)]
    time: OpTime,
}

/// A whole model's figures.
#[derive(Serialize)]
struct Whole {
    tensor_bytes: u64,
    weight_bytes: u64,
    /// Values, the KV pool and what else is computed on.
    other_bytes: u64,
    context_length: u32,
    /// Rows of a prefill step.
    chunk: u32,
    runs: Vec<Run>,
}

/// Tokens through a whole model.
#[derive(Serialize)]
struct Run {
    name: String,
    tokens: usize,
    tokens_per_second: f64,
    /// Seconds of the device's own clock that a step takes, of decode.
    device_seconds: Option<f64>,
    /// Spent by the host on encoding and submitting, a token.
    host_seconds: f64,
    dispatches: f64,
    submits: f64,
    limit: &'static str,
    share: f64,
}

pub fn run(options: &Options) -> Result<()> {
    let (shape, format) = (options.shape.shape(), options.format.format());
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

    // The format that was asked for comes first, with all ops.
    let others = FORMATS.into_iter().filter(|other| *other != format && !options.quick);
    let mut timed = Vec::new();
    for format in std::iter::once(format).chain(others) {
        match bench.kernels(format).await {
            Ok(ops) => timed.extend(ops),
            Err(error) => failures.push(format!("kernels on {}: {error:#}", format.name())),
        }
    }
    bench.meter.measure_limits().await.context("measuring the device again")?;
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
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
        bail!("nothing could be measured");
    }
    Ok(())
}

/// A device that computes rightly, or what to do about having none.
async fn open(kernels: &str) -> Result<Gpu> {
    let options = gpu::Options { kernels: kernels.into(), ..Default::default() };
    let gpu = match Gpu::open(options).await {
        Err(error @ GpuError::NoAdapter(_)) => {
            let needs = if cfg!(target_os = "linux") {
                "Nomoat needs a Vulkan driver: the loader (libvulkan.so.1) and the GPU maker's part, which lists itself in \
                 /usr/share/vulkan/icd.d or /etc/vulkan/icd.d; or Mesa's lavapipe, in software"
            } else {
                "Nomoat needs a GPU driver with Vulkan, Metal or Direct3D 12"
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
    /// Times ops, of the chosen format all, of others those that read weights; each with its format and context.
    async fn kernels(&mut self, format: Format) -> Result<Vec<(OpTime, Format, u32)>> {
        let layers = (LAYERS / self.shape.layer_bytes(format)).clamp(2, self.shape.n_layers);
        eprintln!("[kernels on {}: {layers} layers]", format.name());
        // One matrix of words serves as both, to take less memory.
        let shape = Shape { n_layers: layers, is_tied: true, ..*self.shape };
        let model = Model::new(self.gpu, &shape, format).await?;
        let is_chosen = format == self.format;
        // (rows, positions that the last one sees, beginning of the ops' names)
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
            let step = Rows::new(context - rows..context, true);
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

    /// Prefill and decode of the whole model.
    async fn whole(&mut self) -> Result<Whole> {
        eprintln!("[{} in {}]", self.shape.name, self.format.name());
        let model = Model::new(self.gpu, self.shape, self.format).await?;
        let chunk = Device::Gpu(self.gpu.clone()).chunk();
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
            let mut floors = [0.0; 2];
            for rows in &steps {
                let floor = self.meter.step_floors(&executor, model.subject(), &rows.step());
                floors = [floors[0] + floor[0], floors[1] + floor[1]];
            }
            let start = Instant::now();
            let mut best: Option<Times> = None;
            // The first of several warms up.
            let mut n = 0;
            while n == 0 || (n < 4 && start.elapsed().as_secs_f64() * (n + 1) as f64 / (n as f64) < seconds) {
                let times = run_steps(&mut executor, |i| steps.get(i).map(|rows| (rows, Feed::Host))).await?;
                best = Some(match best {
                    Some(best) if n > 1 && best.seconds < times.seconds => best,
                    _ => times,
                });
                n += 1;
            }
            let times = best.unwrap_or_default();
            whole.runs.push(self.run(format!("pp{n_tokens}"), times, floors, None));
        }
        for context in [0, LONG] {
            let steps: Vec<Rows> = (context..).take(TOKENS).map(|at| Rows::new(at..at + 1, true)).collect();
            let feed = |i| if i == 0 { Feed::Host } else { Feed::Previous };
            // Pipelines are there; what is left to do at first use is done here.
            run_steps(&mut executor, |i| (i < 2).then(|| (&steps[i], feed(i)))).await?;
            let start = Instant::now();
            let times = run_steps(&mut executor, |i| {
                let is_over = i >= TOKENS || (i > 0 && start.elapsed().as_secs_f64() > seconds);
                (!is_over).then(|| (&steps[i], feed(i)))
            })
            .await?;
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

/// Whether an op is a projection.
fn reads_matrix(op: &str) -> bool {
    ["q, k, v ", "gate, up ", "project ", "norm, project "].iter().any(|start| op.starts_with(start))
}

fn limits_text(report: &Report) -> String {
    let (device, limits) = (&report.device, &report.limits);
    let bytes = |value: f64| format!("{} GB/s", number(value / 1e9));
    let macs = |value: f64| format!("{} GMAC/s", number(value / 1e9));
    let mut rows = vec![
        vec!["copy, read and written bytes".into(), bytes(limits.copy)],
        vec!["reading".into(), bytes(limits.read)],
        vec!["multiply-adds, f32".into(), macs(limits.f32)],
    ];
    rows.extend(limits.f16.map(|value| vec!["multiply-adds, f16".into(), macs(value)]));
    rows.extend(limits.int8.map(|value| vec!["multiply-adds, packed 8-bit integers".into(), macs(value)]));
    format!(
        "Nomoat {}. Adapter: {}{} ({}, {}), kernels `{}`. {}\n\n### Limits\n\n{}",
        report.version,
        device.name,
        if device.is_fallback { ", software" } else { "" },
        device.backend,
        if device.driver.is_empty() { "unknown driver" } else { &device.driver },
        device.kernels,
        match report.has_clock {
            true => "Times of kernels are by the device's clock.",
            false => "The device has no clock: times of kernels include submitting and waiting.",
        },
        table(&["limit", "measured"], &rows)
    )
}

fn kernels_text(report: &Report) -> String {
    let header = ["op", "weights", "context", "kernels", "µs", "GB/s", "GMAC/s", "limit", "share"];
    let mut text = format!(
        "### Kernels\n\n\
         At the shapes of {}. All ops of a shape are timed together, in a step's order, with its weights out of caches; the fastest of several \
         passes counts. Share: of the copy's speed or the multiply-adds' rate, whichever bounds the bytes that the op must move and the \
         multiply-adds that it must do; above 100 % where results stay in a cache.\n",
        report.shape
    );
    let mut all_rows: Vec<u32> = report.kernels.iter().map(|row| row.time.rows).collect();
    all_rows.sort_unstable();
    all_rows.dedup();
    for n in all_rows {
        let rows: Vec<Vec<String>> =
            report.kernels.iter().filter(|row| row.time.rows == n).map(cells).collect();
        let title = if n == 1 { "Decode, one row".into() } else { format!("Prefill, {n} rows") };
        text += &format!("\n#### {title}\n\n{}", table(&header, &rows));
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let time = &row.time;
    vec![
        time.op.clone(),
        row.weights.unwrap_or("-").into(),
        row.context.to_string(),
        time.kernels.join(" + "),
        number(time.seconds * 1e6),
        number(time.bytes as f64 / time.seconds / 1e9),
        if time.macs == 0 { "-".into() } else { number(time.macs as f64 / time.seconds / 1e9) },
        row.limit.into(),
        percent(row.share),
    ]
}

fn whole_text(report: &Report, whole: &Whole) -> String {
    let header = [
        "run",
        "tokens",
        "tokens/s",
        "device ms/token",
        "host µs/token",
        "dispatches/token",
        "submits/token",
        "limit",
        "share",
    ];
    let row = |run: &Run| {
        vec![
            run.name.clone(),
            run.tokens.to_string(),
            number(run.tokens_per_second),
            run.device_seconds.map_or("-".into(), |seconds| number(seconds * 1e3)),
            number(run.host_seconds * 1e6),
            number(run.dispatches),
            number(run.submits),
            run.limit.into(),
            percent(run.share),
        ]
    };
    let rows: Vec<_> = whole.runs.iter().map(row).collect();
    format!(
        "### Whole model\n\n\
         {}, {}, made-up weights. Prefill in steps of {} rows. Host: encoding and submitting. Weights take {} on the GPU, {:.3} \
         times the file's tensors; values, KV pool for {} positions and the rest {}.\n\n{}",
        report.shape,
        report.format,
        whole.chunk,
        mebibytes(whole.weight_bytes),
        whole.weight_bytes as f64 / whole.tensor_bytes as f64,
        whole.context_length,
        mebibytes(whole.other_bytes),
        table(&header, &rows)
    )
}
