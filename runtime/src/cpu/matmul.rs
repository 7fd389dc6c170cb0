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

use super::activations::{Activations, Dots, HEAD};
use super::grids::{Factors, Numbers};
use super::scales::*;
use super::simd::*;
use super::unpack::*;
use super::weights::{Matrix, TILE};
use crate::quant::book::{FP4, IQ4};
use crate::quant::grid::Grid;
use crate::quant::{Layout, iq1, iq2, iq3};
use std::hint::black_box;
use std::ops::Range;

/// Rows of activations that are multiplied with a tile at once.
pub(super) const ROWS: usize = 4;

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
            Layout::Q5_0 => middle::<R, Bits5, One<16>>(matrix, tiles, x, out),
            Layout::Q5_1 => middle::<R, Bits5, Two>(matrix, tiles, x, out),
            Layout::Q5_K => middle::<R, Bits5, Each32>(matrix, tiles, x, out),
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
            _ => middle::<R, Q, S>(matrix, tiles, x, out),
        }
    }
}

/// Products with weights below 128, for which activations have 16 bits, maybe as two bytes.
///
/// # Safety
/// As of [`small`].
unsafe fn middle<const R: usize, Q: Quants, S: Scales>(
    matrix: &Matrix,
    tiles: Range<usize>,
    x: [*const u8; R],
    out: &mut [f32],
) {
    if !HAS_DOT_I8 || matrix.activations != Activations::Bytes {
        // SAFETY: as promised by the caller.
        return unsafe { large::<R, Q, S>(matrix, tiles, x, out) };
    }
    let (n, groups) = (matrix.n_blocks, groups());
    // As many rows at once as there are registers for their sums.
    let mut pairs = out.chunks_mut(2 * TILE * tiles.len());
    let (x, rest) = x.as_chunks::<2>();
    // SAFETY: as promised by the caller; `each` gives `n` tiles at `w`.
    unsafe {
        for (x, out) in x.iter().zip(&mut pairs) {
            each(matrix, tiles.clone(), out, |[w]| [integers_bytes::<2, Q, S>(w, n, *x, groups)]);
        }
        if let ([x], Some(out)) = (rest, pairs.next()) {
            each(matrix, tiles, out, |[w]| [integers_bytes::<1, Q, S>(w, n, [*x], groups)]);
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
    unsafe { each(matrix, tiles, out, |[w]| [integers_i16::<R, Q, S>(w, n, x, groups)]) }
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
    let offset = if S::ZERO != 0 { mul_f32(sum, splat_f32(-(S::ZERO as f32))) } else { zero() };
    for h in 0..2 {
        let i = to_f32(i[h]);
        let product = if S::ZERO != 0 { madd_f32(unit, i, offset) } else { mul_f32(unit, i) };
        total[h] = madd_f32(scale.d[h], product, total[h]);
        if S::MIN {
            total[h] = madd_f32(scale.m[h], sum, total[h]);
        }
    }
}

/// A block of 32 columns in a tile.
struct Block<'a, S: Scales> {
    w: *const u8,
    top: &'a S::Top,
    number: usize,
    /// Its quants.
    q: *const u8,
}

impl<S: Scales> Block<'_, S> {
    /// # Safety
    /// The block is in a tile of these scales.
    #[inline(always)]
    unsafe fn scales(&self) -> [Scale; 2] {
        // SAFETY: as promised by the caller.
        unsafe { S::of_block(self.w, self.top, self.number) }
    }
}

/// Sums over all blocks of `n` tiles: `add` adds the products of one to the totals, with the rows' blocks.
///
/// # Safety
/// `n` tiles of these quants and scales at `w`; as many blocks of that form at each of `x`.
#[inline(always)]
unsafe fn integers<const R: usize, Q: Quants, S: Scales>(
    mut w: *const u8,
    n: usize,
    mut x: [*const u8; R],
    form: Activations,
    add: impl Fn(&mut Sums<R>, Block<S>, [*const u8; R]),
) -> Sums<R> {
    let mut totals = [[zero(); 2]; R];
    for _ in 0..n {
        // SAFETY: all is within the tile and the blocks, and both move on by one.
        unsafe {
            let top = S::top(w);
            let quants = w.add(S::BYTES);
            for number in 0..S::BLOCKS {
                let q = quants.add(32 * Q::WORDS * number);
                add(&mut totals, Block { w, top: &top, number, q }, x);
                x = x.map(|x| x.add(form.block_bytes()));
            }
            w = quants.add(32 * Q::words(S::BLOCKS));
        }
    }
    totals
}

