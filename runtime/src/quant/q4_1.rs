//! Q4_1: scale d and minimum m (f16 each), then 16 bytes of nibbles as in Q4_0. w = d q + m.

use super::{Layout, LayoutRow, Row, Sample, half_at, split};

const QUANTS: usize = 16;
const SCALES: usize = 4;

pub(super) const FORMAT: Row = Row {
    name: "Q4_1",
    block_len: 32,
    block_bytes: SCALES + QUANTS,
    layout: Layout::Q4_1,
    sample: Sample::Blocks(&[(0, 1.0 / 4.61), (2, -7.5 / 4.61)]),
    dequantise: |block, weights| dequantise(&block[SCALES..], block, weights),
    repack: split::<SCALES, QUANTS>,
};

/// Nibbles as in the file; d and m.
pub(super) const LAYOUT: LayoutRow =
    LayoutRow { name: "q4_1", block_len: 32, quants_bytes: QUANTS, scales_bytes: SCALES, dequantise };

fn dequantise(quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
    let (d, m) = (half_at(scales, 0), half_at(scales, 2));
    weights.extend(quants.iter().map(|q| d * f32::from(q & 15) + m));
    weights.extend(quants.iter().map(|q| d * f32::from(q >> 4) + m));
}
