//! What can be wrong with a GGUF file.

use thiserror::Error;

/// A file that is not a sound GGUF file, with the place that says so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GgufError {
    /// The first four bytes are not `GGUF`.
    #[error("not a GGUF file: it starts with {0:02x?} instead of \"GGUF\"")]
    NotGguf([u8; 4]),
    /// Written on a big-endian machine.
    #[error("this GGUF file is big-endian; only little-endian files are supported: convert it again")]
    BigEndian,
    /// A version other than 2 or 3.
    #[error("GGUF version {0} is not supported, only 2 and 3: convert the model again with a current tool")]
    UnsupportedVersion(u32),
    /// The file ends inside its header.
    #[error("the file is cut off: its header needs byte {needed}, the file has {file_size} bytes")]
    Truncated {
        /// The least size the file would need.
        needed: u64,
        /// The size it has.
        file_size: u64,
    },
    /// A limit on the header as a whole.
    #[error("unreasonable GGUF header: {0}")]
    Header(String),
    /// A metadata entry is unsound.
    #[error("GGUF metadata {key:?}: {problem}")]
    Metadata {
        /// The entry's key, shortened.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An entry of the tensor directory is unsound.
    #[error("GGUF tensor {name:?}: {problem}")]
    Tensor {
        /// The tensor's name, shortened.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl GgufError {
    pub(super) fn metadata(key: &str, problem: impl Into<String>) -> Self {
        Self::Metadata { key: shorten(key), problem: problem.into() }
    }

    pub(super) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { name: shorten(name), problem: problem.into() }
    }
}

/// At most 80 characters of a name from the file.
fn shorten(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}
