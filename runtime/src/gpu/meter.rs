//! Measures a device: peak rates of memory and arithmetic, and times of ops and steps. It uses the device's
//! own clock if there is one.

use super::kernels::Pipeline;
use super::work::{Counter, Work};
use super::{Executor, Gpu, GpuError, Weights};
use crate::graph::{Graph, Step};
use crate::quant::Format;
use nomoat_shaders::{Kernel, Number, Operands, Shader, Staged};
use serde::Serialize;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// The measured peak rates of a device.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    /// Bytes per second of a copy, counting both reads and writes.
    pub copy: f64,
    /// Bytes per second of reads.
    pub read: f64,
    /// Multiply-adds per second in f32.
    pub f32: f64,
    /// Multiply-adds per second in f16, if the device supports it.
    pub f16: Option<f64>,
    /// Multiply-adds per second of packed 8-bit dot products, if the device supports them.
    pub int8: Option<f64>,
}

/// The type of the numbers that a kernel multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arithmetic {
    /// Single precision.
    F32,
    /// Half precision, at least for some of the numbers.
    F16,
    /// 8-bit integers.
    Int8,
}

impl Arithmetic {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::F32 => "f32",
            Arithmetic::F16 => "f16",
            Arithmetic::Int8 => "int8",
        }
    }
}

impl Limits {
    /// The peak rate in multiply-adds per second. It is at least the f32 rate, because a kernel could use f32
    /// instead.
    pub fn rate(&self, arithmetic: Arithmetic) -> f64 {
        match arithmetic {
            Arithmetic::F32 => self.f32,
            Arithmetic::F16 => self.f16.unwrap_or(0.0).max(self.f32),
            Arithmetic::Int8 => self.int8.unwrap_or(0.0).max(self.f32),
        }
    }

    /// The least seconds for moving these bytes, and for these multiply-adds.
    pub fn floors(&self, bytes: u64, macs: u64, arithmetic: Arithmetic) -> [f64; 2] {
        [bytes as f64 / self.copy, macs as f64 / self.rate(arithmetic)]
    }
}

/// The time of all ops of one shape in a step.
#[derive(Clone, Debug, Serialize)]
pub struct OpTime {
    /// What they compute, and the shape.
    pub op: String,
    /// Rows that they compute.
    pub rows: u32,
    /// The names of their kernels.
    pub kernels: Vec<String>,
    /// Number of these ops in the step.
    pub count: usize,
    /// Number of these ops that were timed, in one pass.
    pub timed: usize,
    /// Seconds per op.
    pub seconds: f64,
    /// Bytes that each op must move.
    pub bytes: u64,
    /// Multiply-adds per op.
    pub macs: u64,
    /// The type of the multiplied numbers.
    pub arithmetic: Arithmetic,
}

/// A graph on a device.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The graph.
    pub graph: &'a Graph,
    /// Its weights.
    pub weights: &'a Weights,
    /// The format of each weight.
    pub formats: &'a [Format],
}

/// Bytes to copy when memory is measured or caches are cleared.
const COPIED: u64 = 256 << 20;
/// Bytes to copy on software adapters, which have less bandwidth and smaller caches.
const COPIED_BY_SOFTWARE: u64 = 64 << 20;
/// The shortest pass that measures arithmetic, in seconds.
const LONG: f64 = 0.02;
/// The longest time for the ops of one pass, in seconds: systems reset a device that is busy for too long.
const PASS: f64 = 0.05;
/// The time for measuring the ops of one shape, in seconds.
const BUDGET: f64 = 0.25;
/// The most passes over the same ops. The fastest one counts.
const MOST_PASSES: usize = 100;
/// Threads per workgroup of the bench kernels.
const GROUP: u32 = 256;
/// Multiply-adds per round of `multiply_add`.
const ROUND: u64 = 32;

/// An open device, with the kernels and buffers to measure it.
#[derive(Debug)]
pub struct Meter {
    gpu: Gpu,
    /// Without one, times are measured on the host and include submitting and waiting.
    clock: Option<Clock>,
    copy: Bound,
    read: Bound,
    /// Bytes that `copy` and `read` each read.
    copied: u64,
    limits: Limits,
}

#[derive(Debug)]
struct Clock {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
}

/// A kernel with its buffers and its number of workgroups.
#[derive(Debug)]
struct Bound {
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    groups: u32,
}

impl Bound {
    fn new(gpu: &Gpu, kernel: Kernel, buffers: &[&wgpu::Buffer], groups: u32) -> Result<Self, GpuError> {
        let pipeline = gpu.kernel(kernel, &Vec::new())?;
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&kernel.to_string()),
            layout: &pipeline.layout,
            entries: &entries,
        });
        Ok(Self { pipeline, bind_group, groups })
    }

    fn dispatch(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.groups, 1, 1);
    }
}

