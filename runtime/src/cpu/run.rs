//! A step under way: what each thread does of it, stage by stage.

mod attention;
mod experts;
mod tasks;

use super::activations::Dots;
use super::attention::Scratch;
use super::executor::has_same_angles;
use super::lower::{Multiply, Plan, Stage};
use super::matmul::{ROWS, products};
use super::weights::TILE;
use super::{CpuError, Weights, kv, numbers};
use crate::graph::fuse::{Part, Product};
use crate::graph::interpreter::route;
use crate::graph::{Chosen, Domain, Graph, Norm, Op, Rope, Step, ValueId, WeightId};
use std::ops::Range;

pub(super) use self::attention::n_parts;
pub(super) use self::tasks::{Taken, Tasks};

/// Tiles of a task of products, at most.
pub(super) const MAX_TILES: usize = 64;
/// Logits of a task that looks for the likeliest: fixed, so that sums do not depend on the number of threads.
pub(super) const LIKELIEST_RUN: usize = 4096;

/// What a thread has for itself.
#[derive(Debug, Default)]
pub(super) struct Local {
    pub prepared: Vec<u8>,
    pub normed: Vec<f32>,
    /// Products of a task's tiles, and those of their gates.
    pub products: [Vec<f32>; 2],
    /// Pairs of an expert and the place of its result.
    pub pairs: Vec<[usize; 2]>,
    pub attention: Scratch,
}

/// Memory that threads write to at once, each in places of its own.
#[derive(Clone, Copy)]
pub(super) struct Shared<T>(*mut T, usize);

// SAFETY: which thread uses which part when is decided by tasks and barriers; see where parts are taken.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn of(memory: &mut [T]) -> Self {
        Self(memory.as_mut_ptr(), memory.len())
    }

    /// # Safety
    /// Nobody writes to this part before the next barrier.
    unsafe fn read(&self, at: usize, n: usize) -> &[T] {
        assert!(at <= self.1 && n <= self.1 - at);
        // SAFETY: within the memory; the caller sees to the rest.
        unsafe { std::slice::from_raw_parts(self.0.add(at), n) }
    }

    /// # Safety
    /// Nobody else uses this part before the next barrier.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, at: usize, n: usize) -> &mut [T] {
        assert!(at <= self.1 && n <= self.1 - at);
        // SAFETY: within the memory; the caller sees to the rest.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), n) }
    }
}

/// A step under way, as its threads see it.
pub(super) struct Run<'a> {
    pub plan: &'a Plan,
    pub graph: &'a Graph,
    pub weights: &'a Weights,
    pub step: &'a Step<'a>,
    pub threads: usize,
    pub dots: Dots,
    pub meet: &'a (dyn Fn() -> Result<(), CpuError> + Sync),
    pub taken: &'a [[Taken; 2]],
    pub ropes: &'a [(Rope, Vec<[f32; 2]>)],
    /// The outputs whose likeliest token is taken.
    pub by_likelihood: &'a [usize],
    pub values: Shared<f32>,
    pub prepared: Shared<u8>,
    pub runs: Shared<(usize, f32, f32)>,
    pub locals: Shared<Local>,
    /// Parts of attention, where threads share rows; else empty.
    pub parts: Shared<f32>,
    pub chosen: Shared<Chosen>,
    /// Keys and values of each layer.
    pub kv: Vec<[Shared<u16>; 2]>,
}

/// Some columns of some rows of a product, as many as one call multiplies.
struct Strip<'a> {
    multiply: &'a Multiply,
    /// Prepared activations of all rows.
    prepared: &'a [u8],
    /// The first row, and how many.
    row: usize,
    n_rows: usize,
    tiles: Range<usize>,
}

