//! From ops to dispatches: which kernel, which constants, which buffers, which grid.

use super::kernels::{Constants, Kernel, Kernels};
use super::weights::{Stored, Weights};
use super::{Gpu, GpuError};
use crate::graph::{Capacity, Graph, Op, PAGE, Rows, Value, ValueId, WeightId};
use crate::quant::{BLOCK, Format};
use std::rc::Rc;

/// Rows of a step that a thread of `matmul_few` works on.
const FEW: u32 = 8;
/// Rows of a step, and of the weight, in a tile of `matmul`.
const TILE: u32 = 32;
/// Workgroups of a dispatch, per dimension: WebGPU's limit everywhere.
const MAX_GROUPS: u32 = 65_535;

/// What a step's buffers are called in kernels.
#[derive(Debug)]
pub(super) struct StepBuffers {
    pub step: wgpu::Buffer,
    pub tokens: wgpu::Buffer,
    pub outputs: wgpu::Buffer,
    pub pages: wgpu::Buffer,
}

/// One dimension of a grid.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    Fixed(u32),
    /// As many workgroups as it takes for the step's rows, this many at a time.
    Rows(Rows, u32),
}

/// A kernel and its grid.
#[derive(Debug)]
pub(super) struct Launch {
    pub kernel: Rc<Kernel>,
    pub grid: [Extent; 2],
}

/// One dispatch of every step.
#[derive(Debug)]
pub(super) struct Dispatch {
    pub bind_group: wgpu::BindGroup,
    /// The rows whose number decides what runs.
    rows: Rows,
    /// What runs from so many rows on, by rising number; all with the same bind group.
    launches: Vec<(u32, Launch)>,
}

impl Dispatch {
    /// What runs in a step of so many rows; nothing where it has none.
    pub fn launch(&self, count: impl Fn(Rows) -> u32) -> Option<&Launch> {
        let n = count(self.rows);
        self.launches.iter().rev().find(|(from, _)| *from <= n).map(|(_, launch)| launch)
    }
}

/// A graph on a device, ready to be encoded.
#[derive(Debug)]
pub(super) struct Plan {
    pub dispatches: Vec<Dispatch>,
    pub buffers: Buffers,
}

/// Everything a plan computes on, but for the weights.
#[derive(Debug)]
pub(super) struct Buffers {
    /// The buffer of each value. Values that live at different times share buffers.
    pub values: Vec<wgpu::Buffer>,
    /// The same without repetition.
    distinct: Vec<wgpu::Buffer>,
    /// Keys and values of each layer.
    pub kv: Vec<(wgpu::Buffer, wgpu::Buffer)>,
    pub step: StepBuffers,
}

impl Buffers {
    /// Every buffer, once.
    pub fn all(&self) -> impl Iterator<Item = &wgpu::Buffer> {
        let StepBuffers { step, tokens, outputs, pages } = &self.step;
        let kv = self.kv.iter().flat_map(|(k, v)| [k, v]);
        self.distinct.iter().chain(kv).chain([step, tokens, outputs, pages])
    }
}

/// Makes the plan. With `keep_values`, every value has a buffer of its own, to be looked at afterwards.
pub(super) fn lower(
    gpu: &Gpu,
    graph: &Graph,
    weights: &Weights,
    capacity: Capacity,
    keep_values: bool,
) -> Result<Plan, GpuError> {
    let buffers = allocate(gpu, graph, capacity, keep_values);
    let kernels = Kernels::new(gpu.clone());
    let mut lowering = Lowering { gpu, graph, weights, buffers: &buffers, kernels, dispatches: Vec::new() };
    for op in &graph.ops {
        lowering.op(op)?;
    }
    let dispatches = lowering.dispatches;
    Ok(Plan { dispatches, buffers })
}

