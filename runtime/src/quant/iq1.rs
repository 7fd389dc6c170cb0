//! IQ1_S and IQ1_M: 256 weights; 8 weights are an entry of a grid, of -1, 0 or 1, and all are moved up or
//! down by 1/8. Scale s of 3 bits. w = d (2 s + 1) (entry + 1/8 or - 1/8).
//!
//! The layouts' numbers are 8 times as large, and so integers.

use super::grid::{self, Grid, Planes256};
use super::{Layout, LayoutRow, Row, Sample};

/// The entries times 8, plus or minus 1, as signed bytes.
#[inline(always)]
fn moved(index: u32, j: usize, is_down: bool) -> u32 {
    let base = if is_down { 0x7777_7777 } else { 0x7979_7979 };
    // 128 more, so that no byte carries into the next.
    (base + 8 * grid::IQ1.codes_2(index, j)) ^ 0x8080_8080
}

#[inline(always)]
fn factor(scale: u32) -> f32 {
    (2 * (scale & 7) + 1) as f32 * 0.125
}

/// d, then a byte of index for each 8 weights, then 2 bytes for each 32: the upper 3 bits of its indices, the
/// scale, and whether the weights are moved down.
pub struct S;

pub(super) const S_FORMAT: Row = grid::format::<S>("IQ1_S", Layout::IQ1_S, Sample::Blocks(&[(0, 1.0 / 7.2)]));
/// As in the file; d, then the 2 bytes of each 32.
pub(super) const S_LAYOUT: LayoutRow = grid::layout::<S>("iq1_s");

impl Grid for S {
    const FILE: usize = 50;
    const WORDS: usize = 1;
    const UNITS: usize = 9;
    const HALVES: bool = false;

    fn repack(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
        scales.extend_from_slice(&file[..2]);
        scales.extend_from_slice(&file[34..]);
        quants.extend_from_slice(&file[2..34]);
    }

    #[inline(always)]
    fn numbers(planes: &impl Planes256, block: usize, j: usize) -> u32 {
        let (low, high) = (planes.word(block) >> (j / 2 * 8) & 255, planes.unit(1 + block));
        moved(low | (high >> (j / 2 * 3) & 7) << 8, j, high >> 15 != 0)
    }

    #[inline(always)]
    fn factors(planes: &impl Planes256, block: usize) -> [f32; 2] {
        [factor(planes.unit(1 + block) >> 12); 2]
    }
}

/// A byte of index for each 8 weights, then 4 bits for each 8: the upper 3 bits of the index, and whether the
/// weights are moved down; then 8 bytes: in each 2, scales for four times 16, and 4 bits of d.
pub struct M;

pub(super) const M_FORMAT: Row =
    grid::format::<M>("IQ1_M", Layout::IQ1_M, Sample::Scaled(1.0 / 7.2, |block, d, _| store_d(block, d)));
/// Indices as in the file; d, then the four times 4 bits of each 32, then a byte with its two scales.
pub(super) const M_LAYOUT: LayoutRow = grid::layout::<M>("iq1_m");

/// Puts an f16 where a block has it: its lowest 4 bits are the highest of the first two bytes.
fn store_d(block: &mut [u8], d: f32) {
    let bits = half::f16::from_f32(d).to_bits();
    for i in 0..4 {
        let byte = &mut block[49 + 2 * i];
        *byte = *byte & 15 | (bits >> (4 * i) << 4) as u8;
    }
}

impl Grid for M {
    const FILE: usize = 56;
    const WORDS: usize = 1;
    const UNITS: usize = 13;
    const HALVES: bool = true;

    fn repack(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
        let word = |i: usize| u16::from_le_bytes([file[48 + 2 * i], file[49 + 2 * i]]);
        let d: u16 = (0..4).map(|i| word(i) >> 12 << (4 * i)).sum();
        scales.extend(d.to_le_bytes());
        scales.extend_from_slice(&file[32..48]);
        scales.extend((0..8).map(|i| {
            let pair = word(i / 2) >> (i % 2 * 6);
            (pair & 7 | (pair >> 3 & 7) << 4) as u8
        }));
        quants.extend_from_slice(&file[..32]);
    }

    #[inline(always)]
    fn numbers(planes: &impl Planes256, block: usize, j: usize) -> u32 {
        let low = planes.word(block) >> (j / 2 * 8) & 255;
        let high = planes.unit(1 + block) >> (j / 2 * 4);
        moved(low | (high & 7) << 8, j, high & 8 != 0)
    }

    #[inline(always)]
    fn factors(planes: &impl Planes256, block: usize) -> [f32; 2] {
        let scales = planes.unit(9 + block / 2) >> (block % 2 * 8);
        [factor(scales), factor(scales >> 4)]
    }
}
