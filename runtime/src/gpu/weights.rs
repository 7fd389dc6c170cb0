//! A model's weights on the device.
//!
//! A matrix that is larger than the device's binding limit is cut by rows into pieces. A piece is one buffer
//! with the format's two planes. Matrices that are read together (query, key and value; gate and up) are
//! stacked in one buffer if they have the same format and fit into one binding. Their biases are stacked,
//! too. Vectors are f32.

use super::accepts::{Accepts, Ends, ends};
use super::{Gpu, GpuError};
use crate::graph::fuse::{ExpertGroup, Work, fuse, stacks};
use crate::graph::{Experts, Graph, Op, Source, Weight, WeightId};
use crate::load::Sink;
use crate::quant::{Format, Planes};

/// Rows `first_row .. first_row + n_rows` of a matrix.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub buffer: wgpu::Buffer,
    pub first_row: usize,
    pub n_rows: usize,
    /// The buffer's row that holds `first_row`.
    pub buffer_row: usize,
    /// The planes of the whole buffer.
    pub planes: Planes,
}

/// A vector. Several can share a buffer.
#[derive(Clone, Debug)]
pub(super) struct Vector {
    pub buffer: wgpu::Buffer,
    /// Where it begins in the buffer, in floats.
    pub at: usize,
    pub len: usize,
}

#[derive(Clone, Debug)]
enum Stored {
    Matrix { format: Format, pieces: Vec<Piece> },
    Vector(Option<Vector>),
}

/// All weights of a graph. Graphs can share weights.
#[derive(Debug)]
pub struct Weights {
    gpu: Gpu,
    /// How many of the first are another's, who frees them.
    borrowed: usize,
    pub(super) formats: Vec<Format>,
    stored: Vec<Stored>,
    /// Blocks per row of each matrix.
    row_blocks: Vec<usize>,
    bytes: u64,
}

const USAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);

impl Weights {
    /// Allocates every weight of the graph. `formats[i]` is the format of `graph.weights[i]`; it is ignored
    /// for vectors.
    pub fn allocate(gpu: &Gpu, graph: &Graph, formats: &[Format]) -> Result<Self, GpuError> {
        let mut weights = Self {
            gpu: gpu.clone(),
            borrowed: 0,
            formats: Vec::new(),
            stored: Vec::new(),
            row_blocks: Vec::new(),
            bytes: 0,
        };
        weights.add(graph, formats)?;
        Ok(weights)
    }

    /// The weights of a graph that begins with the same weights, which are shared. The others have these
    /// formats and are allocated.
    pub fn extend(&self, graph: &Graph, formats: &[Format]) -> Result<Self, GpuError> {
        let mut weights = Self {
            gpu: self.gpu.clone(),
            borrowed: self.stored.len(),
            formats: self.formats.clone(),
            stored: self.stored.clone(),
            row_blocks: self.row_blocks.clone(),
            bytes: 0,
        };
        weights.add(graph, formats)?;
        Ok(weights)
    }

