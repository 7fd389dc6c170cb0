//! Block formats of quantised weights: how GGUF stores a block, what it means, and how it is repacked for the devices.
//!
//! Every format is handled in blocks of 32 consecutive weights of a row, plain floats too, so that kernels have one loop.
//! A repacked weight is two planes: the quants of all blocks, then their scales, each block's share of a plane being a fixed
//! number of bytes.

mod f16;
mod f32;
mod q4_0;
mod q4_1;
mod q8_0;

/// Weights of a block.
pub const BLOCK: usize = 32;

/// Alignment of a plane within its buffer, in bytes: what WebGPU asks of a storage binding's offset everywhere.
pub const PLANE_ALIGN: u64 = 256;

/// A format that kernels can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// 4 bits and a scale: w = d (q - 8).
    Q4_0,
    /// 4 bits, a scale and a minimum: w = d q + m.
    Q4_1,
    /// 8 bits and a scale: w = d q.
    Q8_0,
}

impl Format {
    /// All formats.
    pub const ALL: [Format; 5] = [Format::F32, Format::F16, Format::Q4_0, Format::Q4_1, Format::Q8_0];

    /// The name that GGUF tools give the format.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q8_0 => "Q8_0",
        }
    }

    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Bytes of a block in a GGUF file.
    pub fn block_bytes(self) -> usize {
        self.quants_bytes() + self.scales_bytes()
    }

    /// Weights of a block.
    pub fn block_len(self) -> usize {
        BLOCK
    }

    /// The device layout.
    pub fn layout(self) -> &'static str {
        match self {
            Format::F32 => "f32",
            Format::F16 => "f16",
            Format::Q4_0 => "q4_0",
            Format::Q4_1 => "q4_1",
            Format::Q8_0 => "q8_0",
        }
    }

    /// Bytes of a block in the quants plane.
    pub fn quants_bytes(self) -> usize {
        match self {
            Format::F32 => f32::QUANTS,
            Format::F16 => f16::QUANTS,
            Format::Q4_0 => q4_0::QUANTS,
            Format::Q4_1 => q4_1::QUANTS,
            Format::Q8_0 => q8_0::QUANTS,
        }
    }

    /// Bytes of a block in the scales plane.
    pub fn scales_bytes(self) -> usize {
        match self {
            Format::F32 | Format::F16 => 0,
            Format::Q4_0 => q4_0::SCALES,
            Format::Q4_1 => q4_1::SCALES,
            Format::Q8_0 => q8_0::SCALES,
        }
    }

    /// Where the planes of `n_blocks` blocks lie in their buffer.
    pub fn planes(self, n_blocks: u64) -> Planes {
        let quants = n_blocks * self.quants_bytes() as u64;
        let scales = (n_blocks * self.scales_bytes() as u64).next_multiple_of(4);
        Planes { quants, scales_offset: quants.next_multiple_of(PLANE_ALIGN), scales }
    }

    /// The weights of the whole blocks in `file`, as GGUF stores them. A trailing partial block is ignored.
    pub fn dequantise(self, file: &[u8]) -> Vec<f32> {
        let mut weights = Vec::with_capacity(file.len() / self.block_bytes() * BLOCK);
        for block in file.chunks_exact(self.block_bytes()) {
            match self {
                Format::F32 => f32::dequantise(block, &mut weights),
                Format::F16 => f16::dequantise(block, &mut weights),
                Format::Q4_0 => q4_0::dequantise(block, &mut weights),
                Format::Q4_1 => q4_1::dequantise(block, &mut weights),
                Format::Q8_0 => q8_0::dequantise(block, &mut weights),
            }
        }
        weights
    }

    /// Splits the whole blocks in `file` into their planes, appending to each.
    pub fn repack(self, file: &[u8], quants: &mut Vec<u8>, scales: &mut Vec<u8>) {
        // In every format that has scales, GGUF puts them before the quants of the block.
        let n_scales = self.scales_bytes();
        if n_scales == 0 {
            quants.extend_from_slice(file);
            return;
        }
        for block in file.chunks_exact(self.block_bytes()) {
            let (scale, quant) = block.split_at(n_scales);
            scales.extend_from_slice(scale);
            quants.extend_from_slice(quant);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_blocks() {
        // d = 0.5, m = -1; byte i holds weight i in its low nibble and weight 16 + i in its high one.
        let (d, m) = (half::f16::from_f32(0.5).to_le_bytes(), half::f16::from_f32(-1.0).to_le_bytes());
        let nibbles: Vec<u8> = (0..16).map(|i| i | (15 - i) << 4).collect();

        let q4_0 = Format::Q4_0.dequantise(&[&d[..], &nibbles].concat());
        assert_eq!((q4_0[0], q4_0[15], q4_0[16], q4_0[31]), (-4.0, 3.5, 3.5, -4.0));
        let q4_1 = Format::Q4_1.dequantise(&[&d[..], &m, &nibbles].concat());
        assert_eq!((q4_1[0], q4_1[15], q4_1[16], q4_1[31]), (-1.0, 6.5, 6.5, -1.0));
        let bytes: Vec<u8> = (0..32u8).map(|i| i.wrapping_mul(8).wrapping_sub(128)).collect();
        let q8_0 = Format::Q8_0.dequantise(&[&d[..], &bytes].concat());
        assert_eq!((q8_0[0], q8_0[16], q8_0[31]), (-64.0, 0.0, 60.0));
    }

    #[test]
    fn repacking_keeps_every_byte() {
        for format in Format::ALL {
            let file: Vec<u8> = (0..3 * format.block_bytes()).map(|i| (i * 7 % 251) as u8).collect();
            let (mut quants, mut scales) = (Vec::new(), Vec::new());
            format.repack(&file, &mut quants, &mut scales);
            assert_eq!(quants.len(), 3 * format.quants_bytes(), "{format:?}");
            assert_eq!(scales.len(), 3 * format.scales_bytes(), "{format:?}");
            let mut all = [quants, scales].concat();
            let mut expected = file.clone();
            all.sort_unstable();
            expected.sort_unstable();
            assert_eq!(all, expected, "{format:?}");
        }
    }

    #[test]
    fn planes_are_aligned_and_small() {
        let planes = Format::Q4_0.planes(3);
        assert_eq!(planes, Planes { quants: 48, scales_offset: 256, scales: 8 });
        assert_eq!(Format::F16.planes(3).total(), 192);
        let big = Format::Q4_1.planes(1 << 20);
        assert!(big.total() <= 20 << 20);
    }
}