fn allocate(gpu: &Gpu, graph: &Graph, capacity: Capacity, keep_values: bool) -> Buffers {
    use wgpu::BufferUsages as Usage;
    let storage = Usage::STORAGE | Usage::COPY_DST;
    let step = StepBuffers {
        step: gpu.buffer("step", 16, Usage::UNIFORM | Usage::COPY_DST),
        tokens: gpu.buffer("tokens", 16 * u64::from(capacity.tokens), storage),
        outputs: gpu.buffer("outputs", 8 * u64::from(capacity.outputs), storage),
        pages: gpu.buffer("pages", 4 * u64::from(capacity.sequences * capacity.max_pages), storage),
    };
    let pool = |width: usize| gpu.buffer("kv", 2 * width as u64 * u64::from(capacity.cells()), storage);
    let kv = graph.kv_widths.iter().map(|&width| (pool(width), pool(width))).collect();
    let mut distinct: Vec<wgpu::Buffer> = Vec::new();
    let mut values = Vec::new();
    for (place, value) in place_values(graph, keep_values).into_iter().zip(&graph.values) {
        if place == distinct.len() {
            let bytes = 4 * value.width as u64 * u64::from(capacity.rows(value.rows));
            distinct.push(gpu.buffer("value", bytes, storage | Usage::COPY_SRC));
        }
        values.push(distinct[place].clone());
    }
    Buffers { values, distinct, kv, step }
}

/// For each value: its buffer's number. A buffer is taken over by a later value of the same shape once the last op that reads it
/// is past. Numbers first occur in rising order.
fn place_values(graph: &Graph, keep_values: bool) -> Vec<usize> {
    let results = [graph.logits, graph.argmax];
    let mut last_read = vec![0; graph.values.len()];
    let mut made_at = vec![0; graph.values.len()];
    let mut is_input = vec![true; graph.values.len()];
    for (i, op) in graph.ops.iter().enumerate() {
        for input in op.inputs() {
            last_read[input.0] = i;
        }
        if let Some(out) = op.out() {
            made_at[out.0] = i;
            is_input[out.0] = false;
        }
    }
    // (width, rows, index of the op after which it is free)
    let mut buffers: Vec<(usize, Rows, usize)> = Vec::new();
    let mut places = Vec::new();
    for (i, &Value { rows, width }) in graph.values.iter().enumerate() {
        let keeps = keep_values || is_input[i] || results.contains(&Some(ValueId(i)));
        let until = if keeps { usize::MAX } else { last_read[i] };
        let free = buffers.iter().position(|b| b.0 == width && b.1 == rows && b.2 < made_at[i]);
        let buffer = match free {
            Some(buffer) if !keep_values && !is_input[i] => {
                buffers[buffer].2 = until;
                buffer
            }
            _ => {
                buffers.push((width, rows, until));
                buffers.len() - 1
            }
        };
        places.push(buffer);
    }
    places
}

/// A buffer, or the part of one that starts at an offset.
type Resource<'a> = (&'static str, &'a wgpu::Buffer, u64, Option<u64>);

fn whole<'a>(name: &'static str, buffer: &'a wgpu::Buffer) -> Resource<'a> {
    (name, buffer, 0, None)
}

struct Lowering<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    weights: &'a Weights,
    buffers: &'a Buffers,
    kernels: Kernels,
    dispatches: Vec<Dispatch>,
}