impl Meter {
    /// Creates a meter and measures the device's limits, which takes one or two seconds.
    pub async fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let usage = wgpu::BufferUsages::STORAGE;
        let most = if gpu.info().is_fallback { COPIED_BY_SOFTWARE } else { COPIED };
        let copied = most.min(gpu.info().max_binding_size) & !0xfff;
        let [x, y] = ["copied", "copy"].map(|label| gpu.buffer(label, copied, usage));
        let groups = |per_thread: u64| (copied / 16 / per_thread / u64::from(GROUP)).clamp(1, 65_535) as u32;
        let copy = Bound::new(gpu, Kernel::BenchMemory { copy: true }, &[&x, &y], groups(1))?;
        let read = Bound::new(gpu, Kernel::BenchMemory { copy: false }, &[&x, &y], groups(16))?;
        let limits = Limits { copy: 0.0, read: 0.0, f32: 0.0, f16: None, int8: None };
        let mut meter = Self { gpu: gpu.clone(), clock: Clock::new(gpu), copy, read, copied, limits };
        meter.measure_limits().await?;
        Ok(meter)
    }

    /// Measures the limits again and keeps the higher values: a device can be slow at first, or busy.
    pub async fn measure_limits(&mut self) -> Result<(), GpuError> {
        let copied = self.copied as f64;
        let copy = 2.0 * copied / self.fastest(false, |pass| self.copy.dispatch(pass)).await?;
        let read = copied / self.fastest(false, |pass| self.read.dispatch(pass)).await?;
        let f32 = self.multiply_adds(Number::F32, 1).await?;
        let f16 = if self.gpu.info().f16 { Some(self.multiply_adds(Number::F16, 1).await?) } else { None };
        let int8 =
            if self.gpu.info().packed_dot { Some(self.multiply_adds(Number::Int8, 4).await?) } else { None };
        let most = |a: Option<f64>, b: Option<f64>| a.into_iter().chain(b).reduce(f64::max);
        let known = &mut self.limits;
        *known = Limits {
            copy: known.copy.max(copy),
            read: known.read.max(read),
            f32: known.f32.max(f32),
            f16: most(known.f16, f16),
            int8: most(known.int8, int8),
        };
        Ok(())
    }

    /// The measured limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether times come from the device's own clock.
    pub fn has_clock(&self) -> bool {
        self.clock.is_some()
    }

    /// Multiply-adds per second; each instruction does `per_instruction` of them.
    async fn multiply_adds(&self, number: Number, per_instruction: u64) -> Result<f64, GpuError> {
        let gpu = &self.gpu;
        let parameters = gpu.buffer("rounds", 16, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        let y = gpu.buffer("sums", 16, wgpu::BufferUsages::STORAGE);
        let groups = if gpu.info().is_fallback { 64 } else { 4096 };
        let kernel = Bound::new(gpu, Kernel::BenchMultiplyAdd(number), &[&parameters, &y], groups)?;
        let mut rounds = 16_u32;
        loop {
            gpu.queue.write_buffer(&parameters, 0, bytemuck::cast_slice(&[rounds, 1, 2, 3]));
            if self.time(false, |pass| kernel.dispatch(pass)).await? > LONG || rounds > 1 << 24 {
                break;
            }
            rounds *= 2;
        }
        let seconds = self.fastest(false, |pass| kernel.dispatch(pass)).await?;
        let macs = u64::from(groups * GROUP) * u64::from(rounds) * ROUND * per_instruction;
        Ok(macs as f64 / seconds)
    }

    /// The seconds of a whole step on the device.
    pub async fn step(&self, executor: &mut Executor, step: &Step<'_>) -> Result<f64, GpuError> {
        executor.drain().await?;
        executor.write_step(step);
        self.fastest(false, |pass| encode(executor, step, |_| true, pass)).await
    }

    /// The least seconds of a whole step for moving its ops' bytes, and for their multiply-adds, summed over
    /// ops.
    pub fn step_floors(&self, executor: &Executor, subject: Subject, step: &Step) -> [f64; 2] {
        let floors = |op: &PlannedOp| self.limits.floors(op.work.bytes, op.work.macs, op.arithmetic());
        let ops = planned(executor, subject, step);
        ops.iter().map(floors).fold([0.0; 2], |sum, floors| [sum[0] + floors[0], sum[1] + floors[1]])
    }

    /// Times a step's ops, all ops of one shape together. `wanted` selects ops by description and number of
    /// rows. They run in the step's order on whatever data is on the device, after a copy that clears the
    /// caches.
    pub async fn ops(
        &self,
        executor: &mut Executor,
        subject: Subject<'_>,
        step: &Step<'_>,
        wanted: impl Fn(&str, u32) -> bool,
    ) -> Result<Vec<OpTime>, GpuError> {
        executor.drain().await?;
        executor.write_step(step);
        let mut shapes: Vec<Vec<PlannedOp>> = Vec::new();
        for op in planned(executor, subject, step) {
            match shapes.iter_mut().find(|shape| shape[0].what == op.what && shape[0].work == op.work) {
                Some(shape) => shape.push(op),
                None => shapes.push(vec![op]),
            }
        }
        let mut times = Vec::new();
        for mut ops in shapes {
            // The first op of a shape may prepare data for the others.
            let count = ops.len();
            if count > 1 {
                ops.remove(0);
            }
            let PlannedOp { what, work, rows, shaders, .. } = &ops[0];
            if shaders.is_empty() || !wanted(what, *rows) {
                continue;
            }
            let arithmetic = ops[0].arithmetic();
            let floor = self.limits.floors(work.bytes, work.macs, arithmetic).into_iter().fold(0.0, f64::max);
            let timed = ops.len().min(((PASS / floor) as usize).max(1));
            let is_timed = |i| ops[..timed].iter().any(|op| op.range.contains(&i));
            let seconds = self.fastest(true, |pass| encode(executor, step, is_timed, pass)).await?;
            times.push(OpTime {
                op: what.clone(),
                rows: *rows,
                kernels: shaders.iter().map(|shader| shader.kernel.to_string()).collect(),
                count,
                timed,
                seconds: seconds / timed as f64,
                bytes: work.bytes,
                macs: work.macs,
                arithmetic,
            });
        }
        Ok(times)
    }

    /// The seconds of the fastest of several passes. The first one is a warm-up, unless it uses up the time.
    async fn fastest(&self, cold: bool, encode: impl Fn(&mut wgpu::ComputePass)) -> Result<f64, GpuError> {
        let start = Instant::now();
        let mut best = self.time(cold, &encode).await?;
        for i in 0..MOST_PASSES {
            if start.elapsed().as_secs_f64() > BUDGET {
                break;
            }
            let seconds = self.time(cold, &encode).await?;
            best = if i == 0 { seconds } else { best.min(seconds) };
        }
        Ok(best)
    }

    /// The seconds of one pass. If `cold`, a copy clears the caches first.
    async fn time(&self, cold: bool, encode: impl Fn(&mut wgpu::ComputePass)) -> Result<f64, GpuError> {
        let gpu = &self.gpu;
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        if cold {
            // In its own submit, the copy ends before the pass begins.
            self.copy.dispatch(&mut encoder.begin_compute_pass(&Default::default()));
            gpu.queue.submit([encoder.finish()]);
            encoder = gpu.device.create_command_encoder(&Default::default());
        }
        let Some(clock) = &self.clock else {
            gpu.settle().await?;
            encode(&mut encoder.begin_compute_pass(&Default::default()));
            let start = Instant::now();
            gpu.queue.submit([encoder.finish()]);
            gpu.settle().await?;
            return Ok(start.elapsed().as_secs_f64());
        };
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
            timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                query_set: &clock.queries,
                beginning_of_pass_write_index: Some(0),
                end_of_pass_write_index: Some(1),
            }),
            ..Default::default()
        });
        encode(&mut pass);
        drop(pass);
        encoder.resolve_query_set(&clock.queries, 0..2, &clock.resolved, 0);
        encoder.copy_buffer_to_buffer(&clock.resolved, 0, &clock.staging, 0, 16);
        gpu.queue.submit([encoder.finish()]);
        let mut ticks = [0_u64; 2];
        gpu.read(&clock.staging, bytemuck::cast_slice_mut(&mut ticks)).await?;
        let seconds =
            ticks[1].saturating_sub(ticks[0]) as f64 * f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        match seconds > 0.0 {
            true => Ok(seconds),
            false => Err(GpuError::Internal("the device's clock does not advance".into())),
        }
    }
}

