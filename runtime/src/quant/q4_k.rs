//! Q4_K: 256 weights: d and dmin (f16 each), 12 bytes with a scale s and a minimum m of 6 bits for each 32,
//! then 128 bytes of nibbles. w = d s q - dmin m.
//!
//! Of each 32 bytes of nibbles, the low ones are 32 weights and the high ones the next 32.

use super::{BLOCK, Layout, LayoutRow, Row, Sample, bits, half_at};

const LEN: usize = 256;
const N_BITS: usize = 4;
const QUANTS: usize = LEN / 2;

pub(super) const FORMAT: Row = Row {
    name: "Q4_K",
    block_len: LEN,
    block_bytes: 16 + QUANTS,
    layout: Layout::Q4_K,
    sample: Sample::Blocks(&[(0, 1.0 / 258.5), (2, 7.5 / 258.5)]),
    dequantise: |block, weights| weigh(&Scales::of_file(block), |i| quants(block, i), weights),
    repack: |file, out, scales| {
        for block in file.chunks_exact(16 + QUANTS) {
            Scales::of_file(block).append(scales);
            (0..LEN / BLOCK).for_each(|i| bits::put(N_BITS, &quants(block, i), out));
        }
    },
};

/// Nibbles of each 32; the scales of [`Scales`].
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "q4_k",
    block_len: LEN,
    quants_bytes: QUANTS,
    scales_bytes: Scales::BYTES,
    dequantise: |quants, scales, weights| dequantise(N_BITS, quants, scales, weights),
};

fn quants(block: &[u8], i: usize) -> [u8; BLOCK] {
    nibbles(&block[16..], i)
}

/// The `i`th 32 nibbles.
pub(super) fn nibbles(bytes: &[u8], i: usize) -> [u8; BLOCK] {
    std::array::from_fn(|j| bytes[i / 2 * BLOCK + j] >> (i % 2 * 4) & 15)
}

/// The scales of 256 weights: d and dmin, and a scale and a minimum for each 32. On a device each of those is
/// a byte, scale and minimum in turn.
pub(super) struct Scales<'a> {
    /// d and dmin as stored.
    top: &'a [u8],
    each: [[u8; 2]; LEN / BLOCK],
}

impl<'a> Scales<'a> {
    /// Bytes in the scales plane.
    pub const BYTES: usize = 4 + 2 * (LEN / BLOCK);

    /// From a block's first 16 bytes in a file. The first four of each have their 6 bits in one byte; the
    /// others have 4 bits in the last four bytes, and the upper two in those of the first four.
    pub fn of_file(block: &'a [u8]) -> Self {
        let packed = &block[4..16];
        let each = std::array::from_fn(|i| match i {
            0..4 => [packed[i] & 63, packed[4 + i] & 63],
            _ => [packed[4 + i] & 15 | packed[i - 4] >> 6 << 4, packed[4 + i] >> 4 | packed[i] >> 6 << 4],
        });
        Self { top: &block[..4], each }
    }

    pub fn append(&self, scales: &mut Vec<u8>) {
        scales.extend_from_slice(self.top);
        scales.extend_from_slice(self.each.as_flattened());
    }

    fn of_plane(scales: &'a [u8]) -> Self {
        Self { top: &scales[..4], each: std::array::from_fn(|i| [scales[4 + 2 * i], scales[5 + 2 * i]]) }
    }
}

/// Appends the weights of a block of the layout with integers of so many bits.
pub(super) fn dequantise(n_bits: usize, quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
    let n = bits::bytes(n_bits);
    weigh(&Scales::of_plane(scales), |i| bits::get(n_bits, &quants[i * n..][..n]), weights);
}

/// Appends the weights of 256 integers, of which `quants` gives 32.
pub(super) fn weigh(scales: &Scales, quants: impl Fn(usize) -> [u8; BLOCK], weights: &mut Vec<f32>) {
    let (d, dmin) = (half_at(scales.top, 0), half_at(scales.top, 2));
    for (i, [scale, min]) in scales.each.into_iter().enumerate() {
        let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
        weights.extend(quants(i).map(|q| d * f32::from(q) - m));
    }
}