impl<'a> Lowering<'a> {
    fn op(&mut self, op: &Op) -> Result<(), GpuError> {
        match *op {
            Op::Embed { weight, out } => self.embed(weight, out),
            Op::MatMul { x, weight, out } => self.matmul(x, weight, out),
            Op::RmsNorm { x, weight, eps, out } => {
                let Value { rows, width } = self.graph.values[x.0];
                let constants = vec![domain(rows), ("WIDTH", width as f64), ("EPS", f64::from(eps))];
                let w = self.vector(weight)?;
                let resources = [whole("x", self.value(x)), whole("w", w), whole("y", self.value(out))];
                self.push("rms_norm", constants, &resources, [Extent::Rows(rows, 1), Extent::Fixed(1)])
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
                let (turns, factors) = (self.vector(turns)?, self.vector(factors)?);
                let resources = [
                    whole("turns", turns),
                    whole("factors", factors),
                    whole("x", self.value(x)),
                    whole("y", self.value(out)),
                ];
                let pairs = (rope.n_heads * rope.head_dim / 2) as u32;
                self.push("rope", constants, &resources, threads(pairs, Rows::Tokens))
            }
            Op::KvWrite { k, v, layer } => {
                let width = self.graph.values[k.0].width;
                let (k_pool, v_pool) = &self.buffers.kv[layer];
                let resources = [
                    whole("k", self.value(k)),
                    whole("v", self.value(v)),
                    whole("k_pool", k_pool),
                    whole("v_pool", v_pool),
                ];
                let constants = vec![("WIDTH", width as f64)];
                self.push("kv_write", constants, &resources, threads(width as u32 / 2, Rows::Tokens))
            }
            Op::Attention { q, layer, attention, out } => {
                let constants = vec![
                    ("N_HEADS", attention.n_heads as f64),
                    ("N_KV_HEADS", attention.n_kv_heads as f64),
                    ("HEAD_DIM", attention.head_dim as f64),
                    ("SCALE", f64::from(attention.scale)),
                    ("WINDOW", f64::from(attention.window)),
                    ("PAGE", f64::from(PAGE)),
                ];
                let (k_pool, v_pool) = &self.buffers.kv[layer];
                let resources = [
                    whole("q", self.value(q)),
                    whole("k_pool", k_pool),
                    whole("v_pool", v_pool),
                    whole("y", self.value(out)),
                ];
                let grid = [Extent::Fixed(attention.n_heads as u32), Extent::Rows(Rows::Tokens, 1)];
                self.push("attention", constants, &resources, grid)
            }
            Op::SelectRows { x, out } => {
                let width = self.graph.values[x.0].width;
                let resources = [whole("x", self.value(x)), whole("y", self.value(out))];
                let constants = vec![("WIDTH", width as f64)];
                self.push("select_rows", constants, &resources, threads(width as u32 / 4, Rows::Outputs))
            }
            Op::Argmax { logits, out } => {
                let constants = vec![("N_VOCAB", self.graph.values[logits.0].width as f64)];
                let resources = [whole("logits", self.value(logits)), whole("y", self.value(out))];
                self.push("argmax", constants, &resources, [Extent::Rows(Rows::Outputs, 1), Extent::Fixed(1)])
            }
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
            threads(width as u32 / 4, rows),
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
            let resources = part.resources("y", self.value(out));
            let name = format!("embed.{}", suffix(format));
            self.push(&name, constants, &resources, threads((n_cols / BLOCK) as u32, Rows::Tokens))?;
        }
        Ok(())
    }

