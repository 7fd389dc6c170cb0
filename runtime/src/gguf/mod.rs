//! The GGUF container: header, metadata and tensor directory. Knows nothing of models or devices.
//!
//! [`HeaderReader`] parses a file's first bytes as they arrive and never asks for more than the header. Files
//! may be hostile: every count and length is checked against the bytes left in the file before memory is
//! allocated for it. Shapes are row-major, last index fastest. GGUF stores them the other way round; they are
//! converted here and nowhere else.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

mod cursor;
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

/// The first four bytes of every GGUF file.
const MAGIC: [u8; 4] = *b"GGUF";
/// The alignment of tensor data in a file without `general.alignment`.
const DEFAULT_ALIGNMENT: u64 = 32;
/// The metadata key of the alignment.
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
    /// Where tensor data begins, in bytes from the start of the file.
    pub data_offset: u64,
}
