//! Projections by experts. Rows of the step are sorted by expert, so that each expert's weights are read once
//! for all of its rows, and the others' not at all.

use super::super::lower::Mix;
use super::super::matmul::{ROWS, products};
use super::super::weights::TILE;
use super::{CpuError, Local, MAX_TILES, Run, Tasks, numbers};
use crate::graph::WeightId;
use std::ops::Range;

/// What the tasks of a stage share.
struct Shared<'a> {
    mix: &'a Mix,
    /// Prepared rows.
    prepared: &'a [u8],
    /// Rows of the step.
    rows: usize,
    /// Rows of an expert.
    n_rows: usize,
}

impl Run<'_> {
    pub(super) fn experts(&self, mix: &Mix, tasks: [Tasks; 2], local: &mut Local) -> Result<(), CpuError> {
        let rows = self.count(self.graph.value(mix.work.out).domain);
        if rows == 0 {
            return Ok(());
        }
        let Local { prepared, pairs, products: room, .. } = local;
        let n = rows * mix.per_row;
        let prepared: &[u8] = if rows == 1 {
            // Each thread prepares a single row for itself: that is faster than waiting for another to do it.
            for i in 0..n {
                self.prepare_part(mix, i, &mut prepared[i * mix.row_bytes..][..mix.row_bytes]);
            }
            &prepared[..n * mix.row_bytes]
        } else {
            for i in tasks[0].of(n) {
                // SAFETY: this part is this task's.
                let out = unsafe { self.prepared.part(i * mix.row_bytes, mix.row_bytes) };
                self.prepare_part(mix, i, out);
            }
            (self.meet)()?;
            // SAFETY: from here on it is only read.
            unsafe { self.prepared.read(0, n * mix.row_bytes) }
        };
        self.sort(mix, rows, pairs);
        let n_rows = mix.work.n_rows(self.graph);
        let shared = Shared { mix, prepared, rows, n_rows };
        match mix.work.is_summed {
            true => self.summed(&shared, pairs, tasks[1], room),
            false => self.side_by_side(&shared, pairs, tasks[1], room),
        }
    }

    /// Prepares row `i` of those that experts read.
    fn prepare_part(&self, mix: &Mix, i: usize, out: &mut [u8]) {
        // SAFETY: no one writes it in this stage.
        let row = unsafe { self.input(mix.work.experts.x, i / mix.per_row) };
        let n = row.len() / mix.per_row;
        for (form, at) in &mix.forms {
            form.prepare(&row[i % mix.per_row * n..][..n], &mut out[*at..][..form.row_bytes(n)]);
        }
    }

    /// The pairs of an expert and the place of its result, by expert.
    fn sort(&self, mix: &Mix, rows: usize, pairs: &mut Vec<[usize; 2]>) {
        pairs.clear();
        let last = mix.work.experts.n_experts - 1;
        for row in 0..rows {
            // SAFETY: no one writes it in this stage.
            let route = unsafe { self.input(mix.work.experts.route, row) };
            let chosen = route[..mix.n_used].iter().zip(row * mix.n_used..);
            pairs.extend(chosen.map(|(expert, place)| [(*expert as usize).min(last), place]));
        }
        pairs.sort_unstable();
    }

    /// What the experts of a row give, side by side. A task is some tiles of an expert.
    fn side_by_side(
        &self,
        shared: &Shared,
        pairs: &[[usize; 2]],
        tasks: Tasks,
        room: &mut [Vec<f32>; 2],
    ) -> Result<(), CpuError> {
        let &Shared { mix, n_rows, .. } = shared;
        let of_expert = || pairs.chunk_by(|a, b| a[0] == b[0]);
        let tiles = n_rows.div_ceil(TILE) * of_expert().count();
        let chunk = TILE * tiles.div_ceil(self.threads * 8).min(MAX_TILES - 1);
        let chunks = n_rows.div_ceil(chunk);
        for task in tasks.of(of_expert().count() * chunks) {
            let Some(pairs) = of_expert().nth(task / chunks) else { continue };
            let first = task % chunks * chunk;
            let columns = first..n_rows.min(first + chunk);
            self.each(shared, pairs, columns, room, |place, y| {
                let (row, used) = (place / mix.n_used, place % mix.n_used);
                // SAFETY: these columns are this task's.
                unsafe { self.columns(mix.work.out, row, used * n_rows + first, y.len()) }.copy_from_slice(y);
            })?;
        }
        Ok(())
    }

    /// The weighted sum of what the experts of a row give. A task is some columns of all rows, because
    /// several experts add to a row.
    fn summed(
        &self,
        shared: &Shared,
        pairs: &[[usize; 2]],
        tasks: Tasks,
        room: &mut [Vec<f32>; 2],
    ) -> Result<(), CpuError> {
        let &Shared { mix, rows, n_rows, .. } = shared;
        let chunk = TILE * n_rows.div_ceil(TILE * self.threads * 8).min(MAX_TILES - 1);
        for task in tasks.of(n_rows.div_ceil(chunk)) {
            let first = task * chunk;
            let columns = first..n_rows.min(first + chunk);
            // SAFETY: these columns are this task's, and what is added is only read.
            let (out, input) = unsafe {
                (
                    |row| self.columns(mix.work.out, row, first, columns.len()),
                    |id, row: usize| self.input(id, row),
                )
            };
            for row in 0..rows {
                match mix.work.residual {
                    Some(residual) => out(row).copy_from_slice(&input(residual, row)[columns.clone()]),
                    None => out(row).fill(0.0),
                }
            }
            for pairs in pairs.chunk_by(|a, b| a[0] == b[0]) {
                self.each(shared, pairs, columns.clone(), room, |place, y| {
                    let (row, used) = (place / mix.n_used, place % mix.n_used);
                    let weight = input(mix.work.experts.route, row)[mix.n_used + used];
                    out(row).iter_mut().zip(y).for_each(|(out, y)| *out += weight * y);
                })?;
            }
        }
        Ok(())
    }

    /// Calls `take` with the place of each of an expert's results and with some of its columns.
    fn each(
        &self,
        shared: &Shared,
        mut pairs: &[[usize; 2]],
        columns: Range<usize>,
        room: &mut [Vec<f32>; 2],
        mut take: impl FnMut(usize, &[f32]),
    ) -> Result<(), CpuError> {
        while !pairs.is_empty() {
            if let Some((batch, rest)) = pairs.split_first_chunk::<ROWS>() {
                self.batch(shared, batch, columns.clone(), room, &mut take)?;
                pairs = rest;
            } else if let Some((batch, rest)) = pairs.split_first_chunk::<1>() {
                self.batch(shared, batch, columns.clone(), room, &mut take)?;
                pairs = rest;
            }
        }
        Ok(())
    }

    fn batch<const R: usize>(
        &self,
        shared: &Shared,
        pairs: &[[usize; 2]; R],
        columns: Range<usize>,
        [sums, gates]: &mut [Vec<f32>; 2],
        take: &mut impl FnMut(usize, &[f32]),
    ) -> Result<(), CpuError> {
        let work = &shared.mix.work;
        let at = pairs[0][0] * shared.n_rows;
        let rows = at + columns.start..at + columns.end;
        // The expert's first row need not be a tile's.
        let tiles = rows.start / TILE..rows.end.div_ceil(TILE);
        let (skip, width) = (rows.start - tiles.start * TILE, tiles.len() * TILE);
        let multiply = |weight: WeightId, bias: Option<WeightId>, out: &mut [f32]| {
            self.multiply_pairs(shared, pairs, weight, tiles.clone(), out)?;
            if let Some(bias) = bias {
                let bias = &self.weights.vector(bias)?[rows.clone()];
                out.chunks_mut(width).take(R).for_each(|y| numbers::add(&mut y[skip..][..bias.len()], bias));
            }
            Ok::<_, CpuError>(())
        };
        multiply(work.experts.weight, work.experts.bias, sums)?;
        if let Some((weight, bias, f)) = work.gate {
            multiply(weight, bias, gates)?;
            let n = R * width;
            numbers::gate(f, &gates[..n], &mut sums[..n]);
        }
        for ([_, place], y) in pairs.iter().zip(sums.chunks(width)) {
            take(*place, &y[skip..][..columns.len()]);
        }
        Ok(())
    }

    /// The products of some rows of activations, all of one expert, `[R, 8 tiles]`.
    fn multiply_pairs<const R: usize>(
        &self,
        &Shared { mix, prepared, .. }: &Shared,
        pairs: &[[usize; 2]; R],
        weight: WeightId,
        tiles: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), CpuError> {
        let matrix = self.weights.matrix(weight)?;
        let at = mix.forms.iter().find(|(form, _)| *form == matrix.activations).map_or(0, |(_, at)| *at);
        let n_same = mix.n_used / mix.per_row;
        let x: [&[u8]; R] =
            pairs.map(|[_, place]| &prepared[place / n_same * mix.row_bytes..][..mix.row_bytes][at..]);
        products(matrix, tiles, x, self.dots, out);
        Ok(())
    }
}
