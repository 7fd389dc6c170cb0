//! One op, forwards and backwards.

use super::Training;
use super::product::{Matrix, Pair};
use crate::gpu::GpuError;
use crate::gpu::kernels::{Constants, Resource, whole};
use crate::gpu::lower::{
    embed_constants, gate_constants, norm_constants, rows_constant, score_constants, unary,
};
use crate::gpu::weights::Vector;
use crate::graph::{Attention, Domain, Index, Norm, NormKind, Op, Rope, Value, ValueId, WeightId};
use crate::quant::BLOCK;
use crate::train::Walk;
use nomoat_shaders::{Elementwise, Kernel, Layout, Numbers, Slope, Train};

/// The threads of a workgroup.
const THREADS: usize = 64;

fn shader_kind(kind: NormKind) -> nomoat_shaders::NormKind {
    match kind {
        NormKind::Rms => nomoat_shaders::NormKind::Rms,
        NormKind::Layer => nomoat_shaders::NormKind::Layer,
    }
}

impl Training<'_> {
    /// A value that has been computed.
    pub(super) fn read(&self, id: ValueId) -> Result<wgpu::Buffer, GpuError> {
        let value = self.values[id.0].clone();
        value.ok_or_else(|| GpuError::Internal("a value that does not exist".into()))
    }

    fn vector(&self, id: WeightId) -> Result<Vector, GpuError> {
        let vector = self.weights.vector(id).cloned();
        vector.ok_or_else(|| GpuError::Internal("a matrix is used as a vector".into()))
    }

    /// Adds a dispatch of one thread per number of so wide rows.
    fn each(
        &mut self,
        kernel: Kernel,
        constants: &Constants,
        resources: &[Resource],
        width: usize,
        domain: Domain,
    ) -> Result<(), GpuError> {
        let grid = [width.div_ceil(THREADS), self.n_rows(domain), 1];
        let (step, resources) = (self.step(), [resources, &self.shared()].concat());
        self.queue.run(kernel, constants, ("step", &step), &resources, grid)
    }

    pub(super) fn rope_table(&mut self, rope: Rope) -> Result<wgpu::Buffer, GpuError> {
        let table = self.queue.floats(rope.n_rot * self.batch.tokens.len())?;
        let (turns, factors) = (self.vector(rope.turns)?, self.vector(rope.factors)?);
        let resources =
            [whole("turns", &turns.buffer), whole("factors", &factors.buffer), whole("y", &table)];
        let constants = vec![("N_ROT", rope.n_rot as f64), ("MAGNITUDE", f64::from(rope.magnitude))];
        self.each(Kernel::RopeTable, &constants, &resources, rope.n_rot / 2, Domain::Tokens)?;
        Ok(table)
    }

    /// Computes an op's result.
    pub(super) fn compute_op(&mut self, op: usize) -> Result<(), GpuError> {
        let graph = &self.graph.graph;
        let what = &graph.ops[op];
        let Some(out) = what.out() else { return Ok(()) };
        let Value { domain, width } = graph.value(out);
        let y = self.queue.floats(self.size(out))?;
        let to = whole("y", &y);
        match *what {
            Op::Embed { weight, by, .. } => self.embed(weight, by, width, to)?,
            Op::Norm { x, norm, .. } => {
                let (mut constants, mut resources, runs) = self.norm_parts(norm, domain, width)?;
                resources.extend([whole("x", &self.read(x)?), to]);
                let (weight, bias) = (norm.weight.is_some(), norm.bias.is_some());
                if let Some(bias) = norm.bias {
                    let bias = self.vector(bias)?;
                    constants.push(("BIAS_RUNS", (bias.len / norm.run.max(1)) as f64));
                    resources.push(whole("bias", &bias.buffer));
                }
                let (kind, numbers) = (shader_kind(norm.kind), Numbers::of(norm.run));
                let kernel = Kernel::Norm { kind, weight, bias, add: false, numbers };
                let grid = [runs, self.n_rows(domain), 1];
                let step = self.step();
                self.queue.run(kernel, &constants, ("step", &step), &resources, grid)?;
            }
            Op::MatMul { x, weight, .. } => {
                let n_in = graph.value(x).width;
                let (x, n_rows) = (self.read(x)?, self.n_rows(domain));
                self.multiply(weight, n_rows, Matrix::rows(&x, 0, n_in), Matrix::rows(&y, 0, width))?;
                if let Some(pair) = self.pair(op, width) {
                    self.multiply_low(pair, n_rows, &x, &y)?;
                }
            }
            Op::Bias { x, .. } | Op::Unary { x, .. } => {
                let (x, step) = (self.read(x)?, self.step());
                self.after(what, step, domain, width, &x, &y)?;
            }
            Op::Rope { x, rope, .. } => {
                let x = self.read(x)?;
                self.turn(rope, width, 1.0, [whole("x", &x), to])?;
            }
            Op::Attention { q, k, v, shape, .. } => {
                let n = self.batch.tokens.len() * shape.n_heads;
                let ends = match self.ends.get(&op) {
                    Some(ends) => ends.clone(),
                    None => self.queue.floats(2 * n)?,
                };
                self.ends.insert(op, ends.clone());
                let mut resources = vec![to, whole("ends", &ends)];
                if let Some(sinks) = shape.sinks {
                    resources.push(whole("sinks", &self.vector(sinks)?.buffer));
                }
                let kernel = Train::Attend { sinks: shape.sinks.is_some() };
                self.attend(kernel, shape, [q, k, v], resources, shape.n_heads)?;
            }
            Op::Gated { gate, up, .. } => self.pairs(what, domain, width, [gate, up], to)?,
            Op::Add { a, b, .. } | Op::Mul { a, b, .. } => self.pairs(what, domain, width, [a, b], to)?,
            Op::SelectRows { x, .. } => {
                let (x, numbers) = (self.read(x)?, Numbers::of(width));
                let constants = vec![("WIDTH", width as f64)];
                let kernel = Kernel::SelectRows(numbers);
                self.each(kernel, &constants, &[whole("x", &x), to], width / numbers.count(), domain)?;
            }
            _ => return Err(GpuError::Internal("an op that the pass lets through".into())),
        }
        self.values[out.0] = Some(y);
        Ok(())
    }

    fn embed(&mut self, weight: WeightId, by: Index, width: usize, to: Resource) -> Result<(), GpuError> {
        let layout = self.weights.formats[weight.0].layout();
        let name = Layout::find(layout.name())
            .ok_or_else(|| GpuError::Internal(format!("there are no kernels for {}", layout.name())))?;
        let numbers = if width.is_multiple_of(BLOCK) { Numbers::Four } else { Numbers::One };
        let weights = self.weights;
        for piece in weights.pieces(weight) {
            let constants = embed_constants(width, piece, by);
            let mut resources = vec![
                to.clone(),
                ("quants", piece.buffer.clone(), 0, Some(piece.planes.quants)),
                ("scales", piece.buffer.clone(), piece.planes.scales_offset, Some(piece.planes.scales)),
                // No id of a batch is that of a slot.
                whole("chosen", &self.tables.logprobs),
            ];
            resources.extend(self.queue.grid(layout).map(|grid| whole("grid", &grid)));
            let kernel = Kernel::Embed(name, numbers);
            self.each(kernel, &constants, &resources, width.div_ceil(BLOCK), Domain::Tokens)?;
        }
        Ok(())
    }

    /// What a norm and its gradient have in common, and the number of runs.
    fn norm_parts(
        &self,
        norm: Norm,
        domain: Domain,
        width: usize,
    ) -> Result<(Constants, Vec<Resource>, usize), GpuError> {
        let (mut constants, runs) = norm_constants(norm, domain, width);
        let mut resources = Vec::new();
        if let Some(weight) = norm.weight {
            let weight = self.vector(weight)?;
            constants.push(("WEIGHT_RUNS", (weight.len / norm.run.max(1)) as f64));
            resources.push(whole("weight", &weight.buffer));
        }
        Ok((constants, resources, runs))
    }

    /// An op of one value.
    pub(super) fn after(
        &mut self,
        op: &Op,
        step: [u32; 4],
        domain: Domain,
        width: usize,
        x: &wgpu::Buffer,
        y: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let mut constants = vec![rows_constant(domain), ("WIDTH", width as f64)];
        let mut resources = vec![whole("a", x), whole("y", y)];
        let mut numbers = Numbers::of(width);
        let kind = match *op {
            Op::Bias { bias, .. } => {
                let bias = self.vector(bias)?;
                numbers = Numbers::of(width | bias.at);
                constants.push(("B_AT", bias.at as f64));
                resources.push(whole("b", &bias.buffer));
                Elementwise::Bias
            }
            Op::Unary { f, .. } => {
                constants.extend(unary(Some(f)));
                Elementwise::Unary
            }
            _ => return Err(GpuError::Internal("an op of more than one value".into())),
        };
        let n_rows = if domain == Domain::Outputs { step[1] } else { step[0] };
        let grid = [(width / numbers.count()).div_ceil(THREADS), n_rows as usize, 1];
        let kernel = Kernel::Elementwise(kind, numbers);
        self.queue.run(kernel, &constants, ("step", &step), &resources, grid)
    }

    /// The gradient of [`Self::after`]: of `[x, dy, dx]`, adds to dx.
    pub(super) fn after_back(
        &mut self,
        op: &Op,
        step: [u32; 4],
        domain: Domain,
        width: usize,
        [x, dy, dx]: [&wgpu::Buffer; 3],
    ) -> Result<(), GpuError> {
        let mut constants = vec![rows_constant(domain), ("WIDTH", width as f64)];
        let slope = match *op {
            Op::Unary { f, .. } => {
                constants.extend(unary(Some(f)));
                Slope::Unary
            }
            _ => Slope::Add,
        };
        let n_rows = if domain == Domain::Outputs { step[1] } else { step[0] };
        let grid = [width.div_ceil(THREADS), n_rows as usize, 1];
        let resources = [whole("a", x), whole("dy", dy), whole("da", dx)];
        let kernel = Kernel::Train(Train::Slope(slope));
        self.queue.run(kernel, &constants, ("step", &step), &resources, grid)
    }

    /// An op of two values.
    fn pairs(
        &mut self,
        op: &Op,
        domain: Domain,
        width: usize,
        [a, b]: [ValueId; 2],
        to: Resource,
    ) -> Result<(), GpuError> {
        let mut constants = vec![rows_constant(domain), ("WIDTH", width as f64)];
        let kind = match *op {
            Op::Gated { f, .. } => {
                constants.extend(gate_constants(f));
                Elementwise::Gated
            }
            Op::Add { .. } => Elementwise::Add,
            _ => Elementwise::Mul,
        };
        let numbers = Numbers::of(width);
        let resources = [whole("a", &self.read(a)?), whole("b", &self.read(b)?), to];
        let kernel = Kernel::Elementwise(kind, numbers);
        self.each(kernel, &constants, &resources, width / numbers.count(), domain)
    }

    fn turn(&mut self, rope: Rope, width: usize, way: f64, both: [Resource; 2]) -> Result<(), GpuError> {
        let table = self.angles(&rope).cloned();
        let table = table.ok_or_else(|| GpuError::Internal("a rotary embedding without angles".into()))?;
        let constants = vec![
            ("WIDTH", width as f64),
            ("HEAD_DIM", rope.head_dim as f64),
            ("N_ROT", rope.n_rot as f64),
            ("NEOX", f64::from(u8::from(rope.neox))),
            ("WAY", way),
        ];
        let resources = [&both[..], &[whole("table", &table)]].concat();
        self.each(Kernel::Train(Train::Turn), &constants, &resources, width, Domain::Tokens)
    }

    /// A kernel of attention, with a thread for each row and each of so many heads.
    fn attend(
        &mut self,
        kernel: Train,
        shape: Attention,
        [q, k, v]: [ValueId; 3],
        mut resources: Vec<Resource>,
        n_heads: usize,
    ) -> Result<(), GpuError> {
        let mut constants = score_constants(&shape);
        constants.extend([
            ("N_HEADS", shape.n_heads as f64),
            ("N_KV_HEADS", shape.n_kv_heads as f64),
            ("HEAD_DIM", shape.head_dim as f64),
            ("VALUE_DIM", shape.value_dim as f64),
            ("WINDOW", f64::from(shape.window)),
        ]);
        let [q, k, v] = [self.read(q)?, self.read(k)?, self.read(v)?];
        resources.extend([whole("q", &q), whole("k", &k), whole("v", &v)]);
        resources.extend(self.shared());
        let grid = [(self.batch.tokens.len() * n_heads).div_ceil(THREADS), 1, 1];
        let step = self.step();
        self.queue.run(Kernel::Train(kernel), &constants, ("step", &step), &resources, grid)
    }

    /// LoRA's matrices of an op.
    fn pair(&self, op: usize, n_out: usize) -> Option<Pair> {
        let part = self.graph.parts[op].filter(|_| self.strength != 0.0)?;
        let lora = &self.graph.loras[part.lora];
        let b = lora.b().start + part.first_row * lora.rank;
        let (rank, n_in, scale) = (lora.rank, lora.n_in, self.strength * lora.scale);
        Some(Pair { a: lora.a().start, b, rank, n_in, n_out, scale })
    }

    /// The gradient of a value, to be added to; none if nothing before it is learnt.
    fn gradient_of(&mut self, id: ValueId) -> Result<Option<wgpu::Buffer>, GpuError> {
        if !self.graph.needs[id.0] {
            return Ok(None);
        }
        if self.gradients[id.0].is_none() {
            let zeros = self.queue.zeros(self.size(id))?;
            self.gradients[id.0] = Some(zeros);
        }
        Ok(self.gradients[id.0].clone())
    }

    /// Adds to the gradients of an op's inputs, and of its parameters.
    pub(super) fn differentiate_op(&mut self, op: usize) -> Result<(), GpuError> {
        let graph = self.graph;
        let what = &graph.graph.ops[op];
        let Some(out) = what.out().filter(|out| graph.needs[out.0]) else { return Ok(()) };
        let Some(dy) = self.gradients[out.0].clone() else { return Ok(()) };
        let Value { domain, width } = graph.graph.value(out);
        match *what {
            Op::Norm { x, norm, .. } => {
                let Some(dx) = self.gradient_of(x)? else { return Ok(()) };
                let (constants, mut resources, runs) = self.norm_parts(norm, domain, width)?;
                resources.extend([whole("x", &self.read(x)?), whole("dy", &dy), whole("dx", &dx)]);
                let (kind, weight) = (shader_kind(norm.kind), norm.weight.is_some());
                let kernel = Kernel::Train(Train::NormBack { kind, weight });
                let (step, grid) = (self.step(), [runs, self.n_rows(domain), 1]);
                self.queue.run(kernel, &constants, ("step", &step), &resources, grid)
            }
            Op::MatMul { x, weight, .. } => {
                let (n_in, n_rows) = (graph.graph.value(x).width, self.n_rows(domain));
                let dx = self.gradient_of(x)?;
                if let Some(pair) = self.pair(op, width) {
                    let x = self.read(x)?;
                    self.multiply_low_back(pair, n_rows, &x, &dy, dx.as_ref())?;
                }
                match &dx {
                    Some(dx) => {
                        let (dy, dx) = (Matrix::rows(&dy, 0, width), Matrix::rows(dx, 0, n_in));
                        self.multiply_back(weight, n_rows, dy, dx)
                    }
                    None => Ok(()),
                }
            }
            Op::Bias { x, .. } => self.slope(Slope::Add, &[], [x, x], x, out, &dy),
            Op::Unary { x, .. } => {
                let Some(dx) = self.gradient_of(x)? else { return Ok(()) };
                let (x, step) = (self.read(x)?, self.step());
                self.after_back(what, step, domain, width, [&x, &dy, &dx])
            }
            Op::Rope { x, rope, .. } => {
                let Some(dx) = self.gradient_of(x)? else { return Ok(()) };
                self.turn(rope, width, -1.0, [whole("x", &dy), whole("y", &dx)])
            }
            Op::Attention { q, k, v, shape, .. } => self.attend_back(op, shape, [q, k, v], out, &dy),
            Op::Gated { gate, up, f, .. } => {
                let constants = gate_constants(f);
                self.slope(Slope::Gate, &constants, [gate, up], gate, out, &dy)?;
                self.slope(Slope::Partner, &constants, [gate, up], up, out, &dy)
            }
            Op::Add { a, b, .. } => {
                self.slope(Slope::Add, &[], [a, b], a, out, &dy)?;
                self.slope(Slope::Add, &[], [a, b], b, out, &dy)
            }
            Op::Mul { a, b, .. } => {
                self.slope(Slope::Mul, &[], [a, b], a, out, &dy)?;
                self.slope(Slope::Mul, &[], [b, a], b, out, &dy)
            }
            Op::SelectRows { x, .. } => {
                let Some(dx) = self.gradient_of(x)? else { return Ok(()) };
                let resources = [whole("dy", &dy), whole("dx", &dx)];
                let constants = vec![("WIDTH", width as f64)];
                self.each(Kernel::Train(Train::RowsBack), &constants, &resources, width, Domain::Tokens)
            }
            _ => Ok(()),
        }
    }

    /// Adds to the gradient of one of an op's two values.
    fn slope(
        &mut self,
        slope: Slope,
        more: &[(&'static str, f64)],
        [a, b]: [ValueId; 2],
        of: ValueId,
        out: ValueId,
        dy: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let Some(da) = self.gradient_of(of)? else { return Ok(()) };
        let Value { domain, width } = self.graph.graph.value(out);
        let constants = [&[rows_constant(domain), ("WIDTH", width as f64)], more].concat();
        let mut resources = vec![whole("dy", dy), whole("da", &da)];
        // A sum does not need what was added, which may be gone.
        if slope != Slope::Add {
            resources.extend([whole("a", &self.read(a)?), whole("b", &self.read(b)?)]);
        }
        self.each(Kernel::Train(Train::Slope(slope)), &constants, &resources, width, domain)
    }

    fn attend_back(
        &mut self,
        op: usize,
        shape: Attention,
        [q, k, v]: [ValueId; 3],
        out: ValueId,
        dy: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let ends = self.ends.get(&op).cloned();
        let ends = ends.ok_or_else(|| GpuError::Internal("an attention without its sums".into()))?;
        let mut gradients = Vec::new();
        for id in [q, k, v] {
            // Kernels write all three.
            let gradient = match self.gradients[id.0].clone() {
                Some(known) => known,
                None => self.queue.zeros(self.size(id))?,
            };
            self.gradients[id.0] = Some(gradient.clone());
            gradients.push(gradient);
        }
        let [dq, dk, dv] = gradients.as_slice() else { return Ok(()) };
        let (y, end, of_dy) = (whole("y", &self.read(out)?), whole("ends", &ends), whole("dy", dy));
        let resources = vec![y, of_dy.clone(), end.clone(), whole("dq", dq)];
        self.attend(Train::AttendQueries, shape, [q, k, v], resources, shape.n_heads)?;
        let resources = vec![of_dy, end, whole("dk", dk), whole("dv", dv)];
        self.attend(Train::AttendKeys, shape, [q, k, v], resources, shape.n_kv_heads)
    }
}
