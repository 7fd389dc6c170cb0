//! Q8_0: scale d (f16), then 32 signed bytes. w = d q.

use super::{Layout, LayoutRow, Row, Sample, half_at, split};

const QUANTS: usize = 32;
const SCALES: usize = 2;

pub(super) const FORMAT: Row = Row {
    name: "Q8_0",
    block_len: 32,
    block_bytes: SCALES + QUANTS,
    layout: Layout::Q8_0,
    sample: Sample::Blocks(&[(0, 1.0 / 73.9)]),
    dequantise: |block, weights| dequantise(&block[SCALES..], block, weights),
    repack: split::<SCALES, QUANTS>,
};

/// Bytes as in the file; d.
pub(super) const LAYOUT: LayoutRow =
    LayoutRow { name: "q8_0", block_len: 32, quants_bytes: QUANTS, scales_bytes: SCALES, dequantise };

fn dequantise(quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
    let d = half_at(scales, 0);
    weights.extend(quants.iter().map(|&q| d * f32::from(q as i8)));
}
