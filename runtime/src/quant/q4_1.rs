//! Q4_1: scale d and minimum m (f16 each), then 16 bytes of nibbles as in Q4_0. w = d q + m.

pub(super) const QUANTS: usize = 16;
pub(super) const SCALES: usize = 4;

pub(super) fn dequantise(block: &[u8], weights: &mut Vec<f32>) {
    let (d, m) = (super::half_at(block, 0), super::half_at(block, 2));
    let quants = &block[SCALES..];
    weights.extend(quants.iter().map(|q| d * f32::from(q & 15) + m));
    weights.extend(quants.iter().map(|q| d * f32::from(q >> 4) + m));
}
