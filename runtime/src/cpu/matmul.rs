//! Rows of activations times tiles of weights.
//!
//! Activations are quantised in blocks of 32: to 16 bits, which is as good as floats, or, for 4-bit weights
//! and where that is asked for, to 8 bits. Then 16 products take one multiplication of bytes and one
//! addition, or a single instruction in builds that have it. Sums within a block are integers and exact; sums
//! of blocks are f32, in the order of the columns.
//!
//! In wasm, a block is a loop over groups of columns whose number the compiler does not know. It would unroll
//! the loop, compute one sum after the other, and keep all of the block's weights in between, in more
//! registers than there are.

use super::numbers::quantise;
use super::simd::*;
use super::weights::{Matrix, TILE};
use crate::quant::{BLOCK, Layout};
use std::hint::black_box;
use std::ops::Range;

/// Rows of activations that are multiplied with a tile at once.
pub(super) const ROWS: usize = 4;

/// The form in which activations are multiplied with a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activations {
    F32,
    I8,
    I16,
}

impl Activations {
    /// The form for the weights of a layout; with `int8`, 8 bits for those of 4 bits.
    pub fn of(layout: Layout, int8: bool) -> Self {
        match layout {
            Layout::F32 | Layout::F16 => Activations::F32,
            Layout::Q4_0 | Layout::Q4_1 if int8 && HAS_DOT_I8 => Activations::I8,
            Layout::Q4_0 | Layout::Q4_1 | Layout::Q8_0 => Activations::I16,
        }
    }

    /// Bytes of a block of activations: unit and sum as f32, then the numbers. Floats have no unit and sum.
    const fn block_bytes(self) -> usize {
        match self {
            Activations::F32 => 4 * BLOCK,
            Activations::I8 => 8 + BLOCK,
            Activations::I16 => 8 + 2 * BLOCK,
        }
    }

    /// Bytes of a row of activations.
    pub fn row_bytes(self, width: usize) -> usize {
        width.div_ceil(BLOCK) * self.block_bytes()
    }

    /// Prepares a row of activations.
    pub fn prepare(self, x: &[f32], out: &mut [u8]) {
        let (blocks, _) = x.as_chunks::<BLOCK>();
        for (x, out) in blocks.iter().zip(out.chunks_exact_mut(self.block_bytes())) {
            let mut q = [0; BLOCK];
            let unit = match self {
                Activations::F32 => {
                    out.copy_from_slice(bytemuck::cast_slice(x));
                    continue;
                }
                Activations::I8 => quantise::<127>(x, &mut q),
                Activations::I16 => quantise::<32767>(x, &mut q),
            };
            let sum = unit * q.iter().sum::<i32>() as f32;
            out[..4].copy_from_slice(&unit.to_ne_bytes());
            out[4..8].copy_from_slice(&sum.to_ne_bytes());
            let out = &mut out[8..];
            match self {
                Activations::F32 => {}
                Activations::I8 => out.iter_mut().zip(q).for_each(|(out, q)| *out = q as u8),
                // The even ones of 4 columns first, in the order in which a weight's word gives its bytes.
                Activations::I16 => {
                    for (out, q) in out.chunks_exact_mut(8).zip(q.chunks_exact(4)) {
                        for (out, i) in out.chunks_exact_mut(2).zip([0, 2, 1, 3]) {
                            out.copy_from_slice(&(q[i] as i16).to_ne_bytes());
                        }
                    }
                }
            }
        }
    }
}

/// How products of bytes are added up. The sums are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dots {
    /// Two at a time, in 16 bits.
    Pairs,
    /// Four at a time, in 32 bits.
    Quads,
}

impl Dots {
    /// What is faster here.
    pub fn best() -> Self {
        if is_dot_add_one() { Dots::Quads } else { Dots::Pairs }
    }
}

/// `R` rows of prepared activations times some tiles of 8 rows: `[R, 8 tiles]` into `out`.
pub(super) fn products<const R: usize>(
    matrix: &Matrix,
    tiles: Range<usize>,
    x: [&[u8]; R],
    dots: Dots,
    out: &mut [f32],
) {
    let n = matrix.n_blocks;
    let form = matrix.activations;
    assert!(x.iter().all(|x| x.len() >= form.row_bytes(n * matrix.layout.block_len())));
    let x = x.map(<[u8]>::as_ptr);
    let groups = if cfg!(target_arch = "wasm32") { black_box(4) } else { 4 };
    // SAFETY: `each` gives `n` tiles at `w`, and there are as many blocks of that form at each of `x`, as was
    // just checked.
    unsafe {
        match (matrix.layout, form, dots) {
            (Layout::F32, ..) => each(matrix, tiles, out, |w| columns::<R, false>(w, n, x)),
            (Layout::F16, ..) => each(matrix, tiles, out, |w| columns::<R, true>(w, n, x)),
            (Layout::Q4_0, Activations::I8, Dots::Pairs) => {
                each(matrix, tiles, out, |w| nibbles_i8::<R, false, false>(w, n, x, groups));
            }
            (Layout::Q4_0, Activations::I8, Dots::Quads) => {
                each(matrix, tiles, out, |w| nibbles_i8::<R, false, true>(w, n, x, groups));
            }
            (Layout::Q4_1, Activations::I8, Dots::Pairs) => {
                each(matrix, tiles, out, |w| nibbles_i8::<R, true, false>(w, n, x, groups));
            }
            (Layout::Q4_1, Activations::I8, Dots::Quads) => {
                each(matrix, tiles, out, |w| nibbles_i8::<R, true, true>(w, n, x, groups));
            }
            (Layout::Q4_0, ..) => each(matrix, tiles, out, |w| nibbles_i16::<R, false>(w, n, x, groups)),
            (Layout::Q4_1, ..) => each(matrix, tiles, out, |w| nibbles_i16::<R, true>(w, n, x, groups)),
            (Layout::Q8_0, ..) => each(matrix, tiles, out, |w| bytes_i16::<R>(w, n, x, 2 * groups)),
        }
    }
}

