//! Q5_1: scale d and minimum m (f16 each), then 5 bits as in Q5_0. w = d q + m.

use super::q5_0::{integers, repack};
use super::{BLOCK, Layout, LayoutRow, Row, Sample, bits, half_at};

const N_BITS: usize = 5;
const SCALES: usize = 4;

pub(super) const FORMAT: Row = Row {
    name: "Q5_1",
    block_len: BLOCK,
    block_bytes: SCALES + 20,
    layout: Layout::Q5_1,
    sample: Sample::Blocks(&[(0, 1.0 / 9.233), (2, -15.5 / 9.233)]),
    dequantise: |block, weights| weigh(integers(&block[SCALES..]), block, weights),
    repack: repack::<SCALES>,
};

/// 5 bits; d and m.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "q5_1",
    block_len: BLOCK,
    quants_bytes: bits::bytes(N_BITS),
    scales_bytes: SCALES,
    dequantise: |quants, scales, weights| weigh(bits::get(N_BITS, quants), scales, weights),
};

fn weigh(q: [u8; BLOCK], scales: &[u8], weights: &mut Vec<f32>) {
    let (d, m) = (half_at(scales, 0), half_at(scales, 2));
    weights.extend(q.map(|q| d * f32::from(q) + m));
}
