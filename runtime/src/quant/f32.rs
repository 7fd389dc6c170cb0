//! F32: 32 little-endian floats.

pub(super) const QUANTS: usize = 128;

pub(super) fn dequantise(block: &[u8], weights: &mut Vec<f32>) {
    weights.extend(block.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
}
