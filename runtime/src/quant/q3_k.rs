//! Q3_K: 256 weights: 32 bytes with the highest bits, 64 bytes with the lower two, 12 bytes with a scale s of
//! 6 bits for each 16, and d (f16). w = d (s - 32) (q - 4).
//!
//! The highest bits of the `i`th 32 weights are at bit i. Of each 128 weights, 32 bytes have the lower bits,
//! of the `i`th 32 at bits 2i.

use super::q6_k::{dequantise, weigh};
use super::{BLOCK, Layout, LayoutRow, Row, Sample, bits, half_at};

const LEN: usize = 256;
const N_BITS: usize = 3;
const QUANTS: usize = LEN / BLOCK * bits::bytes(N_BITS);
const SCALES: usize = 16;
const FILE: usize = QUANTS + 14;

pub(super) const FORMAT: Row = Row {
    name: "Q3_K",
    block_len: LEN,
    block_bytes: FILE,
    layout: Layout::Q3_K,
    sample: Sample::Blocks(&[(FILE - 2, 1.0 / 43.4)]),
    dequantise: |block, weights| {
        weigh(half_at(block, FILE - 2), &scales(block), 4, |i| quants(block, i), weights);
    },
    repack: |file, out, plane| {
        for block in file.chunks_exact(FILE) {
            plane.extend_from_slice(&block[FILE - 2..]);
            plane.extend_from_slice(&scales(block));
            (0..LEN / BLOCK).for_each(|i| bits::put(N_BITS, &quants(block, i), out));
        }
    },
};

/// 3 bits of each 32; d, then s - 32 of each 16 as signed bytes: scales as in Q6_K.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "q3_k",
    block_len: LEN,
    quants_bytes: QUANTS,
    scales_bytes: 2 + SCALES,
    dequantise: |quants, scales, weights| dequantise(N_BITS, 4, quants, scales, weights),
};

/// s - 32. The lower 4 bits of the first 8 are the low nibbles of the first 8 bytes, those of the others the
/// high ones; the last 4 bytes have the upper bits, of the `i`th four at bits 2i.
fn scales(block: &[u8]) -> [u8; SCALES] {
    let packed = &block[QUANTS..];
    std::array::from_fn(|i| {
        let low = packed[i % 8] >> (i / 8 * 4) & 15;
        let high = packed[8 + i % 4] >> (i / 4 * 2) & 3;
        (low | high << 4).wrapping_sub(32)
    })
}

fn quants(block: &[u8], i: usize) -> [u8; BLOCK] {
    let low = &block[32 + i / 4 * 32..];
    std::array::from_fn(|j| low[j] >> (i % 4 * 2) & 3 | (block[j] >> i & 1) << 2)
}
