//! IQ4_XS: 256 weights: d (f16), 6 bytes with a scale s of 6 bits for each 32, then 128 bytes of nibbles, for
//! each 32 as in Q4_0. They are indices i into the code book of IQ4_NL. w = d (s - 32) book[i].

use super::book::{IQ4, weigh};
use super::{BLOCK, Layout, LayoutRow, Row, Sample, half_at};

const LEN: usize = 256;
const QUANTS: usize = LEN / 2;
const BLOCKS: usize = LEN / BLOCK;
const FILE: usize = 8 + QUANTS;

pub(super) const FORMAT: Row = Row {
    name: "IQ4_XS",
    block_len: LEN,
    block_bytes: FILE,
    layout: Layout::IQ4_XS,
    sample: Sample::Blocks(&[(0, 1.0 / 1246.25)]),
    dequantise: |block, weights| weights_of(half_at(block, 0), &scales(block), &block[8..], weights),
    repack: |file, quants, plane| {
        for block in file.chunks_exact(FILE) {
            plane.extend_from_slice(&block[..2]);
            plane.extend_from_slice(&scales(block));
            quants.extend_from_slice(&block[8..]);
        }
    },
};

/// Nibbles as in the file; d, then s - 32 of each 32 as signed bytes.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "iq4_xs",
    block_len: LEN,
    quants_bytes: QUANTS,
    scales_bytes: 2 + BLOCKS,
    dequantise: |quants, scales, weights| weights_of(half_at(scales, 0), &scales[2..], quants, weights),
};

/// s - 32: two bytes with their upper two bits, of the `i`th 32 weights at bits 2i, then their lower ones as
/// nibbles.
fn scales(block: &[u8]) -> [u8; BLOCKS] {
    std::array::from_fn(|i| {
        let high = block[2 + i / 4] >> (i % 4 * 2) & 3;
        let low = block[4 + i / 2] >> (i % 2 * 4) & 15;
        (low | high << 4).wrapping_sub(32)
    })
}

fn weights_of(d: f32, scales: &[u8], quants: &[u8], weights: &mut Vec<f32>) {
    for (scale, nibbles) in scales.iter().zip(quants.chunks_exact(BLOCK / 2)) {
        weigh(&IQ4, nibbles, [d * f32::from(*scale as i8); 2], weights);
    }
}
