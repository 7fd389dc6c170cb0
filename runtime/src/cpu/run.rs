//! A step under way: what each thread does of it, stage by stage.

use super::attention::{self, Scratch, attend};
use super::lower::{Finish, MatMul, Part, Plan, Stage};
use super::matmul::{Dots, ROWS, products};
use super::numbers;
use super::weights::{Matrix, TILE};
use super::{CpuError, Weights};
use crate::graph::{Attention, Op, Rope, Rows, Step, ValueId, WeightId};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Rows of a task of attention.
const ATTENTION_ROWS: usize = 16;
/// Tiles of a task of products, at most.
pub(super) const MAX_TILES: usize = 64;
/// Logits of a task of argmax: a number of its own, so that sums do not depend on the number of threads.
pub(super) const ARGMAX_RUN: usize = 4096;

/// What a thread has for itself.
#[derive(Debug, Default)]
pub(super) struct Local {
    pub prepared: Vec<u8>,
    pub normed: Vec<f32>,
    /// Products of a task's tiles, and those of the weights that they are fused with.
    pub products: [Vec<f32>; 2],
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
    unsafe fn part(&self, at: usize, n: usize) -> &mut [T] {
        assert!(at <= self.1 && n <= self.1 - at);
        // SAFETY: within the memory; the caller sees to the rest.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), n) }
    }
}

/// A step under way, as its threads see it.
pub(super) struct Run<'a> {
    pub plan: &'a Plan,
    pub widths: &'a [usize],
    pub weights: &'a Weights,
    pub step: &'a Step<'a>,
    pub threads: usize,
    pub dots: Dots,
    pub meet: &'a (dyn Fn() + Sync),
    pub taken: &'a [[AtomicUsize; 2]],
    pub ropes: &'a [(WeightId, WeightId, Vec<[f32; 2]>)],
    pub values: Shared<f32>,
    pub prepared: Shared<u8>,
    pub runs: Shared<(usize, f32, f32)>,
    pub locals: Shared<Local>,
    pub kv: Vec<(Shared<u16>, Shared<u16>, usize)>,
}

