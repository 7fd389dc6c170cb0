//! Q2_K: 256 weights: a byte for each 16 with a scale s in its low nibble and a minimum m in its high one, 64
//! bytes of 2 bits each, then d and dmin (f16 each). w = d s q - dmin m.
//!
//! Of each 128 weights, 32 bytes have the bits, of the `i`th 32 at bits 2i.

use super::{BLOCK, Layout, LayoutRow, Row, Sample, bits, half_at};

const LEN: usize = 256;
const N_BITS: usize = 2;
const QUANTS: usize = LEN / BLOCK * bits::bytes(N_BITS);
const SCALES: usize = 16;
const FILE: usize = SCALES + QUANTS + 4;

pub(super) const FORMAT: Row = Row {
    name: "Q2_K",
    block_len: LEN,
    block_bytes: FILE,
    layout: Layout::Q2_K,
    sample: Sample::Blocks(&[(FILE - 4, 1.0 / 13.86), (FILE - 2, 1.5 / 13.86)]),
    dequantise: |block, weights| {
        weigh(&block[FILE - 4..], &block[..SCALES], |i| quants(block, i), weights);
    },
    repack: |file, out, scales| {
        for block in file.chunks_exact(FILE) {
            scales.extend_from_slice(&block[FILE - 4..]);
            scales.extend_from_slice(&block[..SCALES]);
            (0..LEN / BLOCK).for_each(|i| bits::put(N_BITS, &quants(block, i), out));
        }
    },
};

/// 2 bits of each 32; d and dmin, then the bytes with s and m of each 16.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "q2_k",
    block_len: LEN,
    quants_bytes: QUANTS,
    scales_bytes: 4 + SCALES,
    dequantise: |quants, scales, weights| {
        let n = bits::bytes(N_BITS);
        weigh(scales, &scales[4..], |i| bits::get(N_BITS, &quants[i * n..][..n]), weights);
    },
};

fn quants(block: &[u8], i: usize) -> [u8; BLOCK] {
    pairs(&block[SCALES..], i)
}

/// The `i`th 32 pairs of bits.
pub(super) fn pairs(bytes: &[u8], i: usize) -> [u8; BLOCK] {
    let bytes = &bytes[i / 4 * 32..];
    std::array::from_fn(|j| bytes[j] >> (i % 4 * 2) & 3)
}

fn weigh(top: &[u8], scales: &[u8], quants: impl Fn(usize) -> [u8; BLOCK], weights: &mut Vec<f32>) {
    let (d, dmin) = (half_at(top, 0), half_at(top, 2));
    for (i, pair) in scales.chunks_exact(2).enumerate() {
        for (q, scale) in quants(i).chunks_exact(BLOCK / 2).zip(pair) {
            let (d, m) = (d * f32::from(scale & 15), dmin * f32::from(scale >> 4));
            weights.extend(q.iter().map(|q| d * f32::from(*q) - m));
        }
    }
}
