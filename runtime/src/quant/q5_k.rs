//! Q5_K: 256 weights: scales as in Q4_K, then 32 bytes with the highest bits, then nibbles as in Q4_K.
//! w = d s q - dmin m. The highest bits of the `i`th 32 weights are at bit i.

use super::q4_k::{Scales, dequantise, nibbles, weigh};
use super::{BLOCK, Layout, LayoutRow, Row, Sample, bits};

const LEN: usize = 256;
const N_BITS: usize = 5;
const FILE: usize = 16 + 32 + LEN / 2;

pub(super) const FORMAT: Row = Row {
    name: "Q5_K",
    block_len: LEN,
    block_bytes: FILE,
    layout: Layout::Q5_K,
    sample: Sample::Blocks(&[(0, 1.0 / 526.6), (2, 15.5 / 526.6)]),
    dequantise: |block, weights| weigh(&Scales::of_file(block), |i| quants(block, i), weights),
    repack: |file, out, scales| {
        for block in file.chunks_exact(FILE) {
            Scales::of_file(block).append(scales);
            (0..LEN / BLOCK).for_each(|i| bits::put(N_BITS, &quants(block, i), out));
        }
    },
};

/// 5 bits of each 32; the scales of Q4_K.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "q5_k",
    block_len: LEN,
    quants_bytes: LEN / BLOCK * bits::bytes(N_BITS),
    scales_bytes: Scales::BYTES,
    dequantise: |quants, scales, weights| dequantise(N_BITS, quants, scales, weights),
};

fn quants(block: &[u8], i: usize) -> [u8; BLOCK] {
    let low = nibbles(&block[48..], i);
    std::array::from_fn(|j| low[j] | (block[16 + j] >> i & 1) << 4)
}
