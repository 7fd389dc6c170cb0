//! BF16: the upper halves of little-endian floats.

use super::{BLOCK, Layout, LayoutRow, Row, Sample};
use half::bf16;

pub(super) const FORMAT: Row = Row {
    name: "BF16",
    block_len: BLOCK,
    block_bytes: 2 * BLOCK,
    layout: Layout::BF16,
    sample: Sample::Floats(|x, file| file.extend(bf16::from_f32(x).to_le_bytes())),
    dequantise,
    repack: |file, quants, _| quants.extend_from_slice(file),
};

/// The floats as in the file.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "bf16",
    block_len: BLOCK,
    quants_bytes: 2 * BLOCK,
    scales_bytes: 0,
    dequantise: |quants, _, weights| dequantise(quants, weights),
};

fn dequantise(file: &[u8], weights: &mut Vec<f32>) {
    let (floats, _) = file.as_chunks();
    weights.extend(floats.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()));
}
