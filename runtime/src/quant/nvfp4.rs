//! NVFP4: 64 weights: a scale for each 16, a float of 8 bits without a sign (4 bits of exponent, 3 bits of
//! mantissa), then 8 bytes of nibbles for each 16: the first 8 in the low ones, the others in the high ones.
//! They are floats of 4 bits as in MXFP4. w = d book[i].

use super::book::{FP4, weigh};
use super::{BLOCK, Layout, LayoutRow, Row, Sample, bits, near};

const LEN: usize = 64;
const QUANTS: usize = LEN / 2;
const SCALES: usize = LEN / 16;

pub(super) const FORMAT: Row = Row {
    name: "NVFP4",
    block_len: LEN,
    block_bytes: SCALES + QUANTS,
    layout: Layout::NVFP4,
    sample: Sample::Scaled(1.0 / 5.852, |block, d, random| {
        block[..SCALES].fill(near(d, random, 0x7e, value));
    }),
    dequantise: |block, weights| {
        let (mut quants, mut scales) = (Vec::new(), Vec::new());
        repack(block, &mut quants, &mut scales);
        dequantise(&quants, &scales, weights);
    },
    repack,
};

/// Nibbles of each 32 as in Q4_0; the scales as in the file, but those that count as 0 are 0, and none has
/// the highest bit.
pub(super) const LAYOUT: LayoutRow =
    LayoutRow { name: "nvfp4", block_len: LEN, quants_bytes: QUANTS, scales_bytes: SCALES, dequantise };

fn repack(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
    for block in file.chunks_exact(SCALES + QUANTS) {
        let (d, nibbles) = block.split_at(SCALES);
        // 0x7f is not a number; ggml takes it for 0 and ignores the highest bit of all others.
        scales.extend(d.iter().map(|d| if *d == 0x7f { 0 } else { d & 0x7f }));
        for bytes in nibbles.chunks_exact(BLOCK / 2) {
            let q = std::array::from_fn(|i| bytes[i / 16 * 8 + i % 8] >> (i % 16 / 8 * 4) & 15);
            bits::put(4, &q, quants);
        }
    }
}

fn dequantise(quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
    for (nibbles, d) in quants.chunks_exact(BLOCK / 2).zip(scales.chunks_exact(2)) {
        weigh(&FP4, nibbles, [value(d[0]), value(d[1])], weights);
    }
}

/// Half of the scale, because the code book has twice the floats. An f16 has the same bits, with an exponent
/// that is 8 less.
fn value(scale: u8) -> f32 {
    half::f16::from_bits(u16::from(scale) << 7).to_f32() * 128.0
}
