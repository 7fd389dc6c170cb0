//! The quants of tiles, in vectors. See [`super::weights`] for where they lie in a tile, and `quant/bits.rs`
//! for how the bits of 32 integers do.

use super::simd::*;

/// A vector for rows 0 to 4 of a tile, and one for rows 4 to 8.
pub(super) type Pair = [V; 2];

/// # Safety
/// 32 bytes can be read at `p`.
#[inline(always)]
pub(super) unsafe fn pair(p: *const u8) -> Pair {
    // SAFETY: as promised by the caller.
    unsafe { [load(p), load(p.add(16))] }
}

/// Signed bytes as 16 bits, see [`Quants::halves`].
#[inline(always)]
pub(super) fn signed_halves([a, b]: [Pair; 2]) -> [Pair; 4] {
    let even = |v| shr_i16::<8>(shl_i16::<8>(v));
    [a.map(even), a.map(shr_i16::<8>), b.map(even), b.map(shr_i16::<8>)]
}

/// The integers of 32 columns in a tile, at `q`.
pub(super) trait Quants {
    /// Words of each row in a block of 32 columns; 0 if blocks share their words.
    const WORDS: usize;
    /// What [`Self::bytes`] needs beside its own words.
    type High;

    /// Words of each row in so many blocks.
    #[inline(always)]
    fn words(blocks: usize) -> usize {
        Self::WORDS * blocks
    }

    /// `block` counts within the tile.
    ///
    /// # Safety
    /// The words of 8 rows can be read at `q`.
    unsafe fn high(q: *const u8, block: usize) -> Self::High;

    /// Columns 4g .. 4g + 4 and 16 + 4g .. 16 + 4g + 4, as bytes. To be called with g from 0 to 3 in turn.
    ///
    /// # Safety
    /// As of [`Self::high`], and `g` is below 4.
    unsafe fn bytes(q: *const u8, g: usize, high: &mut Self::High) -> [Pair; 2];

    /// The same columns as 16 bits: 0 and 2, 1 and 3 of the first four, then of the others.
    ///
    /// # Safety
    /// As of [`Self::bytes`].
    #[inline(always)]
    unsafe fn halves(q: *const u8, g: usize, high: &mut Self::High) -> [Pair; 4] {
        // SAFETY: as promised by the caller.
        let [a, b] = unsafe { Self::bytes(q, g, high) };
        let even = |v| and(v, splat_i16(255));
        [a.map(even), a.map(shr_u16::<8>), b.map(even), b.map(shr_u16::<8>)]
    }
}

/// 4 bits.
pub(super) struct Nibbles;
/// 5 bits.
pub(super) struct Bits5;
/// 6 bits.
pub(super) struct Bits6;
/// 2 bits.
pub(super) struct Bits2;
/// 3 bits.
pub(super) struct Bits3;
/// 4 bits that are indices into a code book of signed bytes, the first in the lowest bits, see [`book`].
pub(super) struct Book<const BOOK: u128>;
/// Digits to the base of 3, see `quant/tq1_0.rs`.
pub(super) struct Trits;
/// 8 bits, signed.
pub(super) struct Bytes;

/// # Safety
/// Words of nibbles can be read at `q`.
#[inline(always)]
unsafe fn nibbles(q: *const u8, g: usize) -> [Pair; 2] {
    let mask = splat_u8(15);
    // SAFETY: as promised by the caller.
    let quants = unsafe { pair(q.add(32 * g)) };
    [quants.map(|v| and(v, mask)), quants.map(|v| and(shr_u16::<4>(v), mask))]
}

/// Adds bits that are not yet set.
#[inline(always)]
fn add_bits(bytes: Pair, high: Pair) -> Pair {
    [add_i16(bytes[0], high[0]), add_i16(bytes[1], high[1])]
}

impl Quants for Nibbles {
    const WORDS: usize = 4;
    type High = ();

    #[inline(always)]
    unsafe fn high(_: *const u8, _: usize) {}

    #[inline(always)]
    unsafe fn bytes(q: *const u8, g: usize, (): &mut ()) -> [Pair; 2] {
        // SAFETY: as promised by the caller.
        unsafe { nibbles(q, g) }
    }