/// Calls `product` with the place of each row of tiles, and puts its sums where they belong.
#[inline(always)]
fn each<const R: usize>(
    matrix: &Matrix,
    tiles: Range<usize>,
    out: &mut [f32],
    product: impl Fn(*const u8) -> Sums<R>,
) {
    let width = TILE * tiles.len();
    assert!(out.len() >= R * width);
    for (i, tile) in tiles.enumerate() {
        let sums = product(matrix.tiles(tile).as_ptr());
        for (r, [low, high]) in sums.into_iter().enumerate() {
            // SAFETY: `out` has room for `R` rows of so many tiles, as was just checked.
            unsafe {
                let place = out.as_mut_ptr().add(r * width + TILE * i);
                store(place, low);
                store(place.add(4), high);
            }
        }
    }
}

type Sums<const R: usize> = [[V; 2]; R];

/// # Safety
/// 32 bytes can be read at `p`.
#[inline(always)]
unsafe fn pair(p: *const u8) -> [V; 2] {
    // SAFETY: as promised by the caller.
    unsafe { [load(p), load(p.add(16))] }
}

/// Adds a block's integer sums `i`: `d (unit i)`, and the offset, which is `m sum` or, with `OFFSET`, `-8 d
/// sum`.
///
/// # Safety
/// At `tile` are a tile's scales (and minima), at `x` a block's unit and sum.
#[inline(always)]
unsafe fn scale<const MIN: bool, const OFFSET: bool>(
    total: &mut [V; 2],
    i: [V; 2],
    d: (V, V),
    m: (V, V),
    x: *const u8,
) {
    // SAFETY: as promised by the caller.
    let (unit, sum) = unsafe { (splat_32(x), splat_32(x.add(4))) };
    let offset = if OFFSET { mul_f32(sum, splat_f32(-8.0)) } else { zero() };
    for (h, (d, m)) in [(d.0, m.0), (d.1, m.1)].into_iter().enumerate() {
        let i = to_f32(i[h]);
        let product = if OFFSET { madd_f32(unit, i, offset) } else { mul_f32(unit, i) };
        total[h] = madd_f32(d, product, total[h]);
        if MIN {
            total[h] = madd_f32(m, sum, total[h]);
        }
    }
}

/// # Safety `n` tiles of Q4_0 or, with `MIN`, Q4_1 at `w`; `n` blocks of [`Activations::I8`] at each of `x`;
/// `groups` is 4.
#[inline(always)]
unsafe fn nibbles_i8<const R: usize, const MIN: bool, const QUADS: bool>(
    mut w: *const u8,
    n: usize,
    mut x: [*const u8; R],
    groups: usize,
) -> Sums<R> {
    let (mask, ones) = (splat_u8(15), splat_i16(1));
    let mut totals = [[zero(); 2]; R];
    for _ in 0..n {
        // SAFETY: all reads are within the tile and the blocks, and both move on by one.
        unsafe {
            let q = w.add(if MIN { 32 } else { 16 });
            // Sums of pairs are at most 8 times 2 * 15 * 127, which fits 16 bits.
            let mut sums = [[zero(); 2]; R];
            for g in 0..groups {
                let quants = pair(q.add(32 * g));
                let low = quants.map(|v| and(v, mask));
                let high = quants.map(|v| and(shr_u16::<4>(v), mask));
                for r in 0..R {
                    let x = x[r].add(4 * g);
                    let (a, b) = (splat_32(x.add(8)), splat_32(x.add(24)));
                    for h in 0..2 {
                        sums[r][h] = if QUADS {
                            dot_add_i8(b, high[h], dot_add_i8(a, low[h], sums[r][h]))
                        } else {
                            add_i16(sums[r][h], add_i16(dot_i8(a, low[h]), dot_i8(b, high[h])))
                        };
                    }
                }
            }
            let d = widen_f16(load(w));
            let m = if MIN { widen_f16(load(w.add(16))) } else { d };
            for r in 0..R {
                let i = if QUADS { sums[r] } else { sums[r].map(|sum| dot_i16(sum, ones)) };
                if MIN {
                    scale::<true, false>(&mut totals[r], i, d, m, x[r]);
                } else {
                    scale::<false, true>(&mut totals[r], i, d, m, x[r]);
                }
                x[r] = x[r].add(Activations::I8.block_bytes());
            }
            w = w.add(if MIN { 160 } else { 144 });
        }
    }
    totals
}