    /// Allocates those of a graph's weights that are not there yet.
    fn add(&mut self, graph: &Graph, formats: &[Format]) -> Result<(), GpuError> {
        let weights = self;
        weights.formats.extend_from_slice(formats);
        for (weight, &format) in graph.weights.iter().skip(weights.borrowed).zip(formats) {
            weights.row_blocks.push(format.row_blocks(weight.n_cols));
            // Buffers are allocated below.
            weights.stored.push(match weight.is_vector {
                true => Stored::Vector(None),
                false => Stored::Matrix { format, pieces: Vec::new() },
            });
        }
        let max_binding = weights.gpu.info().max_binding_size;
        let accepts = Accepts { formats: &weights.formats.clone(), max_binding, weights: None };
        for products in stacks(graph, &accepts) {
            let ids: Vec<WeightId> = products.products.iter().map(|product| product.weight).collect();
            weights.stack_matrices(graph, &ids);
            let Some(Ends { low, biases, .. }) = ends(graph, &products) else { continue };
            weights.stack_vectors(graph, &biases);
            weights.stack_matrices(graph, &low.map_or(Vec::new(), |low| low.matrices()));
        }
        for group in fuse(graph, &accepts) {
            if let Work::Experts(ExpertGroup { gate: Some((gate, gate_bias, _)), experts, .. }) = group.work {
                let biases: Vec<WeightId> = gate_bias.into_iter().chain(experts.bias).collect();
                weights.stack_matrices(graph, &[gate, experts.weight]);
                weights.stack_vectors(graph, &biases);
            }
        }
        let mut of_experts = vec![None; graph.weights.len()];
        for op in &graph.ops {
            if let Op::Experts { experts: Experts { weight, n_experts, .. }, .. } = op {
                of_experts[weight.0] = Some(graph.weight(*weight).n_rows / n_experts);
            }
        }
        for (i, weight) in graph.weights.iter().enumerate() {
            match &weights.stored[i] {
                Stored::Vector(None) => weights.stack_vectors(graph, &[WeightId(i)]),
                Stored::Matrix { pieces, .. } if pieces.is_empty() => {
                    weights.cut_matrix(weight, i, of_experts[i])?
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn buffer(&mut self, label: &str, size: u64) -> wgpu::Buffer {
        let buffer = self.gpu.buffer(label, size, USAGE);
        self.bytes += buffer.size();
        buffer
    }

    /// Stacks vectors in one buffer, unless one of them is already allocated.
    fn stack_vectors(&mut self, graph: &Graph, ids: &[WeightId]) {
        let is_free = |id: &WeightId| matches!(self.stored[id.0], Stored::Vector(None));
        if ids.is_empty() || !ids.iter().all(is_free) {
            return;
        }
        let n: usize = ids.iter().map(|id| graph.weight(*id).n_cols).sum();
        let buffer = self.buffer(graph.weight(ids[0]).source.name(), 4 * n as u64);
        let mut at = 0;
        for id in ids {
            let weight = graph.weight(*id);
            let len = weight.n_cols;
            self.stored[id.0] = Stored::Vector(Some(Vector { buffer: buffer.clone(), at, len }));
            if let Source::Constant(numbers) = &weight.source {
                self.write_vector(*id, numbers);
            }
            at += len;
        }
    }

    /// Stacks matrices in one buffer, unless one of them is already allocated.
    fn stack_matrices(&mut self, graph: &Graph, ids: &[WeightId]) {
        let is_free =
            |id: &WeightId| matches!(&self.stored[id.0], Stored::Matrix { pieces, .. } if pieces.is_empty());
        if ids.is_empty() || !ids.iter().all(is_free) {
            return;
        }
        let format = self.formats[ids[0].0];
        let n_rows: usize = ids.iter().map(|id| graph.weight(*id).n_rows).sum();
        let planes = format.planes((n_rows * self.row_blocks[ids[0].0]) as u64);
        let buffer = self.buffer(graph.weight(ids[0]).source.name(), planes.total());
        let mut buffer_row = 0;
        for id in ids {
            let n_rows = graph.weight(*id).n_rows;
            let piece = Piece { buffer: buffer.clone(), first_row: 0, n_rows, buffer_row, planes };
            self.stored[id.0] = Stored::Matrix { format, pieces: vec![piece] };
            buffer_row += n_rows;
        }
    }

    /// Cuts a matrix into pieces; one of experts, each of so many rows, between them.
    fn cut_matrix(&mut self, weight: &Weight, i: usize, of_expert: Option<usize>) -> Result<(), GpuError> {
        let Stored::Matrix { format, .. } = self.stored[i] else { return Ok(()) };
        let limit = self.gpu.info().max_binding_size;
        let (label, row_blocks) = (weight.source.name(), self.row_blocks[i]);
        // Scales share a word, which must not be split.
        let is_whole = |n: &usize| (n * row_blocks * format.scales_bytes()).is_multiple_of(4);
        let expert = of_expert.map(|n| [n, 2 * n].into_iter().find(is_whole).unwrap_or(4 * n));
        let runs =
            piece_rows(format, weight.n_rows, row_blocks, expert.unwrap_or(4), limit).ok_or_else(|| {
                let what = if expert.is_some() { "an expert" } else { "four rows" };
                GpuError::OutOfMemory(format!("{what} of {label} is larger than a binding of {limit} bytes"))
            })?;
        let mut pieces = Vec::new();
        for (first_row, n_rows) in runs {
            let planes = format.planes((n_rows * self.row_blocks[i]) as u64);
            let buffer = self.buffer(label, planes.total());
            pieces.push(Piece { buffer, first_row, n_rows, buffer_row: 0, planes });
        }
        self.stored[i] = Stored::Matrix { format, pieces };
        Ok(())
    }

    /// Whether these matrices are stacked in this order, from the start of one buffer.
    pub(super) fn are_stacked(&self, ids: &[WeightId]) -> bool {
        let mut next = None;
        ids.iter().all(|id| {
            let [piece] = self.pieces(*id) else { return false };
            let follows = match &next {
                None => piece.buffer_row == 0,
                Some((buffer, row)) => piece.buffer == *buffer && piece.buffer_row == *row,
            };
            next = Some((piece.buffer.clone(), piece.buffer_row + piece.n_rows));
            follows
        })
    }

    /// Whether these vectors are stacked in this order in one buffer.
    pub(super) fn are_vectors_stacked(&self, ids: &[WeightId]) -> bool {
        let vectors: Vec<&Vector> = ids.iter().filter_map(|id| self.vector(*id)).collect();
        vectors.len() == ids.len()
            && vectors
                .windows(2)
                .all(|pair| pair[0].buffer == pair[1].buffer && pair[0].at + pair[0].len == pair[1].at)
    }

    /// A matrix's pieces; empty for a vector.
    pub(super) fn pieces(&self, id: WeightId) -> &[Piece] {
        match &self.stored[id.0] {
            Stored::Matrix { pieces, .. } => pieces,
            Stored::Vector(_) => &[],
        }
    }

    /// A vector; none for a matrix.
    pub(super) fn vector(&self, id: WeightId) -> Option<&Vector> {
        match &self.stored[id.0] {
            Stored::Vector(vector) => vector.as_ref(),
            Stored::Matrix { .. } => None,
        }
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Sink for Weights {
    fn write_blocks(&mut self, weight: WeightId, first_block: usize, quants: &[u8], scales: &[u8]) {
        let Some(Stored::Matrix { format, pieces }) = self.stored.get(weight.0) else { return };
        let row_blocks = self.row_blocks[weight.0];
        let n_blocks = quants.len() / format.quants_bytes();
        for piece in pieces {
            let piece_start = piece.first_row * row_blocks;
            let piece_end = piece_start + piece.n_rows * row_blocks;
            let (start, end) = (first_block.max(piece_start), (first_block + n_blocks).min(piece_end));
            if start >= end {
                continue;
            }
            let (skip, local) =
                (start - first_block, (start - piece_start + piece.buffer_row * row_blocks) as u64);
            let (q, s) = (format.quants_bytes(), format.scales_bytes());
            let quants = &quants[skip * q..][..(end - start) * q];
            let scales = &scales[skip * s..][..(end - start) * s];
            self.gpu.queue.write_buffer(&piece.buffer, local * q as u64, quants);
            // WebGPU writes whole words, so the last scales are padded with zeros.
            let (whole, rest) = scales.split_at(scales.len() & !3);
            let at = piece.planes.scales_offset + local * s as u64;
            if !whole.is_empty() {
                self.gpu.queue.write_buffer(&piece.buffer, at, whole);
            }
            if !rest.is_empty() {
                let mut word = [0; 4];
                word[..rest.len()].copy_from_slice(rest);
                self.gpu.queue.write_buffer(&piece.buffer, at + whole.len() as u64, &word);
            }
        }
    }

    fn write_vector(&mut self, weight: WeightId, numbers: &[f32]) {
        if let Some(Stored::Vector(Some(Vector { buffer, at, len }))) = self.stored.get(weight.0) {
            let numbers = &numbers[..numbers.len().min(*len)];
            self.gpu.queue.write_buffer(buffer, 4 * *at as u64, bytemuck::cast_slice(numbers));
        }
    }
}

impl Drop for Weights {
    fn drop(&mut self) {
        // In browsers, a dropped buffer waits for the garbage collector.
        for stored in self.stored.iter().skip(self.borrowed) {
            match stored {
                Stored::Vector(vector) => vector.iter().for_each(|vector| vector.buffer.destroy()),
                Stored::Matrix { pieces, .. } => pieces.iter().for_each(|piece| piece.buffer.destroy()),
            }
        }
    }
}

/// Cuts a matrix into runs (first row, number of rows) that fit into a binding. Runs start at multiples of
/// `unit` rows: of four, so that a word of two scales is never split and kernels store whole vectors, or of
/// an expert. None if so many rows do not fit.
fn piece_rows(
    format: Format,
    n_rows: usize,
    row_blocks: usize,
    unit: usize,
    limit: u64,
) -> Option<impl Iterator<Item = (usize, usize)> + use<>> {
    let row_bytes = (row_blocks * (format.quants_bytes() + format.scales_bytes())) as u64;
    let slack = 2 * crate::quant::PLANE_ALIGN;
    let most =
        usize::try_from(limit.saturating_sub(slack) / row_bytes.max(1)).unwrap_or(usize::MAX) / unit * unit;
    (most > 0).then(move || (0..n_rows).step_by(most).map(move |first| (first, most.min(n_rows - first))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_all_rows_within_the_limit() {
        let pieces: Vec<_> = piece_rows(Format::Q8_0, 49_152, 18, 4, 1 << 20).into_iter().flatten().collect();
        assert!(pieces.len() > 25);
        let mut next = 0;
        for (first, n) in pieces {
            assert_eq!(first, next);
            assert_eq!(first % 4, 0);
            assert!(Format::Q8_0.planes((n * 18) as u64).total() <= 1 << 20);
            next = first + n;
        }
        assert_eq!(next, 49_152);
        assert!(piece_rows(Format::F32, 10, 1 << 15, 4, 1 << 20).is_none());
    }
}
