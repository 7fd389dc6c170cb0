//! Rows of activations times tiles of weights.
//!
//! Activations are quantised in blocks of 32: to 16 bits, which is as good as floats, or, for small weights
//! and where that is asked for, to 8 bits. Then 16 products take one multiplication of bytes and one
//! addition, or a single instruction in engines that have it. In these, 16 bits are multiplied as two bytes.
//! Sums within a block are integers and exact, so that this is the same; sums of blocks are f32, in the order
//! of the columns.
//!
//! In wasm, a block is a loop over groups of columns whose number the compiler does not know. It would unroll
//! the loop, compute one sum after the other, and keep all of the block's weights in between, in more
//! registers than there are.

use super::grids::{Factors, Numbers};
use super::numbers::quantise;
use super::scales::*;
use super::simd::*;
use super::unpack::*;
use super::weights::{Matrix, TILE};
use crate::quant::book::{FP4, IQ4};
use crate::quant::grid::Grid;
use crate::quant::{BLOCK, Layout, iq1, iq2, iq3};
use std::hint::black_box;
use std::ops::Range;

/// Rows of activations that are multiplied with a tile at once.
pub(super) const ROWS: usize = 4;

/// Bytes before the numbers of a block of activations.
const HEAD: usize = 16;

/// The greatest integer of 16-bit activations: what two signed bytes can give.
const I16_LIMIT: u32 = 256 * 127 + 127;

/// The form in which activations are multiplied with a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activations {
    F32,
    I8,
    I16,
    /// 16 bits: all the low bytes of a block, then all the high ones, both signed.
    Bytes,
}

impl Activations {
    /// The form for the weights of a layout; with `int8`, 8 bits for those whose integers are small and whose
    /// scales are for 32 at least.
    pub fn of(layout: Layout, int8: bool, dots: Dots) -> Self {
        match layout {
            Layout::F32 | Layout::F16 | Layout::BF16 => Activations::F32,
            Layout::Q4_0 | Layout::Q4_1 | Layout::Q4_K | Layout::MXFP4 | Layout::TQ1_0 | Layout::TQ2_0
                if int8 && HAS_DOT_I8 =>
            {
                Activations::I8
            }
            // The integers of these are below 128.
            Layout::Q4_0
            | Layout::Q4_1
            | Layout::Q4_K
            | Layout::Q5_0
            | Layout::Q5_1
            | Layout::Q5_K
            | Layout::Q2_K
            | Layout::Q3_K
            | Layout::Q6_K
            | Layout::MXFP4
            | Layout::TQ1_0
            | Layout::TQ2_0
                if dots == Dots::Quads =>
            {
                Activations::Bytes
            }
            _ => Activations::I16,
        }
    }

    /// Bytes of a block of activations: as f32, its unit and the sums of all, of the first 16 and of the
    /// others; then the numbers. Floats have only the numbers.
    const fn block_bytes(self) -> usize {
        match self {
            Activations::F32 => 4 * BLOCK,
            Activations::I8 => HEAD + BLOCK,
            Activations::I16 | Activations::Bytes => HEAD + 2 * BLOCK,
        }
    }

    /// Bytes of a row of activations.
    pub fn row_bytes(self, width: usize) -> usize {
        width.div_ceil(BLOCK) * self.block_bytes()
    }

