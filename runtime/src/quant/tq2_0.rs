//! TQ2_0: 256 weights of -1, 0 or 1: 64 bytes of 2 bits each, in the order of Q2_K, then scale d (f16).
//! w = d (q - 1).

use super::q2_k::pairs;
use super::{BLOCK, Layout, LayoutRow, Row, Sample, bits, half_at};

const LEN: usize = 256;
const N_BITS: usize = 2;
const QUANTS: usize = LEN / BLOCK * bits::bytes(N_BITS);
const SCALES: usize = 2;

pub(super) const FORMAT: Row = Row {
    name: "TQ2_0",
    block_len: LEN,
    block_bytes: QUANTS + SCALES,
    layout: Layout::TQ2_0,
    // Random bits are 2 as often as -1.
    sample: Sample::Blocks(&[(QUANTS, 1.0 / 1.2247)]),
    dequantise: |block, weights| weigh(half_at(block, QUANTS), |i| pairs(block, i), weights),
    repack: |file, out, scales| {
        for block in file.chunks_exact(QUANTS + SCALES) {
            scales.extend_from_slice(&block[QUANTS..]);
            (0..LEN / BLOCK).for_each(|i| bits::put(N_BITS, &pairs(block, i), out));
        }
    },
};

/// 2 bits of each 32; d.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "tq2_0",
    block_len: LEN,
    quants_bytes: QUANTS,
    scales_bytes: SCALES,
    dequantise: |quants, scales, weights| {
        let n = bits::bytes(N_BITS);
        weigh(half_at(scales, 0), |i| bits::get(N_BITS, &quants[i * n..][..n]), weights);
    },
};

fn weigh(d: f32, quants: impl Fn(usize) -> [u8; BLOCK], weights: &mut Vec<f32>) {
    weights.extend((0..LEN / BLOCK).flat_map(quants).map(|q| d * (f32::from(q) - 1.0)));
}
