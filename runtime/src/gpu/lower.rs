//! From ops to dispatches: which kernel, which constants, which buffers, which grid.

use super::buffers::Buffers;
use super::fuse::{Fused, Norm, Qkv, fuse};
use super::kernels::{Constants, Kernel};
use super::weights::{Part, Stored, Weights};
use super::{Class, Gpu, GpuError, Lanes};
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

    /// The likeliest token of each output row, in two steps: by parts, then over them.
    fn best(&mut self, logits: ValueId, out: ValueId) -> Result<(), GpuError> {
        let (parts, constants, grid) = self.parts(logits);
        let resources = [whole("logits", self.value(logits)), whole("parts", &parts)];
        self.push("best_part.plain", constants.clone(), &resources, Rows::Outputs, grid)?;
        let next = whole("next", &self.buffers.step.tokens);
        let resources = [&resources[..], &[whole("y", self.value(out)), next]].concat();
        let grid = [Extent::Rows(Rows::Outputs, 64), SINGLE, SINGLE];
        self.push("argmax", constants, &resources, Rows::Outputs, grid)
    }

    /// A token chosen by chance for the only output row, see [`Choice`].
    fn choice(&mut self, logits: ValueId, out: ValueId) -> Result<ChoiceBuffers, GpuError> {
        let n_vocab = self.graph.values[logits.0].width as u64;
        let (parts, constants, [x, ..]) = self.parts(logits);
        let grid = [x, SINGLE, SINGLE];
        let (gpu, buffers) = (self.gpu, &mut self.buffers);
        let choice = buffers.add_uniform(gpu, "choice", &[0; size_of::<Choice>() / 4]);
        let [seen, bias] = ["seen", "bias"].map(|name| buffers.add(gpu, name, 4 * n_vocab));
        let histogram = buffers.add(gpu, "histogram", 4 * BINS as u64);
        let winners = buffers.add(gpu, "winners", 8 * n_vocab.div_ceil(PART as u64));
        let resources = [
            whole("logits", self.value(logits)),
            whole("choice", &choice),
            whole("seen", &seen),
            whole("bias", &bias),
            whole("parts", &parts),
            whole("histogram", &histogram),
            whole("winners", &winners),
            whole("y", self.value(out)),
            whole("next", &self.buffers.step.tokens),
        ];
        let mut push = |name: &str, grid| self.push(name, constants.clone(), &resources, Rows::Outputs, grid);
        push("best_part.adjusted", grid)?;
        push("choice_count", grid)?;
        push("choice_race", grid)?;
        push("choice_end", [SINGLE; 3])?;
        self.dispatches[1].when = When::Truncated;
        Ok(ChoiceBuffers { choice, seen, bias })
    }

    /// Where the likeliest of each part of logits goes, with the constants and the grid of kernels that work on parts.
    fn parts(&mut self, logits: ValueId) -> (wgpu::Buffer, Constants, Grid) {
        let n_vocab = self.graph.values[logits.0].width;
        let n_parts = n_vocab.div_ceil(PART);
        let size = 16 * n_parts as u64 * u64::from(self.capacity.outputs);
        let parts = self.scratch(Scratch::Parts(n_parts), size);
        let constants = vec![("N_VOCAB", n_vocab as f64), ("N_PARTS", n_parts as f64)];
        (parts, constants, [Extent::Fixed(n_parts as u32), Extent::Rows(Rows::Outputs, 1), SINGLE])
    }

    fn fused(&mut self, fused: &Fused) -> Result<(), GpuError> {
        match fused {
            Fused::Op(op) => self.op(op),
            Fused::Project { x, norm, weight, out } => {
                let (weights, width) = (self.weights, self.graph.values[out.0].width);
                for part in weights.parts(*weight) {
                    let (constants, resources) = self.plain_output(part, *out, width);
                    let n_units = part.n_rows.div_ceil(UNIT);
                    self.matvec(*x, Some(*norm), (*weight, part), "plain", constants, resources, n_units)?;
                }
                Ok(())
            }
            Fused::Residual { x, weight, residual, out } => {
                let width = self.graph.values[out.0].width;
                let resources = vec![whole("residual", self.value(*residual)), whole("y", self.value(*out))];
                let constants = vec![("OUT_WIDTH", width as f64)];
                let part = self.first_part(*weight)?;
                self.matvec(*x, None, (*weight, part), "residual", constants, resources, width / UNIT)
            }
            Fused::GateUp { x, norm, weights, out } => {
                let width = self.graph.values[out.0].width;
                let resources = vec![whole("y", self.value(*out))];
                let constants = vec![("OUT_WIDTH", width as f64)];
                let part = self.first_part(weights[0])?;
                self.matvec(*x, *norm, (weights[0], part), "gate_up", constants, resources, width / 2)
            }
            Fused::Qkv(qkv) => self.qkv(qkv),
        }
    }

    fn qkv(&mut self, qkv: &Qkv) -> Result<(), GpuError> {
        let Qkv { x, norm, rope, n_kv_heads, layer, out, .. } = *qkv;
        let constants = vec![
            ("N_HEADS", rope.n_heads as f64),
            ("N_KV_HEADS", n_kv_heads as f64),
            ("HEAD_DIM", rope.head_dim as f64),
            ("N_ROT", rope.n_rot as f64),
            ("NEOX", f64::from(u8::from(rope.neox))),
        ];
        let table = self.rope_table(qkv.turns, qkv.factors, rope.n_rot)?;
        let resources =
            vec![whole("table", &table), whole("kv", &self.buffers.kv[layer]), whole("y", self.value(out))];
        let n_units = (rope.n_heads + 2 * n_kv_heads) * (rope.head_dim / UNIT);
        let part = self.first_part(qkv.weights[0])?;
        self.matvec(x, norm, (qkv.weights[0], part), "qkv", constants, resources, n_units)
    }

    /// One dispatch of `matvec`: `x`, normed first if there is a norm, times the rows from those of `part` on.
    #[allow(clippy::too_many_arguments)]
    fn matvec(
        &mut self,
        x: ValueId,
        norm: Option<Norm>,
        (weight, part): (WeightId, &Part),
        output: &str,
        constants: Constants,
        resources: Vec<Resource>,
        n_units: usize,
    ) -> Result<(), GpuError> {
        let format = self.format(weight)?;
        let rows = self.graph.values[x.0].rows;
        let n_cols = self.graph.weights[weight.0].n_cols;
        let (x_kind, mut all) = self.activations(x, norm, format)?;
        all.extend(planes(part));
        all.extend(resources);
        let mut all_constants = self.common_constants(rows, n_cols, part);
        all_constants.extend(constants);
        all_constants.extend(norm.map(|norm| ("EPS", f64::from(norm.eps))));
        let (lanes, grid) = self.units(n_units, n_cols, Extent::Rows(rows, 1));
        let name = format!("matvec.{}.{x_kind}.{output}.{lanes}", suffix(format));
        all.push(self.shape(&all_constants));
        self.push(&name, all_constants, &all, rows, grid)
    }

    /// The buffer that tells projections their shape; ops of one shape share it.
    fn shape(&mut self, constants: &Constants) -> Resource {
        let of = |name| constants.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, value)| *value);
        let numbers = ["N_COLS", "W_ROW", "N_ROWS", "FIRST_ROW", "OUT_WIDTH"].map(|name| of(name) as u32);
        let [a, b, c, d, e] = numbers;
        let contents = [a, b, c, d, e, (of("EPS") as f32).to_bits(), 0, 0];
        let (gpu, buffers) = (self.gpu, &mut self.buffers);
        let buffer =
            self.shapes.entry(contents).or_insert_with(|| buffers.add_uniform(gpu, "shape", &contents));
        whole("shape", buffer)
    }

    /// How a kernel gets its activations, and the buffers for it.
    fn activations(
        &mut self,
        x: ValueId,
        norm: Option<Norm>,
        format: Format,
    ) -> Result<(&'static str, Vec<Resource>), GpuError> {
        if self.is_int8(format) {
            return Ok(("int8", self.quantised(x, norm)?));
        }
        let mut resources = vec![whole("x", self.value(x))];
        let Some(norm) = norm else { return Ok(("plain", resources)) };
        resources.push(whole("norm", self.vector(norm.weight)?));
        Ok(("normed", resources))
    }

    fn is_int8(&self, format: Format) -> bool {
        // Of weights in 8 bits, activations in 8 bits would lose more than the format did.
        matches!(format, Format::Q4_0 | Format::Q4_1) && self.gpu.variants().class == Class::Int8
    }

    /// The value in 8 bits, quantised now unless it just was.
    fn quantised(&mut self, x: ValueId, norm: Option<Norm>) -> Result<Vec<Resource>, GpuError> {
        let Value { rows, width } = self.graph.values[x.0];
        let n = u64::from(self.capacity.rows(rows)) * width as u64;
        let (scales_at, scales) = (n.next_multiple_of(PLANE_ALIGN), n / BLOCK as u64 * 8);
        let key = Scratch::Int8(rows, width);
        let buffer = self.scratch(key, scales_at + scales);
        let plane = |name, at, size| (name, buffer.clone(), at, Some(size));
        if self.held.insert(key, (Some(x), norm.map(|n| n.weight))) != Some((Some(x), norm.map(|n| n.weight)))
        {
            let mut constants = vec![domain(rows), ("WIDTH", width as f64)];
            let mut resources =
                vec![whole("x", self.value(x)), plane("y", 0, n), plane("y_scales", scales_at, scales)];
            let mut name = "quantise.plain";
            if let Some(norm) = norm {
                name = "quantise.normed";
                constants.push(("EPS", f64::from(norm.eps)));
                resources.push(whole("norm", self.vector(norm.weight)?));
            }
            self.push(name, constants, &resources, rows, [Extent::Rows(rows, 1), SINGLE, SINGLE])?;
        }
        Ok(vec![plane("x", 0, n), plane("x_scales", scales_at, scales)])
    }

    /// The table of cosines and sines, computed now unless it has been.
    fn rope_table(
        &mut self,
        turns: WeightId,
        factors: WeightId,
        n_rot: usize,
    ) -> Result<wgpu::Buffer, GpuError> {
        let key = Scratch::RopeTable(turns, factors, n_rot);
        let table = self.scratch(key, 4 * n_rot as u64 * u64::from(self.capacity.tokens));
        if self.held.insert(key, (None, None)).is_none() {
            let resources = [
                whole("turns", self.vector(turns)?),
                whole("factors", self.vector(factors)?),
                whole("y", &table),
            ];
            let constants = vec![("N_ROT", n_rot as f64)];
            let grid = threads(n_rot / 2, Rows::Tokens);
            self.push("rope_table", constants, &resources, Rows::Tokens, grid)?;
        }
        Ok(table)
    }

    fn attention(
        &mut self,
        q: ValueId,
        layer: usize,
        attention: Attention,
        out: ValueId,
    ) -> Result<(), GpuError> {
        let Attention { n_heads, n_kv_heads, head_dim, scale, window } = attention;
        if !head_dim.is_multiple_of(8) || head_dim > 512 {
            return Err(GpuError::Unsupported(format!(
                "attention heads of {head_dim} dimensions (multiples of 8 up to 512 are)"
            )));
        }
        // As many heads of the same keys as fit, and rows for the rest of the queries.
        let alike = n_heads / n_kv_heads;
        let heads = (1..=QUERIES).rev().find(|n| alike.is_multiple_of(*n)).unwrap_or(1);
        let constants = |rows: usize| {
            vec![
                ("N_HEADS", n_heads as f64),
                ("N_KV_HEADS", n_kv_heads as f64),
                ("HEAD_DIM", head_dim as f64),
                ("SCALE", f64::from(scale)),
                ("WINDOW", f64::from(window)),
                ("PAGE", f64::from(PAGE)),
                ("HEADS", heads as f64),
                ("ROWS", rows as f64),
            ]
        };
        if !self.gpu.variants().tile {
            let quads = [16, 32, 128].into_iter().find(|quads| head_dim <= 4 * quads).unwrap_or(128);
            let kv = whole("k", &self.buffers.kv[layer]);
            let resources = [whole("q", self.value(q)), kv, whole("y", self.value(out))];
            let grid = [Extent::Fixed(n_heads as u32), Extent::Rows(Rows::Tokens, 1), SINGLE];
            let name = format!("attention_few.{quads}");
            return self.push(&name, constants(1), &resources, Rows::Tokens, grid);
        }
        let splits = self.capacity.cells().div_ceil(SPLIT).min(MAX_SPLITS);
        let bytes = 4 * u64::from(splits) * (n_heads * (head_dim + 2)) as u64;
        let partial = self.scratch(Scratch::Partial(n_heads, head_dim), bytes);
        let kv = &self.buffers.kv[layer];
        let resources = [
            whole("q", self.value(q)),
            whole("k", kv),
            whole("v", kv),
            whole("y", self.value(out)),
            whole("partial", &partial),
        ];
        let pairs = if head_dim <= 128 { 1 } else { 4 };
        let mut launches = Vec::new();
        for (from, rows) in [(1, 1), (2, QUERIES / heads)] {
            let queries = if heads * rows == 1 { 1 } else { QUERIES };
            let kernel = self.gpu.kernel(&format!("attention.{pairs}.{queries}"), constants(rows))?;
            let y = Extent::Rows(Rows::Tokens, rows as u32);
            let grid = [Extent::Fixed((n_heads / heads) as u32), y, Extent::Splits];
            launches.push((from, Launch { kernel, grid }));
        }
        let bind_group = self.bind(&launches[0].1.kernel, &resources)?;
        self.dispatches.push(Dispatch { bind_group, rows: Rows::Tokens, when: When::Always, launches });

        let resources = [whole("partial", &partial), whole("y", self.value(out))];
        let grid = [Extent::Fixed(((n_heads * head_dim / 2) as u32).div_ceil(64)), SINGLE, SINGLE];
        self.push("attention_merge", constants(1), &resources, Rows::Tokens, grid)?;
        if let Some(merge) = self.dispatches.last_mut() {
            merge.when = When::Split;
        }
        Ok(())
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

    /// A projection in a step of any number of rows.
    fn matmul(&mut self, x: ValueId, weight: WeightId, out: ValueId) -> Result<(), GpuError> {
        let n_cols = self.graph.weights[weight.0].n_cols;
        let Value { rows, width } = self.graph.values[out.0];
        let (weights, format) = (self.weights, self.format(weight)?);
        let variants = *self.gpu.variants();
        let (x_kind, x_resources) = self.activations(x, None, format)?;
        let format = suffix(format);
        for part in weights.parts(weight) {
            let (plain, mut resources) = self.plain_output(part, out, width);
            let mut constants = self.common_constants(rows, n_cols, part);
            constants.extend(plain);
            resources.extend(x_resources.iter().cloned());
            resources.extend(planes(part));
            resources.push(self.shape(&constants));

            let n_units = part.n_rows.div_ceil(UNIT);
            let (lanes, grid) = self.units(n_units, n_cols, Extent::Rows(rows, 1));
            let mut launches = Vec::new();
            let mut add = |from, name: String, grid| {
                let kernel = self.gpu.kernel(&name, constants.clone())?;
                launches.push((from, Launch { kernel, grid }));
                Ok::<_, GpuError>(())
            };
            // A step of many rows may have one output.
            if self.is_one || rows == Rows::Outputs {
                add(1, format!("matvec.{format}.{x_kind}.plain.{lanes}"), grid)?;
            }
            if !self.is_one {
                let few = [grid[0], Extent::Rows(rows, FEW), SINGLE];
                add(2, format!("matmul_few.{format}.{x_kind}.{lanes}"), few)?;
            }
            if !self.is_one && variants.tile {
                let staged = match (x_kind, variants.f16) {
                    ("int8", _) => "int8",
                    (_, true) => "f16",
                    (_, false) => "f32",
                };
                for (from, tile) in [(MANY, TILE / 2), (TILE / 2 + 1, TILE)] {
                    let grid = [
                        Extent::Fixed((part.n_rows as u32).div_ceil(TILE)),
                        Extent::Rows(rows, tile),
                        SINGLE,
                    ];
                    add(from, format!("matmul.{format}.{staged}.{tile}"), grid)?;
                }
            }
            let bind_group = self.bind(&launches[0].1.kernel, &resources)?;
            self.dispatches.push(Dispatch { bind_group, rows, when: When::Always, launches });
        }
        Ok(())
    }

    /// Which lanes share a unit, and the grid for so many units; `y` is its second dimension.
    fn units(&self, n_units: usize, n_cols: usize, y: Extent) -> (&'static str, Grid) {
        let (name, group) = match self.gpu.variants().lanes {
            Lanes::One => ("one", 16),
            Lanes::Shared => ("shared", 64),
            Lanes::Subgroup => ("subgroup", 64),
        };
        let per_group = group / self.n_lanes(n_cols);
        let groups = (n_units as u32).div_ceil(per_group).min(MAX_GROUPS);
        (name, [Extent::Fixed(groups), y, SINGLE])
    }

    /// Threads of a unit: no more than a row has blocks.
    fn n_lanes(&self, n_cols: usize) -> u32 {
        let variants = self.gpu.variants();
        match variants.lanes {
            Lanes::One => 1,
            _ => variants.n_lanes.min(1 << (n_cols / BLOCK).max(1).ilog2()),
        }
    }

    fn common_constants(&self, rows: Rows, n_cols: usize, part: &Part) -> Constants {
        vec![
            domain(rows),
            ("N_COLS", n_cols as f64),
            ("W_ROW", part.buffer_row as f64),
            ("LANES", f64::from(self.n_lanes(n_cols))),
        ]
    }

    fn plain_output(&self, part: &Part, out: ValueId, width: usize) -> (Constants, Vec<Resource>) {
        let constants = vec![
            ("N_ROWS", part.n_rows as f64),
            ("FIRST_ROW", part.first_row as f64),
            ("OUT_WIDTH", width as f64),
        ];
        (constants, vec![whole("y", self.value(out))])
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
