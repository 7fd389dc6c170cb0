//! Q5_0: scale d (f16), then 4 bytes with the highest bit of each weight, then 16 bytes of nibbles as in
//! Q4_0. w = d (q - 16).

use super::{BLOCK, Layout, LayoutRow, Row, Sample, bits, half_at};

const N_BITS: usize = 5;
const SCALES: usize = 2;
const FILE: usize = SCALES + 20;

pub(super) const FORMAT: Row = Row {
    name: "Q5_0",
    block_len: BLOCK,
    block_bytes: FILE,
    layout: Layout::Q5_0,
    sample: Sample::Blocks(&[(0, 1.0 / 9.246)]),
    dequantise: |block, weights| weigh(integers(&block[SCALES..]), block, weights),
    repack: |file, quants, scales| repack::<SCALES>(file, quants, scales),
};

/// 5 bits; d.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "q5_0",
    block_len: BLOCK,
    quants_bytes: bits::bytes(N_BITS),
    scales_bytes: SCALES,
    dequantise: |quants, scales, weights| weigh(bits::get(N_BITS, quants), scales, weights),
};

/// The integers of a block, from its highest bits and nibbles.
pub(super) fn integers(block: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|i| {
        let high = block[i / 8] >> (i % 8) & 1;
        block[4 + i % 16] >> (i / 16 * 4) & 15 | high << 4
    })
}

/// Repacks blocks of 5 bits that start with so many bytes of scales.
pub(super) fn repack<const SCALES: usize>(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
    for block in file.chunks_exact(SCALES + 20) {
        scales.extend_from_slice(&block[..SCALES]);
        bits::put(N_BITS, &integers(&block[SCALES..]), quants);
    }
}

fn weigh(q: [u8; BLOCK], scales: &[u8], weights: &mut Vec<f32>) {
    let d = half_at(scales, 0);
    weights.extend(q.map(|q| d * (f32::from(q) - 16.0)));
}
