//! The results of `nomoat bench gpu`, as JSON and as tables.

use super::table::{mebibytes, number, percent, table};
use nomoat_runtime::gpu::{GpuInfo, Limits, OpTime};
use serde::Serialize;

/// All measurements.
#[derive(Serialize)]
pub struct Report {
    pub version: &'static str,
    /// Date of the measurement, in UTC.
    pub date: String,
    pub device: GpuInfo,
    /// Whether times of kernels are from the device's own clock.
    pub has_clock: bool,
    pub limits: Limits,
    pub shape: &'static str,
    pub format: &'static str,
    pub kernels: Vec<Row>,
    pub model: Option<Whole>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

/// An op, for a number of rows.
#[derive(Serialize)]
pub struct Row {
    /// The format of its weights, if it has any.
    pub weights: Option<&'static str>,
    /// Positions that the last row attends to.
    pub context: u32,
    /// What bounds it: `memory` or a kind of arithmetic.
    pub limit: &'static str,
    /// Share of the limit that it reaches: the least possible time divided by the measured time.
    pub share: f64,
    #[serde(flatten)]
    pub time: OpTime,
}

/// A whole model's figures.
#[derive(Serialize)]
pub struct Whole {
    pub tensor_bytes: u64,
    pub weight_bytes: u64,
    /// Buffers of activations, the KV pool and the rest.
    pub other_bytes: u64,
    pub context_length: u32,
    /// Rows of a prefill step.
    pub chunk: u32,
    pub runs: Vec<Run>,
}

/// A run of tokens through the whole model.
#[derive(Serialize)]
pub struct Run {
    pub name: String,
    pub tokens: usize,
    pub tokens_per_second: f64,
    /// Seconds of a decode step, by the device's own clock.
    pub device_seconds: Option<f64>,
    /// Seconds per token that the host spends encoding and submitting.
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
        vec!["copy, bytes read and written".into(), bytes(limits.copy)],
        vec!["read".into(), bytes(limits.read)],
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
            true => "Kernel times are from the device's clock.",
            false => "The device has no clock: kernel times include submitting and waiting.",
        },
        table(&["limit", "measured"], &rows)
    )
}

pub fn kernels_text(report: &Report) -> String {
    let header = ["op", "weights", "context", "kernels", "µs", "GB/s", "GMAC/s", "limit", "share"];
    let mut text = format!(
        "### Kernels\n\n\
         Shapes are those of {}. All ops of a shape are timed together, in the order of a step, after the \
         caches have been cleared; the fastest of several passes counts. GB/s and GMAC/s count the bytes \
         that an op must move and its multiply-adds. Limit: which of the two takes longer at the peak rates \
         above. Share: that least time, divided by the measured time; more than 100 % if results stay in a \
         cache.\n",
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
         {}, {}, random weights. `pp512`: prefill of 512 tokens, in steps of {} rows. `tg128 at 4096`: \
         decode of 128 tokens after 4096 positions, whose keys and values are zeros; each token is passed to \
         the next step on the device. The fastest of up to three rounds counts; a run that takes too long \
         has one round and ends early. Host: encoding and submitting. Weights take {} on the GPU, {:.3} \
         times as much as in the file; activations, the KV pool for {} positions and the rest take \
         {}.\n\n{}",
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
