//! Planes of bits: how 32 integers of 2 to 6 bits are stored in a device's quants plane.
//!
//! The integers are cut into nibbles, pairs of bits and single bits, each of which kernels turn into bytes
//! with few shifts. Column 4g + j is in byte j of each word, as in a vector of four columns.
//!
//! * nibbles: 16 bytes; byte i has column i in its low nibble, and column 16 + i in its high one;
//! * pairs: 8 bytes; byte j has column 4g + j at bits 2g, byte 4 + j has column 16 + 4g + j there;
//! * bits: 4 bytes; byte j has column 4g + j at bit g, and column 16 + 4g + j at bit 4 + g.
//!
//! 4 bits are nibbles, 5 are nibbles and then the highest bits, 6 nibbles and the highest pairs; 2 are pairs,
//! 3 pairs and the highest bits.

/// Bytes of 32 integers.
pub(super) const fn bytes(n_bits: usize) -> usize {
    4 * n_bits
}

/// Appends 32 integers of `n_bits` bits.
pub(super) fn put(n_bits: usize, q: &[u8; 32], out: &mut Vec<u8>) {
    let (nibbles, pairs, bits) = parts(n_bits);
    if nibbles {
        out.extend((0..16).map(|i| (q[i] & 15) | (q[16 + i] & 15) << 4));
    }
    if pairs {
        let at = if nibbles { 4 } else { 0 };
        let pair =
            |half: usize, j: usize| (0..4).map(move |g| (q[16 * half + 4 * g + j] >> at & 3) << (2 * g));
        out.extend((0..8).map(|i| pair(i / 4, i % 4).sum::<u8>()));
    }
    if bits {
        let bit = |i: usize| q[i] >> (n_bits - 1) & 1;
        out.extend(
            (0..4).map(|j| (0..4).map(|g| bit(4 * g + j) << g | bit(16 + 4 * g + j) << (4 + g)).sum::<u8>()),
        );
    }
}

/// 32 integers of `n_bits` bits.
pub(super) fn get(n_bits: usize, mut stored: &[u8]) -> [u8; 32] {
    let (nibbles, pairs, bits) = parts(n_bits);
    let mut q = [0; 32];
    if nibbles {
        for (i, byte) in stored[..16].iter().enumerate() {
            (q[i], q[16 + i]) = (byte & 15, byte >> 4);
        }
        stored = &stored[16..];
    }
    if pairs {
        let at = if nibbles { 4 } else { 0 };
        for (i, q) in q.iter_mut().enumerate() {
            *q |= (stored[i / 16 * 4 + i % 4] >> (i % 16 / 4 * 2) & 3) << at;
        }
        stored = &stored[8..];
    }
    if bits {
        for (i, q) in q.iter_mut().enumerate() {
            *q |= (stored[i % 4] >> (i / 4) & 1) << (n_bits - 1);
        }
    }
    q
}

/// Whether integers of so many bits have nibbles, pairs and single bits.
fn parts(n_bits: usize) -> (bool, bool, bool) {
    (n_bits >= 4, n_bits & 2 != 0, n_bits & 1 != 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn integers_come_back_as_they_were() {
        for n_bits in 2..=6 {
            let q: [u8; 32] = std::array::from_fn(|i| (i as u8).wrapping_mul(37) >> 1 & ((1 << n_bits) - 1));
            let mut stored = Vec::new();
            super::put(n_bits, &q, &mut stored);
            assert_eq!(stored.len(), super::bytes(n_bits));
            assert_eq!(super::get(n_bits, &stored), q, "{n_bits} bits");
        }
    }
}
