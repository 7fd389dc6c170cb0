//! IQ2_XXS, IQ2_XS and IQ2_S: 256 weights; the sizes of 8 weights are an entry of a grid. Scale s of 4 bits.
//! w = d (s + 1/2) / 4 size, with a sign.

use super::grid::{self, Grid, Planes256, Table, even_signs, negate};
use super::{Layout, LayoutRow, Row, Sample};

/// Sizes are 8, 25 or 43.
#[inline(always)]
fn sizes(table: Table, index: u32, j: usize) -> u32 {
    let codes = table.codes_2(index, j);
    0x0808_0808 + 17 * codes + (codes >> 1 & 0x0101_0101)
}

#[inline(always)]
fn factor(scale: u32) -> f32 {
    ((scale & 15) as f32 + 0.5) * 0.25
}

/// d, then for each 32 weights 4 bytes of indices, and a word with 7 signs for each 8 and then the scale.
pub struct Xxs;

pub(super) const XXS_FORMAT: Row =
    grid::format::<Xxs>("IQ2_XXS", Layout::IQ2_XXS, Sample::Blocks(&[(0, 1.0 / 53.36)]));
/// As in the file; d.
pub(super) const XXS_LAYOUT: LayoutRow = grid::layout::<Xxs>("iq2_xxs");

impl Grid for Xxs {
    const FILE: usize = 66;
    const WORDS: usize = 2;
    const UNITS: usize = 1;
    const HALVES: bool = false;

    fn repack(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
        scales.extend_from_slice(&file[..2]);
        quants.extend_from_slice(&file[2..]);
    }

    #[inline(always)]
    fn numbers(planes: &impl Planes256, block: usize, j: usize) -> u32 {
        let index = planes.word(2 * block) >> (j / 2 * 8) & 255;
        let signs = even_signs(planes.word(2 * block + 1) >> (j / 2 * 7));
        negate(sizes(grid::IQ2_XXS, index, j), signs >> (j % 2 * 4) & 15)
    }

    #[inline(always)]
    fn factors(planes: &impl Planes256, block: usize) -> [f32; 2] {
        [factor(planes.word(2 * block + 1) >> 28); 2]
    }
}

/// d, then 2 bytes for each 8 weights, an index of 9 bits and 7 signs, then a byte for each 32 with the
/// scales of its halves.
pub struct Xs;

pub(super) const XS_FORMAT: Row =
    grid::format::<Xs>("IQ2_XS", Layout::IQ2_XS, Sample::Blocks(&[(0, 1.0 / 55.9)]));
/// Indices and signs as in the file; d and the bytes with the scales.
pub(super) const XS_LAYOUT: LayoutRow = grid::layout::<Xs>("iq2_xs");

impl Grid for Xs {
    const FILE: usize = 74;
    const WORDS: usize = 2;
    const UNITS: usize = 5;
    const HALVES: bool = true;

    fn repack(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
        scales.extend_from_slice(&file[..2]);
        scales.extend_from_slice(&file[66..]);
        quants.extend_from_slice(&file[2..66]);
    }

    #[inline(always)]
    fn numbers(planes: &impl Planes256, block: usize, j: usize) -> u32 {
        let pick = planes.word(2 * block + j / 4) >> (j / 2 % 2 * 16);
        let signs = even_signs(pick >> 9);
        negate(sizes(grid::IQ2_XS, pick & 511, j), signs >> (j % 2 * 4) & 15)
    }

    #[inline(always)]
    fn factors(planes: &impl Planes256, block: usize) -> [f32; 2] {
        let scales = planes.unit(1 + block / 2) >> (block % 2 * 8);
        [factor(scales), factor(scales >> 4)]
    }
}

/// d, then a byte of index and one of signs for each 8 weights, then a byte for each 32 with the upper 2 bits
/// of its indices, and one with the scales of its halves.
pub struct S;

pub(super) const S_FORMAT: Row =
    grid::format::<S>("IQ2_S", Layout::IQ2_S, Sample::Blocks(&[(0, 1.0 / 56.39)]));
/// Indices and signs of each 32; d, then upper bits and scales of each 32.
pub(super) const S_LAYOUT: LayoutRow = grid::layout::<S>("iq2_s");

impl Grid for S {
    const FILE: usize = 82;
    const WORDS: usize = 2;
    const UNITS: usize = 9;
    const HALVES: bool = true;

    fn repack(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
        scales.extend_from_slice(&file[..2]);
        for i in 0..8 {
            scales.extend([file[66 + i], file[74 + i]]);
            quants.extend_from_slice(&file[2 + 4 * i..][..4]);
            quants.extend_from_slice(&file[34 + 4 * i..][..4]);
        }
    }

    #[inline(always)]
    fn numbers(planes: &impl Planes256, block: usize, j: usize) -> u32 {
        let low = planes.word(2 * block) >> (j / 2 * 8) & 255;
        let high = planes.unit(1 + block) >> (j / 2 * 2) & 3;
        let signs = planes.word(2 * block + 1) >> (4 * j) & 15;
        negate(sizes(grid::IQ2_S, low | high << 8, j), signs)
    }

    #[inline(always)]
    fn factors(planes: &impl Planes256, block: usize) -> [f32; 2] {
        let scales = planes.unit(1 + block) >> 8;
        [factor(scales), factor(scales >> 4)]
    }
}
