//! Products with a model's weights, and with LoRA's matrices, forwards and backwards.
//!
//! A value `[rows, width]` lies as `[rows / 32][width][32]`: 32 rows together, so that all arithmetic is on
//! vectors of rows, whatever the widths are, and a product needs no other order of either side.

use super::kernel::{LANES, Left, ROWS, Vectors, multiply};
use super::threads::{Scratch, Threads};
use crate::cpu::CpuError;
use crate::cpu::activations::{Activations, Dots};
use crate::cpu::matmul::{self, products};
use crate::cpu::run::Shared;
use crate::cpu::weights::{Matrix, TILE};
use crate::quant::BLOCK;
use std::array;
use std::ops::Range;

/// Columns of a run.
const RUN: usize = 32;
/// Floats of a tile's run.
const PIECE: usize = TILE * RUN;
/// Weights that are unpacked at a time: as many as a first-level cache holds.
const UNPACKED: usize = 8192;
/// Columns of weights that are unpacked at a time.
const CHUNK: usize = 256;

/// Bytes of weights that all rows are multiplied with before the next: half of a first-level cache.
const TILES_BYTES: usize = 24 << 10;

/// `y += x Wᵀ` for rows x and y.
pub fn forward(threads: &mut Threads, w: &Matrix, x: &[f32], y: &mut [f32]) -> Result<(), CpuError> {
    // Vectors of four floats are slower than as many bits of integers.
    match (threads.vectors, w.activations) {
        (Vectors::Plain, Activations::I16 | Activations::Bytes) => forward_integers(threads, w, x, y),
        _ => forward_floats(threads, w, x, y),
    }
}

/// [`forward`] with activations of 16 bits, as for inference.
fn forward_integers(threads: &mut Threads, w: &Matrix, x: &[f32], y: &mut [f32]) -> Result<(), CpuError> {
    const R: usize = matmul::ROWS;
    let (n_rows, n_cols, form, dots) = (w.n_rows, w.n_cols, w.activations, Dots::best());
    let n_blocks = x.len() / (n_cols * LANES);
    let (row_bytes, block_bytes) = (form.row_bytes(n_cols), form.block_bytes());
    let mut prepared = std::mem::take(&mut threads.prepared);
    prepared.resize(n_blocks * LANES * row_bytes, 0);
    let parts = Shared::of(&mut prepared);
    threads.each(n_blocks, |block, _, _| {
        // SAFETY: these rows are this task's alone.
        let rows = unsafe { parts.part(block * LANES * row_bytes, LANES * row_bytes) };
        let x = &x[block * n_cols * LANES..][..n_cols * LANES];
        for (i, x) in x.chunks_exact(BLOCK * LANES).enumerate() {
            for (t, row) in rows.chunks_exact_mut(row_bytes).enumerate() {
                let numbers: [f32; BLOCK] = array::from_fn(|column| x[column * LANES + t]);
                form.prepare(&numbers, &mut row[i * block_bytes..][..block_bytes]);
            }
        }
    })?;
    let n_tiles = (TILES_BYTES / w.tiles(0).len()).max(1);
    let out = Shared::of(y);
    threads.each(w.n_tiles().div_ceil(n_tiles), |task, _, scratch| {
        let tiles = task * n_tiles..((task + 1) * n_tiles).min(w.n_tiles());
        let (first, width) = (tiles.start * TILE, tiles.len() * TILE);
        scratch.products.resize(R * width, 0.0);
        for row in (0..n_blocks * LANES).step_by(R) {
            let rows: [&[u8]; R] = array::from_fn(|r| &prepared[(row + r) * row_bytes..][..row_bytes]);
            products(w, tiles.clone(), rows, dots, &mut scratch.products);
            for i in 0..width.min(n_rows - first) {
                let at = (row / LANES * n_rows + first + i) * LANES + row % LANES;
                // SAFETY: these rows are this task's alone.
                let y = unsafe { out.part(at, R) };
                y.iter_mut().enumerate().for_each(|(r, y)| *y += scratch.products[r * width + i]);
            }
        }
    })?;
    threads.prepared = prepared;
    Ok(())
}

fn forward_floats(threads: &mut Threads, w: &Matrix, x: &[f32], y: &mut [f32]) -> Result<(), CpuError> {
    const TILES: usize = UNPACKED / CHUNK / TILE;
    let (n_rows, n_cols, len) = (w.n_rows, w.n_cols, w.layout.block_len());
    let n_blocks = x.len() / (n_cols * LANES);
    let out = Shared::of(y);
    threads.each(w.n_tiles().div_ceil(TILES), |task, vectors, scratch| {
        let tiles = task * TILES..((task + 1) * TILES).min(w.n_tiles());
        for first in (0..n_cols).step_by(CHUNK) {
            let n = CHUNK.min(n_cols - first);
            let Scratch { pack, unpacking, .. } = scratch;
            pack.resize(UNPACKED, 0.0);
            for (i, tile) in tiles.clone().enumerate() {
                let blocks = first / len..(first + n).div_ceil(len);
                w.unpack(tile, blocks, unpacking, |run, floats| {
                    pack[i * TILE * CHUNK + run * PIECE..][..PIECE].copy_from_slice(floats);
                });
            }
            for block in 0..n_blocks {
                let x = &x[(block * n_cols + first) * LANES..][..n * LANES];
                for (i, tile) in tiles.clone().enumerate() {
                    let rows = TILE.min(n_rows - tile * TILE);
                    // SAFETY: these rows are this task's alone.
                    let y = unsafe { out.part((block * n_rows + tile * TILE) * LANES, rows * LANES) };
                    let floats = &pack[i * TILE * CHUNK..];
                    multiply(vectors, Left { floats, by_columns: false, run: PIECE, n }, x, y);
                }
            }
        }
    })
}