    /// Prepares a row of activations.
    pub fn prepare(self, x: &[f32], out: &mut [u8]) {
        let (blocks, rest) = x.as_chunks::<BLOCK>();
        // Zeros follow a row that is not whole blocks.
        let mut last = [0.0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let last = (!rest.is_empty()).then_some(&last);
        for (x, out) in blocks.iter().chain(last).zip(out.chunks_exact_mut(self.block_bytes())) {
            let mut q = [0; BLOCK];
            let unit = match self {
                Activations::F32 => {
                    out.copy_from_slice(bytemuck::cast_slice(x));
                    continue;
                }
                Activations::I8 => quantise::<127>(x, &mut q),
                Activations::I16 | Activations::Bytes => quantise::<I16_LIMIT>(x, &mut q),
            };
            let [a, b] = [&q[..BLOCK / 2], &q[BLOCK / 2..]].map(|q| q.iter().sum::<i32>());
            let head = [unit, unit * (a + b) as f32, unit * a as f32, unit * b as f32];
            let (out_head, out) = out.split_at_mut(HEAD);
            out_head.copy_from_slice(bytemuck::cast_slice(&head));
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
                Activations::Bytes => {
                    let (low, high) = out.split_at_mut(BLOCK);
                    for ((low, high), q) in low.iter_mut().zip(high).zip(q) {
                        *low = q as u8;
                        *high = ((q - i32::from(q as i8)) >> 8) as u8;
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
    // SAFETY: `each` gives `n` tiles at `w`, and there are as many blocks of that form at each of `x`, as was
    // just checked.
    unsafe {
        match matrix.layout {
            Layout::F32 => floats::<R, 4>(matrix, tiles, x, out, |w| pair(w)),
            Layout::F16 => floats::<R, 2>(matrix, tiles, x, out, |w| widen_f16(load(w)).into()),
            Layout::BF16 => floats::<R, 2>(matrix, tiles, x, out, |w| widen_bf16(load(w))),
            Layout::Q4_0 => small::<R, Nibbles, One<8>>(matrix, tiles, x, dots, out),
            Layout::Q4_1 => small::<R, Nibbles, Two>(matrix, tiles, x, dots, out),
            Layout::Q4_K => small::<R, Nibbles, Each32>(matrix, tiles, x, dots, out),
            Layout::Q5_0 => large::<R, Bits5, One<16>>(matrix, tiles, x, out),
            Layout::Q5_1 => large::<R, Bits5, Two>(matrix, tiles, x, out),
            Layout::Q5_K => large::<R, Bits5, Each32>(matrix, tiles, x, out),
            Layout::Q8_0 => large::<R, Bytes, One<0>>(matrix, tiles, x, out),
            Layout::Q2_K => large::<R, Bits2, Each16Two>(matrix, tiles, x, out),
            Layout::Q3_K => large::<R, Bits3, Each16<4>>(matrix, tiles, x, out),
            Layout::Q6_K => large::<R, Bits6, Each16<32>>(matrix, tiles, x, out),
            Layout::IQ4_NL => large::<R, Book<{ book(IQ4, 0) }>, One<0>>(matrix, tiles, x, out),
            Layout::IQ4_XS => large::<R, Book<{ book(IQ4, 0) }>, Each32Signed>(matrix, tiles, x, out),
            // Up to 24, so that sums of pairs do not fit 16 bits.
            Layout::MXFP4 => {
                small::<R, Book<{ book(FP4, 12) }>, Powers<12>>(matrix, tiles, x, Dots::Quads, out);
            }
            Layout::TQ1_0 => small::<R, Trits, Whole<1>>(matrix, tiles, x, dots, out),
            Layout::TQ2_0 => small::<R, Bits2, Whole<1>>(matrix, tiles, x, dots, out),
            Layout::IQ2_XXS => grid::<R, iq2::Xxs>(matrix, tiles, x, out),
            Layout::IQ2_XS => grid::<R, iq2::Xs>(matrix, tiles, x, out),
            Layout::IQ2_S => grid::<R, iq2::S>(matrix, tiles, x, out),
            Layout::IQ3_XXS => grid::<R, iq3::Xxs>(matrix, tiles, x, out),
            Layout::IQ3_S => grid::<R, iq3::S>(matrix, tiles, x, out),
            Layout::IQ1_S => grid::<R, iq1::S>(matrix, tiles, x, out),
            Layout::IQ1_M => grid::<R, iq1::M>(matrix, tiles, x, out),
            Layout::NVFP4 => large::<R, Book<{ book(FP4, 0) }>, Each16Float>(matrix, tiles, x, out),
        }
    }
}

/// Groups of columns in a block: a number that compilers for wasm do not know, see above.
fn groups() -> usize {
    if cfg!(target_arch = "wasm32") { black_box(4) } else { 4 }
}

/// Products with 4-bit weights, for which activations have 8 or 16 bits.
///
/// # Safety
/// The matrix has a layout of these quants and scales; there are as many blocks of its form at each of `x`.
unsafe fn small<const R: usize, Q: Quants, S: Scales>(
    matrix: &Matrix,
    tiles: Range<usize>,
    x: [*const u8; R],
    dots: Dots,
    out: &mut [f32],
) {
    let (n, groups) = (matrix.n_blocks, groups());
    // SAFETY: as promised by the caller; `each` gives `n` tiles at `w`.
    unsafe {
        match (matrix.activations, dots) {
            (Activations::I8, Dots::Pairs) => {
                each(matrix, tiles, out, |[w]| [integers_i8::<R, Q, S, false>(w, n, x, groups)]);
            }
            (Activations::I8, Dots::Quads) => {
                each(matrix, tiles, out, |[w]| [integers_i8::<R, Q, S, true>(w, n, x, groups)]);
            }
            _ => large::<R, Q, S>(matrix, tiles, x, out),
        }
    }
}

/// Products with weights for which activations have 16 bits.
///
/// # Safety
/// As of [`small`].
unsafe fn large<const R: usize, Q: Quants, S: Scales>(
    matrix: &Matrix,
    tiles: Range<usize>,
    x: [*const u8; R],
    out: &mut [f32],
) {
    let (n, groups) = (matrix.n_blocks, groups());
    // SAFETY: as promised by the caller; `each` gives `n` tiles at `w`.
    unsafe {
        match matrix.activations {
            Activations::Bytes => each(matrix, tiles, out, |[w]| [integers_bytes::<R, Q, S>(w, n, x, groups)]),
            _ => each(matrix, tiles, out, |[w]| [integers_i16::<R, Q, S>(w, n, x, groups)]),
        }
    }
}

/// Products with weights of a grid.
///
/// # Safety
/// The matrix has the grid's layout; there are as many blocks of its form at each of `x`.
unsafe fn grid<const R: usize, G: Grid>(
    matrix: &Matrix,
    tiles: Range<usize>,
    x: [*const u8; R],
    out: &mut [f32],
) {
    // SAFETY: as promised by the caller.
    unsafe { large::<R, Numbers<G>, Factors<G>>(matrix, tiles, x, out) }
}

/// Products with floats of `BYTES` bytes, which `widen` reads. A row alone is multiplied with four rows of
/// tiles at once, because a sum waits for the one before it.
///
/// # Safety
/// The matrix has such floats; there are as many blocks of [`Activations::F32`] at each of `x`.
#[inline(always)]
unsafe fn floats<const R: usize, const BYTES: usize>(
    matrix: &Matrix,
    tiles: Range<usize>,
    x: [*const u8; R],
    out: &mut [f32],
    widen: impl Fn(*const u8) -> Pair + Copy,
) {
    let used = matrix.used.clone();
    // SAFETY: as promised by the caller; `each` gives whole rows of tiles, which the columns are in.
    unsafe {
        match R {
            1 => each(matrix, tiles, out, |w: [_; 4]| columns::<R, 4, BYTES>(w, used.clone(), x, widen)),
            _ => each(matrix, tiles, out, |w: [_; 1]| columns::<R, 1, BYTES>(w, used.clone(), x, widen)),
        }
    }
}

/// Calls `product` with the places of `T` rows of tiles, and puts their sums where they belong. At the end
/// the last row of tiles may come more than once.
#[inline(always)]
fn each<const R: usize, const T: usize>(
    matrix: &Matrix,
    tiles: Range<usize>,
    out: &mut [f32],
    product: impl Fn([*const u8; T]) -> [Sums<R>; T],
) {
    let n = tiles.len();
    let width = TILE * n;
    assert!(out.len() >= R * width);
    for first in (0..n).step_by(T) {
        let at: [usize; T] = std::array::from_fn(|t| (first + t).min(n - 1));
        let sums = product(at.map(|i| matrix.tiles(tiles.start + i).as_ptr()));
        for (i, sums) in at.into_iter().zip(sums) {
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
}

type Sums<const R: usize> = [Pair; R];

/// Adds a block's integer sums `i` of columns with these scales: `d (unit i - ZERO sum) + m sum`.
#[inline(always)]
fn add_scaled<S: Scales>(total: &mut Pair, i: Pair, scale: &Scale, unit: V, sum: V) {
    for h in 0..2 {
        add_scaled_half::<S>(total, i[h], scale, h, unit, sum);
    }
}

/// [`add_scaled`] for the rows of one of a pair's vectors.
#[inline(always)]
fn add_scaled_half<S: Scales>(total: &mut Pair, i: V, scale: &Scale, h: usize, unit: V, sum: V) {
    let i = to_f32(i);
    let product = match S::ZERO {
        0 => mul_f32(unit, i),
        offset => madd_f32(unit, i, mul_f32(sum, splat_f32(-(offset as f32)))),
    };
    total[h] = madd_f32(scale.d[h], product, total[h]);
    if S::MIN {
        total[h] = madd_f32(scale.m[h], sum, total[h]);
    }
}

/// # Safety
/// `n` tiles of these quants and scales at `w`; as many blocks of [`Activations::I8`] at each of `x`. The
/// quants are below 128, without `QUADS` below 16, and 32 columns share a scale; `groups` is 4.
#[inline(always)]
unsafe fn integers_i8<const R: usize, Q: Quants, S: Scales, const QUADS: bool>(
    mut w: *const u8,
    n: usize,
    mut x: [*const u8; R],
    groups: usize,
) -> Sums<R> {
    let ones = splat_i16(1);
    let mut totals = [[zero(); 2]; R];
    for _ in 0..n {
        // SAFETY: all reads are within the tile and the blocks, and both move on by one.
        unsafe {
            let top = S::top(w);
            let quants = w.add(S::BYTES);
            for block in 0..S::BLOCKS {
                let q = quants.add(32 * Q::WORDS * block);
                // Sums of pairs are at most 8 times 2 * 15 * 127, which fits 16 bits.
                let mut sums = [[zero(); 2]; R];
                let mut high = Q::high(q, block);
                for g in 0..groups {
                    let [low, high] = Q::bytes(q, g, &mut high);
                    for r in 0..R {
                        let x = x[r].add(HEAD + 4 * g);
                        let (a, b) = (splat_32(x), splat_32(x.add(16)));
                        for h in 0..2 {
                            sums[r][h] = if QUADS {
                                dot_add_i8(b, high[h], dot_add_i8(a, low[h], sums[r][h]))
                            } else {
                                add_i16(sums[r][h], add_i16(dot_i8(a, low[h]), dot_i8(b, high[h])))
                            };
                        }
                    }
                }
                let [scale, _] = S::of_block(w, &top, block);
                for r in 0..R {
                    let i = if QUADS { sums[r] } else { sums[r].map(|sum| dot_i16(sum, ones)) };
                    add_scaled::<S>(&mut totals[r], i, &scale, splat_32(x[r]), splat_32(x[r].add(4)));
                    x[r] = x[r].add(Activations::I8.block_bytes());
                }
            }
            w = quants.add(32 * Q::words(S::BLOCKS));
        }
    }
    totals
}

/// # Safety
/// `n` tiles of these quants and scales at `w`; as many blocks of [`Activations::Bytes`] at each of `x`. The
/// quants are below 128; `groups` is 4.
#[inline(always)]
unsafe fn integers_bytes<const R: usize, Q: Quants, S: Scales>(
    mut w: *const u8,
    n: usize,
    mut x: [*const u8; R],
    groups: usize,
) -> Sums<R> {
    // Of a pair's vectors at once: as many sums as there are registers for.
    let at_once = if R <= 2 { 2 } else { 1 };
    let mut totals = [[zero(); 2]; R];
    for _ in 0..n {
        // SAFETY: all reads are within the tile and the blocks, and both move on by one.
        unsafe {
            let top = S::top(w);
            let quants = w.add(S::BYTES);
            for block in 0..S::BLOCKS {
                let q = quants.add(32 * Q::WORDS * block);
                let scales = S::of_block(w, &top, block);
                for first in (0..2).step_by(at_once) {
                    // With low bytes and with high ones; of all columns or, where halves have scales of their
                    // own, of each half.
                    let mut sums = [[[[zero(); 2]; 2]; 2]; R];
                    let mut high = Q::high(q, block);
                    for g in 0..groups {
                        let columns = Q::bytes(q, g, &mut high);
                        for r in 0..R {
                            for (half, columns) in columns.iter().enumerate() {
                                let x = x[r].add(HEAD + 4 * g + 16 * half);
                                let sums = &mut sums[r][if S::HALVES { half } else { 0 }];
                                for (byte, sums) in sums.iter_mut().enumerate() {
                                    let x = splat_32(x.add(32 * byte));
                                    for h in first..first + at_once {
                                        sums[h] = dot_add_i8(x, columns[h], sums[h]);
                                    }
                                }
                            }
                        }
                    }
                    for r in 0..R {
                        let unit = splat_32(x[r]);
                        for h in first..first + at_once {
                            let whole = |[low, high]: [Pair; 2]| add_i32(shl_i32::<8>(high[h]), low[h]);
                            let total = &mut totals[r];
                            for (half, scale) in scales.iter().take(1 + usize::from(S::HALVES)).enumerate() {
                                let sum = splat_32(x[r].add(if S::HALVES { 8 + 4 * half } else { 4 }));
                                add_scaled_half::<S>(total, whole(sums[r][half]), scale, h, unit, sum);
                            }
                        }
                    }
                }
                x = x.map(|x| x.add(Activations::Bytes.block_bytes()));
            }
            w = quants.add(32 * Q::words(S::BLOCKS));
        }
    }
    totals
}

/// Adds the products of two columns with each row's two numbers at `x`.
///
/// # Safety
/// 4 bytes can be read at each of `x`.
#[inline(always)]
unsafe fn add_dots<const R: usize>(sums: &mut Sums<R>, columns: Pair, x: [*const u8; R]) {
    for r in 0..R {
        // SAFETY: as promised by the caller.
        let x = unsafe { splat_32(x[r]) };
        for h in 0..2 {
            sums[r][h] = add_i32(sums[r][h], dot_i16(columns[h], x));
        }
    }
}

/// # Safety
/// `n` tiles of these quants and scales at `w`; as many blocks of [`Activations::I16`] at each of `x`;
/// `groups` is 4.
#[inline(always)]
unsafe fn integers_i16<const R: usize, Q: Quants, S: Scales>(
    mut w: *const u8,
    n: usize,
    mut x: [*const u8; R],
    groups: usize,
) -> Sums<R> {
    let mut totals = [[zero(); 2]; R];
    for _ in 0..n {
        // SAFETY: all reads are within the tile and the blocks, and both move on by one.
        unsafe {
            let top = S::top(w);
            let quants = w.add(S::BYTES);
            for block in 0..S::BLOCKS {
                let q = quants.add(32 * Q::WORDS * block);
                // Of all columns or, where halves have scales of their own, of each half.
                let (mut sums, mut others) = ([[zero(); 2]; R], [[zero(); 2]; R]);
                let mut high = Q::high(q, block);
                for g in 0..groups {
                    let [a, b, c, d] = Q::halves(q, g, &mut high);
                    let x = x.map(|x| x.add(HEAD + 8 * g));
                    add_dots(&mut sums, a, x);
                    add_dots(&mut sums, b, x.map(|x| x.add(4)));
                    let sums = if S::HALVES { &mut others } else { &mut sums };
                    add_dots(sums, c, x.map(|x| x.add(32)));
                    add_dots(sums, d, x.map(|x| x.add(36)));
                }
                let [first, second] = S::of_block(w, &top, block);
                for r in 0..R {
                    let (unit, total) = (splat_32(x[r]), &mut totals[r]);
                    if S::HALVES {
                        add_scaled::<S>(total, sums[r], &first, unit, splat_32(x[r].add(8)));
                        add_scaled::<S>(total, others[r], &second, unit, splat_32(x[r].add(12)));
                    } else {
                        add_scaled::<S>(total, sums[r], &first, unit, splat_32(x[r].add(4)));
                    }
                    x[r] = x[r].add(Activations::I16.block_bytes());
                }
            }
            w = quants.add(32 * Q::words(S::BLOCKS));
        }
    }
    totals
}

/// # Safety
/// Tiles of floats of `BYTES` bytes at each of `w`, which `widen` reads, and blocks of [`Activations::F32`]
/// at each of `x`, all with these columns.
#[inline(always)]
unsafe fn columns<const R: usize, const T: usize, const BYTES: usize>(
    w: [*const u8; T],
    used: Range<usize>,
    x: [*const u8; R],
    widen: impl Fn(*const u8) -> Pair,
) -> [Sums<R>; T] {
    let mut totals = [[[zero(); 2]; R]; T];
    for column in used {
        // SAFETY: all reads are within the tiles and the blocks.
        unsafe {
            let x = x.map(|x| splat_32(x.add(4 * column)));
            for t in 0..T {
                let numbers = widen(w[t].add(TILE * BYTES * column));
                for r in 0..R {
                    for h in 0..2 {
                        totals[t][r][h] = madd_f32(numbers[h], x[r], totals[t][r][h]);
                    }
                }
            }
        }
    }
    totals
}
