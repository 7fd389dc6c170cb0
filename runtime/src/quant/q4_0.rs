//! Q4_0: scale d (f16), then 16 bytes: weights 0..16 in the low nibbles, 16..32 in the high ones. w = d (q -
//! 8).

use super::{Layout, LayoutRow, Row, Sample, half_at, split};

const QUANTS: usize = 16;
const SCALES: usize = 2;

pub(super) const FORMAT: Row = Row {
    name: "Q4_0",
    block_len: 32,
    block_bytes: SCALES + QUANTS,
    layout: Layout::Q4_0,
    sample: Sample::Blocks(&[(0, 1.0 / 4.64)]),
    dequantise: |block, weights| dequantise(&block[SCALES..], block, weights),
    repack: split::<SCALES, QUANTS>,
};

/// Nibbles as in the file; d.
pub(super) const LAYOUT: LayoutRow =
    LayoutRow { name: "q4_0", block_len: 32, quants_bytes: QUANTS, scales_bytes: SCALES, dequantise };

fn dequantise(quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
    let d = half_at(scales, 0);
    weights.extend(quants.iter().map(|q| d * (f32::from(q & 15) - 8.0)));
    weights.extend(quants.iter().map(|q| d * (f32::from(q >> 4) - 8.0)));
}
