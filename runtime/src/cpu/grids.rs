//! Weights whose quants are indices into a grid (`quant/grid.rs`). Vectors have no instruction for that, so
//! four numbers at a time are looked up by themselves.

use super::scales::{Scale, Scales};
use super::simd::*;
use super::unpack::{Pair, Quants, pair, signed_halves};
use super::weights::TILE;
use crate::quant::grid::{Grid, Planes256};
use std::marker::PhantomData;

/// One row of a tile of 256 columns.
struct Row {
    /// The row's first unit and first word in the tile.
    units: *const u8,
    words: *const u8,
}

impl Row {
    /// # Safety
    /// A tile of the grid's layout is at `tile`, for as long as the row is used; `row` is below 8.
    #[inline(always)]
    unsafe fn new<G: Grid>(tile: *const u8, row: usize) -> Self {
        // SAFETY: as promised by the caller.
        unsafe { Self { units: tile.add(2 * row), words: tile.add(2 * TILE * G::UNITS + 4 * row) } }
    }
}

impl Planes256 for Row {
    #[inline(always)]
    fn word(&self, w: usize) -> u32 {
        // SAFETY: a grid reads only the words that its layout has, and they are all in the tile.
        unsafe { self.words.add(4 * TILE * w).cast::<u32>().read_unaligned() }
    }

    #[inline(always)]
    fn unit(&self, u: usize) -> u32 {
        // SAFETY: likewise.
        u32::from(unsafe { self.units.add(2 * TILE * u).cast::<u16>().read_unaligned() })
    }
}

/// The numbers of a grid's layout.
pub(super) struct Numbers<G>(PhantomData<G>);

impl<G: Grid> Quants for Numbers<G> {
    const WORDS: usize = G::WORDS;
    /// The numbers of all 32 columns, by groups of 4 and by rows.
    type High = [[u32; TILE]; 8];

    #[inline(always)]
    unsafe fn high(q: *const u8, block: usize) -> Self::High {
        let mut numbers = [[0; TILE]; 8];
        for row in 0..TILE {
            // SAFETY: as promised by the caller; the tile's scales come before its words.
            let planes = unsafe { Row::new::<G>(q.sub(32 * G::WORDS * block + 16 * G::UNITS), row) };
            for (j, numbers) in numbers.iter_mut().enumerate() {
                numbers[row] = G::numbers(&planes, block, j);
            }
        }
        numbers
    }

    #[inline(always)]
    unsafe fn bytes(_: *const u8, g: usize, numbers: &mut Self::High) -> [Pair; 2] {
        // SAFETY: 8 words are 32 bytes.
        [g, 4 + g].map(|j| unsafe { pair(numbers[j].as_ptr().cast()) })
    }

    #[inline(always)]
    unsafe fn halves(q: *const u8, g: usize, numbers: &mut Self::High) -> [Pair; 4] {
        // SAFETY: as promised by the caller.
        signed_halves(unsafe { Self::bytes(q, g, numbers) })
    }
}

/// The scales of a grid's layout.
pub(super) struct Factors<G>(PhantomData<G>);

impl<G: Grid> Scales for Factors<G> {
    const BLOCKS: usize = 8;
    const BYTES: usize = 16 * G::UNITS;
    const HALVES: bool = G::HALVES;
    const MIN: bool = false;
    const ZERO: i32 = 0;
    type Top = Pair;

    #[inline(always)]
    unsafe fn top(w: *const u8) -> Pair {
        // SAFETY: as promised by the caller.
        widen_f16(unsafe { load(w) }).into()
    }

    #[inline(always)]
    unsafe fn of_block(w: *const u8, top: &Pair, block: usize) -> [Scale; 2] {
        let (mut first, mut second) = ([0.0_f32; TILE], [0.0_f32; TILE]);
        for (row, (first, second)) in first.iter_mut().zip(&mut second).enumerate() {
            // SAFETY: as promised by the caller.
            let planes = unsafe { Row::new::<G>(w, row) };
            [*first, *second] = G::factors(&planes, block);
        }
        [first, second].map(|factors| {
            // SAFETY: 8 floats are 32 bytes.
            let [a, b] = unsafe { pair(factors.as_ptr().cast()) };
            let d = [mul_f32(top[0], a), mul_f32(top[1], b)];
            Scale { d, m: d }
        })
    }
}
