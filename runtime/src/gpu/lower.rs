//! From groups of ops to dispatches: which kernel, which constants, which buffers, which grid.

mod attend;
mod choose;
mod project;

use super::accepts::{Accepts, FEW_ROWS};
use super::buffers::Buffers;
use super::kernels::{Constants, Pipeline};
use super::weights::{Piece, Vector, Weights};
use super::{Accuracy, Gpu, GpuError};
use crate::graph::fuse::{Group, Work, fuse, unfused};
use crate::graph::{
    Activation, Attention, BINS, CacheId, Capacity, Domain, Graph, Half, Norm, Op, PAGE, Rope, Value,
    ValueId, WeightId,
};
use crate::quant::{BLOCK, PLANE_ALIGN};
use nomoat_shaders::{Kernel, Layout};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows of a step that a thread of `matmul_few` works on.
const FEW: u32 = 4;
/// Rows of a step from which on it runs op by op, and tiles pay.
pub(super) const MANY: u32 = FEW_ROWS + 1;
/// Rows of the weight in a tile of `matmul`; of the step there are as many, or half as many where that holds
/// all.
const TILE: u32 = 64;
/// Rows of a weight that a unit of the other kernels works on.
const UNIT: usize = 4;
/// Most queries of a workgroup of `attention`.
const QUERIES: usize = 4;
/// Workgroups of a dispatch, per dimension: WebGPU's limit everywhere.
const MAX_GROUPS: u32 = 65_535;
/// Positions of the context for which another workgroup is put on a head.
const SPLIT: u32 = 128;
/// Most workgroups on a head.
const MAX_SPLITS: u32 = 64;
/// Logits that a workgroup looks at where tokens are chosen.
const LOGITS: usize = 2048;

/// How many workgroups share a head's context in a step of one row at this position.
pub(super) fn n_splits(gpu: &Gpu, position: u32) -> u32 {
    if !gpu.variants().tile { 1 } else { (position + 1).div_ceil(SPLIT).min(MAX_SPLITS) }
}

/// One dimension of a grid.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    Fixed(u32),
    /// As many workgroups as it takes for the step's rows, this many at a time.
    Rows(Domain, u32),
    /// As many as share a head's context.
    Splits,
}

type Grid = [Extent; 3];

const SINGLE: Extent = Extent::Fixed(1);

/// A kernel and its grid.
#[derive(Debug)]
pub(super) struct Launch {
    pub pipeline: Arc<Pipeline>,
    pub grid: Grid,
}

/// In which steps a dispatch runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum When {
    Always,
    /// Where the context is split.
    Split,
    /// Where an output cuts tokens off by number or by mass before its choice.
    Truncated,
}

/// One dispatch of every step.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub bind_group: wgpu::BindGroup,
    /// The rows whose number decides what runs.
    domain: Domain,
    when: When,
    /// What runs from so many rows on, by rising number; all with the same bind group.
    launches: Vec<(u32, Launch)>,
}

impl Dispatch {
    /// What runs in a step of so many rows; perhaps nothing.
    pub fn launch(&self, count: impl Fn(Domain) -> u32, is: impl Fn(When) -> bool) -> Option<&Launch> {
        if !is(self.when) {
            return None;
        }
        let n = count(self.domain);
        self.launches.iter().rev().find(|(from, _)| *from <= n).map(|(_, launch)| launch)
    }
}

/// What the choice of tokens depends on besides logits, by slot.
#[derive(Debug)]
pub(super) struct SlotBuffers {
    /// `[slots, n_vocab]`.
    pub seen: wgpu::Buffer,
    /// `[slots, n_vocab]`.
    pub bias: wgpu::Buffer,
}

/// A way to run the graph.
#[derive(Debug)]
pub(super) struct List {
    pub groups: Vec<Group>,
    pub dispatches: Vec<Dispatch>,
    /// Where each group's dispatches end: for measurements.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    pub ends: Vec<usize>,
}

