//! A model's numbers in memory, laid out for [`super::matmul`].
//!
//! A matrix is cut into tiles of 8 rows by one block of columns; the tiles of the same rows lie one after
//! another. A tile holds the scales of its 8 blocks (8 × f16), then their minima where the format has them,
//! then their quants in words of 4 bytes, word w of row r at `(8 w + r) * 4`. So a vector holds the same 4
//! columns of 4 rows, and the lanes in which sums add up are rows. In 4-bit formats a word holds columns 4w
//! .. 4w+4 in its low nibbles and 16 more in its high ones, as in GGUF. Words of F32 and F16 are single
//! numbers. The last tile is filled up with rows of zeros.

use super::CpuError;
use super::matmul::Activations;
use crate::graph::{Capacity, Graph, Source, Weight, WeightId};
use crate::quant::{BLOCK, Format};

/// Rows of a tile.
pub(super) const TILE: usize = 8;

/// A matrix `[n_rows, 32 n_blocks]`.
#[derive(Debug)]
pub(super) struct Matrix {
    pub format: Format,
    /// The form that activations need for it.
    pub activations: Activations,
    pub n_rows: usize,
    /// Blocks of a row.
    pub n_blocks: usize,
    /// In units of 16 bytes, for alignment.
    data: Vec<u128>,
}

#[derive(Debug)]
enum Stored {
    Matrix(Matrix),
    Vector(Vec<f32>),
}

/// All weights of a graph.
#[derive(Debug)]
pub struct Weights {
    stored: Vec<Stored>,
}

/// Zeroes, or an error where there is no memory for them.
pub(super) fn zeroed<T: bytemuck::Zeroable + Copy>(n: usize, what: &str) -> Result<Vec<T>, CpuError> {
    let mut numbers = Vec::new();
    let bytes = n.saturating_mul(size_of::<T>());
    numbers.try_reserve_exact(n).map_err(|_| CpuError::OutOfMemory(format!("{bytes} bytes for {what}")))?;
    numbers.resize(n, T::zeroed());
    Ok(numbers)
}

impl Weights {
    /// Allocates every weight of the graph; `formats[i]` is the format of the matrix `graph.weights[i]`. With
    /// `int8`, activations have 8 bits for 4-bit weights.
    pub fn allocate(graph: &Graph, formats: &[Format], int8: bool) -> Result<Self, CpuError> {
        let mut stored = Vec::new();
        for (weight, &format) in graph.weights.iter().zip(formats) {
            let name = weight.source.name();
            stored.push(match &weight.source {
                Source::Constant(numbers) => Stored::Vector(numbers.clone()),
                _ if weight.is_vector => Stored::Vector(zeroed(weight.n_cols, name)?),
                _ => Stored::Matrix(Matrix::new(format, int8, weight.n_rows, weight.n_cols, name)?),
            });
        }
        Ok(Self { stored })
    }

    /// Writes repacked blocks of a matrix, beginning with its block `first_block`.
    pub fn write_blocks(&mut self, weight: WeightId, first_block: usize, quants: &[u8], scales: &[u8]) {
        if let Some(Stored::Matrix(matrix)) = self.stored.get_mut(weight.0) {
            matrix.write_blocks(first_block, quants, scales);
        }
    }

    /// Writes a whole vector.
    pub fn write_vector(&mut self, weight: WeightId, numbers: &[f32]) {
        if let Some(Stored::Vector(vector)) = self.stored.get_mut(weight.0) {
            let n = vector.len().min(numbers.len());
            vector[..n].copy_from_slice(&numbers[..n]);
        }
    }

    pub(super) fn matrix(&self, weight: WeightId) -> Result<&Matrix, CpuError> {
        match self.stored.get(weight.0) {
            Some(Stored::Matrix(matrix)) => Ok(matrix),
            _ => Err(CpuError::Internal("a vector in place of a matrix".into())),
        }
    }

    pub(super) fn vector(&self, weight: WeightId) -> Result<&[f32], CpuError> {
        match self.stored.get(weight.0) {
            Some(Stored::Vector(vector)) => Ok(vector),
            _ => Err(CpuError::Internal("a matrix in place of a vector".into())),
        }
    }
}

/// Bytes that a model and its context do not get: for the runtime, activations, and data that is being
/// loaded.
const RESERVED: u64 = 64 << 20;

/// An error if the address space cannot hold a model and its KV pool. It needs the file's headers only.
pub fn check_memory(graph: &Graph, formats: &[Format], capacity: Capacity) -> Result<(), CpuError> {
    check_fit(graph, formats, capacity, usize::MAX as u64)
}

fn check_fit(graph: &Graph, formats: &[Format], capacity: Capacity, limit: u64) -> Result<(), CpuError> {
    let bytes_of = |weight: &Weight, format: Format| match (&weight.source, weight.is_vector) {
        (Source::Constant(numbers), _) => 4 * numbers.len() as u64,
        (_, true) => 4 * weight.n_cols as u64,
        _ => {
            let blocks = weight.n_rows.next_multiple_of(TILE) as u64 * (weight.n_cols / BLOCK) as u64;
            blocks * format.block_bytes() as u64
        }
    };
    let weights: u64 =
        graph.weights.iter().zip(formats).map(|(weight, format)| bytes_of(weight, *format)).sum();
    let kv =
        graph.caches.iter().map(|cache| 4 * cache.width as u64).sum::<u64>() * u64::from(capacity.cells());
    if weights + kv + RESERVED <= limit {
        return Ok(());
    }
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let shorter = if weights + RESERVED < limit { "a shorter context takes less, and " } else { "" };
    Err(CpuError::OutOfMemory(format!(
        "the model's weights take {:.1} GB and a context of {} tokens {:.1} GB, and WebAssembly has 4 GiB at \
         most; {shorter}on a GPU, with `device: \"webgpu\"`, there is no such limit",
        gb(weights),
        capacity.cells(),
        gb(kv),
    )))
}

