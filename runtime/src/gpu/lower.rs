//! Lowers groups of ops to dispatches: chooses kernels, constants, buffers and grids.

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

/// Step rows per thread of `matmul_few`.
const FEW: u32 = 4;
/// The least rows of a step that runs op by op. From here on, tiles are faster.
pub(super) const MANY: u32 = FEW_ROWS + 1;
/// Weight rows per tile of `matmul`. A tile has as many step rows, or half as many if that covers the step.
const TILE: u32 = 64;
/// Weight rows per unit of the other kernels.
const UNIT: usize = 4;
/// The most queries per workgroup of `attention`.
const QUERIES: usize = 4;
/// The most workgroups per dimension of a dispatch that every WebGPU device supports.
const MAX_GROUPS: u32 = 65_535;
/// Positions of the context per workgroup, where workgroups share a head.
const SPLIT: u32 = 128;
/// The most workgroups that share a head.
const MAX_SPLITS: u32 = 64;
/// Logits per workgroup when a token is searched or chosen.
const LOGITS: usize = 2048;

/// The number of workgroups that share a head's context in a step of one row at this position.
pub(super) fn n_splits(gpu: &Gpu, position: u32) -> u32 {
    if !gpu.variants().tile { 1 } else { (position + 1).div_ceil(SPLIT).min(MAX_SPLITS) }
}

/// One dimension of a grid.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    Fixed(u32),
    /// One workgroup per this many rows of the domain.
    Rows(Domain, u32),
    /// The number of workgroups that share a head's context.
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

/// The steps in which a dispatch runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum When {
    Always,
    /// Steps that split the context.
    Split,
    /// Steps with a choice that uses top-k or top-p.
    Truncated,
}

/// A dispatch. The number of rows decides which of its launches runs.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub bind_group: wgpu::BindGroup,
    /// The rows that are counted to choose a launch.
    domain: Domain,
    when: When,
    /// Launches, each with the least number of rows, in ascending order. All have the same bind group.
    launches: Vec<(u32, Launch)>,
}

impl Dispatch {
    /// The launch for a step, if the dispatch runs in it.
    pub fn launch(&self, count: impl Fn(Domain) -> u32, is: impl Fn(When) -> bool) -> Option<&Launch> {
        if !is(self.when) {
            return None;
        }
        let n = count(self.domain);
        self.launches.iter().rev().find(|(from, _)| *from <= n).map(|(_, launch)| launch)
    }
}

/// What a choice of tokens reads besides logits, per slot.
#[derive(Debug)]
pub(super) struct SlotBuffers {
    /// `[slots, n_vocab + n_vocab / 32]`: a slot's seen tokens, and after them its mask. They share a buffer
    /// because kernels may not bind more of them.
    pub seen: wgpu::Buffer,
    /// `[slots, n_vocab]`.
    pub bias: wgpu::Buffer,
}

impl SlotBuffers {
    /// The byte in `seen` where a slot begins.
    pub fn seen_at(&self, slot: u32, n_vocab: usize) -> u64 {
        4 * (n_vocab + n_vocab.div_ceil(32)) as u64 * u64::from(slot)
    }
}

/// One way to run the graph.
#[derive(Debug)]
pub(super) struct List {
    pub groups: Vec<Group>,
    pub dispatches: Vec<Dispatch>,
    /// The end of each group's dispatches, for measurements.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    pub ends: Vec<usize>,
}

impl List {
    /// Whether the list writes a value. Groups do not store results between their ops.
    pub fn writes(&self, id: ValueId) -> bool {
        self.groups.iter().any(|group| group.outs().contains(&id))
    }
}

/// A graph on a device, ready to be encoded.
#[derive(Debug)]
pub(super) struct Plan {
    /// For steps of few rows, in groups.
    pub few: List,
    /// For steps of many rows, op by op.
    pub many: List,
    /// Runs after either list: finds the likeliest tokens.
    pub likeliest: Vec<Dispatch>,
    /// Runs after either list: chooses tokens by a choice.
    pub choice: Vec<Dispatch>,
    pub slots: Option<SlotBuffers>,
    pub buffers: Buffers,
}

/// Makes the plan. With `keep_values`, every value has its own buffer, so that it can be read afterwards.
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
        // The self-test keeps values and uses no choices.
        if !keep_values {
            slots = Some(lowering.choice(logits)?);
            choice = lowering.take_dispatches();
        }
    }
    Ok(Plan { few, many, likeliest, choice, slots, buffers: lowering.buffers })
}

/// The name of a binding, its buffer, an offset and a size; no size means up to the buffer's end.
type Resource = (&'static str, wgpu::Buffer, u64, Option<u64>);

fn whole(name: &'static str, buffer: &wgpu::Buffer) -> Resource {
    (name, buffer.clone(), 0, None)
}

/// Buffers for intermediate results of kernels. Ops with the same key share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scratch {
    /// Quantised activations of this shape.
    Int8(Value),
    /// Cosines and sines, for these turns, factors and `n_rot`.
    RopeTable(WeightId, WeightId, usize),
    /// A placeholder for the table without a rotary embedding.
    NoTable,
    /// Partial results of attention, for these numbers of heads and dimensions.
    Partial(usize, usize),
    /// The likeliest token of each part of the logits, for this number of parts.
    Parts(usize),
}

/// What a scratch buffer contains at this point of the list: a value, and the weight of its norm.
type Held = (Option<ValueId>, Option<WeightId>);

struct Lowering<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    weights: &'a Weights,
    capacity: Capacity,
    buffers: Buffers,
    /// Whether this is the list for steps of few rows.
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
            return Err(GpuError::Unsupported(format!("rows of {width} floats (only multiples of 4)")));
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
                "norms over {} floats (only multiples of 4)",
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

    /// Binds buffers by their names in WGSL. `resources` need not list the step's own buffers.
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
            let (_, buffer, offset, size) = found.ok_or_else(|| {
                GpuError::Internal(format!("kernel {name} needs a buffer {}", binding.name))
            })?;
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
        buffer.ok_or_else(|| GpuError::Internal(format!("value {} is read but never written", id.0)))
    }

    fn vector(&self, id: WeightId) -> Result<&Vector, GpuError> {
        let vector = self.weights.vector(id);
        vector.ok_or_else(|| GpuError::Internal("a matrix is used as a vector".into()))
    }

    fn layout(&self, id: WeightId) -> Result<Layout, GpuError> {
        let name = self.weights.formats[id.0].layout().name();
        Layout::find(name)
            .ok_or_else(|| GpuError::Internal(format!("there are no kernels for the weight layout {name}")))
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

/// The number of an activation in kernels.
fn activation(f: Option<Activation>) -> (&'static str, f64) {
    let number = match f {
        None => 0.0,
        Some(Activation::Silu) => 1.0,
        Some(Activation::Gelu) => 2.0,
    };
    ("ACTIVATION", number)
}

/// A grid with one thread per item, 64 threads per workgroup, and one row of workgroups per step row.
fn threads(items: usize, domain: Domain) -> Grid {
    [Extent::Fixed((items as u32).div_ceil(64)), Extent::Rows(domain, 1), SINGLE]
}