impl Run<'_> {
    pub fn all(&self, thread: usize) -> Result<(), CpuError> {
        // SAFETY: each thread has its own.
        let local = &mut unsafe { self.locals.part(thread, 1) }[0];
        for (i, (stage, taken)) in self.plan.stages.iter().zip(self.taken).enumerate() {
            if i > 0 {
                (self.meet)()?;
            }
            let tasks = taken.each_ref().map(|taken| Tasks { taken, thread });
            match stage {
                Stage::Rows { domain, ops } => {
                    for row in tasks[1].of(self.count(*domain)) {
                        ops.iter().try_for_each(|op| self.op(op, row))?;
                    }
                }
                Stage::Products(multiply) => self.products(multiply, tasks, local)?,
                Stage::Experts(mix) => self.experts(mix, tasks, local)?,
                Stage::Attention(attend) => self.attention(*attend, tasks, local)?,
                Stage::Likeliest(logits) => self.likeliest(*logits, tasks)?,
            }
        }
        Ok(())
    }

    fn count(&self, domain: Domain) -> usize {
        match domain {
            Domain::Tokens => self.step.tokens.len(),
            Domain::Outputs => self.step.outputs.len(),
        }
    }

    /// Where a row of a value starts, and its width.
    fn place(&self, id: ValueId, row: usize) -> (usize, usize) {
        let width = self.graph.value(id).width;
        // A value without a place is one that no stage touches.
        (self.plan.places[id.0].unwrap_or(usize::MAX / 2) + row * width, width)
    }

    /// # Safety
    /// As for [`Shared::read`].
    unsafe fn input(&self, id: ValueId, row: usize) -> &[f32] {
        let (at, width) = self.place(id, row);
        // SAFETY: as promised by the caller.
        unsafe { self.values.read(at, width) }
    }

    /// Columns of a row.
    ///
    /// # Safety
    /// As for [`Shared::part`].
    #[allow(clippy::mut_from_ref)]
    unsafe fn columns(&self, id: ValueId, row: usize, first: usize, n: usize) -> &mut [f32] {
        // SAFETY: as promised by the caller.
        unsafe { self.values.part(self.place(id, row).0 + first, n) }
    }

    /// # Safety
    /// As for [`Shared::part`].
    #[allow(clippy::mut_from_ref)]
    unsafe fn row(&self, id: ValueId, row: usize) -> &mut [f32] {
        // SAFETY: as promised by the caller.
        unsafe { self.columns(id, row, 0, self.graph.value(id).width) }
    }

    /// One row of an op that computes each row by itself.
    fn op(&self, op: &Op, row: usize) -> Result<(), CpuError> {
        // SAFETY: a row of a value made here is this task's alone, and inputs are only read.
        let (input, output) = unsafe { (|id| self.input(id, row), |id| self.row(id, row)) };
        let copied = |x, out| {
            let y = output(out);
            y.copy_from_slice(input(x));
            y
        };
        match *op {
            Op::Embed { weight, by, out } => {
                let token = &self.step.tokens[row];
                let from = token.index(by) as usize;
                output(out).copy_from_slice(&self.weights.matrix(weight)?.dequantise(from));
            }
            Op::Norm { x, norm, out } => self.norm(norm, input(x), output(out))?,
            Op::Bias { x, bias, out } => numbers::add(copied(x, out), self.weights.vector(bias)?),
            Op::Rope { x, rope, out } => {
                let out = copied(x, out);
                let known = self.ropes.iter().find(|(known, _)| has_same_angles(known, &rope));
                if let Some((_, table)) = known {
                    let table = &table[row * (rope.n_rot / 2)..][..rope.n_rot / 2];
                    numbers::rope(out, rope.head_dim, rope.neox, table);
                }
            }
            Op::KvWrite { x, cache, half } => {
                let cell = self.step.tokens[row].cell as usize;
                let pool = self.kv[cache.0][half as usize];
                // SAFETY: a token's cell is this task's.
                let put = |at, word| unsafe { pool.part(at, 1)[0] = word };
                kv::write(self.graph.caches[cache.0].format, input(x), cell, half, put);
            }
            Op::Unary { x, f, out } => numbers::unary(f, copied(x, out)),
            Op::Gated { gate, up, f, out } => numbers::gate(f, input(gate), copied(up, out)),
            Op::Add { a, b, out } => numbers::add(copied(a, out), input(b)),
            Op::Mul { a, b, out } => numbers::mul(copied(a, out), input(b)),
            Op::SelectRows { x, out } => {
                let from = self.step.outputs[row].row as usize;
                // SAFETY: rows of tokens are made in an earlier stage.
                output(out).copy_from_slice(unsafe { self.input(x, from) });
            }
            Op::Route { logits, routing, out } => {
                output(out).copy_from_slice(&route(routing, input(logits)));
            }
            Op::ExpertSum { x, route, out } => {
                let (x, route, out) = (input(x), input(route), output(out));
                out.fill(0.0);
                for (x, weight) in x.chunks_exact(out.len()).zip(&route[route.len() / 2..]) {
                    out.iter_mut().zip(x).for_each(|(out, x)| *out += weight * x);
                }
            }
            Op::MatMul { .. } | Op::Experts { .. } | Op::Attention { .. } => {
                return Err(CpuError::Internal("an op with a stage of its own among ops of rows".into()));
            }
        }
        Ok(())
    }

    /// The norm of a row.
    fn norm(&self, norm: Norm, x: &[f32], out: &mut [f32]) -> Result<(), CpuError> {
        let vector = |id: Option<WeightId>| id.map(|id| self.weights.vector(id)).transpose();
        numbers::norm(norm, x, vector(norm.weight)?, vector(norm.bias)?, out);
        Ok(())
    }

    fn products(&self, multiply: &Multiply, tasks: [Tasks; 2], local: &mut Local) -> Result<(), CpuError> {
        let Multiply { work, row_bytes, .. } = multiply;
        let rows = self.count(self.graph.value(work.x).domain);
        if rows == 0 {
            return Ok(());
        }
        let Local { prepared, normed, products: room, .. } = local;
        let prepared: &[u8] = if rows == 1 {
            // Each thread prepares a single row for itself: that is faster than waiting for another to do it.
            self.prepare(multiply, 0, normed, &mut prepared[..*row_bytes])?;
            &prepared[..*row_bytes]
        } else {
            for row in tasks[0].of(rows) {
                // SAFETY: the row is this task's.
                let out = unsafe { self.prepared.part(row * row_bytes, *row_bytes) };
                self.prepare(multiply, row, normed, out)?;
            }
            (self.meet)()?;
            // SAFETY: from here on it is only read.
            unsafe { self.prepared.read(0, rows * row_bytes) }
        };
        // A gate has no value of its own: the task of the product that it gates computes it.
        let with_value = || work.products.iter().filter_map(|product| Some((product, product.out?)));
        let mut n_tiles = 0;
        for (product, _) in with_value() {
            n_tiles += self.weights.matrix(product.weight)?.n_tiles();
        }
        // Some tasks for each thread, so that others take over from one that is held up.
        let chunk = n_tiles.div_ceil(self.threads * 8).min(MAX_TILES);
        for task in tasks[1].of(n_tiles.div_ceil(chunk)) {
            let mut tiles = task * chunk..n_tiles.min((task + 1) * chunk);
            for (product, out) in with_value() {
                let n = self.weights.matrix(product.weight)?.n_tiles();
                let own = tiles.start.min(n)..tiles.end.min(n);
                if !own.is_empty() {
                    let strip = Strip { multiply, prepared, row: 0, n_rows: 0, tiles: own };
                    self.tiles(strip, rows, product, out, room)?;
                }
                tiles = tiles.start.saturating_sub(n)..tiles.end.saturating_sub(n);
            }
        }
        Ok(())
    }

    fn prepare(
        &self,
        multiply: &Multiply,
        row: usize,
        normed: &mut [f32],
        out: &mut [u8],
    ) -> Result<(), CpuError> {
        // SAFETY: no one writes it in this stage.
        let mut x: &[f32] = unsafe { self.input(multiply.work.x, row) };
        if let Some(norm) = multiply.work.norm {
            let normed = &mut normed[..x.len()];
            self.norm(norm, x, normed)?;
            x = normed;
        }
        for (form, at) in &multiply.forms {
            form.prepare(x, &mut out[*at..][..form.row_bytes(x.len())]);
        }
        Ok(())
    }

    /// All rows of some tiles.
    fn tiles(
        &self,
        mut strip: Strip,
        rows: usize,
        product: &Product,
        out: ValueId,
        room: &mut [Vec<f32>; 2],
    ) -> Result<(), CpuError> {
        while strip.row < rows {
            strip.n_rows = ROWS.min(rows - strip.row);
            match strip.n_rows {
                1 => self.strip::<1>(&strip, product, out, room)?,
                2 => self.strip::<2>(&strip, product, out, room)?,
                // Three take as long as four.
                _ => self.strip::<ROWS>(&strip, product, out, room)?,
            }
            strip.row += strip.n_rows;
        }
        Ok(())
    }

    fn strip<const R: usize>(
        &self,
        strip: &Strip,
        product: &Product,
        out: ValueId,
        [sums, gates]: &mut [Vec<f32>; 2],
    ) -> Result<(), CpuError> {
        let (first, width) = (strip.tiles.start * TILE, strip.tiles.len() * TILE);
        let n = width.min(self.weights.matrix(product.weight)?.n_rows - first);
        self.multiply::<R>(strip, product.weight, sums)?;
        for part in &product.tail {
            if let Part::GatedBy(gate, _) = part {
                let gate = &strip.multiply.work.products[*gate];
                self.multiply::<R>(strip, gate.weight, gates)?;
                for (r, y) in gates.chunks_mut(width).take(strip.n_rows).enumerate() {
                    let mut tail = gate.tail.iter();
                    tail.try_for_each(|part| self.part(part, strip.row + r, first, &mut y[..n], &[]))?;
                }
            }
            for (r, (y, gate)) in
                sums.chunks_mut(width).zip(gates.chunks(width)).take(strip.n_rows).enumerate()
            {
                self.part(part, strip.row + r, first, &mut y[..n], &gate[..n])?;
            }
        }
        for (r, y) in sums.chunks(width).take(strip.n_rows).enumerate() {
            // SAFETY: these columns are this task's.
            unsafe { self.columns(out, strip.row + r, first, n) }.copy_from_slice(&y[..n]);
        }
        Ok(())
    }

    /// The products of a strip, `[R, 8 tiles]`. Those that it has no rows for are of its last row.
    fn multiply<const R: usize>(
        &self,
        strip: &Strip,
        weight: WeightId,
        out: &mut [f32],
    ) -> Result<(), CpuError> {
        let matrix = self.weights.matrix(weight)?;
        let Multiply { forms, row_bytes, .. } = strip.multiply;
        let at = forms.iter().find(|(form, _)| *form == matrix.activations).map_or(0, |(_, at)| *at);
        let x: [&[u8]; R] = std::array::from_fn(|r| {
            let row = strip.row + r.min(strip.n_rows - 1);
            &strip.prepared[row * row_bytes..][..*row_bytes][at..]
        });
        products(matrix, strip.tiles.clone(), x, self.dots, out);
        Ok(())
    }

    /// A part of a tail, on the columns of a row from `first` on; `gate` has the same columns of the gate.
    fn part(
        &self,
        part: &Part,
        row: usize,
        first: usize,
        y: &mut [f32],
        gate: &[f32],
    ) -> Result<(), CpuError> {
        match *part {
            Part::Bias(bias) => numbers::add(y, &self.weights.vector(bias)?[first..]),
            Part::Unary(f) => numbers::unary(f, y),
            Part::GatedBy(_, f) => numbers::gate(f, gate, y),
            // SAFETY: what is added is only read.
            Part::Add(id) => numbers::add(y, &unsafe { self.input(id, row) }[first..]),
            // The end of a gate.
            Part::Gate => {}
            Part::LowRank { .. } | Part::Norm(_) | Part::Rope(_) | Part::KvWrite(..) => {
                return Err(CpuError::Internal("a part that the CPU has not in tails".into()));
            }
        }
        Ok(())
    }

    fn likeliest(&self, logits: ValueId, tasks: [Tasks; 2]) -> Result<(), CpuError> {
        let outputs = self.by_likelihood;
        if outputs.is_empty() {
            return Ok(());
        }
        let width = self.graph.value(logits).width;
        let n_runs = width.div_ceil(LIKELIEST_RUN);
        for task in tasks[0].of(outputs.len() * n_runs) {
            let (output, run) = (outputs[task / n_runs], task % n_runs);
            // SAFETY: logits are only read; the run's result is this task's.
            unsafe {
                let logits = &self.input(logits, output)[run * LIKELIEST_RUN..];
                let (index, top, sum) = numbers::likeliest(&logits[..logits.len().min(LIKELIEST_RUN)]);
                self.runs.part(task, 1)[0] = (run * LIKELIEST_RUN + index, top, sum);
            }
        }
        (self.meet)()?;
        for i in tasks[1].of(outputs.len()) {
            let output = outputs[i];
            // SAFETY: what the runs gave is only read; the output's result is this task's.
            unsafe {
                let runs = self.runs.read(i * n_runs, n_runs);
                let mut best = runs[0];
                for run in &runs[1..] {
                    best = if run.1 > best.1 { *run } else { best };
                }
                let (index, logit, _) = best;
                let sum: f32 = runs.iter().map(|run| run.2 * (run.1 - logit).exp()).sum();
                let target = (self.step.outputs[output].target as usize).min(width - 1);
                let target_logit = self.input(logits, output)[target];
                self.chosen.part(output, 1)[0] =
                    Chosen { id: index as u32, logit, log_sum: sum.ln(), target_logit };
            }
        }
        Ok(())
    }
}
