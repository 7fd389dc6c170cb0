//! A model's numbers on the device.
//!
//! A matrix is cut by rows into as many parts as the device's binding limit asks for; a part is one buffer with the format's two
//! planes. Matrices that are read together (query, key and value; gate and up) lie in one buffer, one below the other, where they have
//! one format and fit a binding. Vectors are plain f32.

use super::fuse::stacks;
use super::{Gpu, GpuError};
use crate::graph::{Graph, Source, Weight, WeightId};
use crate::quant::{BLOCK, Format, Planes};

/// Rows `first_row .. first_row + n_rows` of a matrix.
#[derive(Debug)]
pub(super) struct Part {
    pub buffer: wgpu::Buffer,
    pub first_row: usize,
    pub n_rows: usize,
    /// Where `first_row` is in the buffer.
    pub buffer_row: usize,
    /// Of the whole buffer.
    pub planes: Planes,
}

#[derive(Debug)]
pub(super) enum Stored {
    Matrix { format: Format, parts: Vec<Part> },
    Vector(wgpu::Buffer),
}

/// All weights of a graph.
#[derive(Debug)]
pub struct Weights {
    gpu: Gpu,
    pub(super) stored: Vec<Stored>,
    /// Blocks of a matrix row.
    row_blocks: Vec<usize>,
    bytes: u64,
}

const USAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST);

impl Weights {
    /// Allocates every weight of the graph; `formats[i]` is what `graph.weights[i]` is stored in (of no meaning for vectors).
    pub fn allocate(gpu: &Gpu, graph: &Graph, formats: &[Format]) -> Result<Self, GpuError> {
        let mut weights = Self { gpu: gpu.clone(), stored: Vec::new(), row_blocks: Vec::new(), bytes: 0 };
        for (weight, &format) in graph.weights.iter().zip(formats) {
            weights.row_blocks.push(weight.n_cols / BLOCK);
            // Its buffers come below.
            let stored = match weight.is_vector {
                true => Stored::Vector(weights.vector(weight)),
                false => Stored::Matrix { format, parts: Vec::new() },
            };
            weights.stored.push(stored);
        }
        for stack in stacks(graph) {
            weights.allocate_stack(graph, formats, &stack);
        }
        for i in 0..graph.weights.len() {
            if let Stored::Matrix { parts, .. } = &weights.stored[i]
                && parts.is_empty()
            {
                weights.allocate_matrix(&graph.weights[i], i)?;
            }
        }
        Ok(weights)
    }

    fn buffer(&mut self, label: &str, size: u64) -> wgpu::Buffer {
        let buffer = self.gpu.buffer(label, size, USAGE);
        self.bytes += buffer.size();
        buffer
    }