/// `dx += dy W`.
pub fn backward(threads: &mut Threads, w: &Matrix, dy: &[f32], dx: &mut [f32]) -> Result<(), CpuError> {
    let (n_rows, n_cols, len) = (w.n_rows, w.n_cols, w.layout.block_len());
    let n_blocks = dx.len() / (n_cols * LANES);
    let chunk = UNPACKED / len;
    let out = Shared::of(dx);
    threads.each(w.n_blocks, |task, vectors, scratch| {
        for first in (0..n_rows).step_by(chunk) {
            let n = chunk.min(n_rows - first);
            let Scratch { pack, unpacking, .. } = scratch;
            pack.resize(UNPACKED, 0.0);
            for tile in first / TILE..(first + n).div_ceil(TILE) {
                w.unpack(tile, task..task + 1, unpacking, |run, floats| {
                    pack[(run * chunk + tile * TILE - first) * RUN..][..PIECE].copy_from_slice(floats);
                });
            }
            for block in 0..n_blocks {
                let dy = &dy[(block * n_rows + first) * LANES..][..n * LANES];
                for column in (0..len).step_by(ROWS) {
                    let at = task * len + column;
                    if at >= n_cols {
                        break;
                    }
                    let rows = ROWS.min(n_cols - at);
                    // SAFETY: these columns are this task's alone.
                    let dx = unsafe { out.part((block * n_cols + at) * LANES, rows * LANES) };
                    let floats = &pack[column / RUN * chunk * RUN + column % RUN..];
                    multiply(vectors, Left { floats, by_columns: true, run: RUN * LANES, n }, dy, dx);
                }
            }
        }
    })
}

/// LoRA's matrices of a product.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// `[rank, n_in]`
    pub a: &'a [f32],
    /// `[n_out, rank]`
    pub b: &'a [f32],
    pub rank: usize,
    pub n_in: usize,
    pub n_out: usize,
    pub scale: f32,
}

/// The gradients of a pair.
pub struct Gradients<'a> {
    pub a: &'a mut [f32],
    pub b: &'a mut [f32],
}

