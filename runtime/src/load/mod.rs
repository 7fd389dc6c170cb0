//! Hashes and repacks a file's bytes as they arrive, and passes weights to the device in pieces. No matrix is
//! ever complete in memory.

mod formats;

pub use formats::{bytes_per_token, formats, weight_bytes};

use crate::gguf::{Header, TensorInfo};
use crate::graph::{Graph, WeightId};
use crate::quant::Format;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use thiserror::Error;

/// Why a file cannot be loaded.
#[derive(Debug, Error, PartialEq)]
pub enum LoadError {
    /// There are no kernels for the type of a tensor.
    #[error(
        "tensor {tensor} has the type {ty}, which is not supported; supported are {}",
        Format::ALL.map(Format::name).join(", ")
    )]
    TensorType {
        /// The tensor's name.
        tensor: String,
        /// Its type.
        ty: String,
    },
    /// Tensors of single experts do not go together.
    #[error(
        "tensors {first} and {tensor} are experts of one layer, but {why}; use a newer file of the model"
    )]
    Experts {
        /// The first expert's tensor.
        first: String,
        /// Another one.
        tensor: String,
        /// What keeps them apart.
        why: &'static str,
    },
    /// The file has more or fewer bytes than it should.
    #[error("the file should have {expected} bytes, but has {found}; download it again")]
    Size {
        /// The size that was given at the start.
        expected: u64,
        /// Bytes that arrived.
        found: u64,
    },
}

/// Receives repacked weights.
pub trait Sink {
    /// Writes the blocks in `quants` and `scales` to a matrix, starting at block `first_block`. It is a
    /// multiple of 4 if there are scales, so that they begin a word.
    fn write_blocks(&mut self, weight: WeightId, first_block: usize, quants: &[u8], scales: &[u8]);
    /// Writes a whole vector.
    fn write_vector(&mut self, weight: WeightId, numbers: &[f32]);
}

/// The most bytes that are repacked at once. The loader buffers no more than that, except for vectors and
/// longer rows.
const PIECE: usize = 256 << 10;

/// A weight's place in the file.
#[derive(Debug)]
struct Placed {
    weight: WeightId,
    is_vector: bool,
    format: Format,
    n_cols: usize,
    /// Where it begins in the weight.
    first_block: usize,
    offset: u64,
    n_bytes: u64,
}

/// Takes the bytes of one file, in order.
#[derive(Debug)]
pub struct FileLoader {
    size: u64,
    position: u64,
    hash: Sha256,
    /// Tensors still to come, the next one last.
    placed: Vec<Placed>,
    /// Bytes of the current tensor's next piece.
    carry: Vec<u8>,
    /// Blocks of the current tensor that were already written.
    done_blocks: usize,
    quants: Vec<u8>,
    scales: Vec<u8>,
}

impl FileLoader {
    /// A loader for a file of `size` bytes with this header. Tensors that the graph does not use are skipped.
    /// `formats` come from [`formats`].
    pub fn new(size: u64, header: &Header, graph: &Graph, formats: &[Format]) -> Self {
        let tensors: HashMap<&str, &TensorInfo> =
            header.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let mut placed = Vec::new();
        for (i, (weight, &format)) in graph.weights.iter().zip(formats).enumerate() {
            // A vector's rows are its numbers.
            let (n_rows, n_cols) = match weight.is_vector {
                true => (weight.n_cols, 1),
                false => (weight.n_rows / weight.source.tensors().count().max(1), weight.n_cols),
            };
            for (part, (name, first_row)) in weight.source.tensors().enumerate() {
                let Some(tensor) = tensors.get(name) else { continue };
                let row_bytes = tensor.n_bytes / (tensor.n_elements() / n_cols.max(1) as u64).max(1);
                placed.push(Placed {
                    weight: WeightId(i),
                    is_vector: weight.is_vector,
                    format,
                    n_cols: weight.n_cols,
                    first_block: part * n_rows * format.row_blocks(n_cols),
                    offset: tensor.offset + first_row as u64 * row_bytes,
                    n_bytes: n_rows as u64 * row_bytes,
                });
            }
        }
        placed.sort_by_key(|p| std::cmp::Reverse(p.offset));
        Self {
            size,
            position: 0,
            hash: Sha256::new(),
            placed,
            carry: Vec::new(),
            done_blocks: 0,
            quants: Vec::new(),
            scales: Vec::new(),
        }
    }

    /// Takes the next bytes of the file.
    pub fn push(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<(), LoadError> {
        let end = self.position + bytes.len() as u64;
        if end > self.size {
            return Err(LoadError::Size { expected: self.size, found: end });
        }
        self.hash.update(bytes);
        while !bytes.is_empty() {
            let Some(tensor) = self.placed.last() else {
                self.position = end;
                break;
            };
            let before_tensor = tensor.offset.saturating_sub(self.position);
            if before_tensor > 0 {
                bytes = self.skip(bytes, before_tensor);
                continue;
            }
            let left = tensor.offset + tensor.n_bytes - self.position;
            let room = piece_bytes(tensor) - self.carry.len() as u64;
            let n = left.min(room).min(bytes.len() as u64) as usize;
            self.carry.extend_from_slice(&bytes[..n]);
            bytes = self.skip(bytes, n as u64);
            if n as u64 == room || n as u64 == left {
                self.hand_on(n as u64 == left, sink);
            }
        }
        Ok(())
    }

    fn skip<'b>(&mut self, bytes: &'b [u8], n: u64) -> &'b [u8] {
        let n = n.min(bytes.len() as u64);
        self.position += n;
        &bytes[n as usize..]
    }

    fn hand_on(&mut self, is_last: bool, sink: &mut impl Sink) {
        let Some(tensor) = self.placed.last() else { return };
        if tensor.is_vector {
            sink.write_vector(tensor.weight, &tensor.format.dequantise(&self.carry));
        } else {
            self.quants.clear();
            self.scales.clear();
            let blocks = tensor.format.whole_blocks(&self.carry, tensor.n_cols);
            tensor.format.repack(&blocks, &mut self.quants, &mut self.scales);
            let first = tensor.first_block + self.done_blocks;
            sink.write_blocks(tensor.weight, first, &self.quants, &self.scales);
            self.done_blocks += blocks.len() / tensor.format.block_bytes();
        }
        self.carry.clear();
        if is_last {
            self.placed.pop();
            self.done_blocks = 0;
        }
    }

    /// Ends loading after the last byte. Returns the SHA-256 of the whole file, in hexadecimal.
    pub fn finish(self) -> Result<String, LoadError> {
        if self.position != self.size {
            return Err(LoadError::Size { expected: self.size, found: self.position });
        }
        Ok(hex(&self.hash.finalize()))
    }
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes per piece of a tensor, except the last piece: a multiple of 4 blocks, whole rows if these are not
/// whole blocks, or a whole vector.
fn piece_bytes(tensor: &Placed) -> u64 {
    let Placed { is_vector, format, n_cols, n_bytes, .. } = *tensor;
    if is_vector {
        return n_bytes;
    }
    let unit = match n_cols.is_multiple_of(format.block_len()) {
        true => 4 * format.block_bytes(),
        false => format.row_bytes(n_cols),
    };
    (PIECE / unit * unit).max(unit) as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
