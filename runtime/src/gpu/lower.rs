//! From ops to dispatches: which kernel, which constants, which buffers, which grid.

mod attend;
mod choose;
mod project;

use super::buffers::Buffers;
use super::fuse::{Fused, Norm, Qkv, fuse};
use super::kernels::{Constants, Kernel};
use super::weights::{Part, Stored, Weights};
use super::{Accuracy, Gpu, GpuError, Lanes};
use crate::graph::{Attention, BINS, Capacity, Choice, Graph, Op, PAGE, Rows, Value, ValueId, WeightId};
use crate::quant::{BLOCK, Format, PLANE_ALIGN};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows of a step that a thread of `matmul_few` works on.
const FEW: u32 = 4;
/// Rows of a step from which on tiles pay.
pub(super) const MANY: u32 = 9;
/// Rows of the weight in a tile of `matmul`; of the step there are as many, or half as many where that holds all.
const TILE: u32 = 64;
/// Rows of a weight that a unit of the other kernels works on.
const UNIT: usize = 4;
/// Queries of a workgroup of `attention` at most.
const QUERIES: usize = 4;
/// Workgroups of a dispatch, per dimension: WebGPU's limit everywhere.
const MAX_GROUPS: u32 = 65_535;
/// Positions of the context for which another workgroup is put on a head.
const SPLIT: u32 = 128;
/// Workgroups on a head at most.
const MAX_SPLITS: u32 = 64;
/// Logits of a workgroup where tokens are chosen.
const PART: usize = 2048;

/// How many workgroups share a head's context in a step of one row at this position.
pub(super) fn n_splits(gpu: &Gpu, position: u32) -> u32 {
    if !gpu.variants().tile { 1 } else { (position + 1).div_ceil(SPLIT).min(MAX_SPLITS) }
}

/// One dimension of a grid.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    Fixed(u32),
    /// As many workgroups as it takes for the step's rows, this many at a time.
    Rows(Rows, u32),
    /// As many as share a head's context.
    Splits,
}

type Grid = [Extent; 3];

const SINGLE: Extent = Extent::Fixed(1);

/// A kernel and its grid.
#[derive(Debug)]
pub(super) struct Launch {
    pub kernel: Arc<Kernel>,
    pub grid: Grid,
}

/// In which steps a dispatch runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum When {
    Always,
    /// Where the context is split.
    Split,
    /// Where tokens are cut off by number or by mass before the choice.
    Truncated,
}

/// One dispatch of every step.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub bind_group: wgpu::BindGroup,
    /// The rows whose number decides what runs.
    rows: Rows,
    when: When,
    /// What runs from so many rows on, by rising number; all with the same bind group.
    launches: Vec<(u32, Launch)>,
}

impl Dispatch {
    /// What runs in a step of so many rows; perhaps nothing.
    pub fn launch(&self, count: impl Fn(Rows) -> u32, is: impl Fn(When) -> bool) -> Option<&Launch> {
        if !is(self.when) {
            return None;
        }
        let n = count(self.rows);
        self.launches.iter().rev().find(|(from, _)| *from <= n).map(|(_, launch)| launch)
    }
}

/// What the choice of a token depends on besides logits.
#[derive(Debug)]
pub(super) struct ChoiceBuffers {
    pub choice: wgpu::Buffer,
    pub seen: wgpu::Buffer,
    pub bias: wgpu::Buffer,
}

/// A graph on a device, ready to be encoded.
#[derive(Debug)]
pub(super) struct Plan {
    /// For steps of one row: fused.
    pub one: Vec<Dispatch>,
    /// For steps of more: op by op.
    pub many: Vec<Dispatch>,
    /// After either, for the likeliest tokens of the output rows.
    pub best: Vec<Dispatch>,
    /// Or for a token chosen by chance.
    pub choice: Vec<Dispatch>,
    pub choice_buffers: Option<ChoiceBuffers>,
    /// Where the dispatches of each fused op end in `one`, and of each op in `many`: for measurements.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    pub ends: [Vec<usize>; 2],
    pub buffers: Buffers,
    /// Values that steps of one row write.
    pub written_by_one: Vec<ValueId>,
}

