//! Keys and values in the pool: where they lie, and back to f32.
//!
//! A row of keys or values is a list of words of 16 bits in every format ([`KvFormat::words`]). Keys lie
//! transposed within their page, `[page, words, 32 positions]`; values `[page, 32 positions, words]`.

use super::numbers::{from_f16, to_f16};
use crate::graph::{Half, KV_BLOCK, KvFormat, PAGE};

pub(super) const CELLS: usize = PAGE as usize;

/// Writes a token's keys or values to its cell.
pub(super) fn write(
    format: KvFormat,
    numbers: &[f32],
    cell: usize,
    half: Half,
    mut put: impl FnMut(usize, u16),
) {
    let n_words = format.words(numbers.len());
    let (page, cell) = (cell / CELLS * CELLS * n_words, cell % CELLS);
    let mut put = |i: usize, word: u16| match half {
        Half::Keys => put(page + i * CELLS + cell, word),
        Half::Values => put(page + cell * n_words + i, word),
    };
    if format == KvFormat::F16 {
        numbers.iter().enumerate().for_each(|(i, x)| put(i, to_f16(*x)));
        return;
    }
    let mut i = 0;
    format.encode(numbers, |word| {
        put(i, word);
        i += 1;
    });
}

/// The numbers `[n, N]` of words `[words, N]`.
#[inline(always)]
pub(super) fn widen<const N: usize>(format: KvFormat, words: &[u16], numbers: &mut [f32]) {
    let (words, _) = words.as_chunks::<N>();
    let (numbers, _) = numbers.as_chunks_mut::<N>();
    let per_block = format.words(KV_BLOCK);
    let blocks = words.chunks_exact(per_block).zip(numbers.chunks_exact_mut(KV_BLOCK));
    match format {
        KvFormat::F16 => {
            for (wide, half) in numbers.as_flattened_mut().iter_mut().zip(words.as_flattened()) {
                *wide = from_f16(*half);
            }
        }
        KvFormat::Q8_0 => {
            for (block, out) in blocks {
                let scales = block[0].map(from_f16);
                for (word, out) in block[1..].iter().zip(out.as_chunks_mut::<2>().0) {
                    for i in 0..N {
                        out[0][i] = scales[i] * f32::from(word[i] as i8);
                        out[1][i] = scales[i] * f32::from((word[i] as i16) >> 8);
                    }
                }
            }
        }
        KvFormat::Q4_0 => {
            for (block, out) in blocks {
                let scales = block[0].map(from_f16);
                let (low, high) = out.split_at_mut(KV_BLOCK / 2);
                let pairs = low.as_chunks_mut::<2>().0.iter_mut().zip(high.as_chunks_mut::<2>().0);
                for (word, (low, high)) in block[1..].iter().zip(pairs) {
                    let nibble = |i: usize, shift: u32| f32::from(((word[i] >> shift) & 15) as i16 - 8);
                    for i in 0..N {
                        low[0][i] = scales[i] * nibble(i, 0);
                        high[0][i] = scales[i] * nibble(i, 4);
                        low[1][i] = scales[i] * nibble(i, 8);
                        high[1][i] = scales[i] * nibble(i, 12);
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

    /// Two cells of a page whose other cells keep what they had, with the interpreter's numbers.
    #[test]
    fn cells_come_back_as_the_reference_has_them() {
        let mut random = Random(11);
        let width = 96;
        for format in KvFormat::ALL {
            let n_words = format.words(width);
            for half in [Half::Keys, Half::Values] {
                let mut pool = vec![0_u16; 2 * CELLS * n_words];
                let mut expected = vec![0.0; CELLS * width];
                for cell in [CELLS + 7, CELLS + 8] {
                    let numbers: Vec<f32> = (0..width).map(|_| random.normal()).collect();
                    write(format, &numbers, cell, half, |at, word| pool[at] = word);
                    let mut words = Vec::new();
                    format.encode(&numbers, |word| words.push(word));
                    for (i, x) in format.decode(&words).into_iter().enumerate() {
                        let at = match half {
                            Half::Keys => i * CELLS + cell - CELLS,
                            Half::Values => (cell - CELLS) * width + i,
                        };
                        expected[at] = x;
                    }
                }
                let mut found = vec![f32::NAN; CELLS * width];
                let page = &pool[CELLS * n_words..];
                match half {
                    Half::Keys => widen::<CELLS>(format, page, &mut found),
                    Half::Values => {
                        let cells = page.chunks_exact(n_words).zip(found.chunks_exact_mut(width));
                        cells.for_each(|(words, numbers)| widen::<1>(format, words, numbers));
                    }
                }
                // Blocks of zeros may come out as -0.
                assert!(found.iter().zip(&expected).all(|(a, b)| a == b), "{format:?} {half:?}");
                assert!(pool[..CELLS * n_words].iter().all(|word| *word == 0));
            }
        }
    }
}
