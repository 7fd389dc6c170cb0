//! A model's numbers in memory, laid out for [`super::matmul`].
//!
//! A matrix is cut into tiles of 8 rows by one block of columns; the tiles of the same rows lie one after
//! another. A tile holds the scales of its 8 blocks in units of 2 bytes, unit u of row r at `(8 u + r) * 2`,
//! so that a vector has one unit of all rows: scales, minima, or two bytes that scale those. A scale of one
//! byte is a unit of that size. Then come their quants in words of 4 bytes, word w of row r at
//! `(8 w + r) * 4`. So a vector holds the same 4 columns of 4 rows, and the lanes in which sums add up are
//! rows. Words of F32, F16 and BF16 are single numbers. The last tile is filled up with rows of zeros.

use super::CpuError;
use super::activations::{Activations, Dots};
use crate::graph::{Capacity, Graph, Source, Weight, WeightId};
use crate::load::Sink;
use crate::quant::{BLOCK, Format, Layout};
use std::ops::Range;
use std::sync::Arc;

/// Rows of a tile.
pub(super) const TILE: usize = 8;

/// A matrix `[n_rows, n_cols]`.
#[derive(Debug)]
pub(super) struct Matrix {
    pub layout: Layout,
    /// The form that activations need for it.
    pub activations: Activations,
    pub n_rows: usize,
    pub n_cols: usize,
    /// The layout's blocks in a row.
    pub n_blocks: usize,
    /// The layout's blocks in a block of the file's format.
    per_block: usize,
    /// The columns outside of which all numbers are 0. They are looked for in F32 alone: the matrices of
    /// adapters have many that are 0.
    pub used: Range<usize>,
    /// In units of 16 bytes, for alignment.
    data: Vec<u128>,
}

#[derive(Debug)]
enum Stored {
    Matrix(Matrix),
    Vector(Vec<f32>),
}

/// All weights of a graph. Graphs can share weights.
#[derive(Debug)]
pub struct Weights {
    stored: Vec<Arc<Stored>>,
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
        let mut weights = Self { stored: Vec::new() };
        weights.add(graph, formats, int8)?;
        Ok(weights)
    }

    /// The weights of a graph that begins with the same weights, which are shared. The others have these
    /// formats and are allocated.
    pub fn extend(&self, graph: &Graph, formats: &[Format], int8: bool) -> Result<Self, CpuError> {
        let mut weights = Self { stored: self.stored.clone() };
        weights.add(graph, formats, int8)?;
        Ok(weights)
    }

    /// Allocates those of a graph's weights that are not there yet.
    fn add(&mut self, graph: &Graph, formats: &[Format], int8: bool) -> Result<(), CpuError> {
        let known = self.stored.len();
        for (weight, &format) in graph.weights.iter().skip(known).zip(formats) {
            let name = weight.source.name();
            self.stored.push(Arc::new(match &weight.source {
                Source::Constant(numbers) => Stored::Vector(numbers.clone()),
                _ if weight.is_vector => Stored::Vector(zeroed(weight.n_cols, name)?),
                _ => Stored::Matrix(Matrix::new(format, int8, weight.n_rows, weight.n_cols, name)?),
            }));
        }
        Ok(())
    }

    pub(super) fn matrix(&self, weight: WeightId) -> Result<&Matrix, CpuError> {
        match self.stored.get(weight.0).map(Arc::as_ref) {
            Some(Stored::Matrix(matrix)) => Ok(matrix),
            _ => Err(CpuError::Internal("a vector in place of a matrix".into())),
        }
    }

    pub(super) fn vector(&self, weight: WeightId) -> Result<&[f32], CpuError> {
        match self.stored.get(weight.0).map(Arc::as_ref) {
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
            let row = format.row_blocks(weight.n_cols) as u64;
            let blocks = weight.n_rows.next_multiple_of(TILE) as u64 * row;
            blocks * (format.quants_bytes() + format.scales_bytes()) as u64
        }
    };
    let weights: u64 =
        graph.weights.iter().zip(formats).map(|(weight, format)| bytes_of(weight, *format)).sum();
    let kv = graph.kv_bytes(capacity.cells());
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

/// Weights that are shared are not written.
impl Sink for Weights {
    fn write_blocks(&mut self, weight: WeightId, first_block: usize, quants: &[u8], scales: &[u8]) {
        if let Some(Stored::Matrix(matrix)) = self.stored.get_mut(weight.0).and_then(Arc::get_mut) {
            matrix.write_blocks(first_block, quants, scales);
        }
    }

    fn write_vector(&mut self, weight: WeightId, numbers: &[f32]) {
        if let Some(Stored::Vector(vector)) = self.stored.get_mut(weight.0).and_then(Arc::get_mut) {
            let n = vector.len().min(numbers.len());
            vector[..n].copy_from_slice(&numbers[..n]);
        }
    }
}

