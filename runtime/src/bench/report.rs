//! What `nomoat bench gpu` has measured, as JSON and as tables.

use super::table::{mebibytes, number, percent, table};
use nomoat_runtime::gpu::{GpuInfo, Limits, OpTime};
use serde::Serialize;

/// All that was measured.
#[derive(Serialize)]
pub struct Report {
    pub version: &'static str,
    /// Of the measurement, in UTC.
    pub date: String,
    pub device: GpuInfo,
    /// Whether kernels are timed by the device's own clock.
    pub has_clock: bool,
    pub limits: Limits,
    pub shape: &'static str,
    pub format: &'static str,
    pub kernels: Vec<Row>,
    pub model: Option<Whole>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

/// An op at a number of rows.
#[derive(Serialize)]
pub struct Row {
    /// The format of its weights, where it has any.
    pub weights: Option<&'static str>,
    /// Positions that the last row sees.
    pub context: u32,
    /// What bounds it: `memory`, or the arithmetic.
    pub limit: &'static str,
    /// Of the limit: the time that the limit allows, by the time taken.
    pub share: f64,
    #[serde(flatten)]
    pub time: OpTime,
}

/// A whole model's figures.
#[derive(Serialize)]
pub struct Whole {
    pub tensor_bytes: u64,
    pub weight_bytes: u64,
    /// Values, the KV pool and what else is computed on.
    pub other_bytes: u64,
    pub context_length: u32,
    /// Rows of a prefill step.
    pub chunk: u32,
    pub runs: Vec<Run>,
}

/// Tokens through a whole model.
#[derive(Serialize)]
pub struct Run {
    pub name: String,
    pub tokens: usize,
    pub tokens_per_second: f64,
    /// Seconds of the device's own clock that a step takes, of decode.
    pub device_seconds: Option<f64>,
    /// Spent by the host on encoding and submitting, a token.
    pub host_seconds: f64,
    pub dispatches: f64,
    pub submits: f64,
    pub limit: &'static str,
    pub share: f64,
}

pub fn limits_text(report: &Report) -> String {
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
        "Nomoat {}, {}. Adapter: {}{} ({}, {}), kernels `{}`. {}\n\n### Limits\n\n{}",
        report.version,
        report.date,
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

pub fn kernels_text(report: &Report) -> String {
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

pub fn whole_text(report: &Report, whole: &Whole) -> String {
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
         {}, {}, made-up weights. pp: a prompt, in steps of {} rows. tg: tokens one by one, each fed to the next step on the device, after \
         so many positions, whose keys and values are zeros. The fastest of up to three rounds; a run that takes long is made once, and cut \
         off. Host: encoding and submitting. Weights take {} on the GPU, {:.3} times the file's tensors; values, KV pool for {} positions \
         and the rest {}.\n\n{}",
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