impl Run<'_> {
    pub fn all(&self, thread: usize) {
        // SAFETY: each thread has its own.
        let local = &mut unsafe { self.locals.part(thread, 1) }[0];
        for (i, (stage, taken)) in self.plan.stages.iter().zip(self.taken).enumerate() {
            if i > 0 {
                (self.meet)();
            }
            // Of a weight of the wrong kind there is nothing to compute; lowering has made sure that there is none.
            let _ = self.stage(stage, taken, local);
        }
    }

    /// The numbers of tasks that this thread does, of `n`.
    fn tasks(&self, taken: &AtomicUsize, n: usize) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || Some(taken.fetch_add(1, Relaxed)).filter(|task| *task < n))
    }

    fn count(&self, rows: Rows) -> usize {
        match rows {
            Rows::Tokens => self.step.tokens.len(),
            Rows::Outputs => self.step.outputs.len(),
        }
    }

    /// Where a row of a value starts, and its width.
    fn place(&self, id: ValueId, row: usize) -> (usize, usize) {
        let width = self.widths[id.0];
        (self.plan.places[id.0].unwrap_or(usize::MAX / 2) + row * width, width)
    }

    /// # Safety
    /// As of [`Shared::read`].
    unsafe fn input(&self, id: ValueId, row: usize) -> &[f32] {
        let (at, width) = self.place(id, row);
        // SAFETY: as promised by the caller.
        unsafe { self.values.read(at, width) }
    }

    /// Columns of a row.
    ///
    /// # Safety
    /// As of [`Shared::part`].
    #[allow(clippy::mut_from_ref)]
    unsafe fn columns(&self, id: ValueId, row: usize, first: usize, n: usize) -> &mut [f32] {
        // SAFETY: as promised by the caller.
        unsafe { self.values.part(self.place(id, row).0 + first, n) }
    }

    /// # Safety
    /// As of [`Shared::part`].
    #[allow(clippy::mut_from_ref)]
    unsafe fn row(&self, id: ValueId, row: usize) -> &mut [f32] {
        // SAFETY: as promised by the caller.
        unsafe { self.columns(id, row, 0, self.widths[id.0]) }
    }

    fn stage(&self, stage: &Stage, taken: &[AtomicUsize; 2], local: &mut Local) -> Result<(), CpuError> {
        match stage {
            Stage::Rows { rows, ops } => {
                for row in self.tasks(&taken[1], self.count(*rows)) {
                    for op in ops {
                        self.op(op, row)?;
                    }
                }
            }
            Stage::MatMul(matmul) => self.matmul(matmul, taken, local)?,
            Stage::Attention { q, layer, attention, out } => {
                self.attention(*q, *layer, *attention, *out, &taken[1], local);
            }
            Stage::SelectRows { x, out } => {
                for row in self.tasks(&taken[1], self.step.outputs.len()) {
                    // SAFETY: an output row is one task's; `x` is only read.
                    unsafe {
                        self.row(*out, row)
                            .copy_from_slice(self.input(*x, self.step.outputs[row].row as usize));
                    }
                }
            }
            Stage::Argmax { logits, out } => self.argmax(*logits, *out, taken),
        }
        Ok(())
    }

    /// One row of an op that needs no other.
    fn op(&self, op: &Op, row: usize) -> Result<(), CpuError> {
        // SAFETY: a row of a value made here is this task's alone, and inputs are only read.
        unsafe {
            match *op {
                Op::Embed { weight, out } => {
                    let id = self.step.tokens[row].id as usize;
                    self.row(out, row).copy_from_slice(&self.weights.matrix(weight)?.dequantise(id));
                }
                Op::RmsNorm { x, weight, eps, out } => {
                    let weight = self.weights.vector(weight)?;
                    numbers::rms_norm(self.input(x, row), weight, eps, self.row(out, row));
                }
                Op::Rope { x, turns, factors, rope, out } => {
                    let out = self.row(out, row);
                    out.copy_from_slice(self.input(x, row));
                    let Rope { head_dim, n_rot, neox, .. } = rope;
                    let known = self.ropes.iter().find(|known| (known.0, known.1) == (turns, factors));
                    if let Some((.., table)) = known {
                        let table = &table[row * (n_rot / 2)..][..n_rot / 2];
                        numbers::rope(out, head_dim, neox, table);
                    }
                }
                Op::KvWrite { k, v, layer } => {
                    let cell = self.step.tokens[row].cell as usize;
                    for (x, pool, transposed) in [(k, self.kv[layer].0, true), (v, self.kv[layer].1, false)] {
                        let x = self.input(x, row);
                        attention::write(x, cell, transposed, |at, half| pool.part(at, 1)[0] = half);
                    }
                }
                Op::SwiGlu { gate, up, out } => {
                    numbers::swiglu(self.input(gate, row), self.input(up, row), self.row(out, row));
                }
                Op::Add { a, b, out } => {
                    numbers::add(self.input(a, row), self.input(b, row), self.row(out, row))
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn matmul(&self, matmul: &MatMul, taken: &[AtomicUsize; 2], local: &mut Local) -> Result<(), CpuError> {
        let Some(rows) = matmul.parts.first().map(|part| self.rows_of(part.out)) else { return Ok(()) };
        if rows == 0 {
            return Ok(());
        }
        let Local { prepared, normed, products, .. } = local;
        let prepared: &[u8] = if rows == 1 {
            // One row each thread prepares for itself: that is faster than waiting for another to do it.
            self.prepare(matmul, 0, normed, &mut prepared[..matmul.row_bytes])?;
            &prepared[..matmul.row_bytes]
        } else {
            for row in self.tasks(&taken[0], rows) {
                // SAFETY: the row is this task's.
                let out = unsafe { self.prepared.part(row * matmul.row_bytes, matmul.row_bytes) };
                self.prepare(matmul, row, normed, out)?;
            }
            (self.meet)();
            // SAFETY: from here on it is only read.
            unsafe { self.prepared.read(0, rows * matmul.row_bytes) }
        };
        let mut n_tiles = 0;
        for part in &matmul.parts {
            n_tiles += self.weights.matrix(part.weight)?.n_tiles();
        }
        // Some tasks a thread, so that one that is held up leaves the rest to others.
        let chunk = n_tiles.div_ceil(self.threads * 8).min(MAX_TILES);
        for task in self.tasks(&taken[1], n_tiles.div_ceil(chunk)) {
            let mut tiles = task * chunk..n_tiles.min((task + 1) * chunk);
            for part in &matmul.parts {
                let n = self.weights.matrix(part.weight)?.n_tiles();
                let own = tiles.start.min(n)..tiles.end.min(n);
                if !own.is_empty() {
                    self.tiles(matmul, part, own, rows, prepared, products)?;
                }
                tiles = tiles.start.saturating_sub(n)..tiles.end.saturating_sub(n);
            }
        }
        Ok(())
    }

    fn rows_of(&self, id: ValueId) -> usize {
        self.count(self.plan.rows[id.0])
    }

    fn prepare(
        &self,
        matmul: &MatMul,
        row: usize,
        normed: &mut [f32],
        out: &mut [u8],
    ) -> Result<(), CpuError> {
        // SAFETY: no one writes it in this stage.
        let mut x: &[f32] = unsafe { self.input(matmul.x, row) };
        if let Some((weight, eps)) = matmul.norm {
            let normed = &mut normed[..x.len()];
            numbers::rms_norm(x, self.weights.vector(weight)?, eps, normed);
            x = normed;
        }
        for (class, at) in &matmul.classes {
            class.prepare(x, &mut out[*at..][..class.row_bytes(x.len())]);
        }
        Ok(())
    }

    /// All rows of some tiles.
    fn tiles(
        &self,
        matmul: &MatMul,
        part: &Part,
        tiles: Range<usize>,
        rows: usize,
        prepared: &[u8],
        room: &mut [Vec<f32>; 2],
    ) -> Result<(), CpuError> {
        let mut row = 0;
        while row < rows {
            if rows - row >= ROWS {
                self.rows::<ROWS>(matmul, part, tiles.clone(), row, prepared, room)?;
                row += ROWS;
            } else {
                self.rows::<1>(matmul, part, tiles.clone(), row, prepared, room)?;
                row += 1;
            }
        }
        Ok(())
    }

    fn rows<const R: usize>(
        &self,
        matmul: &MatMul,
        part: &Part,
        tiles: Range<usize>,
        row: usize,
        prepared: &[u8],
        [sums, others]: &mut [Vec<f32>; 2],
    ) -> Result<(), CpuError> {
        let product = |matrix: &Matrix, out: &mut [f32]| {
            let class = matrix.class;
            let at = matmul.classes.iter().find(|(known, _)| *known == class).map_or(0, |(_, at)| *at);
            let x: [&[u8]; R] =
                std::array::from_fn(|r| &prepared[(row + r) * matmul.row_bytes..][..matmul.row_bytes][at..]);
            products(matrix, tiles.clone(), x, self.dots, out);
        };
        let matrix = self.weights.matrix(part.weight)?;
        product(matrix, sums);
        if let Finish::SwiGlu(up) = part.finish {
            product(self.weights.matrix(up)?, others);
        }
        let (first, width) = (tiles.start * TILE, tiles.len() * TILE);
        let n = width.min(matrix.n_rows - first);
        for (r, (sums, others)) in sums.chunks(width).zip(others.chunks(width)).take(R).enumerate() {
            // SAFETY: these columns are this task's; what is added is only read.
            unsafe {
                let out = self.columns(part.out, row + r, first, n);
                match part.finish {
                    Finish::Keep => out.copy_from_slice(&sums[..n]),
                    Finish::Add(other) => {
                        numbers::add(&sums[..n], &self.input(other, row + r)[first..][..n], out);
                    }
                    Finish::SwiGlu(_) => numbers::swiglu(&sums[..n], &others[..n], out),
                }
            }
        }
        Ok(())
    }

    fn attention(
        &self,
        q: ValueId,
        layer: usize,
        shape: Attention,
        out: ValueId,
        taken: &AtomicUsize,
        local: &mut Local,
    ) {
        let n = self.step.tokens.len();
        let (keys, values, width) = &self.kv[layer];
        // SAFETY: nobody writes to the pool in this stage.
        let (keys, values) = unsafe { (keys.read(0, keys.1), values.read(0, values.1)) };
        let pool = attention::Pool { keys, values, width: *width };
        let blocks = n.div_ceil(ATTENTION_ROWS);
        // Heads of the same keys together, since widening those takes longest, unless that leaves threads without work.
        let alike = shape.n_heads / shape.n_kv_heads;
        let heads = if blocks * shape.n_kv_heads >= self.threads { alike } else { 1 };
        let groups = shape.n_heads / heads;
        for task in self.tasks(taken, blocks * groups) {
            // The last rows see most.
            let (block, group) = (blocks - 1 - task / groups, task % groups);
            let rows = block * ATTENTION_ROWS..n.min((block + 1) * ATTENTION_ROWS);
            // SAFETY: these heads of these rows are this task's; queries are only read.
            let (query, result) = unsafe {
                (
                    |row, head: usize| self.input(q, row)[head * shape.head_dim..].as_ptr(),
                    |row, head| self.columns(out, row, head * shape.head_dim, shape.head_dim).as_mut_ptr(),
                )
            };
            attend(
                shape,
                pool,
                self.step,
                rows,
                group * heads..(group + 1) * heads,
                query,
                result,
                &mut local.attention,
            );
        }
    }

    fn argmax(&self, logits: ValueId, out: ValueId, taken: &[AtomicUsize; 2]) {
        let (n, width) = (self.step.outputs.len(), self.widths[logits.0]);
        let n_runs = width.div_ceil(ARGMAX_RUN);
        for task in self.tasks(&taken[0], n * n_runs) {
            let (row, run) = (task / n_runs, task % n_runs);
            // SAFETY: logits are only read; the run's result is this task's.
            unsafe {
                let logits = &self.input(logits, row)[run * ARGMAX_RUN..];
                let (index, top, sum) = numbers::best(&logits[..logits.len().min(ARGMAX_RUN)]);
                self.runs.part(task, 1)[0] = (run * ARGMAX_RUN + index, top, sum);
            }
        }
        (self.meet)();
        for row in self.tasks(&taken[1], n) {
            // SAFETY: what the runs gave is only read; the output row is this task's.
            unsafe {
                let runs = self.runs.read(row * n_runs, n_runs);
                let mut best = runs[0];
                for run in &runs[1..] {
                    best = if run.1 > best.1 { *run } else { best };
                }
                let sum: f32 = runs.iter().map(|run| run.2 * (run.1 - best.1).exp()).sum();
                let target = (self.step.outputs[row].target as usize).min(width - 1);
                let target = self.input(logits, row)[target];
                let best = [f32::from_bits(best.0 as u32), best.1, sum.ln(), target];
                self.row(out, row).copy_from_slice(&best);
            }
        }
    }
}