/// Makes the plan. With `keep_values`, every value has a buffer of its own, to be looked at afterwards.
pub(super) fn lower(
    gpu: &Gpu,
    graph: &Graph,
    weights: &Weights,
    capacity: Capacity,
    keep_values: bool,
) -> Result<Plan, GpuError> {
    let fused = fuse(graph, |ids| weights.are_stacked(ids));
    let buffers = Buffers::new(gpu, graph, &fused, capacity, keep_values);
    let mut lowering = Lowering {
        gpu,
        graph,
        weights,
        capacity,
        buffers,
        is_one: false,
        scratch: HashMap::new(),
        held: HashMap::new(),
        shapes: HashMap::new(),
        dispatches: Vec::new(),
    };
    let mut ends = [Vec::new(), Vec::new()];
    for op in &graph.ops {
        lowering.op(op)?;
        ends[1].push(lowering.dispatches.len());
    }
    let many = lowering.next_list();
    lowering.is_one = true;
    for (_, fused) in &fused {
        lowering.fused(fused)?;
        ends[0].push(lowering.dispatches.len());
    }
    let one = lowering.next_list();
    for op in &graph.ops {
        if let Op::Argmax { logits, out } = *op {
            lowering.best(logits, out)?;
        }
    }
    let best = lowering.next_list();
    // The op is the last one; what it takes is numbered after the lists.
    ends.iter_mut().filter_map(|ends| ends.last_mut()).for_each(|end| *end += best.len());
    // Where values are looked at, none is chosen.
    let results = graph.logits.zip(graph.argmax).filter(|_| !keep_values);
    let choice_buffers = results.map(|(logits, out)| lowering.choice(logits, out));
    let choice_buffers = choice_buffers.transpose()?;
    let choice = lowering.next_list();
    Ok(Plan {
        one,
        many,
        best,
        choice,
        choice_buffers,
        ends,
        buffers: lowering.buffers,
        written_by_one: fused.iter().filter_map(|(_, fused)| fused.out()).collect(),
    })
}

/// A buffer, or the part of one that starts at an offset.
type Resource = (&'static str, wgpu::Buffer, u64, Option<u64>);

fn whole(name: &'static str, buffer: &wgpu::Buffer) -> Resource {
    (name, buffer.clone(), 0, None)
}

/// Buffers that kernels keep among themselves, shared by all ops that need one alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scratch {
    /// Quantised activations of this width.
    Int8(Rows, usize),
    /// Cosines and sines.
    RopeTable(WeightId, WeightId, usize),
    /// Parts of attention, of so many heads and dimensions.
    Partial(usize, usize),
    /// The likeliest of each part of the output rows' logits, of so many parts.
    Parts(usize),
}

/// What is in a scratch buffer at this point of the list.
type Held = (Option<ValueId>, Option<WeightId>);

struct Lowering<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    weights: &'a Weights,
    capacity: Capacity,
    buffers: Buffers,
    /// The list for steps of one row is being made.
    is_one: bool,
    scratch: HashMap<Scratch, wgpu::Buffer>,
    held: HashMap<Scratch, Held>,
    shapes: HashMap<[u32; 8], wgpu::Buffer>,
    dispatches: Vec<Dispatch>,
}