impl List {
    /// Whether it writes a value: groups leave out what is between their ops.
    pub fn writes(&self, id: ValueId) -> bool {
        self.groups.iter().any(|group| group.outs().contains(&id))
    }
}

/// A graph on a device, ready to be encoded.
#[derive(Debug)]
pub(super) struct Plan {
    /// For steps of few rows: in groups.
    pub few: List,
    /// For steps of more: op by op.
    pub many: List,
    /// After either, the likeliest tokens of outputs.
    pub likeliest: Vec<Dispatch>,
    /// And tokens chosen otherwise.
    pub choice: Vec<Dispatch>,
    pub slots: Option<SlotBuffers>,
    pub buffers: Buffers,
}

/// Makes the plan. With `keep_values`, every value has a buffer of its own, to be looked at afterwards.
pub(super) fn lower(
    gpu: &Gpu,
    graph: &Graph,
    weights: &Weights,
    capacity: Capacity,
    keep_values: bool,
) -> Result<Plan, GpuError> {
    let max_binding = gpu.info().max_binding_size;
    let accepts = Accepts { formats: &weights.formats, max_binding, weights: Some(weights) };
    let (few, many) = (fuse(graph, &accepts), unfused(graph));
    let buffers = Buffers::new(gpu, graph, &[&few, &many], capacity, keep_values);
    let mut lowering = Lowering {
        gpu,
        graph,
        weights,
        capacity,
        buffers,
        is_few: true,
        scratch: HashMap::new(),
        held: HashMap::new(),
        shapes: HashMap::new(),
        dispatches: Vec::new(),
    };
    let few = lowering.list(few)?;
    lowering.is_few = false;
    let many = lowering.list(many)?;
    let (mut likeliest, mut choice, mut slots) = (Vec::new(), Vec::new(), None);
    if let Some(logits) = graph.logits {
        lowering.likeliest(logits)?;
        likeliest = lowering.take_dispatches();
        // Where values are looked at, nothing is chosen otherwise.
        if !keep_values {
            slots = Some(lowering.choice(logits)?);
            choice = lowering.take_dispatches();
        }
    }
    Ok(Plan { few, many, likeliest, choice, slots, buffers: lowering.buffers })
}

/// A buffer, or the part of one that starts at an offset.
type Resource = (&'static str, wgpu::Buffer, u64, Option<u64>);

fn whole(name: &'static str, buffer: &wgpu::Buffer) -> Resource {
    (name, buffer.clone(), 0, None)
}

/// Buffers that kernels keep among themselves, shared by all ops that need one alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scratch {
    /// Quantised activations of this shape.
    Int8(Value),
    /// Cosines and sines.
    RopeTable(WeightId, WeightId, usize),
    /// Stands for a table where nothing turns.
    NoTable,
    /// Parts of attention, of so many heads and dimensions.
    Partial(usize, usize),
    /// The likeliest of each part of the outputs' logits, of so many parts.
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
    /// The list for steps of few rows is being made.
    is_few: bool,
    scratch: HashMap<Scratch, wgpu::Buffer>,
    held: HashMap<Scratch, Held>,
    shapes: HashMap<[u32; 8], wgpu::Buffer>,
    dispatches: Vec<Dispatch>,
}