impl Matrix {
    pub fn new(
        format: Format,
        int8: bool,
        n_rows: usize,
        n_cols: usize,
        name: &str,
    ) -> Result<Self, CpuError> {
        if !n_cols.is_multiple_of(format.block_len()) && !format.is_float() {
            let blocks = format.name();
            return Err(CpuError::Internal(format!(
                "{name} has rows of {n_cols}, not whole blocks of {blocks}"
            )));
        }
        let layout = format.layout();
        let per_block = format.layout_blocks();
        let n_blocks = format.row_blocks(n_cols) * per_block;
        let bytes = n_rows.div_ceil(TILE).saturating_mul(n_blocks * tile_bytes(layout));
        let activations = Activations::of(layout, int8, Dots::best());
        Ok(Self {
            layout,
            activations,
            n_rows,
            n_cols,
            n_blocks,
            per_block,
            used: if layout == Layout::F32 { 0..0 } else { 0..n_blocks * layout.block_len() },
            data: zeroed(bytes.div_ceil(16), name)?,
        })
    }

    /// Tiles below each other.
    pub fn n_tiles(&self) -> usize {
        self.n_rows.div_ceil(TILE)
    }

    /// The tiles of rows `8 tile ..`, from left to right.
    pub fn tiles(&self, tile: usize) -> &[u8] {
        let bytes = self.n_blocks * tile_bytes(self.layout);
        &bytemuck::cast_slice(&self.data)[tile * bytes..][..bytes]
    }

    /// Where the tile of a row's block starts.
    fn place(&self, row: usize, block: usize) -> usize {
        (row / TILE * self.n_blocks + block) * tile_bytes(self.layout)
    }

    /// Bytes of a word of quants.
    fn word(&self) -> usize {
        if matches!(self.layout, Layout::F16 | Layout::BF16) { 2 } else { 4 }
    }

    /// Bytes of a unit of scales.
    fn unit(&self) -> usize {
        if self.layout.scales_bytes() == 1 { 1 } else { 2 }
    }

    /// Writes blocks of the file's format, beginning with the matrix's block `first_block`.
    pub fn write_blocks(&mut self, first_block: usize, quants: &[u8], scales: &[u8]) {
        let (n_quants, n_scales) = (self.layout.quants_bytes(), self.layout.scales_bytes());
        let (word, unit, first) = (self.word(), self.unit(), first_block * self.per_block);
        for i in 0..quants.len() / n_quants {
            let (row, block) = ((first + i) / self.n_blocks, (first + i) % self.n_blocks);
            if row >= self.n_rows {
                return;
            }
            let (at, bytes) = (self.place(row, block), tile_bytes(self.layout));
            let tile = &mut bytemuck::cast_slice_mut::<u128, u8>(&mut self.data)[at..][..bytes];
            let (tile_scales, tile_quants) = tile.split_at_mut(TILE * n_scales);
            for (plane, scale) in scales[i * n_scales..][..n_scales].chunks_exact(unit).enumerate() {
                tile_scales[(plane * TILE + row % TILE) * unit..][..unit].copy_from_slice(scale);
            }
            let words = || quants[i * n_quants..][..n_quants].chunks_exact(word);
            if self.layout == Layout::F32 {
                let is_used = |bytes: &[u8]| bytes.iter().any(|byte| *byte != 0);
                if let (Some(first), Some(last)) = (words().position(is_used), words().rposition(is_used)) {
                    let (first, end) = (block * BLOCK + first, block * BLOCK + last + 1);
                    let Range { start, end: known } = self.used;
                    self.used = if known == 0 { first..end } else { start.min(first)..known.max(end) };
                }
            }
            for (w, bytes) in words().enumerate() {
                tile_quants[(w * TILE + row % TILE) * word..][..word].copy_from_slice(bytes);
            }
        }
    }

