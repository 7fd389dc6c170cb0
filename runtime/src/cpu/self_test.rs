//! Products of known numbers, computed once before the CPU is used. Relaxed SIMD leaves engines some freedom;
//! one that takes more of it gives wrong results without an error.

use super::CpuError;
use super::activations::{Activations, Dots};
use super::matmul::{ROWS, products};
use super::weights::{Matrix, TILE};
use crate::quant::{BLOCK, Format};

/// Columns, at least.
const COLS: usize = 3 * BLOCK;

/// An error names the first format whose products are wrong.
pub(super) fn run() -> Result<(), CpuError> {
    for format in Format::ALL {
        for int8 in [false, true] {
            for dots in [Dots::Pairs, Dots::Quads] {
                let (_, error) = tile(format, int8, dots)?;
                if error.is_nan() || error > 1e-3 {
                    return Err(CpuError::Wrong { kernel: format.name().into(), error });
                }
            }
        }
    }
    Ok(())
}

/// The products of one tile, and their error relative to the sums of their terms' magnitudes.
fn tile(format: Format, int8: bool, dots: Dots) -> Result<([f32; ROWS * TILE], f32), CpuError> {
    let n_cols = COLS.next_multiple_of(format.block_len());
    let mut state = 1_u64;
    let mut random = || {
        // The constants of Knuth's MMIX; the low bits are poor.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ (state >> 32)
    };
    let mut file = Vec::new();
    for _ in 0..TILE * n_cols / format.block_len() {
        // A block's first bytes have all bits set: the greatest nibbles.
        let mut first = Some(u64::MAX);
        file.extend(format.made_up(format.block_len(), 1.0, || first.take().unwrap_or_else(&mut random)));
    }
    let weights = format.dequantise(&file);
    let (mut quants, mut scales) = (Vec::new(), Vec::new());
    format.repack(&file, &mut quants, &mut scales);
    let mut matrix = Matrix::new(format, int8, TILE, n_cols, "the self-test")?;
    matrix.write_blocks(0, &quants, &scales);

    // Whole numbers up to 127 in each block, so that 8 bits hold them.
    let x: Vec<Vec<f32>> = (0..ROWS).map(|r| (0..n_cols).map(|i| x(r, i)).collect()).collect();
    let form = Activations::of(matrix.layout, int8, dots);
    matrix.activations = form;
    let mut prepared = [const { Vec::new() }; ROWS];
    for (prepared, x) in prepared.iter_mut().zip(&x) {
        prepared.resize(form.row_bytes(n_cols), 0);
        form.prepare(x, prepared);
    }
    let mut found = [0.0; ROWS * TILE];
    let inputs = std::array::from_fn(|r| prepared[r].as_slice());
    products::<ROWS>(&matrix, 0..1, inputs, dots, &mut found);
    let mut worst = 0.0_f64;
    for (x, found) in x.iter().zip(found.chunks_exact(TILE)) {
        for (weights, found) in weights.chunks_exact(n_cols).zip(found) {
            let terms = || x.iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w));
            let size: f64 = terms().map(f64::abs).sum();
            worst = worst.max((f64::from(*found) - terms().sum::<f64>()).abs() / size);
        }
    }
    Ok((found, worst as f32))
}

fn x(row: usize, i: usize) -> f32 {
    match i % BLOCK {
        // The greatest, with neighbours of the same sign, so that sums of products are at their limit.
        0..6 => 127.0,
        6..10 => -127.0,
        _ => ((row * 7 + i * 11) % 255) as f32 - 127.0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn passes() {
        run().unwrap();
    }

    #[test]
    fn sixteen_bits_give_the_same_as_two_bytes() {
        for format in Format::ALL {
            let [halves, bytes] = [Dots::Pairs, Dots::Quads].map(|dots| tile(format, false, dots).unwrap().0);
            assert_eq!(halves, bytes, "{format:?}");
        }
    }
}
