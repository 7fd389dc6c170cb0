//! Formats of weights: how GGUF stores a block, what it means, and how it is laid out on a device.
//!
//! A format is one row of a table, and so is a layout; names, sizes and lists all come from them. A weight on
//! a device is two planes: the quants of all blocks, then their scales, with a fixed number of bytes for each
//! block. Several formats may have one layout.
//!
//! Kernels walk a row by [`BLOCK`] weights in every format, plain floats too. A format's own block is that
//! long, or a multiple of it. On a device, rows of floats that are not whole blocks are followed by zeros.

mod bf16;
mod bits;
pub mod book;
mod f16;
mod f32;
pub mod grid;
pub mod iq1;
pub mod iq2;
pub mod iq3;
mod iq4_nl;
mod iq4_xs;
mod mxfp4;
mod nvfp4;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod tq1_0;
mod tq2_0;

use std::borrow::Cow;

/// The weights of a row that a kernel computes at a time. Every format's block is a multiple.
pub const BLOCK: usize = 32;

/// Alignment of a plane within its buffer, in bytes: what WebGPU requires everywhere of a storage binding's
/// offset.
pub const PLANE_ALIGN: u64 = 256;

/// A format in files.
struct Row {
    /// The name that GGUF tools give it.
    name: &'static str,
    /// Weights of a block.
    block_len: usize,
    /// Bytes of a block in a file.
    block_bytes: usize,
    /// What it becomes on a device.
    layout: Layout,
    /// How made-up weights are stored in it.
    sample: Sample,
    /// Appends the weights of a block. Plain floats may be fewer than a block.
    dequantise: fn(block: &[u8], weights: &mut Vec<f32>),
    /// Appends whole blocks of a file to the planes of its layout.
    repack: fn(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>),
}

