//! The scales of tiles, in vectors. See [`super::weights`] for where they lie in a tile.

use super::simd::*;
use super::unpack::Pair;

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

/// d for 256 columns, a signed byte to scale it with for 32: IQ4_XS.
pub(super) struct Each32Signed;

impl Scales for Each32Signed {
    const BLOCKS: usize = 8;
    const BYTES: usize = 80;
    const HALVES: bool = false;
    const MIN: bool = false;
    const ZERO: i32 = 0;
    type Top = Pair;

    #[inline(always)]
    unsafe fn top(w: *const u8) -> Pair {
        // SAFETY: as promised by the caller.
        unsafe { halves(w, 0) }
    }

    #[inline(always)]
    unsafe fn of_block(w: *const u8, top: &Pair, block: usize) -> [Scale; 2] {
        // SAFETY: as promised by the caller.
        let bytes = unsafe { unit(w, 1 + block / 2) };
        let scales = if block.is_multiple_of(2) { shl_i16::<8>(bytes) } else { bytes };
        let d = times(*top, widen_i16(shr_i16::<8>(scales)));
        [Scale { d, m: d }, Scale { d, m: d }]
    }
}

/// The exponent of a power of two for 32 columns, as a byte: MXFP4.
pub(super) struct Powers<const ZERO: i32>;

impl<const ZERO: i32> Scales for Powers<ZERO> {
    const BLOCKS: usize = 1;
    const BYTES: usize = 8;
    const HALVES: bool = false;
    const MIN: bool = false;
    const ZERO: i32 = ZERO;
    type Top = ();

    #[inline(always)]
    unsafe fn top(_: *const u8) {}

    #[inline(always)]
    unsafe fn of_block(w: *const u8, (): &(), _: usize) -> [Scale; 2] {
        // SAFETY: as promised by the caller; the quants follow the scales, so 16 bytes can be read.
        let e = widen_u8(unsafe { load(w) });
        // 2^(e - 128) as a product, because its own exponent may be too small.
        let half = shr_u16::<1>(e);
        let power = |e| widen_bf16(shl_i16::<7>(add_i16(e, splat_i16(127 - 64))));
        let d = times(power(half), power(add_i16(half, and(e, splat_i16(1)))));
        [Scale { d, m: d }, Scale { d, m: d }]
    }
}

/// For 16 of 64 columns a float of 8 bits without a sign: NVFP4.
pub(super) struct Each16Float;

impl Scales for Each16Float {
    const BLOCKS: usize = 2;
    const BYTES: usize = 32;
    const HALVES: bool = true;
    const MIN: bool = false;
    const ZERO: i32 = 0;
    type Top = ();

    #[inline(always)]
    unsafe fn top(_: *const u8) {}

    #[inline(always)]
    unsafe fn of_block(w: *const u8, (): &(), block: usize) -> [Scale; 2] {
        // SAFETY: as promised by the caller.
        let bytes = unsafe { unit(w, block) };
        [and(bytes, splat_i16(127)), shr_u16::<8>(bytes)].map(|scales| {
            // An f16 has the same bits, with an exponent that is 8 less; the numbers are twice as large.
            let d = times(widen_f16(shl_i16::<7>(scales)).into(), [splat_f32(128.0); 2]);
            Scale { d, m: d }
        })
    }
}

/// d for 256 columns: TQ1_0, TQ2_0.
pub(super) struct Whole<const ZERO: i32>;

impl<const ZERO: i32> Scales for Whole<ZERO> {
    const BLOCKS: usize = 8;
    const BYTES: usize = 16;
    const HALVES: bool = false;
    const MIN: bool = false;
    const ZERO: i32 = ZERO;
    type Top = Pair;

    #[inline(always)]
    unsafe fn top(w: *const u8) -> Pair {
        // SAFETY: as promised by the caller.
        unsafe { halves(w, 0) }
    }

    #[inline(always)]
    unsafe fn of_block(_: *const u8, top: &Pair, _: usize) -> [Scale; 2] {
        [Scale { d: *top, m: *top }, Scale { d: *top, m: *top }]
    }
}
