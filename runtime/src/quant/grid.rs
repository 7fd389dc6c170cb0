//! Grids: code books whose entries are the sizes of 4 or 8 weights. Signs, a part of the index and scales are
//! stored beside the indices, in another place in each format.
//!
//! The grids are facts of the formats (ggml's `iq2xxs_grid` and so on). `grids.bin` has them one after
//! another, written by `tests/golden/quant/make.py`: an entry is a little-endian u16, with 8 codes of 2 bits
//! or 4 of 3 bits.

use super::{BLOCK, Layout, LayoutRow, Row, Sample, half_at};

static GRIDS: &[u8; 2 * 4608] = include_bytes!("grids.bin");

/// The first entry of a grid, and how many it has.
#[derive(Clone, Copy)]
pub(super) struct Table(usize, usize);

pub(super) const IQ2_XXS: Table = Table(0, 256);
pub(super) const IQ2_XS: Table = Table(256, 512);
pub(super) const IQ2_S: Table = Table(768, 1024);
pub(super) const IQ3_XXS: Table = Table(1792, 256);
pub(super) const IQ3_S: Table = Table(2048, 512);
pub(super) const IQ1: Table = Table(2560, 2048);

impl Table {
    #[inline(always)]
    fn entry(self, index: u32) -> u32 {
        let at = 2 * (self.0 + index as usize % self.1);
        u32::from(u16::from_le_bytes([GRIDS[at], GRIDS[at + 1]]))
    }

    /// Codes 0..4 or, if `j` is odd, 4..8 of 2 bits in an entry, as bytes.
    #[inline(always)]
    pub fn codes_2(self, index: u32, j: usize) -> u32 {
        let bits = self.entry(index) >> (j % 2 * 8) & 255;
        (bits | bits << 6 | bits << 12 | bits << 18) & 0x0303_0303
    }

    /// The 4 codes of 3 bits in an entry, as bytes.
    #[inline(always)]
    pub fn codes_3(self, index: u32) -> u32 {
        let bits = self.entry(index);
        bits & 7 | (bits & 7 << 3) << 5 | (bits & 7 << 6) << 10 | (bits & 7 << 9) << 15
    }
}

impl Layout {
    /// The grid of the layout, if it has one, as little-endian numbers of 16 bits.
    pub fn grid(self) -> Option<&'static [u8]> {
        let Table(first, len) = match self {
            Layout::IQ2_XXS => IQ2_XXS,
            Layout::IQ2_XS => IQ2_XS,
            Layout::IQ2_S => IQ2_S,
            Layout::IQ3_XXS => IQ3_XXS,
            Layout::IQ3_S => IQ3_S,
            Layout::IQ1_S | Layout::IQ1_M => IQ1,
            _ => return None,
        };
        Some(&GRIDS[2 * first..][..2 * len])
    }
}

/// Negates bytes above 0 whose bits are set in `signs`, which has 4.
#[inline(always)]
pub(super) fn negate(bytes: u32, signs: u32) -> u32 {
    let ones = (signs | signs << 7 | signs << 14 | signs << 21) & 0x0101_0101;
    (bytes ^ (ones * 255)) + ones
}

/// The signs of 8 weights from those of 7: their number is even.
#[inline(always)]
pub(super) fn even_signs(signs: u32) -> u32 {
    let signs = signs & 127;
    signs | (signs.count_ones() & 1) << 7
}

/// The planes of 256 weights.
pub trait Planes256 {
    /// A word of the quants.
    fn word(&self, w: usize) -> u32;
    /// A unit of 2 bytes of the scales.
    fn unit(&self, u: usize) -> u32;
}

/// A format with a grid, and its layout. Blocks have 256 weights.
pub trait Grid {
    /// Bytes of a block in a file.
    const FILE: usize;
    /// Words of each 32 weights in the quants plane.
    const WORDS: usize;
    /// Units of 2 bytes in the scales plane; the first is d.
    const UNITS: usize;
    /// Whether 16 weights have a scale, and not 32.
    const HALVES: bool;

    /// Appends a block of a file to the planes.
    fn repack(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>);

    /// Weights 4j .. 4j + 4 of the `block`th 32, without their scale: signed bytes.
    fn numbers(planes: &impl Planes256, block: usize, j: usize) -> u32;

    /// What d is multiplied with to scale the first 16 and the others of the `block`th 32.
    fn factors(planes: &impl Planes256, block: usize) -> [f32; 2];
}

struct Bytes<'a> {
    quants: &'a [u8],
    scales: &'a [u8],
}

impl Planes256 for Bytes<'_> {
    fn word(&self, w: usize) -> u32 {
        let (words, _) = self.quants.as_chunks();
        u32::from_le_bytes(words[w])
    }

    fn unit(&self, u: usize) -> u32 {
        let (units, _) = self.scales.as_chunks();
        u32::from(u16::from_le_bytes(units[u]))
    }
}

pub(super) const fn format<G: Grid>(name: &'static str, layout: Layout, sample: Sample) -> Row {
    Row {
        name,
        block_len: 8 * BLOCK,
        block_bytes: G::FILE,
        layout,
        sample,
        dequantise: |block, weights| {
            let (mut quants, mut scales) = (Vec::new(), Vec::new());
            G::repack(block, &mut quants, &mut scales);
            dequantise::<G>(&quants, &scales, weights);
        },
        repack: |file, quants, scales| {
            file.chunks_exact(G::FILE).for_each(|block| G::repack(block, quants, scales));
        },
    }
}

pub(super) const fn layout<G: Grid>(name: &'static str) -> LayoutRow {
    LayoutRow {
        name,
        block_len: 8 * BLOCK,
        quants_bytes: 8 * 4 * G::WORDS,
        scales_bytes: 2 * G::UNITS,
        dequantise: dequantise::<G>,
    }
}

fn dequantise<G: Grid>(quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
    let (planes, d) = (Bytes { quants, scales }, half_at(scales, 0));
    for block in 0..8 {
        let scales = G::factors(&planes, block).map(|factor| d * factor);
        for j in 0..8 {
            let numbers = G::numbers(&planes, block, j).to_le_bytes();
            weights.extend(numbers.map(|number| scales[j / 4] * f32::from(number as i8)));
        }
    }
}