impl Lowering<'_> {
    fn list(&mut self, groups: Vec<Group>) -> Result<List, GpuError> {
        let mut ends = Vec::new();
        for group in &groups {
            match &group.work {
                Work::Op(op) => self.op(op)?,
                Work::Products(products) => self.products(products)?,
            }
            ends.push(self.dispatches.len());
        }
        Ok(List { groups, dispatches: self.take_dispatches(), ends })
    }

    fn take_dispatches(&mut self) -> Vec<Dispatch> {
        self.held.clear();
        std::mem::take(&mut self.dispatches)
    }

    fn op(&mut self, op: &Op) -> Result<(), GpuError> {
        match *op {
            Op::Embed { weight, out } => self.embed(weight, out),
            Op::MatMul { x, weight, out } => self.matmul(x, weight, out),
            Op::Norm { x, norm, out } => self.norm(x, norm, out),
            Op::Bias { x, bias, out } => {
                let Value { domain, width } = self.graph.value(out);
                let bias = self.vector(bias)?.clone();
                let constants = [rows_constant(domain), ("WIDTH", width as f64), ("BIAS_AT", bias.at as f64)];
                let resources =
                    [whole("x", self.value(x)?), whole("bias", &bias.buffer), whole("y", self.value(out)?)];
                self.push(Kernel::Bias, &constants, &resources, domain, threads(width, domain))
            }
            Op::Activate { x, f, out } => {
                let resources = [whole("x", self.value(x)?), whole("y", self.value(out)?)];
                self.elementwise(Kernel::Activate, &[activation(Some(f))], &resources, out)
            }
            Op::Gated { gate, up, f, out } => {
                let resources = [("gate", gate), ("up", up), ("y", out)];
                let resources = self.named(resources)?;
                self.elementwise(Kernel::Gated, &[activation(Some(f))], &resources, out)
            }
            Op::Add { a, b, out } => {
                let resources = self.named([("a", a), ("b", b), ("y", out)])?;
                self.elementwise(Kernel::Add, &[], &resources, out)
            }
            Op::Rope { x, rope, out } => self.rope(x, rope, out),
            Op::KvWrite { x, cache, half } => self.kv_write(x, cache, half),
            Op::Attention { q, cache: Some(cache), shape, out, .. } => self.attention(q, cache, shape, out),
            Op::Attention { cache: None, .. } => {
                Err(GpuError::Unsupported("attention without a KV cache".into()))
            }
            Op::SelectRows { x, out } => {
                let width = self.graph.value(x).width;
                let resources = [whole("x", self.value(x)?), whole("y", self.value(out)?)];
                let grid = threads(width.div_ceil(4), Domain::Outputs);
                let constants = [("WIDTH", width as f64)];
                self.push(Kernel::SelectRows, &constants, &resources, Domain::Outputs, grid)
            }
        }
    }

    fn named(&self, values: [(&'static str, ValueId); 3]) -> Result<Vec<Resource>, GpuError> {
        values.into_iter().map(|(name, id)| Ok(whole(name, self.value(id)?))).collect()
    }

    fn elementwise(
        &mut self,
        kernel: Kernel,
        constants: &[(&'static str, f64)],
        resources: &[Resource],
        out: ValueId,
    ) -> Result<(), GpuError> {
        let Value { domain, width } = self.graph.value(out);
        if !width.is_multiple_of(4) {
            return Err(GpuError::Unsupported(format!("rows of {width} floats (multiples of 4 are)")));
        }
        let constants = [&[rows_constant(domain), ("WIDTH", width as f64)], constants].concat();
        self.push(kernel, &constants, resources, domain, threads(width / 4, domain))
    }

    fn norm(&mut self, x: ValueId, norm: Norm, out: ValueId) -> Result<(), GpuError> {
        let Value { domain, width } = self.graph.value(x);
        let weight = self.vector(norm.weight)?.clone();
        let runs = width / weight.len;
        if !weight.len.is_multiple_of(4) {
            return Err(GpuError::Unsupported(format!(
                "norms over {} floats (multiples of 4 are)",
                weight.len
            )));
        }
        let constants = [
            rows_constant(domain),
            ("WIDTH", weight.len as f64),
            ("RUNS", runs as f64),
            ("EPS", f64::from(norm.eps)),
        ];
        let resources =
            [whole("x", self.value(x)?), whole("w", &weight.buffer), whole("y", self.value(out)?)];
        let grid = [Extent::Fixed(runs as u32), Extent::Rows(domain, 1), SINGLE];
        self.push(Kernel::RmsNorm, &constants, &resources, domain, grid)
    }

    fn embed(&mut self, weight: WeightId, out: ValueId) -> Result<(), GpuError> {
        let n_cols = self.graph.weight(weight).n_cols;
        let (weights, layout) = (self.weights, self.layout(weight)?);
        for piece in weights.pieces(weight) {
            let constants = [
                ("N_COLS", n_cols as f64),
                ("N_ROWS", piece.n_rows as f64),
                ("FIRST_ROW", piece.first_row as f64),
            ];
            let mut resources = vec![whole("y", self.value(out)?)];
            resources.extend(planes(piece));
            let grid = threads(n_cols / BLOCK, Domain::Tokens);
            self.push(Kernel::Embed(layout), &constants, &resources, Domain::Tokens, grid)?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        kernel: Kernel,
        constants: &[(&'static str, f64)],
        resources: &[Resource],
        domain: Domain,
        grid: Grid,
    ) -> Result<(), GpuError> {
        let pipeline = self.gpu.kernel(kernel, &constants.to_vec())?;
        let bind_group = self.bind(&pipeline, resources)?;
        let launches = vec![(1, Launch { pipeline, grid })];
        self.dispatches.push(Dispatch { bind_group, domain, when: When::Always, launches });
        Ok(())
    }

    /// Binds by the names that the kernel's WGSL gives its buffers; the step's own buffers need not be
    /// listed.
    fn bind(&self, pipeline: &Pipeline, resources: &[Resource]) -> Result<wgpu::BindGroup, GpuError> {
        let step = &self.buffers.step;
        let common = [
            whole("step", &step.step),
            whole("tokens", &step.tokens),
            whole("outputs", &step.outputs),
            whole("choices", &step.choices),
            whole("pages", &step.pages),
            whole("chosen", &step.chosen),
        ];
        let name = pipeline.shader.kernel.to_string();
        let mut entries = Vec::new();
        for binding in &pipeline.shader.bindings {
            let found = resources.iter().chain(&common).find(|(name, ..)| *name == binding.name);
            let (_, buffer, offset, size) =
                found.ok_or_else(|| GpuError::Internal(format!("{name} wants a buffer {}", binding.name)))?;
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
            label: Some(&name),
            layout: &pipeline.layout,
            entries: &entries,
        }))
    }

    fn scratch(&mut self, key: Scratch, size: u64) -> wgpu::Buffer {
        let (gpu, buffers) = (self.gpu, &mut self.buffers);
        self.scratch.entry(key).or_insert_with(|| buffers.add(gpu, "scratch", size)).clone()
    }

    fn value(&self, id: ValueId) -> Result<&wgpu::Buffer, GpuError> {
        let buffer = self.buffers.values[id.0].as_ref();
        buffer.ok_or_else(|| GpuError::Internal(format!("value {} is read and never written", id.0)))
    }

    fn vector(&self, id: WeightId) -> Result<&Vector, GpuError> {
        let vector = self.weights.vector(id);
        vector.ok_or_else(|| GpuError::Internal("a matrix where a vector belongs".into()))
    }

    fn layout(&self, id: WeightId) -> Result<Layout, GpuError> {
        let name = self.weights.formats[id.0].layout().name();
        Layout::find(name)
            .ok_or_else(|| GpuError::Internal(format!("no kernels for weights in layout {name}")))
    }
}

fn planes(piece: &Piece) -> [Resource; 2] {
    let planes = piece.planes;
    [
        ("quants", piece.buffer.clone(), 0, Some(planes.quants)),
        ("scales", piece.buffer.clone(), planes.scales_offset, Some(planes.scales)),
    ]
}

fn rows_constant(domain: Domain) -> (&'static str, f64) {
    ("OUTPUT_ROWS", f64::from(u8::from(domain == Domain::Outputs)))
}

/// The number by which kernels know an activation.
fn activation(f: Option<Activation>) -> (&'static str, f64) {
    let number = match f {
        None => 0.0,
        Some(Activation::Silu) => 1.0,
        Some(Activation::Gelu) => 2.0,
    };
    ("ACTIVATION", number)
}

/// A grid of one thread an item, 64 a workgroup, and one workgroup row a row of the step.
fn threads(items: usize, domain: Domain) -> Grid {
    [Extent::Fixed((items as u32).div_ceil(64)), Extent::Rows(domain, 1), SINGLE]
}
