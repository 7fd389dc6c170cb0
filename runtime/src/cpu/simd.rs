//! 128-bit vectors: wasm's `simd128` (with `relaxed-simd` in builds that have it) and, elsewhere, plain
//! arrays that compilers turn into the processor's vectors.
//!
//! A [`V`] has no type of its own; each function's name says how it reads the lanes.

/// 16 bytes.
#[cfg(target_arch = "wasm32")]
pub(super) type V = core::arch::wasm32::v128;

/// What the kernels are compiled to.
pub(super) const NAME: &str = if cfg!(all(target_arch = "wasm32", target_feature = "relaxed-simd")) {
    "wasm relaxed SIMD"
} else if cfg!(target_arch = "wasm32") {
    "wasm SIMD"
} else {
    "native"
};

/// Whether [`dot_i8`] takes one instruction or a few. Otherwise 4-bit weights, too, need 16-bit activations.
pub(super) const HAS_DOT_I8: bool = cfg!(any(not(target_arch = "wasm32"), target_feature = "relaxed-simd"));

#[cfg(target_arch = "wasm32")]
mod wasm {
    use super::V;
    use core::arch::wasm32::*;

    /// # Safety
    /// 16 bytes can be read at `p`.
    #[inline(always)]
    pub unsafe fn load(p: *const u8) -> V {
        // SAFETY: as promised by the caller.
        unsafe { v128_load(p.cast()) }
    }
    /// # Safety
    /// 16 bytes can be written at `p`.
    #[inline(always)]
    pub unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: as promised by the caller.
        unsafe { v128_store(p.cast(), v) }
    }
    /// # Safety
    /// 4 bytes can be read at `p`.
    #[inline(always)]
    pub unsafe fn splat_32(p: *const u8) -> V {
        // SAFETY: as promised by the caller.
        unsafe { v128_load32_splat(p.cast()) }
    }
    #[inline(always)]
    pub fn zero() -> V {
        i32x4_splat(0)
    }
    #[inline(always)]
    pub fn splat_i16(x: i16) -> V {
        i16x8_splat(x)
    }
    #[inline(always)]
    pub fn splat_u8(x: u8) -> V {
        u8x16_splat(x)
    }
    #[inline(always)]
    pub fn splat_f32(x: f32) -> V {
        f32x4_splat(x)
    }
    #[inline(always)]
    pub const fn bytes_128(x: u128) -> V {
        u64x2(x as u64, (x >> 64) as u64)
    }
    /// The bytes of a table at indices below 16.
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    pub fn lookup(table: V, indices: V) -> V {
        u8x16_relaxed_swizzle(table, indices)
    }
    /// The bytes of a table at indices below 16.
    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    pub fn lookup(table: V, indices: V) -> V {
        u8x16_swizzle(table, indices)
    }
    /// The first 8 bytes as 16 bits.
    #[inline(always)]
    pub fn widen_u8(v: V) -> V {
        u16x8_extend_low_u8x16(v)
    }
    #[inline(always)]
    pub fn and(a: V, b: V) -> V {
        v128_and(a, b)
    }
    #[inline(always)]
    pub fn shr_u16<const N: u32>(a: V) -> V {
        u16x8_shr(a, N)
    }
    #[inline(always)]
    pub fn shr_i16<const N: u32>(a: V) -> V {
        i16x8_shr(a, N)
    }
    #[inline(always)]
    pub fn shl_i16<const N: u32>(a: V) -> V {
        i16x8_shl(a, N)
    }
    #[inline(always)]
    pub fn add_i16(a: V, b: V) -> V {
        i16x8_add(a, b)
    }
    #[inline(always)]
    pub fn mul_i16(a: V, b: V) -> V {
        i16x8_mul(a, b)
    }
    #[inline(always)]
    pub fn add_i32(a: V, b: V) -> V {
        i32x4_add(a, b)
    }
    #[inline(always)]
    pub fn dot_i16(a: V, b: V) -> V {
        i32x4_dot_i16x8(a, b)
    }
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    pub fn dot_i8(a: V, b: V) -> V {
        i16x8_relaxed_dot_i8x16_i7x16(a, b)
    }
    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    pub fn dot_i8(a: V, b: V) -> V {
        let even = i16x8_mul(i16x8_shr(i16x8_shl(a, 8), 8), v128_and(b, i16x8_splat(0xff)));
        i16x8_add(even, i16x8_mul(i16x8_shr(a, 8), u16x8_shr(b, 8)))
    }
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    pub fn dot_add_i8(a: V, b: V, sums: V) -> V {
        i32x4_relaxed_dot_i8x16_i7x16_add(a, b, sums)
    }
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    pub fn is_dot_add_one() -> bool {
        // Engines may read a byte of 255 as they like: one that makes sums of pairs on the way caps them at
        // 32767.
        let sums = dot_add_i8(splat_u8(127), splat_u8(255), zero());
        i32x4_extract_lane::<0>(sums) != 2 * 32767
    }
    #[inline(always)]
    pub fn to_f32(a: V) -> V {
        f32x4_convert_i32x4(a)
    }
    #[inline(always)]
    pub fn add_f32(a: V, b: V) -> V {
        f32x4_add(a, b)
    }
    #[inline(always)]
    pub fn mul_f32(a: V, b: V) -> V {
        f32x4_mul(a, b)
    }
    #[cfg(target_feature = "relaxed-simd")]
    #[inline(always)]
    pub fn madd_f32(a: V, b: V, c: V) -> V {
        f32x4_relaxed_madd(a, b, c)
    }
    #[cfg(not(target_feature = "relaxed-simd"))]
    #[inline(always)]
    pub fn madd_f32(a: V, b: V, c: V) -> V {
        f32x4_add(f32x4_mul(a, b), c)
    }
    /// The greater; `b` where one is NaN.
    #[inline(always)]
    pub fn max_f32(a: V, b: V) -> V {
        f32x4_pmax(b, a)
    }
    #[inline(always)]
    pub fn min_f32(a: V, b: V) -> V {
        f32x4_pmin(b, a)
    }
    #[inline(always)]
    pub fn sub_f32(a: V, b: V) -> V {
        f32x4_sub(a, b)
    }
    #[inline(always)]
    pub fn div_f32(a: V, b: V) -> V {
        f32x4_div(a, b)
    }
    #[inline(always)]
    pub fn shl_i32<const N: u32>(a: V) -> V {
        i32x4_shl(a, N)
    }
    #[inline(always)]
    pub fn splat_i32(x: i32) -> V {
        i32x4_splat(x)
    }
    #[inline(always)]
    pub fn widen_f16(v: V) -> (V, V) {
        let widen = |x: V| {
            let bits = v128_and(i32x4_shl(x, 13), u32x4_splat(0x8fff_ffff));
            f32x4_mul(bits, f32x4_splat(super::F16_SCALE))
        };
        (widen(i32x4_extend_low_i16x8(v)), widen(i32x4_extend_high_i16x8(v)))
    }
    #[inline(always)]
    pub fn widen_i16(v: V) -> [V; 2] {
        [f32x4_convert_i32x4(i32x4_extend_low_i16x8(v)), f32x4_convert_i32x4(i32x4_extend_high_i16x8(v))]
    }
    #[inline(always)]
    pub fn widen_bf16(v: V) -> [V; 2] {
        [i32x4_shl(i32x4_extend_low_i16x8(v), 16), i32x4_shl(i32x4_extend_high_i16x8(v), 16)]
    }
}
#[cfg(target_arch = "wasm32")]
pub(super) use wasm::*;