    #[inline(always)]
    unsafe fn halves(q: *const u8, g: usize, (): &mut ()) -> [Pair; 4] {
        let mask = splat_i16(15);
        // SAFETY: as promised by the caller.
        let quants = unsafe { pair(q.add(32 * g)) };
        [
            quants.map(|v| and(v, mask)),
            quants.map(|v| and(shr_u16::<8>(v), mask)),
            quants.map(|v| and(shr_u16::<4>(v), mask)),
            quants.map(shr_u16::<12>),
        ]
    }
}

impl Quants for Bits5 {
    const WORDS: usize = 5;
    type High = Pair;

    #[inline(always)]
    unsafe fn high(q: *const u8, _: usize) -> Pair {
        // SAFETY: as promised by the caller.
        unsafe { pair(q.add(128)) }
    }

    #[inline(always)]
    unsafe fn bytes(q: *const u8, g: usize, high: &mut Pair) -> [Pair; 2] {
        let bit = splat_u8(16);
        // SAFETY: as promised by the caller.
        let [a, b] = unsafe { nibbles(q, g) };
        let first = high.map(|v| and(shl_i16::<4>(v), bit));
        let second = high.map(|v| and(v, bit));
        *high = high.map(shr_u16::<1>);
        [add_bits(a, first), add_bits(b, second)]
    }
}

impl Quants for Bits6 {
    const WORDS: usize = 6;
    type High = [Pair; 2];

    #[inline(always)]
    unsafe fn high(q: *const u8, _: usize) -> [Pair; 2] {
        // SAFETY: as promised by the caller.
        unsafe { [pair(q.add(128)), pair(q.add(160))] }
    }

    #[inline(always)]
    unsafe fn bytes(q: *const u8, g: usize, high: &mut [Pair; 2]) -> [Pair; 2] {
        let mask = splat_u8(48);
        // SAFETY: as promised by the caller.
        let [a, b] = unsafe { nibbles(q, g) };
        let [first, second] = high.map(|high| high.map(|v| and(shl_i16::<4>(v), mask)));
        *high = high.map(|high| high.map(shr_u16::<2>));
        [add_bits(a, first), add_bits(b, second)]
    }
}

impl Quants for Bits2 {
    const WORDS: usize = 2;
    type High = [Pair; 2];

    #[inline(always)]
    unsafe fn high(q: *const u8, _: usize) -> [Pair; 2] {
        // SAFETY: as promised by the caller.
        unsafe { [pair(q), pair(q.add(32))] }
    }

    #[inline(always)]
    unsafe fn bytes(_: *const u8, _: usize, high: &mut [Pair; 2]) -> [Pair; 2] {
        let mask = splat_u8(3);
        let bytes = high.map(|high| high.map(|v| and(v, mask)));
        *high = high.map(|high| high.map(shr_u16::<2>));
        bytes
    }
}

impl Quants for Bits3 {
    const WORDS: usize = 3;
    type High = ([Pair; 2], Pair);

    #[inline(always)]
    unsafe fn high(q: *const u8, _: usize) -> Self::High {
        // SAFETY: as promised by the caller.
        unsafe { (Bits2::high(q, 0), pair(q.add(64))) }
    }

    #[inline(always)]
    unsafe fn bytes(q: *const u8, g: usize, (pairs, bits): &mut Self::High) -> [Pair; 2] {
        let bit = splat_u8(4);
        // SAFETY: as promised by the caller.
        let [a, b] = unsafe { Bits2::bytes(q, g, pairs) };
        let first = bits.map(|v| and(shl_i16::<2>(v), bit));
        let second = bits.map(|v| and(shr_u16::<2>(v), bit));
        *bits = bits.map(shr_u16::<1>);
        [add_bits(a, first), add_bits(b, second)]
    }
}

impl Quants for Bytes {
    const WORDS: usize = 8;
    type High = ();

    #[inline(always)]
    unsafe fn high(_: *const u8, _: usize) {}

    #[inline(always)]
    unsafe fn bytes(q: *const u8, g: usize, (): &mut ()) -> [Pair; 2] {
        // SAFETY: as promised by the caller.
        unsafe { [pair(q.add(32 * g)), pair(q.add(128 + 32 * g))] }
    }