    fn matmul(&mut self, x: ValueId, weight: WeightId, out: ValueId) -> Result<(), GpuError> {
        let n_cols = self.graph.weights[weight.0].n_cols;
        let Value { rows, width } = self.graph.values[out.0];
        let (weights, format, info) = (self.weights, self.format(weight)?, self.gpu.info());
        let n_blocks = (n_cols / BLOCK) as u32;
        // On the CPU neighbouring threads share nothing worth a barrier.
        let threads_per_row = if info.is_fallback { 1 } else { (1 << n_blocks.ilog2()).min(32) };
        let format = suffix(format);
        for part in weights.parts(weight) {
            let n_rows = part.n_rows as u32;
            let constants = vec![
                domain(rows),
                ("N_COLS", n_cols as f64),
                ("N_ROWS", f64::from(n_rows)),
                ("FIRST_ROW", part.first_row as f64),
                ("OUT_WIDTH", width as f64),
            ];
            let groups = |rows_of_weight: u32| Extent::Fixed(n_rows.div_ceil(rows_of_weight).min(MAX_GROUPS));
            let mut variants = if threads_per_row == 1 {
                vec![(
                    1,
                    format!("matvec.{format}.off"),
                    constants.clone(),
                    [groups(64), Extent::Rows(rows, 1)],
                )]
            } else {
                let constants =
                    [constants.as_slice(), &[("THREADS_PER_ROW", f64::from(threads_per_row))]].concat();
                let grid = [groups(64 / threads_per_row), Extent::Rows(rows, 1)];
                vec![(1, format!("matvec.{format}.on"), constants, grid)]
            };
            let grid = [groups(64), Extent::Rows(rows, FEW)];
            variants.push((2, format!("matmul_few.{format}"), constants.clone(), grid));
            if !info.is_fallback {
                let f16 = if info.f16 { "on" } else { "off" };
                let grid = [Extent::Fixed(n_rows.div_ceil(TILE)), Extent::Rows(rows, TILE)];
                variants.push((FEW + 1, format!("matmul.{format}.{f16}"), constants, grid));
            }

            let mut resources = part.resources("y", self.value(out));
            resources.push(whole("x", self.value(x)));
            let mut launches = Vec::new();
            for (from, name, constants, grid) in variants {
                launches.push((from, Launch { kernel: self.kernels.get(&name, constants)?, grid }));
            }
            let bind_group = self.bind(&launches[0].1.kernel, &resources)?;
            self.dispatches.push(Dispatch { bind_group, rows, launches });
        }
        Ok(())
    }

    fn push(
        &mut self,
        kernel: &str,
        constants: Constants,
        resources: &[Resource],
        grid: [Extent; 2],
    ) -> Result<(), GpuError> {
        let kernel = self.kernels.get(kernel, constants)?;
        let bind_group = self.bind(&kernel, resources)?;
        let rows = grid.into_iter().find_map(|extent| match extent {
            Extent::Rows(rows, _) => Some(rows),
            Extent::Fixed(_) => None,
        });
        let launches = vec![(1, Launch { kernel, grid })];
        self.dispatches.push(Dispatch { bind_group, rows: rows.unwrap_or(Rows::Tokens), launches });
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
            let &(_, buffer, offset, size) =
                resources.iter().chain(&common).find(|(name, ..)| *name == binding.name).ok_or_else(
                    || GpuError::Internal(format!("{} wants a buffer {}", kernel.shader.name, binding.name)),
                )?;
            entries.push(wgpu::BindGroupEntry {
                binding: binding.index,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset,
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

    fn value(&self, id: ValueId) -> &'a wgpu::Buffer {
        &self.buffers.values[id.0]
    }

    fn vector(&self, id: WeightId) -> Result<&'a wgpu::Buffer, GpuError> {
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

impl Weights {
    fn parts(&self, id: WeightId) -> &[super::weights::Part] {
        match &self.stored[id.0] {
            Stored::Matrix { parts, .. } => parts,
            Stored::Vector(_) => &[],
        }
    }
}

impl super::weights::Part {
    fn resources<'a>(&'a self, name: &'static str, value: &'a wgpu::Buffer) -> Vec<Resource<'a>> {
        let planes = self.planes;
        vec![
            ("quants", &self.buffer, 0, Some(planes.quants)),
            ("scales", &self.buffer, planes.scales_offset, Some(planes.scales)),
            whole(name, value),
        ]
    }
}

fn domain(rows: Rows) -> (&'static str, f64) {
    ("OUTPUT_ROWS", f64::from(u8::from(rows == Rows::Outputs)))
}

/// A grid of one thread an item, 64 a workgroup, and one workgroup row a row of the step.
fn threads(items: u32, rows: Rows) -> [Extent; 2] {
    [Extent::Fixed(items.div_ceil(64)), Extent::Rows(rows, 1)]
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
