//! IQ3_XXS and IQ3_S: 256 weights; the sizes of 4 weights are an entry of a grid. Scale s of 4 bits for 32.

use super::grid::{self, Grid, Planes256, even_signs, negate};
use super::{Layout, LayoutRow, Row, Sample};

/// d, then a byte of index for each 4 weights, then for each 32 a word with 7 signs for each 8 and the scale.
/// w = d (s + 1/2) / 2 size, with a sign.
pub struct Xxs;

pub(super) const XXS_FORMAT: Row =
    grid::format::<Xxs>("IQ3_XXS", Layout::IQ3_XXS, Sample::Blocks(&[(0, 1.0 / 142.4)]));
/// Indices, signs and scale of each 32; d.
pub(super) const XXS_LAYOUT: LayoutRow = grid::layout::<Xxs>("iq3_xxs");

impl Grid for Xxs {
    const FILE: usize = 98;
    const WORDS: usize = 3;
    const UNITS: usize = 1;
    const HALVES: bool = false;

    fn repack(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
        scales.extend_from_slice(&file[..2]);
        for i in 0..8 {
            quants.extend_from_slice(&file[2 + 8 * i..][..8]);
            quants.extend_from_slice(&file[66 + 4 * i..][..4]);
        }
    }

    #[inline(always)]
    fn numbers(planes: &impl Planes256, block: usize, j: usize) -> u32 {
        let index = planes.word(3 * block + j / 4) >> (j % 4 * 8) & 255;
        let signs = even_signs(planes.word(3 * block + 2) >> (j / 2 * 7));
        // Sizes are 4, 12, 20 and so on, but the last is 62 and not 60.
        let codes = grid::IQ3_XXS.codes_3(index);
        let last = codes & codes >> 1 & codes >> 2 & 0x0101_0101;
        negate(0x0404_0404 + 8 * codes + 2 * last, signs >> (j % 2 * 4) & 15)
    }

    #[inline(always)]
    fn factors(planes: &impl Planes256, block: usize) -> [f32; 2] {
        [((planes.word(3 * block + 2) >> 28) as f32 + 0.5) * 0.5; 2]
    }
}

/// d, then a byte of index for each 4 weights, then a byte for each 32 with the highest bits of its indices,
/// then a byte of signs for each 8, then 4 bits of scale for each 32. w = d (2 s + 1) size, with a sign.
pub struct S;

pub(super) const S_FORMAT: Row =
    grid::format::<S>("IQ3_S", Layout::IQ3_S, Sample::Blocks(&[(0, 1.0 / 140.2)]));
/// Indices and signs of each 32; d, then the bytes with the highest bits, then the scales.
pub(super) const S_LAYOUT: LayoutRow = grid::layout::<S>("iq3_s");

impl Grid for S {
    const FILE: usize = 110;
    const WORDS: usize = 3;
    const UNITS: usize = 7;
    const HALVES: bool = false;

    fn repack(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
        scales.extend_from_slice(&file[..2]);
        scales.extend_from_slice(&file[66..74]);
        scales.extend_from_slice(&file[106..]);
        for i in 0..8 {
            quants.extend_from_slice(&file[2 + 8 * i..][..8]);
            quants.extend_from_slice(&file[74 + 4 * i..][..4]);
        }
    }

    #[inline(always)]
    fn numbers(planes: &impl Planes256, block: usize, j: usize) -> u32 {
        let low = planes.word(3 * block + j / 4) >> (j % 4 * 8) & 255;
        let high = planes.unit(1 + block / 2) >> (block % 2 * 8 + j) & 1;
        let signs = planes.word(3 * block + 2) >> (4 * j) & 15;
        // Sizes are the odd numbers up to 15.
        negate(0x0101_0101 + 2 * grid::IQ3_S.codes_3(low | high << 8), signs)
    }

    #[inline(always)]
    fn factors(planes: &impl Planes256, block: usize) -> [f32; 2] {
        let scale = planes.unit(5 + block / 4) >> (block % 4 * 4) & 15;
        [(2 * scale + 1) as f32; 2]
    }
}
