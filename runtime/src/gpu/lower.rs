//! Lowers groups of ops to dispatches: chooses kernels, constants, buffers and grids.

mod adapted;
mod attend;
mod choose;
mod experts;
mod project;
pub(super) use attend::score_constants;
pub(super) use experts::most_tiles;
pub(super) use project::gate_constants;

pub(super) use adapted::{AdaptedPlan, lower_adapted};

use super::accepts::{Accepts, FEW_ROWS};
use super::buffers::Buffers;
use super::kernels::{Constants, Pipeline, Resource, whole};
use super::weights::{Piece, Vector, Weights};
use super::{Accuracy, Gpu, GpuError};
use crate::graph::fuse::{ExpertGroup, Group, NormAdd, Work, fuse, unfused};
use crate::graph::{
    Activation, Attention, BINS, CacheId, Capacity, Domain, Gate, Graph, Half, Index, Norm, NormKind, Op,
    PAGE, Rope, Unary, Value, ValueId, WeightId,
};
use crate::quant::{self, BLOCK, PLANE_ALIGN};
use nomoat_shaders::{Elementwise, Kernel, Layout, Numbers};
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
    /// So many workgroups per row of the domain.
    Pairs(Domain, u32),
    /// One workgroup per tile of pairs of rows and experts, as many as there can be: so many pairs per row of
    /// the domain, and so many experts.
    Tiles(Domain, u32, u32),
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
    scratch: HashMap<Scratch, wgpu::Buffer>,
    shapes: HashMap<Vec<u32>, wgpu::Buffer>,
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
        grids: HashMap::new(),
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
    let Lowering { buffers, scratch, shapes, .. } = lowering;
    Ok(Plan { few, many, likeliest, choice, slots, buffers, scratch, shapes })
}

/// Buffers for intermediate results of kernels. Ops with the same key share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scratch {
    /// Quantised activations of this shape.
    Int8(Value),
    /// Rows of so many runs, each filled up with zeros to whole blocks, for values of this shape.
    Padded(Value, usize),
    /// Pairs of rows and experts, sorted by expert, for routes of this shape and this number of experts.
    Sorted(Value, usize),
    /// Cosines and sines, for these turns, factors, `n_rot` and the bits of this magnitude.
    RopeTable(WeightId, WeightId, usize, u32),
    /// Queries, keys and values of this width, as they come from the projection.
    Products(usize),
    /// A placeholder for the table without a rotary embedding.
    NoTable,
    /// Partial results of attention, for these numbers of heads and of dimensions of values.
    Partial(usize, usize),
    /// What experts give before it is added up, for rows of this width.
    Summands(usize),
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
    shapes: HashMap<Vec<u32>, wgpu::Buffer>,
    grids: HashMap<quant::Layout, wgpu::Buffer>,
    dispatches: Vec<Dispatch>,
}