    fn vector(&mut self, weight: &Weight) -> wgpu::Buffer {
        let buffer = self.buffer(label(weight), 4 * weight.n_cols as u64);
        if let Source::Constant(numbers) = &weight.source {
            self.gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(numbers));
        }
        buffer
    }

    /// Puts matrices into one buffer if they can be.
    fn allocate_stack(&mut self, graph: &Graph, formats: &[Format], stack: &[WeightId]) {
        let format = formats[stack[0].0];
        let n_cols = graph.weights[stack[0].0].n_cols;
        let n_rows: usize = stack.iter().map(|id| graph.weights[id.0].n_rows).sum();
        let planes = format.planes((n_rows * (n_cols / BLOCK)) as u64);
        let can = stack.iter().all(|id| {
            let weight = &graph.weights[id.0];
            let is_free = matches!(&self.stored[id.0], Stored::Matrix { parts, .. } if parts.is_empty());
            // Two scales of a word must not belong to two matrices.
            let is_even = (weight.n_rows * (n_cols / BLOCK)).is_multiple_of(2);
            is_free && is_even && formats[id.0] == format && weight.n_cols == n_cols
        });
        if !can || planes.total() > self.gpu.info().max_binding_size {
            return;
        }
        let buffer = self.buffer(label(&graph.weights[stack[0].0]), planes.total());
        let mut buffer_row = 0;
        for id in stack {
            let n_rows = graph.weights[id.0].n_rows;
            let part = Part { buffer: buffer.clone(), first_row: 0, n_rows, buffer_row, planes };
            self.stored[id.0] = Stored::Matrix { format, parts: vec![part] };
            buffer_row += n_rows;
        }
    }

    fn allocate_matrix(&mut self, weight: &Weight, i: usize) -> Result<(), GpuError> {
        let Stored::Matrix { format, .. } = self.stored[i] else { return Ok(()) };
        let limit = self.gpu.info().max_binding_size;
        let label = label(weight);
        let runs = part_rows(format, weight.n_rows, weight.n_cols, limit).ok_or_else(|| {
            GpuError::OutOfMemory(format!("two rows of {label} are beyond the binding limit"))
        })?;
        let mut parts = Vec::new();
        for (first_row, n_rows) in runs {
            let planes = format.planes((n_rows * (weight.n_cols / BLOCK)) as u64);
            let buffer = self.buffer(label, planes.total());
            parts.push(Part { buffer, first_row, n_rows, buffer_row: 0, planes });
        }
        self.stored[i] = Stored::Matrix { format, parts };
        Ok(())
    }

    /// Whether these matrices lie in one buffer, one below the other.
    pub(super) fn are_stacked(&self, ids: &[WeightId]) -> bool {
        let mut next = None;
        ids.iter().all(|id| {
            let [part] = self.parts(*id) else { return false };
            let follows = match &next {
                None => part.buffer_row == 0,
                Some((buffer, row)) => part.buffer == *buffer && part.buffer_row == *row,
            };
            next = Some((part.buffer.clone(), part.buffer_row + part.n_rows));
            follows
        })
    }

    /// A matrix's parts; none of a vector.
    pub(super) fn parts(&self, id: WeightId) -> &[Part] {
        match &self.stored[id.0] {
            Stored::Matrix { parts, .. } => parts,
            Stored::Vector(_) => &[],
        }
    }

    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes repacked blocks of a matrix, beginning with its block `first_block`, an even number, as must be the number of
    /// blocks unless they are the matrix's last.
    pub fn write_blocks(&self, weight: WeightId, first_block: usize, quants: &[u8], scales: &[u8]) {
        let Some(Stored::Matrix { format, parts }) = self.stored.get(weight.0) else { return };
        let row_blocks = self.row_blocks[weight.0];
        let n_blocks = quants.len() / format.quants_bytes();
        for part in parts {
            let part_start = part.first_row * row_blocks;
            let part_end = part_start + part.n_rows * row_blocks;
            let (start, end) = (first_block.max(part_start), (first_block + n_blocks).min(part_end));
            if start >= end {
                continue;
            }
            let (skip, local) =
                (start - first_block, (start - part_start + part.buffer_row * row_blocks) as u64);
            let (q, s) = (format.quants_bytes(), format.scales_bytes());
            let quants = &quants[skip * q..][..(end - start) * q];
            let scales = &scales[skip * s..][..(end - start) * s];
            self.gpu.queue.write_buffer(&part.buffer, local * q as u64, quants);
            // Writes are whole words; an odd last scale is written with zeros after it.
            let (whole, rest) = scales.split_at(scales.len() & !3);
            let at = part.planes.scales_offset + local * s as u64;
            if !whole.is_empty() {
                self.gpu.queue.write_buffer(&part.buffer, at, whole);
            }
            if let [a, b] = rest {
                self.gpu.queue.write_buffer(&part.buffer, at + whole.len() as u64, &[*a, *b, 0, 0]);
            }
        }
    }

    /// Writes a whole vector.
    pub fn write_vector(&self, weight: WeightId, numbers: &[f32]) {
        if let Some(Stored::Vector(buffer)) = self.stored.get(weight.0) {
            self.gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(numbers));
        }
    }
}

impl Drop for Weights {
    fn drop(&mut self) {
        // In browsers a dropped buffer waits for the garbage collector.
        for stored in &self.stored {
            match stored {
                Stored::Vector(buffer) => buffer.destroy(),
                Stored::Matrix { parts, .. } => parts.iter().for_each(|part| part.buffer.destroy()),
            }
        }
    }
}

fn label(weight: &Weight) -> &str {
    match &weight.source {
        Source::Tensor(name) => name,
        Source::Constant(_) => "constant",
    }
}

/// Cuts a matrix into (first row, rows) runs that fit a binding. Runs start at even rows, so that two scales of a word never
/// belong to two parts. None where not even two rows fit.
fn part_rows(
    format: Format,
    n_rows: usize,
    n_cols: usize,
    limit: u64,
) -> Option<impl Iterator<Item = (usize, usize)> + use<>> {
    let row_bytes = (n_cols / BLOCK * format.block_bytes()) as u64;
    let slack = 2 * crate::quant::PLANE_ALIGN;
    let most = usize::try_from(limit.saturating_sub(slack) / row_bytes.max(1)).unwrap_or(usize::MAX) & !1;
    (most > 0).then(move || (0..n_rows).step_by(most).map(move |first| (first, most.min(n_rows - first))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_all_rows_within_the_limit() {
        let parts: Vec<_> = part_rows(Format::Q8_0, 49_152, 576, 1 << 20).into_iter().flatten().collect();
        assert!(parts.len() > 25);
        let mut next = 0;
        for (first, n) in parts {
            assert_eq!(first, next);
            assert_eq!(first % 2, 0);
            assert!(Format::Q8_0.planes((n * 18) as u64).total() <= 1 << 20);
            next = first + n;
        }
        assert_eq!(next, 49_152);
        assert!(part_rows(Format::F32, 10, 1 << 20, 1 << 20).is_none());
    }
}
