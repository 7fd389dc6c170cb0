//! Errors in GGUF files.

use thiserror::Error;

/// Why a file cannot be read as GGUF.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GgufError {
    /// The first four bytes are not `GGUF`.
    #[error("this is not a GGUF file: it begins with the bytes {0:02x?} instead of \"GGUF\"")]
    NotGguf([u8; 4]),
    /// A page of the web.
    #[error(
        "this is not a model but a web page; download the file itself, and log in if its server asks for it"
    )]
    WebPage,
    /// What Git keeps in place of a large file.
    #[error(
        "this is not a model but a Git LFS pointer, a small text in place of the file; get the file itself \
         with `git lfs pull`, or from an address with /resolve/ in it"
    )]
    LfsPointer,
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
    /// A metadata entry has a type that its meaning does not allow.
    #[error("the metadata key {key} is {found}, but must be {wanted}")]
    Type {
        /// The entry's key.
        key: String,
        /// What it is.
        found: String,
        /// What it must be.
        wanted: &'static str,
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
    /// For a file that begins with these bytes, four of which should be `GGUF`.
    pub(super) fn foreign(magic: [u8; 4], beginning: &[u8]) -> Self {
        let beginning = String::from_utf8_lossy(beginning.get(..512).unwrap_or(beginning));
        let beginning = beginning.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
        if beginning.starts_with("version https://git-lfs.github.com/spec/") {
            return Self::LfsPointer;
        }
        match ["<!doctype", "<html", "<head", "<!--", "<?xml"].iter().any(|tag| beginning.starts_with(tag)) {
            true => Self::WebPage,
            false => Self::NotGguf(magic),
        }
    }

    pub(super) fn metadata(key: &str, problem: impl Into<String>) -> Self {
        Self::Metadata { key: shorten(key), problem: problem.into() }
    }

    pub(super) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { name: shorten(name), problem: problem.into() }
    }
}

/// The first 80 characters of a name.
pub(super) fn shorten(name: &str) -> String {
    match name.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", name.get(..end).unwrap_or_default()),
        None => name.to_owned(),
    }
}
