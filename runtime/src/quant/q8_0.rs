//! Q8_0: scale d (f16), then 32 signed bytes. w = d q.

pub(super) const QUANTS: usize = 32;
pub(super) const SCALES: usize = 2;

pub(super) fn dequantise(block: &[u8], weights: &mut Vec<f32>) {
    let d = super::half_at(block, 0);
    weights.extend(block[SCALES..].iter().map(|&q| d * f32::from(q as i8)));
}