/// Adds to 4 sums of 32 bits: 4 products of bytes each, those of `b` below 128.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn dot_add_i8(a: V, b: V, sums: V) -> V {
    add_i32(sums, dot_i16(dot_i8(a, b), splat_i16(1)))
}

/// Whether [`dot_add_i8`] is one instruction here; else [`dot_i8`] is faster.
#[cfg(not(target_feature = "relaxed-simd"))]
#[inline(always)]
pub(super) fn is_dot_add_one() -> bool {
    false
}

/// Four floats.
#[inline(always)]
pub(super) fn floats(x: &[f32; 4]) -> V {
    // SAFETY: four floats are 16 bytes.
    unsafe { load(x.as_ptr().cast()) }
}

/// Four floats.
#[inline(always)]
pub(super) fn put(out: &mut [f32; 4], v: V) {
    // SAFETY: four floats are 16 bytes.
    unsafe { store(out.as_mut_ptr(), v) }
}

/// The four floats of a vector.
#[inline(always)]
pub(super) fn lanes(v: V) -> [f32; 4] {
    let mut out = [0.0; 4];
    put(&mut out, v);
    out
}

/// 2^112: how far the exponent of an f16's bits, read as an f32's, is off.
pub(super) const F16_SCALE: f32 = f32::from_bits((112 + 127) << 23);