    /// The numbers of a tile's blocks, for training: 32 columns of 8 rows after another. `put` gets the
    /// number of the run of 32 columns, and its floats `[8, 32]`.
    pub fn unpack(
        &self,
        tile: usize,
        blocks: Range<usize>,
        unpacking: &mut Unpacking,
        mut put: impl FnMut(usize, &[f32]),
    ) {
        let (n_quants, n_scales) = (self.layout.quants_bytes(), self.layout.scales_bytes());
        let (word, len, bytes) = (self.word(), self.layout.block_len(), tile_bytes(self.layout));
        let Unpacking { quants, scales, floats, run } = unpacking;
        for (i, block) in blocks.enumerate() {
            let packed = &self.tiles(tile)[block * bytes..][..bytes];
            let (tile_scales, tile_quants) = packed.split_at(TILE * n_scales);
            quants.resize(TILE * n_quants, 0);
            scales.resize(TILE * n_scales, 0);
            match word {
                2 => transpose::<2>(tile_quants, quants),
                _ => transpose::<4>(tile_quants, quants),
            }
            match self.unit() {
                1 => transpose::<1>(tile_scales, scales),
                _ => transpose::<2>(tile_scales, scales),
            }
            floats.clear();
            self.layout.append(quants, scales, floats);
            if len == BLOCK {
                put(i, floats);
                continue;
            }
            for part in 0..len / BLOCK {
                run.clear();
                let rows = floats.chunks_exact(len);
                rows.for_each(|row| run.extend_from_slice(&row[part * BLOCK..][..BLOCK]));
                put(i * (len / BLOCK) + part, run);
            }
        }
    }

    /// A row's numbers.
    pub fn dequantise(&self, row: usize) -> Vec<f32> {
        let (n_quants, n_scales) = (self.layout.quants_bytes(), self.layout.scales_bytes());
        let (word, unit) = (self.word(), self.unit());
        let (mut quants, mut scales) = (Vec::new(), Vec::new());
        for block in 0..self.n_blocks {
            let at = self.place(row, block);
            let tile = &bytemuck::cast_slice::<u128, u8>(&self.data)[at..][..tile_bytes(self.layout)];
            let (tile_scales, tile_quants) = tile.split_at(TILE * n_scales);
            for plane in 0..n_scales / unit {
                scales.extend_from_slice(&tile_scales[(plane * TILE + row % TILE) * unit..][..unit]);
            }
            for w in 0..n_quants / word {
                quants.extend_from_slice(&tile_quants[(w * TILE + row % TILE) * word..][..word]);
            }
        }
        let mut numbers = self.layout.dequantise(&quants, &scales);
        numbers.truncate(self.n_cols);
        numbers
    }
}

/// What [`Matrix::unpack`] works with.
#[derive(Debug, Default)]
pub(super) struct Unpacking {
    quants: Vec<u8>,
    scales: Vec<u8>,
    floats: Vec<f32>,
    run: Vec<f32>,
}

/// From words `[n, 8]` of a tile to `[8, n]`.
fn transpose<const WORD: usize>(tile: &[u8], rows: &mut [u8]) {
    let (tile, _) = tile.as_chunks::<WORD>();
    let (rows, _) = rows.as_chunks_mut::<WORD>();
    let n = tile.len() / TILE;
    for (w, words) in tile.chunks_exact(TILE).enumerate() {
        for (r, word) in words.iter().enumerate() {
            rows[r * n + w] = *word;
        }
    }
}

/// Bytes of a tile: 8 rows of a block.
fn tile_bytes(layout: Layout) -> usize {
    TILE * (layout.quants_bytes() + layout.scales_bytes())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::graph::Builder;
    use crate::graph::testing::Random;

    #[test]
    fn a_model_that_one_memory_cannot_hold_is_an_error() {
        let mut g = Builder::default();
        g.matrix("w", 1 << 18, 1 << 12);
        g.cache(1 << 10, 1 << 10);
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
            let (n_rows, n_cols) = (13, 3 * format.block_len());
            let mut random = Random(3);
            let file = format.made_up(n_rows * n_cols, 1.0, || random.bits());
            let mut matrix = Matrix::new(format, true, n_rows, n_cols, "test").unwrap();
            for (piece, blocks) in file.chunks(10 * format.block_bytes()).enumerate() {
                let (mut quants, mut scales) = (Vec::new(), Vec::new());
                format.repack(blocks, &mut quants, &mut scales);
                matrix.write_blocks(piece * 10, &quants, &scales);
            }
            let found: Vec<f32> = (0..n_rows).flat_map(|row| matrix.dequantise(row)).collect();
            assert_eq!(found, format.dequantise(&file), "{format:?}");
            let mut unpacked = vec![0.0; 2 * TILE * n_cols];
            for tile in 0..matrix.n_tiles() {
                matrix.unpack(tile, 0..matrix.n_blocks, &mut Unpacking::default(), |run, floats| {
                    for (row, floats) in floats.chunks_exact(BLOCK).enumerate() {
                        let at = (tile * TILE + row) * n_cols + run * BLOCK;
                        unpacked[at..at + BLOCK].copy_from_slice(floats);
                    }
                });
            }
            assert_eq!(unpacked[..found.len()], found, "{format:?}");
        }
    }

    #[test]
    fn rows_that_are_not_whole_blocks_are_an_error() {
        let error = Matrix::new(Format::Q8_0, false, 8, 40, "w").unwrap_err().to_string();
        assert!(error.contains("w has rows of 40"), "{error}");
    }
}