    #[inline(always)]
    unsafe fn halves(q: *const u8, g: usize, high: &mut ()) -> [Pair; 4] {
        // SAFETY: as promised by the caller.
        signed_halves(unsafe { Self::bytes(q, g, high) })
    }
}

/// A code book for [`Book`], with a number added to each entry.
pub(super) const fn book(entries: [i8; 16], add: i8) -> u128 {
    let (mut bits, mut i) = (0, 16);
    while i > 0 {
        i -= 1;
        bits = bits << 8 | (entries[i] + add) as u8 as u128;
    }
    bits
}

impl<const BOOK: u128> Quants for Book<BOOK> {
    const WORDS: usize = 4;
    type High = ();

    #[inline(always)]
    unsafe fn high(_: *const u8, _: usize) {}

    #[inline(always)]
    unsafe fn bytes(q: *const u8, g: usize, (): &mut ()) -> [Pair; 2] {
        let book = bytes_128(BOOK);
        // SAFETY: as promised by the caller.
        unsafe { nibbles(q, g) }.map(|pair| pair.map(|indices| lookup(book, indices)))
    }

    #[inline(always)]
    unsafe fn halves(q: *const u8, g: usize, high: &mut ()) -> [Pair; 4] {
        // SAFETY: as promised by the caller.
        signed_halves(unsafe { Self::bytes(q, g, high) })
    }
}

/// Where [`Trits`] finds the digits of a block.
pub(super) struct Digits {
    /// The words of the first 16 columns, and 3 to the power of their digit.
    low: *const u8,
    low_times: i16,
    /// The words of the others, how far apart they are, and by what the power grows from one to the next.
    high: *const u8,
    high_step: usize,
    high_times: i16,
    growth: i16,
}

impl Trits {
    /// The digits that a power of 3 brings to the front, as 16 bits: of bytes 0 and 2, then of 1 and 3.
    #[inline(always)]
    fn digits(words: Pair, times: i16) -> [Pair; 2] {
        let (times, byte) = (splat_i16(times), splat_i16(255));
        let digit = |v| {
            let rest = and(mul_i16(v, times), byte);
            shr_u16::<8>(add_i16(rest, add_i16(rest, rest)))
        };
        [words.map(|v| digit(and(v, byte))), words.map(|v| digit(shr_u16::<8>(v)))]
    }
}

impl Quants for Trits {
    const WORDS: usize = 0;
    type High = Digits;

    #[inline(always)]
    fn words(_: usize) -> usize {
        13
    }

    #[inline(always)]
    unsafe fn high(q: *const u8, block: usize) -> Digits {
        let power = |n: usize| [1, 3, 9, 27, 81][n];
        // SAFETY: there are 13 words.
        let word = |w: usize| unsafe { q.add(32 * w) };
        let middle = word(8);
        let digits = |low, low_times, high, high_times| Digits {
            low,
            low_times,
            high,
            high_step: 32,
            high_times,
            growth: 1,
        };
        match block {
            0..5 => digits(word(0), power(block), word(4), power(block)),
            5 => digits(middle, power(0), middle, power(1)),
            6 => digits(middle, power(2), middle, power(3)),
            _ => Digits { high_step: 0, growth: 3, ..digits(middle, power(4), word(12), power(0)) },
        }
    }

    #[inline(always)]
    unsafe fn bytes(q: *const u8, g: usize, at: &mut Digits) -> [Pair; 2] {
        // SAFETY: as promised by the caller.
        let [a, b, c, d] = unsafe { Self::halves(q, g, at) };
        [add_bits(a, b.map(shl_i16::<8>)), add_bits(c, d.map(shl_i16::<8>))]
    }

    #[inline(always)]
    unsafe fn halves(_: *const u8, g: usize, at: &mut Digits) -> [Pair; 4] {
        // SAFETY: `g` is below 4, and there are so many words.
        let (low, high) = unsafe { (pair(at.low.add(32 * g)), pair(at.high.add(at.high_step * g))) };
        let [a, b] = Self::digits(low, at.low_times);
        let [c, d] = Self::digits(high, at.high_times);
        at.high_times *= at.growth;
        [a, b, c, d]
    }
}
