//! MXFP4 (OCP Microscaling Formats 1.0): a power of two as scale, whose exponent is a byte, then 16 bytes of
//! nibbles as in Q4_0, which are floats of 4 bits. w = d book[i].

use super::book::{FP4, weigh};
use super::{BLOCK, Layout, LayoutRow, Row, Sample, near, split};

const QUANTS: usize = 16;
const SCALES: usize = 1;

pub(super) const FORMAT: Row = Row {
    name: "MXFP4",
    block_len: BLOCK,
    block_bytes: SCALES + QUANTS,
    layout: Layout::MXFP4,
    sample: Sample::Scaled(1.0 / 5.852, |block, d, random| block[0] = near(d, random, 255, power)),
    dequantise: |block, weights| dequantise(&block[SCALES..], block, weights),
    repack: split::<SCALES, QUANTS>,
};

/// Nibbles and exponent as in the file.
pub(super) const LAYOUT: LayoutRow =
    LayoutRow { name: "mxfp4", block_len: BLOCK, quants_bytes: QUANTS, scales_bytes: SCALES, dequantise };

fn dequantise(quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
    weigh(&FP4, quants, [power(scales[0]); 2], weights);
}

/// 2^(e - 128): half of the scale, because the code book has twice the floats.
fn power(e: u8) -> f32 {
    f32::from_bits(match e {
        // Subnormal.
        0..2 => 0x0020_0000 << e,
        _ => u32::from(e - 1) << 23,
    })
}
