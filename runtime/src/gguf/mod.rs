//! The GGUF container: header, metadata and tensor directory. Knows nothing of models or devices.
//!
//! [`HeaderReader`] takes a file's first bytes as they arrive and never asks for more than the header. Files are
//! taken as hostile: every count and length is held against the bytes the file has left before anything is
//! allocated for it. Shapes come out row-major, last index fastest (GGUF stores them the other way round); that
//! conversion happens here and nowhere else.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

mod error;
mod metadata;
mod read;
mod tensor;
mod write;

#[cfg(test)]
mod tests;

pub use error::GgufError;
pub use metadata::{Array, Metadata, Value};
pub use read::HeaderReader;
pub use tensor::{TensorInfo, TensorType};
pub use write::Writer;

/// The four bytes every GGUF file starts with.
const MAGIC: [u8; 4] = *b"GGUF";
/// The alignment of tensor data where `general.alignment` is absent.
const DEFAULT_ALIGNMENT: u64 = 32;
/// The key of a file's own alignment.
const ALIGNMENT_KEY: &str = "general.alignment";

/// Everything before the tensor data.
#[derive(Debug, Clone)]
pub struct Header {
    /// GGUF version, 2 or 3.
    pub version: u32,
    /// Alignment of tensor data in bytes, a power of two.
    pub alignment: u64,
    /// Key-value pairs, in the file's order.
    pub metadata: Metadata,
    /// The tensor directory, in the file's order.
    pub tensors: Vec<TensorInfo>,
    /// Where tensor data begins, in bytes from the file's start.
    pub data_offset: u64,
}