impl Matrix {
    pub fn new(
        format: Format,
        int8: bool,
        n_rows: usize,
        n_cols: usize,
        name: &str,
    ) -> Result<Self, CpuError> {
        let n_blocks = n_cols / BLOCK;
        let bytes = (n_rows.div_ceil(TILE) * TILE).saturating_mul(n_blocks * format.block_bytes());
        let activations = Activations::of(format, int8);
        Ok(Self { format, activations, n_rows, n_blocks, data: zeroed(bytes / 16, name)? })
    }

    /// Bytes of a tile.
    pub fn tile_bytes(&self) -> usize {
        TILE * self.format.block_bytes()
    }

    /// Tiles below each other.
    pub fn n_tiles(&self) -> usize {
        self.n_rows.div_ceil(TILE)
    }

    /// The tiles of rows `8 tile ..`, from left to right.
    pub fn tiles(&self, tile: usize) -> &[u8] {
        let bytes = self.n_blocks * self.tile_bytes();
        &bytemuck::cast_slice(&self.data)[tile * bytes..][..bytes]
    }

    /// Where a block's tile starts, and its row within it.
    fn place(&self, block: usize) -> (usize, usize) {
        let (row, column) = (block / self.n_blocks, block % self.n_blocks);
        ((row / TILE * self.n_blocks + column) * self.tile_bytes(), row % TILE)
    }

    /// Bytes of a word of quants.
    fn word(&self) -> usize {
        if self.format == Format::F16 { 2 } else { 4 }
    }

    pub fn write_blocks(&mut self, first_block: usize, quants: &[u8], scales: &[u8]) {
        let (n_quants, n_scales) = (self.format.quants_bytes(), self.format.scales_bytes());
        let word = self.word();
        for i in 0..quants.len() / n_quants {
            if first_block + i >= self.n_rows * self.n_blocks {
                return;
            }
            let (at, row) = self.place(first_block + i);
            let bytes = self.tile_bytes();
            let tile = &mut bytemuck::cast_slice_mut::<u128, u8>(&mut self.data)[at..][..bytes];
            let (tile_scales, tile_quants) = tile.split_at_mut(TILE * n_scales);
            for (plane, scale) in scales[i * n_scales..][..n_scales].chunks_exact(2).enumerate() {
                tile_scales[(plane * TILE + row) * 2..][..2].copy_from_slice(scale);
            }
            for (w, bytes) in quants[i * n_quants..][..n_quants].chunks_exact(word).enumerate() {
                tile_quants[(w * TILE + row) * word..][..word].copy_from_slice(bytes);
            }
        }
    }

    /// A row's numbers.
    pub fn dequantise(&self, row: usize) -> Vec<f32> {
        let (n_quants, n_scales) = (self.format.quants_bytes(), self.format.scales_bytes());
        let word = self.word();
        let mut file = Vec::with_capacity(self.n_blocks * self.format.block_bytes());
        for column in 0..self.n_blocks {
            let (at, row) = self.place(row * self.n_blocks + column);
            let tile = &bytemuck::cast_slice::<u128, u8>(&self.data)[at..][..self.tile_bytes()];
            let (tile_scales, tile_quants) = tile.split_at(TILE * n_scales);
            for plane in 0..n_scales / 2 {
                file.extend_from_slice(&tile_scales[(plane * TILE + row) * 2..][..2]);
            }
            for w in 0..n_quants / word {
                file.extend_from_slice(&tile_quants[(w * TILE + row) * word..][..word]);
            }
        }
        self.format.dequantise(&file)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::graph::Builder;

    #[test]
    fn a_model_that_one_memory_cannot_hold_is_an_error() {
        let mut g = Builder::default();
        g.matrix("w", 1 << 18, 1 << 12);
        g.cache(1 << 10);
        let graph = g.finish();
        let check = |pages| {
            let capacity = Capacity { tokens: 1, outputs: 1, sequences: 1, max_pages: pages, pages };
            check_fit(&graph, &[Format::Q8_0], capacity, u64::from(u32::MAX))
        };
        // The weights take 1.06 GiB and a page 128 KiB, so there is room for about 23,500 pages.
        assert_eq!(check(23_000), Ok(()));
        let error = check(24_000).unwrap_err().to_string();
        for part in ["1.1 GB", "768000 tokens 3.1 GB", "4 GiB at most", "a shorter context", "webgpu"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn rows_come_back_as_they_were() {
        for format in Format::ALL {
            let (n_rows, n_blocks) = (13, 3);
            let file: Vec<u8> =
                (0..n_rows * n_blocks * format.block_bytes()).map(|i| (i * 7 % 59) as u8).collect();
            let mut matrix = Matrix::new(format, true, n_rows, n_blocks * BLOCK, "test").unwrap();
            for (piece, blocks) in file.chunks(10 * format.block_bytes()).enumerate() {
                let (mut quants, mut scales) = (Vec::new(), Vec::new());
                format.repack(blocks, &mut quants, &mut scales);
                matrix.write_blocks(piece * 10, &quants, &scales);
            }
            let found: Vec<f32> = (0..n_rows).flat_map(|row| matrix.dequantise(row)).collect();
            assert_eq!(found, format.dequantise(&file), "{format:?}");
        }
    }
}
