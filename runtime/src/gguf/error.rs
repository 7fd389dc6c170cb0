//! Errors in GGUF files.

use thiserror::Error;

/// Why a file cannot be read as GGUF.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GgufError {
    /// The first four bytes are not `GGUF`.
    #[error("this is not a GGUF file: it begins with the bytes {0:02x?} instead of \"GGUF\"")]
    NotGguf([u8; 4]),
    /// The file was written for big-endian machines.
    #[error("the GGUF file is big-endian; convert the model again as little-endian")]
    BigEndian,
    /// A version other than 2 or 3.
    #[error("GGUF version {0} is not supported, only 2 and 3; convert the model again with a current tool")]
    UnsupportedVersion(u32),
    /// The file ends inside its header.
    #[error(
        "the GGUF file is incomplete: it has {file_size} bytes, and its header alone needs {needed}; \
         download it again"
    )]
    Truncated {
        /// The smallest size the file could have.
        needed: u64,
        /// The size it has.
        file_size: u64,
    },
    /// The header as a whole exceeds a limit or contradicts itself.
    #[error("invalid GGUF header: {0}")]
    Header(String),
    /// A metadata entry is invalid.
    #[error("invalid GGUF metadata {key:?}: {problem}")]
    Metadata {
        /// The entry's key, shortened.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An entry of the tensor directory is invalid.
    #[error("invalid GGUF tensor {name:?}: {problem}")]
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

/// The first 80 characters of a name.
fn shorten(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}