impl Clock {
    fn new(gpu: &Gpu) -> Option<Self> {
        let has_clock = gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY);
        let buffer = |label, usage| gpu.buffer(label, 16, usage | wgpu::BufferUsages::COPY_DST);
        has_clock.then(|| Self {
            queries: gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("clock"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer("ticks", wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer("ticks read", wgpu::BufferUsages::MAP_READ),
        })
    }
}

/// Encodes the dispatches of a step that `wanted` selects by index.
fn encode(executor: &Executor, step: &Step, wanted: impl Fn(usize) -> bool, pass: &mut wgpu::ComputePass) {
    for (_, dispatch, pipeline, [x, y, z]) in executor.launches(step).filter(|(i, ..)| wanted(*i)) {
        pass.set_pipeline(&pipeline.pipeline);
        pass.set_bind_group(0, &dispatch.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// An op of a step.
struct PlannedOp {
    what: String,
    work: Work,
    rows: u32,
    /// The kernels that it launches.
    shaders: Vec<Shader>,
    /// The indices of its dispatches.
    range: Range<usize>,
}

impl PlannedOp {
    fn arithmetic(&self) -> Arithmetic {
        let has = |of: fn(Kernel) -> bool| self.shaders.iter().any(|shader| of(shader.kernel));
        let int8 = |kernel| match kernel {
            Kernel::Matvec(operands, ..) | Kernel::MatmulFew(operands, ..) => {
                matches!(operands, Operands::Int8(_))
            }
            Kernel::Matmul(staged, _) => matches!(staged, Staged::Int8(_)),
            _ => false,
        };
        match () {
            () if has(int8) => Arithmetic::Int8,
            () if self.shaders.iter().any(Shader::needs_f16) => Arithmetic::F16,
            () => Arithmetic::F32,
        }
    }
}

/// The groups that a step runs, and the search for its tokens.
fn planned(executor: &Executor, subject: Subject, step: &Step) -> Vec<PlannedOp> {
    let counter = Counter { graph: subject.graph, formats: subject.formats, step };
    let list = executor.list(step.tokens.len());
    let mut counted: Vec<(Work, String, u32, usize)> = Vec::new();
    for (group, &end) in list.groups.iter().zip(&list.ends) {
        let (work, what) = counter.count(group);
        counted.push((work, what, counter.n_rows(group), end));
    }
    if subject.graph.logits.is_some() {
        let (work, what) = counter.likeliest();
        counted.push((work, what, step.outputs.len() as u32, usize::MAX));
    }
    let mut launches = executor.launches(step).peekable();
    let mut start = 0;
    let planned = counted.into_iter().map(|(work, what, rows, end)| {
        let range = std::mem::replace(&mut start, end)..end;
        let mut shaders = Vec::new();
        while let Some((_, _, pipeline, _)) = launches.next_if(|(i, ..)| *i < end) {
            shaders.push(pipeline.shader.clone());
        }
        PlannedOp { what, work, rows, shaders, range }
    });
    planned.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::self_test::upload;
    use super::*;
    use crate::gpu::{Options, Variants};
    use crate::graph::testing::{Layers, layers};

    /// Every dispatch is counted for the op that it belongs to.
    #[test]
    fn every_dispatch_belongs_to_its_op() {
        let mut gpu = pollster::block_on(Gpu::open(Options::default())).unwrap();
        for words in ["exact,shared", "int8,one"] {
            gpu.set_variants(Variants::parse(words, gpu.info()).unwrap());
            for n_tokens in [1, 4, 9] {
                let case = layers(Layers { n_layers: 2, ..Layers::of(Format::Q4_0) }, &[n_tokens]);
                let (weights, formats) = (upload(&case, &gpu).unwrap(), case.formats());
                let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
                pollster::block_on(executor.step(&case.step())).unwrap();
                let subject = Subject { graph: &case.graph, weights: &weights, formats: &formats };
                let ops = planned(&executor, subject, &case.step());
                let n_shaders: usize = ops.iter().map(|op| op.shaders.len()).sum();
                assert_eq!(n_shaders, executor.dispatches(), "{words}, {n_tokens} rows");
                for op in &ops {
                    let last = op.shaders.last().map_or(String::new(), |shader| shader.kernel.to_string());
                    let kernels = match op.what.split([' ', ',']).next() {
                        Some("q") => "mat heads",
                        Some("gate") => "mat gated",
                        Some("project") if op.what.ends_with("add") => "mat residual",
                        Some("project") => "mat",
                        Some("attention") => "attention",
                        Some("likeliest") => "likeliest",
                        _ => continue,
                    };
                    let fits = kernels.split(' ').all(|part| last.contains(part));
                    assert!(fits, "{words}, {n_tokens} rows: {} is done by {last}", op.what);
                }
            }
        }
    }

    #[test]
    fn floors_depend_on_the_arithmetic() {
        let limits = Limits { copy: 100.0, read: 120.0, f32: 10.0, f16: Some(5.0), int8: Some(40.0) };
        assert_eq!(limits.floors(200, 20, Arithmetic::F32), [2.0, 2.0]);
        // The f16 rate is at least the f32 rate.
        assert_eq!(limits.floors(0, 20, Arithmetic::F16)[1], 2.0);
        assert_eq!(limits.floors(0, 20, Arithmetic::Int8)[1], 0.5);
    }
}
