//! The quants and scales of tiles, in vectors. See [`super::weights`] for where they lie in a tile, and
//! `quant/bits.rs` for how the bits of 32 integers do.

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

/// The integers of 32 columns in a tile, at `q`.
pub(super) trait Quants {
    /// Words of each row.
    const WORDS: usize;
    /// Bits that all words of nibbles share.
    type High;

    /// # Safety
    /// The words of 8 rows can be read at `q`.
    unsafe fn high(q: *const u8) -> Self::High;

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
    unsafe fn high(_: *const u8) {}

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
    unsafe fn high(q: *const u8) -> Pair {
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
    unsafe fn high(q: *const u8) -> [Pair; 2] {
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
    unsafe fn high(q: *const u8) -> [Pair; 2] {
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
    unsafe fn high(q: *const u8) -> Self::High {
        // SAFETY: as promised by the caller.
        unsafe { (Bits2::high(q), pair(q.add(64))) }
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
    unsafe fn high(_: *const u8) {}

    #[inline(always)]
    unsafe fn bytes(q: *const u8, g: usize, (): &mut ()) -> [Pair; 2] {
        // SAFETY: as promised by the caller.
        unsafe { [pair(q.add(32 * g)), pair(q.add(128 + 32 * g))] }
    }

    #[inline(always)]
    unsafe fn halves(q: *const u8, g: usize, high: &mut ()) -> [Pair; 4] {
        // SAFETY: as promised by the caller.
        let [a, b] = unsafe { Self::bytes(q, g, high) };
        let even = |v| shr_i16::<8>(shl_i16::<8>(v));
        [a.map(even), a.map(shr_i16::<8>), b.map(even), b.map(shr_i16::<8>)]
    }
}

/// What integers of a tile are multiplied with, and what is added: w = d (q - ZERO) + m.
pub(super) struct Scale {
    pub d: Pair,
    /// Ignored without [`Scales::MIN`].
    pub m: Pair,
}

/// The scales of a tile, at its start.
pub(super) trait Scales {
    /// Blocks of 32 columns in a tile.
    const BLOCKS: usize;
    /// Bytes of all scales.
    const BYTES: usize;
    /// Whether 16 columns have a scale, and not 32.
    const HALVES: bool;
    /// Whether there are minima.
    const MIN: bool;
    /// The integer that stands for zero.
    const ZERO: i32;
    /// What all blocks share.
    type Top;

    /// # Safety
    /// The scales can be read at `w`.
    unsafe fn top(w: *const u8) -> Self::Top;

    /// The scales of a block's columns; with [`Self::HALVES`], of its first 16 and of the others.
    ///
    /// # Safety
    /// As of [`Self::top`], and there is such a block.
    unsafe fn of_block(w: *const u8, top: &Self::Top, block: usize) -> [Scale; 2];
}

/// Unit `u` of a tile's scales: 16 bits for each row.
///
/// # Safety
/// There is such a unit.
#[inline(always)]
unsafe fn unit(w: *const u8, u: usize) -> V {
    // SAFETY: as promised by the caller.
    unsafe { load(w.add(16 * u)) }
}

/// An f16 for each row.
///
/// # Safety
/// There is such a unit.
#[inline(always)]
unsafe fn halves(w: *const u8, u: usize) -> Pair {
    // SAFETY: as promised by the caller.
    widen_f16(unsafe { unit(w, u) }).into()
}

#[inline(always)]
fn times(a: Pair, b: Pair) -> Pair {
    [mul_f32(a[0], b[0]), mul_f32(a[1], b[1])]
}

/// d for 32 columns: Q4_0, Q5_0, Q8_0.
pub(super) struct One<const ZERO: i32>;

impl<const ZERO: i32> Scales for One<ZERO> {
    const BLOCKS: usize = 1;
    const BYTES: usize = 16;
    const HALVES: bool = false;
    const MIN: bool = false;
    const ZERO: i32 = ZERO;
    type Top = ();

    #[inline(always)]
    unsafe fn top(_: *const u8) {}

    #[inline(always)]
    unsafe fn of_block(w: *const u8, (): &(), _: usize) -> [Scale; 2] {
        // SAFETY: as promised by the caller.
        let d = unsafe { halves(w, 0) };
        [Scale { d, m: d }, Scale { d, m: d }]
    }
}

/// d and m for 32 columns: Q4_1, Q5_1.
pub(super) struct Two;

impl Scales for Two {
    const BLOCKS: usize = 1;
    const BYTES: usize = 32;
    const HALVES: bool = false;
    const MIN: bool = true;
    const ZERO: i32 = 0;
    type Top = ();

    #[inline(always)]
    unsafe fn top(_: *const u8) {}

    #[inline(always)]
    unsafe fn of_block(w: *const u8, (): &(), _: usize) -> [Scale; 2] {
        // SAFETY: as promised by the caller.
        let (d, m) = unsafe { (halves(w, 0), halves(w, 1)) };
        [Scale { d, m }, Scale { d, m }]
    }
}

/// d and -dmin for 256 columns.
///
/// # Safety
/// A tile's scales begin with them.
#[inline(always)]
unsafe fn top_two(w: *const u8) -> [Pair; 2] {
    // SAFETY: as promised by the caller.
    let (d, m) = unsafe { (halves(w, 0), halves(w, 1)) };
    [d, m.map(|m| mul_f32(m, splat_f32(-1.0)))]
}

/// d and dmin for 256 columns, a byte each to scale them with for 32: Q4_K, Q5_K.
pub(super) struct Each32;

impl Scales for Each32 {
    const BLOCKS: usize = 8;
    const BYTES: usize = 160;
    const HALVES: bool = false;
    const MIN: bool = true;
    const ZERO: i32 = 0;
    type Top = [Pair; 2];

    #[inline(always)]
    unsafe fn top(w: *const u8) -> [Pair; 2] {
        // SAFETY: as promised by the caller.
        unsafe { top_two(w) }
    }

    #[inline(always)]
    unsafe fn of_block(w: *const u8, top: &[Pair; 2], block: usize) -> [Scale; 2] {
        // SAFETY: as promised by the caller.
        let bytes = unsafe { unit(w, 2 + block) };
        let d = times(top[0], widen_i16(and(bytes, splat_i16(255))));
        let m = times(top[1], widen_i16(shr_u16::<8>(bytes)));
        [Scale { d, m }, Scale { d, m }]
    }
}

/// d for 256 columns, a signed byte to scale it with for 16: Q3_K, Q6_K.
pub(super) struct Each16<const ZERO: i32>;

impl<const ZERO: i32> Scales for Each16<ZERO> {
    const BLOCKS: usize = 8;
    const BYTES: usize = 144;
    const HALVES: bool = true;
    const MIN: bool = false;
    const ZERO: i32 = ZERO;
    type Top = Pair;

    #[inline(always)]
    unsafe fn top(w: *const u8) -> Pair {
        // SAFETY: as promised by the caller.
        unsafe { halves(w, 0) }
    }

    #[inline(always)]
    unsafe fn of_block(w: *const u8, top: &Pair, block: usize) -> [Scale; 2] {
        // SAFETY: as promised by the caller.
        let bytes = unsafe { unit(w, 1 + block) };
        [shr_i16::<8>(shl_i16::<8>(bytes)), shr_i16::<8>(bytes)].map(|scales| {
            let d = times(*top, widen_i16(scales));
            Scale { d, m: d }
        })
    }
}

/// d and dmin for 256 columns, a nibble each to scale them with for 16: Q2_K.
pub(super) struct Each16Two;

impl Scales for Each16Two {
    const BLOCKS: usize = 8;
    const BYTES: usize = 160;
    const HALVES: bool = true;
    const MIN: bool = true;
    const ZERO: i32 = 0;
    type Top = [Pair; 2];

    #[inline(always)]
    unsafe fn top(w: *const u8) -> [Pair; 2] {
        // SAFETY: as promised by the caller.
        unsafe { top_two(w) }
    }

    #[inline(always)]
    unsafe fn of_block(w: *const u8, top: &[Pair; 2], block: usize) -> [Scale; 2] {
        // SAFETY: as promised by the caller.
        let bytes = unsafe { unit(w, 2 + block) };
        [bytes, shr_u16::<8>(bytes)].map(|bytes| {
            let d = times(top[0], widen_i16(and(bytes, splat_i16(15))));
            let m = times(top[1], widen_i16(and(shr_u16::<4>(bytes), splat_i16(15))));
            Scale { d, m }
        })
    }
}
