//! IQ4_NL: scale d (f16), then 16 bytes of nibbles as in Q4_0, which are indices i into a code book.
//! w = d book[i].

use super::book::{IQ4, weigh};
use super::{BLOCK, Layout, LayoutRow, Row, Sample, half_at, split};

const QUANTS: usize = 16;
const SCALES: usize = 2;

pub(super) const FORMAT: Row = Row {
    name: "IQ4_NL",
    block_len: BLOCK,
    block_bytes: SCALES + QUANTS,
    layout: Layout::IQ4_NL,
    sample: Sample::Blocks(&[(0, 1.0 / 67.44)]),
    dequantise: |block, weights| dequantise(&block[SCALES..], block, weights),
    repack: split::<SCALES, QUANTS>,
};

/// Nibbles as in the file; d.
pub(super) const LAYOUT: LayoutRow =
    LayoutRow { name: "iq4_nl", block_len: BLOCK, quants_bytes: QUANTS, scales_bytes: SCALES, dequantise };

fn dequantise(quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
    weigh(&IQ4, quants, [half_at(scales, 0); 2], weights);
}
