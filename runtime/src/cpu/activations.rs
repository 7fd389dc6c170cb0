//! Activations in the forms in which they are multiplied with weights.

use super::numbers::quantise;
use super::simd::{HAS_DOT_I8, is_dot_add_one};
use crate::quant::{BLOCK, Layout};

/// Bytes before the numbers of a block of activations.
pub(super) const HEAD: usize = 16;

/// The greatest integer of 16-bit activations: what two signed bytes can give.
const I16_LIMIT: u32 = 256 * 127 + 127;

/// The form in which activations are multiplied with a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activations {
    F32,
    I8,
    I16,
    /// 16 bits: all the low bytes of a block, then all the high ones, both signed.
    Bytes,
}

impl Activations {
    /// The form for the weights of a layout; with `int8`, 8 bits for those whose integers are small and whose
    /// scales are for 32 at least.
    pub fn of(layout: Layout, int8: bool, dots: Dots) -> Self {
        match layout {
            Layout::F32 | Layout::F16 | Layout::BF16 => Activations::F32,
            Layout::Q4_0 | Layout::Q4_1 | Layout::Q4_K | Layout::MXFP4 | Layout::TQ1_0 | Layout::TQ2_0
                if int8 && HAS_DOT_I8 =>
            {
                Activations::I8
            }
            // Their integers are below 128, and 32 columns share a scale. Rarer formats that also fit are not
            // worth their code.
            Layout::Q4_0 | Layout::Q4_1 | Layout::Q4_K | Layout::Q5_0 | Layout::Q5_1 | Layout::Q5_K
                if HAS_DOT_I8 && dots == Dots::Quads =>
            {
                Activations::Bytes
            }
            _ => Activations::I16,
        }
    }

    /// Bytes of a block of activations: as f32, its unit and the sums of all, of the first 16 and of the
    /// others; then the numbers. Floats have only the numbers.
    pub const fn block_bytes(self) -> usize {
        match self {
            Activations::F32 => 4 * BLOCK,
            Activations::I8 => HEAD + BLOCK,
            Activations::I16 | Activations::Bytes => HEAD + 2 * BLOCK,
        }
    }

    /// Bytes of a row of activations.
    pub fn row_bytes(self, width: usize) -> usize {
        width.div_ceil(BLOCK) * self.block_bytes()
    }

    /// Prepares a row of activations.
    pub fn prepare(self, x: &[f32], out: &mut [u8]) {
        let (blocks, rest) = x.as_chunks::<BLOCK>();
        // Zeros follow a row that is not whole blocks.
        let mut last = [0.0; BLOCK];
        last[..rest.len()].copy_from_slice(rest);
        let last = (!rest.is_empty()).then_some(&last);
        for (x, out) in blocks.iter().chain(last).zip(out.chunks_exact_mut(self.block_bytes())) {
            let mut q = [0; BLOCK];
            let unit = match self {
                Activations::F32 => {
                    out.copy_from_slice(bytemuck::cast_slice(x));
                    continue;
                }
                Activations::I8 => quantise::<127>(x, &mut q),
                Activations::I16 | Activations::Bytes => quantise::<I16_LIMIT>(x, &mut q),
            };
            let [a, b] = [&q[..BLOCK / 2], &q[BLOCK / 2..]].map(|q| q.iter().sum::<i32>());
            let head = [unit, unit * (a + b) as f32, unit * a as f32, unit * b as f32];
            let (out_head, out) = out.split_at_mut(HEAD);
            out_head.copy_from_slice(bytemuck::cast_slice(&head));
            match self {
                Activations::F32 => {}
                Activations::I8 => out.iter_mut().zip(q).for_each(|(out, q)| *out = q as u8),
                // The even ones of 4 columns first, in the order in which a weight's word gives its bytes.
                Activations::I16 => {
                    for (out, q) in out.chunks_exact_mut(8).zip(q.chunks_exact(4)) {
                        for (out, i) in out.chunks_exact_mut(2).zip([0, 2, 1, 3]) {
                            out.copy_from_slice(&(q[i] as i16).to_ne_bytes());
                        }
                    }
                }
                Activations::Bytes => {
                    let (low, high) = out.split_at_mut(BLOCK);
                    for ((low, high), q) in low.iter_mut().zip(high).zip(q) {
                        *low = q as u8;
                        *high = ((q - i32::from(q as i8)) >> 8) as u8;
                    }
                }
            }
        }
    }
}

/// How products of bytes are added up. The sums are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dots {
    /// Two at a time, in 16 bits.
    Pairs,
    /// Four at a time, in 32 bits.
    Quads,
}

impl Dots {
    /// What is faster here.
    pub fn best() -> Self {
        if is_dot_add_one() { Dots::Quads } else { Dots::Pairs }
    }
}
