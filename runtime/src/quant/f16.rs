//! F16: little-endian half floats.

use super::{Layout, LayoutRow, Row, Sample};
use half::f16;

pub(super) const FORMAT: Row = Row {
    name: "F16",
    block_len: 32,
    block_bytes: 64,
    layout: Layout::F16,
    sample: Sample::Floats(|x, file| file.extend(f16::from_f32(x).to_le_bytes())),
    dequantise,
    repack: |file, quants, _| quants.extend_from_slice(file),
};

/// The floats as in the file.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "f16",
    block_len: 32,
    quants_bytes: 64,
    scales_bytes: 0,
    dequantise: |quants, _, weights| dequantise(quants, weights),
};

fn dequantise(file: &[u8], weights: &mut Vec<f32>) {
    let (floats, _) = file.as_chunks();
    weights.extend(floats.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()));
}