/// What random weights look like in a format.
enum Sample {
    /// Floats, each appended by this.
    Floats(fn(f32, &mut Vec<u8>)),
    /// Random bytes with an f16 in some places: where, and its value in a block whose weights have a root
    /// mean square of 1.
    Blocks(&'static [(usize, f32)]),
    /// Random bytes in which the function stores a scale: the scale of a block whose weights have a root mean
    /// square of 1, and the function, which gets the block, its scale and a random number from 0 to 1.
    Scaled(f32, fn(block: &mut [u8], scale: f32, random: f32)),
}

/// A layout on devices. The GPU's kernels read it by `shaders/wgsl/weight/NAME.wgsl`, the CPU's by a function
/// of `cpu/matmul.rs`.
struct LayoutRow {
    name: &'static str,
    /// Weights of a block.
    block_len: usize,
    /// Bytes of a block in the quants plane.
    quants_bytes: usize,
    /// Bytes of a block in the scales plane.
    scales_bytes: usize,
    /// Appends the weights of a block.
    dequantise: fn(quants: &[u8], scales: &[u8], weights: &mut Vec<f32>),
}

/// An enum whose variants are the rows of a table.
macro_rules! table {
    ($(#[$about:meta])* $table:ident of $row:ident: $($(#[$doc:meta])* $variant:ident = $place:expr;)*) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(non_camel_case_types)] // GGML's names.
        pub enum $table {
            $($(#[$doc])* $variant,)*
        }

        impl $table {
            /// All of them.
            pub const ALL: [$table; [$($table::$variant),*].len()] = [$($table::$variant),*];

            fn row(self) -> &'static $row {
                match self {
                    $($table::$variant => &$place,)*
                }
            }
        }
    };
}

table! {
    /// A format of weights in files.
    Format of Row:
    /// Single precision.
    F32 = f32::FORMAT;
    /// Half precision.
    F16 = f16::FORMAT;
    /// The upper halves of floats.
    BF16 = bf16::FORMAT;
    /// 4 bits and a scale: w = d (q - 8).
    Q4_0 = q4_0::FORMAT;
    /// 4 bits, a scale and a minimum: w = d q + m.
    Q4_1 = q4_1::FORMAT;
    /// 5 bits and a scale: w = d (q - 16).
    Q5_0 = q5_0::FORMAT;
    /// 5 bits, a scale and a minimum: w = d q + m.
    Q5_1 = q5_1::FORMAT;
    /// 8 bits and a scale: w = d q.
    Q8_0 = q8_0::FORMAT;
    /// 2 bits; 16 share a scale and a minimum, which 256 scale: w = d s q - dmin m.
    Q2_K = q2_k::FORMAT;
    /// 3 bits; 16 share a scale, which 256 scale: w = d s (q - 4).
    Q3_K = q3_k::FORMAT;
    /// 4 bits; 32 share a scale and a minimum, which 256 scale: w = d s q - dmin m.
    Q4_K = q4_k::FORMAT;
    /// 5 bits, scaled as in Q4_K.
    Q5_K = q5_k::FORMAT;
    /// 6 bits; 16 share a scale, which 256 scale: w = d s (q - 32).
    Q6_K = q6_k::FORMAT;
    /// Indices of 4 bits into a code book, and a scale.
    IQ4_NL = iq4_nl::FORMAT;
    /// Indices as in IQ4_NL; 32 share a scale, which 256 scale.
    IQ4_XS = iq4_xs::FORMAT;
    /// Floats of 4 bits, and a power of two as scale.
    MXFP4 = mxfp4::FORMAT;
    /// Floats of 4 bits; 16 share a scale, a float of 8 bits.
    NVFP4 = nvfp4::FORMAT;
    /// -1, 0 or 1, five in a byte, and a scale for 256.
    TQ1_0 = tq1_0::FORMAT;
    /// -1, 0 or 1 in 2 bits, and a scale for 256.
    TQ2_0 = tq2_0::FORMAT;
    /// Eight have an index of 8 bits into a grid; 32 share a scale, which 256 scale.
    IQ2_XXS = iq2::XXS_FORMAT;
    /// Eight have an index of 9 bits; 16 share a scale.
    IQ2_XS = iq2::XS_FORMAT;
    /// Eight have an index of 10 bits; 16 share a scale.
    IQ2_S = iq2::S_FORMAT;
    /// Four have an index of 8 bits; 32 share a scale.
    IQ3_XXS = iq3::XXS_FORMAT;
    /// Four have an index of 9 bits; 32 share a scale.
    IQ3_S = iq3::S_FORMAT;
    /// Eight have an index of 11 bits; 32 share a scale.
    IQ1_S = iq1::S_FORMAT;
    /// Eight have an index of 11 bits; 16 share a scale.
    IQ1_M = iq1::M_FORMAT;
}

table! {
    /// A layout of weights on devices.
    Layout of LayoutRow:
    /// Floats.
    F32 = f32::LAYOUT;
    /// Half floats.
    F16 = f16::LAYOUT;
    /// The upper halves of floats.
    BF16 = bf16::LAYOUT;
    /// Nibbles and a scale for each 32.
    Q4_0 = q4_0::LAYOUT;
    /// Nibbles, and a scale and a minimum for each 32.
    Q4_1 = q4_1::LAYOUT;
    /// 5 bits and a scale for each 32.
    Q5_0 = q5_0::LAYOUT;
    /// 5 bits, and a scale and a minimum for each 32.
    Q5_1 = q5_1::LAYOUT;
    /// Bytes and a scale for each 32.
    Q8_0 = q8_0::LAYOUT;
    /// 2 bits, a scale and a minimum for each 16, and two for 256.
    Q2_K = q2_k::LAYOUT;
    /// 3 bits, a scale for each 16, and one for 256.
    Q3_K = q3_k::LAYOUT;
    /// Nibbles, a scale and a minimum for each 32, and two for 256.
    Q4_K = q4_k::LAYOUT;
    /// 5 bits, scaled as in Q4_K.
    Q5_K = q5_k::LAYOUT;
    /// 6 bits, a scale for each 16, and one for 256.
    Q6_K = q6_k::LAYOUT;
    /// Indices of 4 bits into a code book, and a scale for each 32.
    IQ4_NL = iq4_nl::LAYOUT;
    /// Indices as in IQ4_NL, a scale for each 32, and one for 256.
    IQ4_XS = iq4_xs::LAYOUT;
    /// Indices into the code book of 4-bit floats, and a power of two for each 32.
    MXFP4 = mxfp4::LAYOUT;
    /// Indices as in MXFP4, and a scale for each 16.
    NVFP4 = nvfp4::LAYOUT;
    /// Five digits to the base of 3 in a byte, and a scale for 256.
    TQ1_0 = tq1_0::LAYOUT;
    /// 2 bits, and a scale for 256.
    TQ2_0 = tq2_0::LAYOUT;
    /// Indices, signs and scales of the format, as it has them; the same holds for the following.
    IQ2_XXS = iq2::XXS_LAYOUT;
    /// See IQ2_XXS.
    IQ2_XS = iq2::XS_LAYOUT;
    /// See IQ2_XXS.
    IQ2_S = iq2::S_LAYOUT;
    /// See IQ2_XXS.
    IQ3_XXS = iq3::XXS_LAYOUT;
    /// See IQ2_XXS.
    IQ3_S = iq3::S_LAYOUT;
    /// See IQ2_XXS.
    IQ1_S = iq1::S_LAYOUT;
    /// See IQ2_XXS.
    IQ1_M = iq1::M_LAYOUT;
}

impl Format {
    /// The name that GGUF tools give the format.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Weights of a block: [`BLOCK`] or a multiple. The rows of a matrix are whole blocks, except those of
    /// floats.
    pub fn block_len(self) -> usize {
        self.row().block_len
    }

    /// Bytes of a block in a GGUF file.
    pub fn block_bytes(self) -> usize {
        self.row().block_bytes
    }

    /// What the format becomes on a device.
    pub fn layout(self) -> Layout {
        self.row().layout
    }

    /// Whether its weights are plain floats, which vectors must be.
    pub fn is_float(self) -> bool {
        matches!(self.row().sample, Sample::Floats(_))
    }

    /// Blocks of the layout that a block of the format becomes.
    pub fn layout_blocks(self) -> usize {
        self.block_len() / self.layout().block_len()
    }

    /// Bytes of a block in the quants plane.
    pub fn quants_bytes(self) -> usize {
        self.layout_blocks() * self.layout().quants_bytes()
    }

    /// Bytes of a block in the scales plane.
    pub fn scales_bytes(self) -> usize {
        self.layout_blocks() * self.layout().scales_bytes()
    }

    /// Where the planes of `n_blocks` blocks lie in their buffer.
    pub fn planes(self, n_blocks: u64) -> Planes {
        let quants = n_blocks * self.quants_bytes() as u64;
        let scales = (n_blocks * self.scales_bytes() as u64).next_multiple_of(4);
        Planes { quants, scales_offset: quants.next_multiple_of(PLANE_ALIGN), scales }
    }

    /// The weights in `file`, as GGUF stores them. Bytes after the last whole block are ignored, except with
    /// plain floats, of which there may be any number.
    pub fn dequantise(self, file: &[u8]) -> Vec<f32> {
        let mut weights = Vec::with_capacity(file.len() / self.block_bytes() * self.block_len());
        let blocks = file.chunks(self.block_bytes());
        for block in blocks.filter(|block| block.len() == self.block_bytes() || self.is_float()) {
            (self.row().dequantise)(block, &mut weights);
        }
        weights
    }

    /// Blocks of a row of so many weights. Only rows of floats need not be whole blocks.
    pub fn row_blocks(self, n_cols: usize) -> usize {
        n_cols.div_ceil(self.block_len())
    }

    /// Bytes of a row of so many weights in a GGUF file.
    pub fn row_bytes(self, n_cols: usize) -> usize {
        n_cols * self.block_bytes() / self.block_len()
    }

    /// The rows in `file` as whole blocks: where a row is not, zeros follow it.
    pub fn whole_blocks(self, file: &[u8], n_cols: usize) -> Cow<'_, [u8]> {
        let whole = self.row_blocks(n_cols) * self.block_bytes();
        let row_bytes = self.row_bytes(n_cols);
        if row_bytes == whole || row_bytes == 0 {
            return Cow::Borrowed(file);
        }
        let mut rows = Vec::with_capacity(file.len() / row_bytes * whole);
        for row in file.chunks_exact(row_bytes) {
            rows.extend_from_slice(row);
            rows.resize(rows.len() + whole - row_bytes, 0);
        }
        Cow::Owned(rows)
    }

    /// Repacks the whole blocks in `file` into their planes, appending to each.
    pub fn repack(self, file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
        let whole = file.len() / self.block_bytes() * self.block_bytes();
        (self.row().repack)(&file[..whole], quants, scales);
    }

    /// The bytes of `n` random weights, as a file has them, for tests and measurements: of this root mean
    /// square, with scales that differ in size and sign. `bits` gives random bits.
    pub fn made_up(self, n: usize, size: f32, mut bits: impl FnMut() -> u64) -> Vec<u8> {
        let mut file = Vec::new();
        for _ in 0..n.div_ceil(self.block_len()) {
            match self.row().sample {
                Sample::Floats(append) => {
                    let number = |bits| (unit(bits) - 0.5) * 12_f32.sqrt() * size;
                    (0..self.block_len()).for_each(|_| append(number(bits()), &mut file));
                }
                Sample::Blocks(scales) => {
                    let factor = self.random_block(size, &mut bits, &mut file);
                    let start = file.len() - self.block_bytes();
                    for (at, scale) in scales {
                        let half = half::f16::from_f32(scale * factor).to_le_bytes();
                        file[start + at..start + at + 2].copy_from_slice(&half);
                    }
                }
                Sample::Scaled(scale, store) => {
                    let factor = self.random_block(size, &mut bits, &mut file);
                    let start = file.len() - self.block_bytes();
                    store(&mut file[start..], scale * factor.abs(), unit(bits()));
                }
            }
        }
        // Vectors of floats are seldom whole blocks.
        file.truncate(n * self.block_bytes() / self.block_len());
        file
    }

    /// Appends the random bytes of a block. Returns a random factor for its scales, of this root mean square.
    fn random_block(self, size: f32, bits: &mut impl FnMut() -> u64, file: &mut Vec<u8>) -> f32 {
        let end = file.len() + self.block_bytes();
        file.extend((0..self.block_bytes().div_ceil(8)).flat_map(|_| bits().to_le_bytes()));
        file.truncate(end);
        // From 0.5 to 1.5, whose root mean square is that of 13/12.
        let r = bits();
        (0.5 + unit(r)) / (13.0_f32 / 12.0).sqrt() * if r & 1 == 0 { size } else { -size }
    }
}

/// A number from 0 to 1.
fn unit(bits: u64) -> f32 {
    (bits >> 40) as f32 / (1 << 24) as f32
}

/// The code of a scale, of codes up to `last` whose values grow: by chance one of the two next to it, so that
/// their mean square is the scale's.
fn near(scale: f32, random: f32, last: u8, value: fn(u8) -> f32) -> u8 {
    let code = (0..last).rev().find(|code| value(*code) <= scale).unwrap_or(0);
    let [low, high] = [code, code + 1].map(|code| value(code).powi(2));
    code + u8::from(random * (high - low) < scale.powi(2) - low)
}

impl Layout {
    /// The layout's name: that of the file in `shaders/wgsl/weight/`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Weights of a block: [`BLOCK`] or a multiple.
    pub fn block_len(self) -> usize {
        self.row().block_len
    }

    /// Bytes of a block in the quants plane.
    pub fn quants_bytes(self) -> usize {
        self.row().quants_bytes
    }

    /// Bytes of a block in the scales plane.
    pub fn scales_bytes(self) -> usize {
        self.row().scales_bytes
    }

    /// The weights of whole blocks, given their bytes in both planes.
    pub fn dequantise(self, quants: &[u8], scales: &[u8]) -> Vec<f32> {
        let mut weights = Vec::with_capacity(quants.len() / self.quants_bytes() * self.block_len());
        self.append(quants, scales, &mut weights);
        weights
    }

    /// Appends what [`Self::dequantise`] returns.
    pub fn append(self, quants: &[u8], scales: &[u8], weights: &mut Vec<f32>) {
        let (n_quants, n_scales) = (self.quants_bytes(), self.scales_bytes());
        for (i, quants) in quants.chunks_exact(n_quants).enumerate() {
            (self.row().dequantise)(quants, &scales[i * n_scales..][..n_scales], weights);
        }
    }
}

/// Sizes and places, in bytes, of the planes of a run of blocks in one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planes {
    /// Size of the quants plane, which starts the buffer.
    pub quants: u64,
    /// Where the scales plane starts.
    pub scales_offset: u64,
    /// Size of the scales plane; 0 where the format has none.
    pub scales: u64,
}

impl Planes {
    /// Size of a buffer that holds both.
    pub fn total(self) -> u64 {
        if self.scales == 0 { self.quants } else { self.scales_offset + self.scales }
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Repacks blocks in which the file's bytes are the scales and then the quants, as the planes have them.
fn split<const SCALES: usize, const QUANTS: usize>(file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
    for block in file.chunks_exact(SCALES + QUANTS) {
        scales.extend_from_slice(&block[..SCALES]);
        quants.extend_from_slice(&block[SCALES..]);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
