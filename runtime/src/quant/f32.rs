//! F32: little-endian floats.

use super::{Layout, LayoutRow, Row, Sample};

pub(super) const FORMAT: Row = Row {
    name: "F32",
    block_len: 32,
    block_bytes: 128,
    layout: Layout::F32,
    sample: Sample::Floats(|x, file| file.extend(x.to_le_bytes())),
    dequantise,
    repack: |file, quants, _| quants.extend_from_slice(file),
};

/// The floats as in the file.
pub(super) const LAYOUT: LayoutRow = LayoutRow {
    name: "f32",
    block_len: 32,
    quants_bytes: 128,
    scales_bytes: 0,
    dequantise: |quants, _, weights| dequantise(quants, weights),
};

fn dequantise(file: &[u8], weights: &mut Vec<f32>) {
    let (floats, _) = file.as_chunks();
    weights.extend(floats.iter().map(|bytes| f32::from_le_bytes(*bytes)));
}