impl Lowering<'_> {
    fn next_list(&mut self) -> Vec<Dispatch> {
        self.held.clear();
        std::mem::take(&mut self.dispatches)
    }

    fn op(&mut self, op: &Op) -> Result<(), GpuError> {
        match *op {
            Op::Embed { weight, out } => self.embed(weight, out),
            Op::MatMul { x, weight, out } => self.matmul(x, weight, out),
            Op::RmsNorm { x, weight, eps, out } => {
                let Value { rows, width } = self.graph.values[x.0];
                let constants = vec![domain(rows), ("WIDTH", width as f64), ("EPS", f64::from(eps))];
                let resources = [
                    whole("x", self.value(x)),
                    whole("w", self.vector(weight)?),
                    whole("y", self.value(out)),
                ];
                self.push("rms_norm", constants, &resources, rows, [Extent::Rows(rows, 1), SINGLE, SINGLE])
            }
            Op::SwiGlu { gate, up, out } => self.elementwise("swiglu", ["gate", "up"], gate, up, out),
            Op::Add { a, b, out } => self.elementwise("add", ["a", "b"], a, b, out),
            Op::Rope { x, turns, factors, rope, out } => {
                let constants = vec![
                    ("N_HEADS", rope.n_heads as f64),
                    ("HEAD_DIM", rope.head_dim as f64),
                    ("N_ROT", rope.n_rot as f64),
                    ("NEOX", f64::from(u8::from(rope.neox))),
                ];
                let table = self.rope_table(turns, factors, rope.n_rot)?;
                let resources =
                    [whole("table", &table), whole("x", self.value(x)), whole("y", self.value(out))];
                let pairs = rope.n_heads * rope.head_dim / 2;
                self.push("rope", constants, &resources, Rows::Tokens, threads(pairs, Rows::Tokens))
            }
            Op::KvWrite { k, v, layer } => {
                let width = self.graph.values[k.0].width;
                let kv = whole("kv", &self.buffers.kv[layer]);
                let resources = [whole("k", self.value(k)), whole("v", self.value(v)), kv];
                let constants = vec![("WIDTH", width as f64)];
                self.push("kv_write", constants, &resources, Rows::Tokens, threads(width / 2, Rows::Tokens))
            }
            Op::Attention { q, layer, attention, out } => self.attention(q, layer, attention, out),
            Op::SelectRows { x, out } => {
                let width = self.graph.values[x.0].width;
                let resources = [whole("x", self.value(x)), whole("y", self.value(out))];
                let constants = vec![("WIDTH", width as f64)];
                let grid = threads(width / 4, Rows::Outputs);
                self.push("select_rows", constants, &resources, Rows::Outputs, grid)
            }
            // In a list of its own, for the choice by chance takes its place.
            Op::Argmax { .. } => Ok(()),
        }
    }

    fn elementwise(
        &mut self,
        kernel: &str,
        names: [&'static str; 2],
        a: ValueId,
        b: ValueId,
        out: ValueId,
    ) -> Result<(), GpuError> {
        let Value { rows, width } = self.graph.values[out.0];
        let resources =
            [whole(names[0], self.value(a)), whole(names[1], self.value(b)), whole("y", self.value(out))];
        self.push(
            kernel,
            vec![domain(rows), ("WIDTH", width as f64)],
            &resources,
            rows,
            threads(width / 4, rows),
        )
    }

    fn embed(&mut self, weight: WeightId, out: ValueId) -> Result<(), GpuError> {
        let n_cols = self.graph.weights[weight.0].n_cols;
        let (weights, format) = (self.weights, self.format(weight)?);
        for part in weights.parts(weight) {
            let constants = vec![
                ("N_COLS", n_cols as f64),
                ("N_ROWS", part.n_rows as f64),
                ("FIRST_ROW", part.first_row as f64),
            ];
            let mut resources = vec![whole("y", self.value(out))];
            resources.extend(planes(part));
            let name = format!("embed.{}", suffix(format));
            self.push(&name, constants, &resources, Rows::Tokens, threads(n_cols / BLOCK, Rows::Tokens))?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        kernel: &str,
        constants: Constants,
        resources: &[Resource],
        rows: Rows,
        grid: Grid,
    ) -> Result<(), GpuError> {
        let kernel = self.gpu.kernel(kernel, constants)?;
        let bind_group = self.bind(&kernel, resources)?;
        let launches = vec![(1, Launch { kernel, grid })];
        self.dispatches.push(Dispatch { bind_group, rows, when: When::Always, launches });
        Ok(())
    }

    /// Binds by the names that the kernel's WGSL gives its buffers; the step's own buffers need not be listed.
    fn bind(&self, kernel: &Kernel, resources: &[Resource]) -> Result<wgpu::BindGroup, GpuError> {
        let step = &self.buffers.step;
        let common = [
            whole("step", &step.step),
            whole("tokens", &step.tokens),
            whole("outputs", &step.outputs),
            whole("pages", &step.pages),
        ];
        let mut entries = Vec::new();
        for binding in kernel.shader.bindings {
            let (_, buffer, offset, size) =
                resources.iter().chain(&common).find(|(name, ..)| *name == binding.name).ok_or_else(
                    || GpuError::Internal(format!("{} wants a buffer {}", kernel.shader.name, binding.name)),
                )?;
            entries.push(wgpu::BindGroupEntry {
                binding: binding.index,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: *offset,
                    size: size.and_then(wgpu::BufferSize::new),
                }),
            });
        }
        Ok(self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(kernel.shader.name),
            layout: &kernel.layout,
            entries: &entries,
        }))
    }

    fn scratch(&mut self, key: Scratch, size: u64) -> wgpu::Buffer {
        let (gpu, buffers) = (self.gpu, &mut self.buffers);
        self.scratch.entry(key).or_insert_with(|| buffers.add(gpu, "scratch", size)).clone()
    }

    fn value(&self, id: ValueId) -> &wgpu::Buffer {
        &self.buffers.values[id.0]
    }

    fn vector(&self, id: WeightId) -> Result<&wgpu::Buffer, GpuError> {
        match &self.weights.stored[id.0] {
            Stored::Vector(buffer) => Ok(buffer),
            Stored::Matrix { .. } => Err(GpuError::Internal("a matrix where a vector belongs".into())),
        }
    }

    fn format(&self, id: WeightId) -> Result<Format, GpuError> {
        match &self.weights.stored[id.0] {
            Stored::Matrix { format, .. } => Ok(*format),
            Stored::Vector(_) => Err(GpuError::Internal("a vector where a matrix belongs".into())),
        }
    }
}

impl<'a> Lowering<'a> {
    fn first_part(&self, id: WeightId) -> Result<&'a Part, GpuError> {
        let weights: &'a Weights = self.weights;
        weights.parts(id).first().ok_or_else(|| GpuError::Internal("a vector where a matrix belongs".into()))
    }
}

fn planes(part: &Part) -> [Resource; 2] {
    let planes = part.planes;
    [
        ("quants", part.buffer.clone(), 0, Some(planes.quants)),
        ("scales", part.buffer.clone(), planes.scales_offset, Some(planes.scales)),
    ]
}

fn domain(rows: Rows) -> (&'static str, f64) {
    ("OUTPUT_ROWS", f64::from(u8::from(rows == Rows::Outputs)))
}

/// A grid of one thread an item, 64 a workgroup, and one workgroup row a row of the step.
fn threads(items: usize, rows: Rows) -> Grid {
    [Extent::Fixed((items as u32).div_ceil(64)), Extent::Rows(rows, 1), SINGLE]
}

fn suffix(format: Format) -> &'static str {
    match format {
        Format::F32 => "f32",
        Format::F16 => "f16",
        Format::Q4_0 => "q4_0",
        Format::Q4_1 => "q4_1",
        Format::Q8_0 => "q8_0",
    }
}
