//! The product that all of training is made of: 8 rows of a matrix times 32 columns of another.

use crate::cpu::simd;

/// Rows of a value that lie together, and columns of a product.
pub const LANES: usize = 32;
/// Rows of a product.
pub const ROWS: usize = 8;

/// Which vectors there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vectors {
    /// 512 bits.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// 256 bits, with products and sums in one instruction.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Those of [`simd`].
    Plain,
}

impl Vectors {
    /// The longest that this machine has.
    pub fn find() -> Self {
        Self::all().next().unwrap_or(Self::Plain)
    }

    /// All that this machine has.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let found = [
            is_x86_feature_detected!("avx512f").then_some(Self::Avx512),
            (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self::Avx2),
            Some(Self::Plain),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let found = [Some(Self::Plain)];
        found.into_iter().flatten()
    }
}

/// The left matrix of a product: floats in runs of 32 of its columns.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    /// Its first row and column.
    pub floats: &'a [f32],
    /// Whether columns lie together and not rows: element (m, k) of a run is at `32 k + m`, else `32 m + k`.
    pub by_columns: bool,
    /// Floats from one run of 32 columns to the next.
    pub run: usize,
    /// Columns.
    pub n: usize,
}

/// `c[m][j] += Σ_k a[m][k] * b[k][j]`, for `c.len() / 32` rows m, at most 8, 32 columns j and `a.n` k.
pub fn multiply(vectors: Vectors, a: Left, b: &[f32], c: &mut [f32]) {
    let n_rows = c.len() / LANES;
    if n_rows == ROWS {
        return multiply_all(vectors, a, b, c);
    }
    let mut all = [0.0; ROWS * LANES];
    multiply_all(vectors, a, b, &mut all);
    c.iter_mut().zip(&all).for_each(|(c, x)| *c += x);
}

fn multiply_all(vectors: Vectors, a: Left, b: &[f32], c: &mut [f32]) {
    if a.n == 0 {
        return;
    }
    let (runs, rest) = ((a.n - 1) / LANES, (a.n - 1) % LANES);
    let last = if a.by_columns { rest * LANES + ROWS - 1 } else { (ROWS - 1) * LANES + rest };
    assert!(a.floats.len() > runs * a.run + last && b.len() >= a.n * LANES && c.len() == ROWS * LANES);
    let arguments = (a.n, a.floats.as_ptr(), a.run, b.as_ptr(), c.as_mut_ptr());
    // SAFETY: what is read and written is within the slices, as checked; the machine has the vectors.
    unsafe {
        match (vectors, a.by_columns) {
            #[cfg(target_arch = "x86_64")]
            (Vectors::Avx512, true) => x86::avx512::<1, LANES>(arguments),
            #[cfg(target_arch = "x86_64")]
            (Vectors::Avx512, false) => x86::avx512::<LANES, 1>(arguments),
            #[cfg(target_arch = "x86_64")]
            (Vectors::Avx2, true) => x86::avx2::<1, LANES>(arguments),
            #[cfg(target_arch = "x86_64")]
            (Vectors::Avx2, false) => x86::avx2::<LANES, 1>(arguments),
            (Vectors::Plain, true) => plain::<1, LANES>(arguments),
            (Vectors::Plain, false) => plain::<LANES, 1>(arguments),
        }
    }
}

/// How many k, a, floats from one run of a to the next, b, c.
type Arguments = (usize, *const f32, usize, *const f32, *mut f32);