/// # Safety
/// As of [`integers`], for [`Activations::I8`]. The quants are below 128, without `QUADS` below 16, and 32
/// columns share a scale; `groups` is 4.
#[inline(always)]
unsafe fn integers_i8<const R: usize, Q: Quants, S: Scales, const QUADS: bool>(
    w: *const u8,
    n: usize,
    x: [*const u8; R],
    groups: usize,
) -> Sums<R> {
    let ones = splat_i16(1);
    // SAFETY: all reads are within the tile and the blocks.
    let add = |totals: &mut Sums<R>, block: Block<S>, x: [*const u8; R]| unsafe {
        // Sums of pairs are at most 8 times 2 * 15 * 127, which fits 16 bits.
        let mut sums = [[zero(); 2]; R];
        let mut high = Q::high(block.q, block.number);
        for g in 0..groups {
            let [low, high] = Q::bytes(block.q, g, &mut high);
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
        let [scale, _] = block.scales();
        for r in 0..R {
            let i = if QUADS { sums[r] } else { sums[r].map(|sum| dot_i16(sum, ones)) };
            add_scaled::<S>(&mut totals[r], i, &scale, splat_32(x[r]), splat_32(x[r].add(4)));
        }
    };
    // SAFETY: as promised by the caller.
    unsafe { integers::<R, Q, S>(w, n, x, Activations::I8, add) }
}

/// # Safety
/// As of [`integers`], for [`Activations::Bytes`]. The quants are below 128, and 32 columns share a scale;
/// `groups` is 4.
#[inline(always)]
unsafe fn integers_bytes<const R: usize, Q: Quants, S: Scales>(
    w: *const u8,
    n: usize,
    x: [*const u8; R],
    groups: usize,
) -> Sums<R> {
    // SAFETY: all reads are within the tile and the blocks.
    let add = |totals: &mut Sums<R>, block: Block<S>, x: [*const u8; R]| unsafe {
        // With low bytes and with high ones.
        let mut sums = [[[zero(); 2]; 2]; R];
        let mut high = Q::high(block.q, block.number);
        for g in 0..groups {
            let columns = Q::bytes(block.q, g, &mut high);
            for r in 0..R {
                for (half, columns) in columns.iter().enumerate() {
                    let x = x[r].add(HEAD + 4 * g + 16 * half);
                    let x = [splat_32(x), splat_32(x.add(32))];
                    for byte in 0..2 {
                        for h in 0..2 {
                            sums[r][byte][h] = dot_add_i8(x[byte], columns[h], sums[r][byte][h]);
                        }
                    }
                }
            }
        }
        let [scale, _] = block.scales();
        for r in 0..R {
            let [low, high] = sums[r];
            let i = [0, 1].map(|h| add_i32(shl_i32::<8>(high[h]), low[h]));
            add_scaled::<S>(&mut totals[r], i, &scale, splat_32(x[r]), splat_32(x[r].add(4)));
        }
    };
    // SAFETY: as promised by the caller.
    unsafe { integers::<R, Q, S>(w, n, x, Activations::Bytes, add) }
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
/// As of [`integers`], for [`Activations::I16`]; `groups` is 4.
#[inline(always)]
unsafe fn integers_i16<const R: usize, Q: Quants, S: Scales>(
    w: *const u8,
    n: usize,
    x: [*const u8; R],
    groups: usize,
) -> Sums<R> {
    // SAFETY: all reads are within the tile and the blocks.
    let add = |totals: &mut Sums<R>, block: Block<S>, x: [*const u8; R]| unsafe {
        // Of all columns or, where halves have scales of their own, of each half.
        let (mut sums, mut others) = ([[zero(); 2]; R], [[zero(); 2]; R]);
        let mut high = Q::high(block.q, block.number);
        for g in 0..groups {
            let [a, b, c, d] = Q::halves(block.q, g, &mut high);
            let x = x.map(|x| x.add(HEAD + 8 * g));
            add_dots(&mut sums, a, x);
            add_dots(&mut sums, b, x.map(|x| x.add(4)));
            let sums = if S::HALVES { &mut others } else { &mut sums };
            add_dots(sums, c, x.map(|x| x.add(32)));
            add_dots(sums, d, x.map(|x| x.add(36)));
        }
        let [first, second] = block.scales();
        for r in 0..R {
            let (unit, total) = (splat_32(x[r]), &mut totals[r]);
            if S::HALVES {
                add_scaled::<S>(total, sums[r], &first, unit, splat_32(x[r].add(8)));
                add_scaled::<S>(total, others[r], &second, unit, splat_32(x[r].add(12)));
            } else {
                add_scaled::<S>(total, sums[r], &first, unit, splat_32(x[r].add(4)));
            }
        }
    };
    // SAFETY: as promised by the caller.
    unsafe { integers::<R, Q, S>(w, n, x, Activations::I16, add) }
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
