//! TQ1_0: 256 weights of -1, 0 or 1: 52 bytes, each with 5 digits to the base of 3, the last four with 4;
//! then scale d (f16). w = d (q - 1).
//!
//! A byte is a fraction: times 3, its whole part is digit 0, and so on with the rest. Digit n of the first 32
//! bytes is the `n`th 32 weights, that of the next 16 bytes the `n`th 16, that of the last 4 the `n`th 4.

use super::{Layout, LayoutRow, Row, Sample, half_at};
use std::ops::Range;

const LEN: usize = 256;
const QUANTS: usize = 52;
const SCALES: usize = 2;

pub(super) const FORMAT: Row = Row {
    name: "TQ1_0",
    block_len: LEN,
    block_bytes: QUANTS + SCALES,
    layout: Layout::TQ1_0,
    sample: Sample::Blocks(&[(QUANTS, 1.0 / 0.8173)]),
    dequantise: |block, weights| dequantise(&block[..QUANTS], &block[QUANTS..], weights),
    repack: |file, quants, scales| {
        for block in file.chunks_exact(QUANTS + SCALES) {
            quants.extend_from_slice(&block[..QUANTS]);
            scales.extend_from_slice(&block[QUANTS..]);
        }
    },
};

/// The bytes as in the file; d.
pub(super) const LAYOUT: LayoutRow =
    LayoutRow { name: "tq1_0", block_len: LEN, quants_bytes: QUANTS, scales_bytes: SCALES, dequantise };

fn dequantise(quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
    let d = half_at(scales, 0);
    let mut add = |bytes: Range<usize>, n_digits: u32| {
        for n in 0..n_digits {
            weights.extend(quants[bytes.clone()].iter().map(|byte| d * (f32::from(digit(*byte, n)) - 1.0)));
        }
    };
    add(0..32, 5);
    add(32..48, 5);
    add(48..52, 4);
}

fn digit(byte: u8, n: u32) -> u8 {
    let rest = u16::from(byte.wrapping_mul(3_u8.pow(n)));
    ((rest * 3) >> 8) as u8
}
