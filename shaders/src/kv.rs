//! How kernels read and write the KV pool.

/// How keys and values are stored, and how many numbers of a key a thread reads at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keys {
    /// f16, 2 numbers.
    Two,
    /// f16, 8 numbers, where heads are a multiple.
    Eight,
    /// Whole blocks.
    Blocks(Blocks),
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kv {
    /// f16.
    F16,
    /// Blocks.
    Blocks(Blocks),
}

/// A format of blocks of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Blocks {
    Q8_0,
    Q4_0,
}

impl Keys {
    pub(super) fn settings(self) -> [(&'static str, &'static str); 2] {
        let (keys, kv) = match self {
            Keys::Two => ("2", Kv::F16),
            Keys::Eight => ("8", Kv::F16),
            Keys::Blocks(blocks) => ("blocks", Kv::Blocks(blocks)),
        };
        [("KEYS", keys), kv.setting()]
    }
}

impl Kv {
    pub(super) const ALL: [Kv; 3] = [Kv::F16, Kv::Blocks(Blocks::Q8_0), Kv::Blocks(Blocks::Q4_0)];

    pub(super) fn setting(self) -> (&'static str, &'static str) {
        let kv = match self {
            Kv::F16 => "f16",
            Kv::Blocks(Blocks::Q8_0) => "q8_0",
            Kv::Blocks(Blocks::Q4_0) => "q4_0",
        };
        ("KV", kv)
    }
}