#[cfg(not(target_arch = "wasm32"))]
mod plain {
    use bytemuck::cast;

    /// 16 bytes.
    #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
    #[repr(C, align(16))]
    pub struct V([u32; 4]);

    #[inline(always)]
    fn map<T: bytemuck::Pod, const N: usize>(a: V, f: impl Fn(T) -> T) -> V
    where
        [T; N]: bytemuck::Pod,
    {
        cast(cast::<V, [T; N]>(a).map(f))
    }

    #[inline(always)]
    fn zip<T: bytemuck::Pod, const N: usize>(a: V, b: V, f: impl Fn(T, T) -> T) -> V
    where
        [T; N]: bytemuck::Pod,
    {
        let (mut a, b) = (cast::<V, [T; N]>(a), cast::<V, [T; N]>(b));
        for (a, b) in a.iter_mut().zip(b) {
            *a = f(*a, b);
        }
        cast(a)
    }

    /// # Safety
    /// 16 bytes can be read at `p`.
    #[inline(always)]
    pub unsafe fn load(p: *const u8) -> V {
        // SAFETY: as promised by the caller.
        unsafe { V(p.cast::<[u32; 4]>().read_unaligned()) }
    }
    /// # Safety
    /// 16 bytes can be written at `p`.
    #[inline(always)]
    pub unsafe fn store(p: *mut f32, v: V) {
        // SAFETY: as promised by the caller.
        unsafe { p.cast::<[u32; 4]>().write_unaligned(v.0) }
    }
    /// # Safety
    /// 4 bytes can be read at `p`.
    #[inline(always)]
    pub unsafe fn splat_32(p: *const u8) -> V {
        // SAFETY: as promised by the caller.
        V([unsafe { p.cast::<u32>().read_unaligned() }; 4])
    }
    #[inline(always)]
    pub fn zero() -> V {
        V([0; 4])
    }
    #[inline(always)]
    pub fn splat_i16(x: i16) -> V {
        cast([x; 8])
    }
    #[inline(always)]
    pub fn splat_u8(x: u8) -> V {
        cast([x; 16])
    }
    #[inline(always)]
    pub fn splat_f32(x: f32) -> V {
        cast([x; 4])
    }
    #[inline(always)]
    pub fn bytes_128(x: u128) -> V {
        cast(x)
    }
    #[inline(always)]
    pub fn lookup(table: V, indices: V) -> V {
        let table = cast::<V, [u8; 16]>(table);
        map::<u8, 16>(indices, |i| table[usize::from(i & 15)])
    }
    #[inline(always)]
    pub fn widen_u8(v: V) -> V {
        let bytes = cast::<V, [u8; 16]>(v);
        cast::<[u16; 8], V>(std::array::from_fn(|i| u16::from(bytes[i])))
    }
    #[inline(always)]
    pub fn and(a: V, b: V) -> V {
        zip::<u32, 4>(a, b, |a, b| a & b)
    }
    #[inline(always)]
    pub fn shr_u16<const N: u32>(a: V) -> V {
        map::<u16, 8>(a, |a| a >> N)
    }
    #[inline(always)]
    pub fn shr_i16<const N: u32>(a: V) -> V {
        map::<i16, 8>(a, |a| a >> N)
    }
    #[inline(always)]
    pub fn shl_i16<const N: u32>(a: V) -> V {
        map::<i16, 8>(a, |a| a << N)
    }
    #[inline(always)]
    pub fn add_i16(a: V, b: V) -> V {
        zip::<i16, 8>(a, b, i16::wrapping_add)
    }
    #[inline(always)]
    pub fn mul_i16(a: V, b: V) -> V {
        zip::<i16, 8>(a, b, i16::wrapping_mul)
    }
    #[inline(always)]
    pub fn add_i32(a: V, b: V) -> V {
        zip::<i32, 4>(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    pub fn dot_i16(a: V, b: V) -> V {
        // SAFETY: SSE2 is part of every x86-64.
        #[cfg(target_arch = "x86_64")]
        return unsafe {
            use std::arch::x86_64::{__m128i, _mm_madd_epi16};
            let madd =
                _mm_madd_epi16(std::mem::transmute::<V, __m128i>(a), std::mem::transmute::<V, __m128i>(b));
            std::mem::transmute::<__m128i, V>(madd)
        };
        #[cfg(not(target_arch = "x86_64"))]
        {
            let (a, b) = (cast::<V, [i16; 8]>(a), cast::<V, [i16; 8]>(b));
            let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
            cast([0, 2, 4, 6].map(|i| product(i).wrapping_add(product(i + 1))))
        }
    }
    #[inline(always)]
    pub fn dot_i8(a: V, b: V) -> V {
        // SAFETY: SSE2 is part of every x86-64.
        #[cfg(target_arch = "x86_64")]
        return unsafe {
            use std::arch::x86_64::*;
            let (a, b) = (std::mem::transmute::<V, __m128i>(a), std::mem::transmute::<V, __m128i>(b));
            let even = _mm_srai_epi16::<8>(_mm_slli_epi16::<8>(a));
            let even = _mm_mullo_epi16(even, _mm_and_si128(b, _mm_set1_epi16(0xff)));
            let odd = _mm_mullo_epi16(_mm_srai_epi16::<8>(a), _mm_srli_epi16::<8>(b));
            std::mem::transmute::<__m128i, V>(_mm_add_epi16(even, odd))
        };
        #[cfg(not(target_arch = "x86_64"))]
        {
            let even = zip::<i16, 8>(a, b, |a, b| ((a << 8) >> 8) * (b & 0xff));
            add_i16(even, zip::<i16, 8>(a, b, |a, b| (a >> 8) * (b >> 8)))
        }
    }
    #[inline(always)]
    pub fn to_f32(a: V) -> V {
        cast(cast::<V, [i32; 4]>(a).map(|a| a as f32))
    }
    #[inline(always)]
    pub fn add_f32(a: V, b: V) -> V {
        zip::<f32, 4>(a, b, |a, b| a + b)
    }
    #[inline(always)]
    pub fn mul_f32(a: V, b: V) -> V {
        zip::<f32, 4>(a, b, |a, b| a * b)
    }
    #[inline(always)]
    pub fn madd_f32(a: V, b: V, c: V) -> V {
        add_f32(mul_f32(a, b), c)
    }
    /// The greater; `b` where one is NaN.
    #[inline(always)]
    pub fn max_f32(a: V, b: V) -> V {
        zip::<f32, 4>(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    pub fn min_f32(a: V, b: V) -> V {
        zip::<f32, 4>(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    pub fn sub_f32(a: V, b: V) -> V {
        zip::<f32, 4>(a, b, |a, b| a - b)
    }
    #[inline(always)]
    pub fn div_f32(a: V, b: V) -> V {
        zip::<f32, 4>(a, b, |a, b| a / b)
    }
    #[inline(always)]
    pub fn shl_i32<const N: u32>(a: V) -> V {
        map::<u32, 4>(a, |a| a << N)
    }
    #[inline(always)]
    pub fn splat_i32(x: i32) -> V {
        cast([x; 4])
    }
    #[inline(always)]
    pub fn widen_f16(v: V) -> (V, V) {
        let h = cast::<V, [u16; 8]>(v);
        let widen = |i| super::super::numbers::from_f16(h[i]);
        (cast([0, 1, 2, 3].map(widen)), cast([4, 5, 6, 7].map(widen)))
    }
    #[inline(always)]
    pub fn widen_i16(v: V) -> [V; 2] {
        let widen = |i| f32::from(cast::<V, [i16; 8]>(v)[i]);
        [cast([0, 1, 2, 3].map(widen)), cast([4, 5, 6, 7].map(widen))]
    }
    #[inline(always)]
    pub fn widen_bf16(v: V) -> [V; 2] {
        let widen = |i| u32::from(cast::<V, [u16; 8]>(v)[i]) << 16;
        [cast([0, 1, 2, 3].map(widen)), cast([4, 5, 6, 7].map(widen))]
    }
}
#[cfg(not(target_arch = "wasm32"))]
pub(super) use plain::*;
