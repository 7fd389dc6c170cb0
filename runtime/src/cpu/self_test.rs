//! Products of known numbers, computed once before the CPU is used. Relaxed SIMD leaves engines some freedom;
//! one that takes more of it gives wrong results without an error.

use super::CpuError;
use super::matmul::{Dots, ROWS, products};
use super::weights::{Matrix, TILE};
use crate::quant::{BLOCK, Format};

const COLS: usize = 3 * BLOCK;

/// An error names the first format whose products are wrong.
pub(super) fn run() -> Result<(), CpuError> {
    for format in Format::ALL {
        for (int8, dots) in [(false, Dots::Pairs), (true, Dots::Pairs), (true, Dots::Quads)] {
            let error = deviation(format, int8, dots)?;
            if error.is_nan() || error > 1e-3 {
                return Err(CpuError::Wrong { kernel: format.name().into(), error });
            }
        }
    }
    Ok(())
}

/// The error of one tile's products, relative to the sums of their terms' magnitudes.
fn deviation(format: Format, int8: bool, dots: Dots) -> Result<f32, CpuError> {
    let mut file = Vec::new();
    for block in 0..TILE * COLS / BLOCK {
        match format {
            Format::F32 => (0..BLOCK).for_each(|i| file.extend((number(block, i) as f32).to_le_bytes())),
            Format::F16 => (0..BLOCK)
                .for_each(|i| file.extend(half::f16::from_f32(number(block, i) as f32).to_le_bytes())),
            _ => {
                for scale in 0..format.scales_bytes() / 2 {
                    let scale = (block + 1) as f32 / if scale == 0 { 64.0 } else { -16.0 };
                    file.extend(half::f16::from_f32(scale).to_le_bytes());
                }
                // The first byte has all bits set: the greatest nibbles.
                (0..format.quants_bytes()).for_each(|i| file.push(255 - number(block, i / 3) as u8));
            }
        }
    }
    let weights = format.dequantise(&file);
    let (mut quants, mut scales) = (Vec::new(), Vec::new());
    format.repack(&file, &mut quants, &mut scales);
    let mut matrix = Matrix::new(format, int8, TILE, COLS, "the self-test")?;
    matrix.write_blocks(0, &quants, &scales);

    // Whole numbers up to 127 in each block, so that 8 bits hold them.
    let x: Vec<Vec<f32>> = (0..ROWS).map(|r| (0..COLS).map(|i| x(r, i)).collect()).collect();
    let form = matrix.activations;
    let mut prepared = [const { Vec::new() }; ROWS];
    for (prepared, x) in prepared.iter_mut().zip(&x) {
        prepared.resize(form.row_bytes(COLS), 0);
        form.prepare(x, prepared);
    }
    let mut found = [0.0; ROWS * TILE];
    let inputs = std::array::from_fn(|r| prepared[r].as_slice());
    products::<ROWS>(&matrix, 0..1, inputs, dots, &mut found);
    let mut worst = 0.0_f64;
    for (x, found) in x.iter().zip(found.chunks_exact(TILE)) {
        for (weights, found) in weights.chunks_exact(COLS).zip(found) {
            let terms = || x.iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w));
            let size: f64 = terms().map(f64::abs).sum();
            worst = worst.max((f64::from(*found) - terms().sum::<f64>()).abs() / size);
        }
    }
    Ok(worst as f32)
}

fn number(block: usize, i: usize) -> usize {
    (block * 31 + i * 53) % 211
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
    #[test]
    fn passes() {
        super::run().unwrap();
    }
}
