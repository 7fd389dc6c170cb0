//! Q4_0: scale d (f16), then 16 bytes: weights 0..16 in the low nibbles, 16..32 in the high ones. w = d (q - 8).

pub(super) const QUANTS: usize = 16;
pub(super) const SCALES: usize = 2;

pub(super) fn dequantise(block: &[u8], weights: &mut Vec<f32>) {
    let d = super::half_at(block, 0);
    let quants = &block[SCALES..];
    weights.extend(quants.iter().map(|q| d * (f32::from(q & 15) - 8.0)));
    weights.extend(quants.iter().map(|q| d * (f32::from(q >> 4) - 8.0)));
}
