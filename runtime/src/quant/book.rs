//! Code books: a weight is an index of 4 bits, which stands for one of 16 signed numbers.
//!
//! The numbers are facts of the formats; ggml calls them `kvalues`.

use super::BLOCK;

/// IQ4_NL and IQ4_XS.
pub const IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// MXFP4 and NVFP4: twice the floats with 2 bits of exponent and 1 bit of mantissa.
pub const FP4: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Appends 32 weights, of nibbles as in Q4_0; the two halves have scales of their own.
pub(super) fn weigh(book: &[i8; 16], nibbles: &[u8], d: [f32; 2], weights: &mut Vec<f32>) {
    let number = |i: u8| f32::from(book[usize::from(i & 15)]);
    let nibbles = &nibbles[..BLOCK / 2];
    weights.extend(nibbles.iter().map(|q| d[0] * number(*q)));
    weights.extend(nibbles.iter().map(|q| d[1] * number(q >> 4)));
}