impl Lowering<'_> {
    fn list(&mut self, groups: Vec<Group>) -> Result<List, GpuError> {
        let mut ends = Vec::new();
        for group in &groups {
            match &group.work {
                Work::Op(op) => self.op(op)?,
                Work::Products(products) => self.products(products)?,
                Work::Experts(group) => self.expert_group(*group)?,
                Work::NormAdd(NormAdd { x, norm, residual, out }) => {
                    self.norm(*x, *norm, Some(*residual), *out)?;
                }
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
            Op::Embed { weight, by, out } => self.embed(weight, by, out),
            Op::MatMul { x, weight, out } => self.matmul(x, weight, out),
            Op::Norm { x, norm, out } => self.norm(x, norm, None, out),
            Op::Bias { x, bias, out } => {
                let bias = self.vector(bias)?.clone();
                let numbers = Numbers::of(self.graph.value(out).width | bias.at);
                let constants = [("B_AT", bias.at as f64)];
                let b = whole("b", &bias.buffer);
                self.elementwise(Elementwise::Bias, numbers, &constants, x, Some(b), out)
            }
            Op::Unary { x, f, out } => self.of_values(Elementwise::Unary, &unary(Some(f)), [x, x], out),
            Op::Gated { gate, up, f, out } => {
                self.of_values(Elementwise::Gated, &gate_constants(f), [gate, up], out)
            }
            Op::Add { a, b, out } => self.of_values(Elementwise::Add, &[], [a, b], out),
            Op::Mul { a, b, out } => self.of_values(Elementwise::Mul, &[], [a, b], out),
            Op::Rope { x, rope, out } => self.rope(x, rope, out),
            Op::KvWrite { x, cache, half } => self.kv_write(x, cache, half),
            Op::Attention { q, cache: Some(cache), shape, out, .. } => self.attention(q, cache, shape, out),
            Op::Attention { cache: None, .. } => {
                Err(GpuError::Unsupported("attention without a KV cache".into()))
            }
            Op::Route { logits, routing, out } => self.route(logits, routing, out),
            Op::Experts { experts, out } => self.expert_group(ExpertGroup::of(experts, out)),
            Op::ExpertSum { x, route, out } => self.sum_of_value(x, route, out),
            Op::SelectRows { x, out } => {
                let width = self.graph.value(x).width;
                let numbers = Numbers::of(width);
                let resources = [whole("x", self.value(x)?), whole("y", self.value(out)?)];
                let grid = threads(width / numbers.count(), Domain::Outputs);
                let constants = [("WIDTH", width as f64)];
                self.push(Kernel::SelectRows(numbers), &constants, &resources, Domain::Outputs, grid)
            }
        }
    }

    /// An elementwise op on one or two values.
    fn of_values(
        &mut self,
        op: Elementwise,
        constants: &[(&'static str, f64)],
        [a, b]: [ValueId; 2],
        out: ValueId,
    ) -> Result<(), GpuError> {
        let numbers = Numbers::of(self.graph.value(out).width);
        let b = whole("b", self.value(b)?);
        self.elementwise(op, numbers, constants, a, Some(b), out)
    }

    fn elementwise(
        &mut self,
        op: Elementwise,
        numbers: Numbers,
        constants: &[(&'static str, f64)],
        a: ValueId,
        b: Option<Resource>,
        out: ValueId,
    ) -> Result<(), GpuError> {
        let Value { domain, width } = self.graph.value(out);
        let mut resources = vec![whole("a", self.value(a)?), whole("y", self.value(out)?)];
        resources.extend(b);
        let constants = [&[rows_constant(domain), ("WIDTH", width as f64)], constants].concat();
        let grid = threads(width / numbers.count(), domain);
        self.push(Kernel::Elementwise(op, numbers), &constants, &resources, domain, grid)
    }

    fn norm(
        &mut self,
        x: ValueId,
        norm: Norm,
        residual: Option<ValueId>,
        out: ValueId,
    ) -> Result<(), GpuError> {
        let Value { domain, width } = self.graph.value(x);
        let (mut constants, runs) = norm_constants(norm, domain, width);
        let mut resources = vec![whole("x", self.value(x)?), whole("y", self.value(out)?)];
        let vectors = [("weight", "WEIGHT_RUNS", norm.weight), ("bias", "BIAS_RUNS", norm.bias)];
        for (name, of_runs, vector) in vectors {
            let Some(vector) = vector else { continue };
            let Vector { buffer, at, len } = self.vector(vector)?;
            if *at > 0 || (*len != norm.run && *len != width) {
                let message = format!("a norm of {} in rows of {width} with a vector of {len}", norm.run);
                return Err(GpuError::Internal(message));
            }
            constants.push((of_runs, (len / norm.run) as f64));
            resources.push(whole(name, buffer));
        }
        let kind = match norm.kind {
            NormKind::Rms => nomoat_shaders::NormKind::Rms,
            NormKind::Layer => nomoat_shaders::NormKind::Layer,
        };
        if let Some(residual) = residual {
            resources.push(whole("residual", self.value(residual)?));
        }
        let (weight, bias, add) = (norm.weight.is_some(), norm.bias.is_some(), residual.is_some());
        let kernel = Kernel::Norm { kind, weight, bias, add, numbers: Numbers::of(norm.run) };
        let grid = [Extent::Fixed(runs as u32), Extent::Rows(domain, 1), SINGLE];
        self.push(kernel, &constants, &resources, domain, grid)
    }

    fn embed(&mut self, weight: WeightId, by: Index, out: ValueId) -> Result<(), GpuError> {
        let n_cols = self.graph.weight(weight).n_cols;
        let (weights, layout) = (self.weights, self.layout(weight)?);
        let numbers = if n_cols.is_multiple_of(BLOCK) { Numbers::Four } else { Numbers::One };
        for piece in weights.pieces(weight) {
            let constants = embed_constants(n_cols, piece, by);
            let mut resources = vec![whole("y", self.value(out)?)];
            resources.extend(self.planes(weight, piece));
            let grid = threads(n_cols.div_ceil(BLOCK), Domain::Tokens);
            self.push(Kernel::Embed(layout, numbers), &constants, &resources, Domain::Tokens, grid)?;
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
        pipeline.bind(self.gpu, &[resources, &common].concat())
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

pub(super) fn rows_constant(domain: Domain) -> (&'static str, f64) {
    ("OUTPUT_ROWS", f64::from(u8::from(domain == Domain::Outputs)))
}

/// The constants of a norm, and its runs in a row.
pub(super) fn norm_constants(norm: Norm, domain: Domain, width: usize) -> (Constants, usize) {
    let runs = width / norm.run.max(1);
    let constants = vec![
        rows_constant(domain),
        ("WIDTH", norm.run as f64),
        ("RUNS", runs as f64),
        ("EPS", f64::from(norm.eps)),
    ];
    (constants, runs)
}

/// The constants of an embedding in a piece of its matrix.
pub(super) fn embed_constants(n_cols: usize, piece: &Piece, by: Index) -> Constants {
    vec![
        ("N_COLS", n_cols as f64),
        ("N_ROWS", piece.n_rows as f64),
        ("FIRST_ROW", piece.first_row as f64),
        (
            "BY",
            match by {
                Index::Id => 0.0,
                Index::Position => 1.0,
                Index::Set => 2.0,
            },
        ),
    ]
}

/// The constants of a function of one number, see `common/unary.wgsl`.
pub(super) fn unary(f: Option<Unary>) -> [(&'static str, f64); 2] {
    let (number, parameter) = match f {
        None => (0, 0.0),
        Some(Unary::Activation(f)) => match f {
            Activation::Silu => (1, 0.0),
            Activation::Gelu => (2, 0.0),
            Activation::GeluErf => (3, 0.0),
            Activation::GeluQuick => (4, 0.0),
            Activation::Relu => (5, 0.0),
            Activation::ReluSquared => (6, 0.0),
        },
        Some(Unary::Scale(factor)) => (7, factor),
        Some(Unary::SoftCap(cap)) => (8, cap),
        Some(Unary::Clamp(limit)) => (9, limit),
    };
    [("FUNCTION", f64::from(number)), ("PARAMETER", f64::from(parameter))]
}

/// A grid with one thread per item, 64 threads per workgroup, and one row of workgroups per step row.
fn threads(items: usize, domain: Domain) -> Grid {
    [Extent::Fixed((items as u32).div_ceil(64)), Extent::Rows(domain, 1), SINGLE]
}
