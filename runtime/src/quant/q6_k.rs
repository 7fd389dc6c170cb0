//! Q6_K: 256 weights: 128 bytes of nibbles, 64 bytes with the highest two bits, a signed byte as scale s for
//! each 16, and d (f16). w = d s (q - 32).
//!
//! Of each 128 weights, 64 bytes have the first 64 in their low nibbles and the others in their high ones; 32
//! bytes have the upper bits, of the `i`th 32 weights at bits 2i.

use super::{BLOCK, Layout, LayoutRow, Row, Sample, bits, half_at};

const LEN: usize = 256;
const N_BITS: usize = 6;
const QUANTS: usize = LEN / BLOCK * bits::bytes(N_BITS);
const SCALES: usize = 16;
const FILE: usize = QUANTS + SCALES + 2;

pub(super) const FORMAT: Row = Row {
    name: "Q6_K",
    block_len: LEN,
    block_bytes: FILE,
    layout: Layout::Q6_K,
    sample: Sample::Blocks(&[(FILE - 2, 1.0 / 1365.0)]),
    dequantise: |block, weights| {
        let (scales, d) = block[QUANTS..].split_at(SCALES);
        weigh(half_at(d, 0), scales, 32, |i| quants(block, i), weights);
    },
    repack: |file, out, scales| {
        for block in file.chunks_exact(FILE) {
            scales.extend_from_slice(&block[FILE - 2..]);
            scales.extend_from_slice(&block[QUANTS..FILE - 2]);
            (0..LEN / BLOCK).for_each(|i| bits::put(N_BITS, &quants(block, i), out));
        }
    },
};

/// 6 bits of each 32; d, then the scales of each 16.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "q6_k",
    block_len: LEN,
    quants_bytes: QUANTS,
    scales_bytes: 2 + SCALES,
    dequantise: |quants, scales, weights| dequantise(N_BITS, 32, quants, scales, weights),
};

fn quants(block: &[u8], i: usize) -> [u8; BLOCK] {
    let (part, i) = (i / 4, i % 4);
    let (low, high) = (&block[64 * part + i % 2 * BLOCK..], &block[128 + 32 * part..]);
    std::array::from_fn(|j| low[j] >> (i / 2 * 4) & 15 | (high[j] >> (2 * i) & 3) << 4)
}

/// Appends the weights of a block of the layout with integers of so many bits, and a signed scale for each
/// 16.
pub(super) fn dequantise(n_bits: usize, zero: i8, quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
    let n = bits::bytes(n_bits);
    weigh(half_at(scales, 0), &scales[2..], zero, |i| bits::get(n_bits, &quants[i * n..][..n]), weights);
}

/// Appends the weights of 256 integers, of which `quants` gives 32: d s (q - zero).
pub(super) fn weigh(
    d: f32,
    scales: &[u8],
    zero: i8,
    quants: impl Fn(usize) -> [u8; BLOCK],
    weights: &mut Vec<f32>,
) {
    for (i, pair) in scales.chunks_exact(2).enumerate() {
        for (q, scale) in quants(i).chunks_exact(BLOCK / 2).zip(pair) {
            let d = d * f32::from(*scale as i8);
            weights.extend(q.iter().map(|q| d * f32::from(*q as i8 - zero)));
        }
    }
}