/// # Safety `n` tiles of Q4_0 or, with `MIN`, Q4_1 at `w`; `n` blocks of [`Activations::I16`] at each of `x`;
/// `groups` is 4.
#[inline(always)]
unsafe fn nibbles_i16<const R: usize, const MIN: bool>(
    mut w: *const u8,
    n: usize,
    mut x: [*const u8; R],
    groups: usize,
) -> Sums<R> {
    let mask = splat_i16(15);
    let mut totals = [[zero(); 2]; R];
    for _ in 0..n {
        // SAFETY: all reads are within the tile and the blocks, and both move on by one.
        unsafe {
            let q = w.add(if MIN { 32 } else { 16 });
            let mut sums = [[zero(); 2]; R];
            for g in 0..groups {
                let quants = pair(q.add(32 * g));
                // Columns 0 and 2 of a word's low nibbles, 1 and 3 of them, then of its high ones.
                let parts = [
                    quants.map(|v| and(v, mask)),
                    quants.map(|v| and(shr_u16::<8>(v), mask)),
                    quants.map(|v| and(shr_u16::<4>(v), mask)),
                    quants.map(shr_u16::<12>),
                ];
                for (part, at) in parts.into_iter().zip([8, 12, 40, 44]) {
                    for r in 0..R {
                        let x = splat_32(x[r].add(at + 8 * g));
                        for h in 0..2 {
                            sums[r][h] = add_i32(sums[r][h], dot_i16(part[h], x));
                        }
                    }
                }
            }
            let d = widen_f16(load(w));
            let m = if MIN { widen_f16(load(w.add(16))) } else { d };
            for r in 0..R {
                if MIN {
                    scale::<true, false>(&mut totals[r], sums[r], d, m, x[r]);
                } else {
                    scale::<false, true>(&mut totals[r], sums[r], d, m, x[r]);
                }
                x[r] = x[r].add(Activations::I16.block_bytes());
            }
            w = w.add(if MIN { 160 } else { 144 });
        }
    }
    totals
}

/// # Safety
/// `n` tiles of Q8_0 at `w`; `n` blocks of [`Activations::I16`] at each of `x`; `groups` is 8.
#[inline(always)]
unsafe fn bytes_i16<const R: usize>(
    mut w: *const u8,
    n: usize,
    mut x: [*const u8; R],
    groups: usize,
) -> Sums<R> {
    let mut totals = [[zero(); 2]; R];
    for _ in 0..n {
        // SAFETY: all reads are within the tile and the blocks, and both move on by one.
        unsafe {
            let mut sums = [[zero(); 2]; R];
            for g in 0..groups {
                let quants = pair(w.add(16 + 32 * g));
                let even = quants.map(|v| shr_i16::<8>(shl_i16::<8>(v)));
                let odd = quants.map(shr_i16::<8>);
                for r in 0..R {
                    let (a, b) = (splat_32(x[r].add(8 + 8 * g)), splat_32(x[r].add(12 + 8 * g)));
                    for h in 0..2 {
                        sums[r][h] = add_i32(sums[r][h], add_i32(dot_i16(even[h], a), dot_i16(odd[h], b)));
                    }
                }
            }
            let d = widen_f16(load(w));
            for r in 0..R {
                scale::<false, false>(&mut totals[r], sums[r], d, d, x[r]);
                x[r] = x[r].add(Activations::I16.block_bytes());
            }
            w = w.add(272);
        }
    }
    totals
}

/// # Safety
/// `n` tiles of F32 or, with `HALF`, F16 at `w`; `n` blocks of [`Activations::F32`] at each of `x`.
#[inline(always)]
unsafe fn columns<const R: usize, const HALF: bool>(
    mut w: *const u8,
    n: usize,
    mut x: [*const u8; R],
) -> Sums<R> {
    let mut totals = [[zero(); 2]; R];
    for _ in 0..n * BLOCK {
        // SAFETY: all reads are within the tile and the blocks; both move on by one column.
        unsafe {
            let column = if HALF { <[V; 2]>::from(widen_f16(load(w))) } else { pair(w) };
            for r in 0..R {
                let x = splat_32(x[r]);
                for h in 0..2 {
                    totals[r][h] = madd_f32(column[h], x, totals[r][h]);
                }
            }
            x = x.map(|x| x.add(4));
            w = w.add(if HALF { 16 } else { 32 });
        }
    }
    totals
}