impl Pair<'_> {
    /// `y += scale B A x`.
    pub fn forward(&self, threads: &mut Threads, x: &[f32], y: &mut [f32]) -> Result<(), CpuError> {
        let Self { n_in, n_out, rank, .. } = *self;
        threads.each_chunk(y, n_out * LANES, |block, y, vectors, scratch| {
            let mut u = std::mem::take(&mut scratch.low);
            self.down(vectors, &x[block * n_in * LANES..][..n_in * LANES], &mut u, scratch);
            for first in (0..rank).step_by(RUN) {
                let n = RUN.min(rank - first);
                for (i, y) in y.chunks_mut(ROWS * LANES).enumerate() {
                    let rows = self.b[i * ROWS * rank..].chunks_exact(rank).take(y.len() / LANES);
                    for (pack, row) in scratch.pack.chunks_exact_mut(RUN).zip(rows) {
                        pack[..n].copy_from_slice(&row[first..first + n]);
                    }
                    let left = Left { floats: &scratch.pack, by_columns: false, run: PIECE, n };
                    multiply(vectors, left, &u[first * LANES..], y);
                }
            }
            scratch.low = u;
        })
    }

    /// `u = scale A x` of 32 rows.
    fn down(&self, vectors: Vectors, x: &[f32], u: &mut Vec<f32>, scratch: &mut Scratch) {
        let Self { n_in, rank, .. } = *self;
        u.clear();
        u.resize(rank * LANES, 0.0);
        scratch.pack.resize(UNPACKED, 0.0);
        let pack = &mut scratch.pack;
        for (i, u) in u.chunks_mut(ROWS * LANES).enumerate() {
            let rows = i * ROWS..rank.min((i + 1) * ROWS);
            for first in (0..n_in).step_by(CHUNK) {
                let n = CHUNK.min(n_in - first);
                for (m, row) in rows.clone().enumerate() {
                    for (run, a) in self.a[row * n_in + first..][..n].chunks(RUN).enumerate() {
                        pack[run * PIECE + m * RUN..][..a.len()].copy_from_slice(a);
                    }
                }
                let left = Left { floats: pack, by_columns: false, run: PIECE, n };
                multiply(vectors, left, &x[first * LANES..], u);
            }
        }
        u.iter_mut().for_each(|u| *u *= self.scale);
    }

    /// Adds to the gradients of both matrices and, where that is wanted, of x.
    pub fn backward(
        &self,
        threads: &mut Threads,
        x: &[f32],
        dy: &[f32],
        dx: Option<&mut [f32]>,
        gradients: Gradients,
    ) -> Result<(), CpuError> {
        let Self { n_in, n_out, rank, .. } = *self;
        let n_blocks = x.len() / (n_in * LANES);
        // scale A x and scale Bᵀ dy, [blocks][rank][32].
        let mut lows = vec![0.0; 2 * n_blocks * rank * LANES];
        let dx_parts = dx.map(Shared::of);
        threads.each_chunk(&mut lows, 2 * rank * LANES, |block, lows, vectors, scratch| {
            let (u, du) = lows.split_at_mut(rank * LANES);
            let mut low = std::mem::take(&mut scratch.low);
            self.down(vectors, &x[block * n_in * LANES..][..n_in * LANES], &mut low, scratch);
            u.copy_from_slice(&low);
            scratch.low = low;
            self.back_to_low(vectors, &dy[block * n_out * LANES..][..n_out * LANES], du, &mut scratch.pack);
            if let Some(dx) = &dx_parts {
                // SAFETY: these rows are this task's alone.
                let dx = unsafe { dx.part(block * n_in * LANES, n_in * LANES) };
                self.back_to_x(vectors, du, dx, &mut scratch.pack);
            }
        })?;
        let low =
            |block: usize, which: usize, r: usize| &lows[((2 * block + which) * rank + r) * LANES..][..LANES];
        let dots = |y: &[f32], width: usize, row: usize, which: usize, r: usize| {
            let mut sums = [0.0; 8];
            for block in 0..n_blocks {
                let y = y[(block * width + row) * LANES..][..LANES].chunks_exact(8);
                for (y, low) in y.zip(low(block, which, r).chunks_exact(8)) {
                    sums.iter_mut().zip(y).zip(low).for_each(|((s, y), low)| *s += y * low);
                }
            }
            sums.iter().sum::<f32>()
        };
        threads.each_chunk(gradients.b, RUN * rank, |task, b, _, _| {
            for (i, b) in b.iter_mut().enumerate() {
                *b += dots(dy, n_out, task * RUN + i / rank, 0, i % rank);
            }
        })?;
        let a = Shared::of(gradients.a);
        threads.each(n_in.div_ceil(RUN), |task, _, _| {
            let columns = task * RUN..n_in.min((task + 1) * RUN);
            for r in 0..rank {
                // SAFETY: these columns are this task's alone.
                let a = unsafe { a.part(r * n_in + columns.start, columns.len()) };
                a.iter_mut().zip(columns.clone()).for_each(|(a, column)| *a += dots(x, n_in, column, 1, r));
            }
        })
    }

    /// `du = scale Bᵀ dy` of 32 rows.
    fn back_to_low(&self, vectors: Vectors, dy: &[f32], du: &mut [f32], pack: &mut [f32]) {
        let Self { n_out, rank, .. } = *self;
        du.fill(0.0);
        for first in (0..rank).step_by(RUN) {
            let ranks = first..rank.min(first + RUN);
            for row in (0..n_out).step_by(CHUNK) {
                let n = CHUNK.min(n_out - row);
                for (pack, b) in
                    pack.chunks_exact_mut(RUN).zip(self.b[row * rank..].chunks_exact(rank).take(n))
                {
                    pack[..ranks.len()].copy_from_slice(&b[ranks.clone()]);
                }
                let du = du[first * LANES..ranks.end * LANES].chunks_mut(ROWS * LANES);
                for (i, du) in du.enumerate() {
                    let left = Left { floats: &pack[i * ROWS..], by_columns: true, run: RUN * LANES, n };
                    multiply(vectors, left, &dy[row * LANES..], du);
                }
            }
        }
        du.iter_mut().for_each(|u| *u *= self.scale);
    }

    /// `dx += Aᵀ du` of 32 rows.
    fn back_to_x(&self, vectors: Vectors, du: &[f32], dx: &mut [f32], pack: &mut [f32]) {
        let Self { n_in, rank, .. } = *self;
        for first in (0..rank).step_by(RUN) {
            let n = RUN.min(rank - first);
            for (column, dx) in dx.chunks_mut(RUN * LANES).enumerate() {
                let columns: Range<usize> = column * RUN..n_in.min((column + 1) * RUN);
                for (k, pack) in pack.chunks_exact_mut(RUN).take(n).enumerate() {
                    let a = &self.a[(first + k) * n_in..][columns.clone()];
                    pack[..a.len()].copy_from_slice(a);
                }
                for (i, dx) in dx.chunks_mut(ROWS * LANES).enumerate() {
                    let left = Left { floats: &pack[i * ROWS..], by_columns: true, run: RUN * LANES, n };
                    multiply(vectors, left, &du[first * LANES..], dx);
                }
            }
        }
    }
}