/// # Safety
/// As [`multiply_all`] has checked.
unsafe fn plain<const M: usize, const K: usize>((n, a, run, b, c): Arguments) {
    use simd::{add_f32, load, madd_f32, splat_32, store, zero};
    // 4 rows and 8 columns at a time, for 16 registers.
    for part in 0..8 {
        let (m, j) = (part / 4 * 4, part % 4 * 8);
        let mut sums = [[zero(); 2]; 4];
        for k in 0..n {
            // SAFETY: as promised by the caller.
            unsafe {
                let a = a.add(k / LANES * run + k % LANES * K);
                let b = b.add(k * LANES + j);
                let b = [load(b.cast()), load(b.add(4).cast())];
                for (i, sums) in sums.iter_mut().enumerate() {
                    let a = splat_32(a.add((m + i) * M).cast());
                    sums[0] = madd_f32(a, b[0], sums[0]);
                    sums[1] = madd_f32(a, b[1], sums[1]);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            for (h, sum) in sums.iter().enumerate() {
                // SAFETY: as promised by the caller.
                unsafe {
                    let c = c.add((m + i) * LANES + j + 4 * h);
                    store(c, add_f32(load(c.cast()), *sum));
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Arguments, LANES};
    use std::arch::x86_64::*;

    /// # Safety
    /// As for [`super::plain`]; the machine has AVX-512.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn avx512<const M: usize, const K: usize>((n, mut a, run, mut b, c): Arguments) {
        let mut sums = [[_mm512_setzero_ps(); 2]; 8];
        let mut left = n;
        while left > 0 {
            let now = left.min(LANES);
            for k in 0..now {
                // SAFETY: as promised by the caller.
                unsafe {
                    let a = a.add(k * K);
                    let b = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16))];
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let a = _mm512_set1_ps(*a.add(i * M));
                        sums[0] = _mm512_fmadd_ps(a, b[0], sums[0]);
                        sums[1] = _mm512_fmadd_ps(a, b[1], sums[1]);
                    }
                }
                b = b.wrapping_add(LANES);
            }
            a = a.wrapping_add(run);
            left -= now;
        }
        for (i, sums) in sums.iter().enumerate() {
            for (h, sum) in sums.iter().enumerate() {
                // SAFETY: as promised by the caller.
                unsafe {
                    let c = c.add(i * LANES + 16 * h);
                    _mm512_storeu_ps(c, _mm512_add_ps(_mm512_loadu_ps(c), *sum));
                }
            }
        }
    }

    /// # Safety
    /// As for [`super::plain`]; the machine has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<const M: usize, const K: usize>((n, a, run, b, c): Arguments) {
        // 4 rows and 16 columns at a time, for 16 registers.
        for part in 0..4 {
            let (m, j) = (part / 2 * 4, part % 2 * 16);
            let mut sums = [[_mm256_setzero_ps(); 2]; 4];
            let (mut a, mut b, mut left) = (a.wrapping_add(m * M), b.wrapping_add(j), n);
            while left > 0 {
                let now = left.min(LANES);
                for k in 0..now {
                    // SAFETY: as promised by the caller.
                    unsafe {
                        let a = a.add(k * K);
                        let b = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let a = _mm256_set1_ps(*a.add(i * M));
                            sums[0] = _mm256_fmadd_ps(a, b[0], sums[0]);
                            sums[1] = _mm256_fmadd_ps(a, b[1], sums[1]);
                        }
                    }
                    b = b.wrapping_add(LANES);
                }
                a = a.wrapping_add(run);
                left -= now;
            }
            for (i, sums) in sums.iter().enumerate() {
                for (h, sum) in sums.iter().enumerate() {
                    // SAFETY: as promised by the caller.
                    unsafe {
                        let c = c.add((m + i) * LANES + j + 8 * h);
                        _mm256_storeu_ps(c, _mm256_add_ps(_mm256_loadu_ps(c), *sum));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::Random;

    #[test]
    fn products_are_sums_of_products() {
        let mut random = Random(4);
        for vectors in Vectors::all() {
            for (n, n_rows) in [(1, 8), (33, 5), (64, 8), (70, 1)] {
                for by_columns in [false, true] {
                    let a: Vec<f32> = (0..3 * 1024).map(|_| random.normal()).collect();
                    let b: Vec<f32> = (0..n * LANES).map(|_| random.normal()).collect();
                    let start: Vec<f32> = (0..n_rows * LANES).map(|_| random.normal()).collect();
                    let mut c = start.clone();
                    multiply(vectors, Left { floats: &a, by_columns, run: 1024, n }, &b, &mut c);
                    for (i, (found, start)) in c.iter().zip(start).enumerate() {
                        let (m, j) = (i / LANES, i % LANES);
                        let place = |k: usize| if by_columns { 32 * k + m } else { 32 * m + k };
                        let product = |k: usize| {
                            f64::from(a[k / LANES * 1024 + place(k % LANES)]) * f64::from(b[k * LANES + j])
                        };
                        let expected = f64::from(start) + (0..n).map(product).sum::<f64>();
                        let off = (f64::from(*found) - expected).abs();
                        assert!(off < 1e-4, "{vectors:?} {n} {n_rows} {by_columns}: {off}");
                    }
                }
            }
        }
    }
}
