//! F16: 32 little-endian half floats.

pub(super) const QUANTS: usize = 64;

pub(super) fn dequantise(block: &[u8], weights: &mut Vec<f32>) {
    weights.extend((0..32).map(|i| super::half_at(block, 2 * i)));
}
