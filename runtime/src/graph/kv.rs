//! How the KV pool stores keys and values.

use super::{Cache, Graph, Op};
use half::f16;

/// How a pool stores keys and values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvFormat {
    /// Half precision.
    #[default]
    F16,
    /// Blocks of 32 numbers, as ggml's of that name: 34 bytes.
    Q8_0,
    /// The same with four bits a number: 18 bytes.
    Q4_0,
}

/// Numbers of a block.
pub const KV_BLOCK: usize = 32;

impl KvFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::F16, Self::Q8_0, Self::Q4_0];

    /// Its name in options.
    pub fn name(self) -> &'static str {
        match self {
            KvFormat::F16 => "f16",
            KvFormat::Q8_0 => "q8_0",
            KvFormat::Q4_0 => "q4_0",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Words of 16 bits that so many numbers take. Heads must be whole blocks: see
    /// [`Graph::set_kv_format`].
    pub fn words(self, numbers: usize) -> usize {
        match self {
            KvFormat::F16 => numbers,
            KvFormat::Q8_0 => numbers / KV_BLOCK * 17,
            KvFormat::Q4_0 => numbers / KV_BLOCK * 9,
        }
    }

    /// Passes on the words of some numbers, in order. Blocks have the bytes that ggml gives them: the scale
    /// as f16, then the quants; in Q4_0, byte i has number i in its low and number i + 16 in its high nibble.
    pub fn encode(self, numbers: &[f32], mut put: impl FnMut(u16)) {
        let blocks = numbers.as_chunks::<KV_BLOCK>().0;
        match self {
            KvFormat::F16 => numbers.iter().for_each(|x| put(half(*x))),
            KvFormat::Q8_0 => blocks.iter().for_each(|block| {
                let d = most(block).abs() / 127.0;
                put(half(d));
                let quant = |x: f32| (x * inverse(d)).round() as i8 as u8;
                block.as_chunks().0.iter().for_each(|two| put(u16::from_le_bytes(two.map(quant))));
            }),
            KvFormat::Q4_0 => blocks.iter().for_each(|block| {
                let d = most(block) / -8.0;
                put(half(d));
                let quant = |i: usize| ((block[i] * inverse(d) + 8.5) as u8).min(15);
                let byte = |i: usize| quant(i) | quant(i + 16) << 4;
                (0..16).step_by(2).for_each(|i| put(u16::from_le_bytes([byte(i), byte(i + 1)])));
            }),
        }
    }

    /// The numbers of some words.
    pub fn decode(self, words: &[u16]) -> Vec<f32> {
        let scale = |block: &[u16]| f16::from_bits(block[0]).to_f32();
        let bytes =
            |block: &[u16]| block[1..].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        match self {
            KvFormat::F16 => words.iter().map(|word| f16::from_bits(*word).to_f32()).collect(),
            KvFormat::Q8_0 => {
                let number = |block| {
                    let d = scale(block);
                    bytes(block).into_iter().map(move |byte| d * f32::from(byte as i8))
                };
                words.chunks_exact(17).flat_map(number).collect()
            }
            KvFormat::Q4_0 => {
                let number = |block| {
                    let (d, bytes) = (scale(block), bytes(block));
                    let nibbles =
                        bytes.iter().map(|byte| byte & 15).chain(bytes.iter().map(|byte| byte >> 4));
                    nibbles.map(|nibble| d * (f32::from(nibble) - 8.0)).collect::<Vec<f32>>()
                };
                words.chunks_exact(9).flat_map(number).collect()
            }
        }
    }
}

impl Cache {
    /// Bytes of the keys and values of so many positions.
    pub fn bytes(&self, cells: u32) -> u64 {
        let words = self.format.words(self.keys) + self.format.words(self.values);
        2 * words as u64 * u64::from(cells)
    }
}

impl Graph {
    /// Bytes of the keys and values of so many positions, in all caches.
    pub fn kv_bytes(&self, cells: u32) -> u64 {
        self.caches.iter().map(|cache| cache.bytes(cells)).sum()
    }

    /// Chooses how the KV pool stores keys and values. Heads must be whole blocks; otherwise nothing changes
    /// and the error is the size of a head that is not.
    pub fn set_kv_format(&mut self, format: KvFormat) -> Result<(), usize> {
        let sizes = self.ops.iter().filter_map(|op| match op {
            Op::Attention { cache: Some(_), shape, .. } => Some([shape.head_dim, shape.value_dim]),
            _ => None,
        });
        let is_odd = |size: &usize| format != KvFormat::F16 && !size.is_multiple_of(KV_BLOCK);
        match sizes.flatten().find(is_odd) {
            Some(size) => Err(size),
            None => {
                self.caches.iter_mut().for_each(|cache| cache.format = format);
                Ok(())
            }
        }
    }
}

/// The first number of the greatest magnitude.
fn most(block: &[f32; KV_BLOCK]) -> f32 {
    block.iter().fold(0.0, |most: f32, x| if x.abs() > most.abs() { *x } else { most })
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The nearest f16, saturating.
fn half(x: f32) -> u16 {
    f16::from_f32(x.clamp(-65504.0, 65504.0)).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::Random;
    use crate::quant::Format;

    fn words(format: KvFormat, numbers: &[f32]) -> Vec<u16> {
        let mut words = Vec::new();
        format.encode(numbers, |word| words.push(word));
        words
    }

    /// Worked out by hand, with scales that are powers of two.
    #[test]
    fn blocks_are_those_of_a_calculation_by_hand() {
        let mut block = [0.0; 32];
        // d = 0.5; 0.25 is half a step and goes away from 0.
        (block[0], block[1], block[2], block[3], block[31]) = (63.5, -63.5, 0.25, -0.25, 1.1);
        let mut expected = vec![0x3800, 0x817f, 0xff01];
        expected.resize(16, 0);
        expected.push(0x0200);
        assert_eq!(words(KvFormat::Q8_0, &block), expected);
        // d = -0.5: the greatest number is quant 0, and its opposite does not fit.
        let mut block = [0.0; 32];
        (block[0], block[1], block[16], block[17], block[15]) = (4.0, -4.0, 0.5, -0.3, 0.2);
        let mut expected = vec![0xb800, 0x9f70];
        expected.resize(8, 0x8888);
        expected.push(0x8888);
        assert_eq!(words(KvFormat::Q4_0, &block), expected);
        for format in [KvFormat::Q8_0, KvFormat::Q4_0] {
            assert_eq!(format.decode(&words(format, &[0.0; 64])), [0.0; 64]);
        }
    }

    /// Blocks are those of weights, whose dequantisation is tested against ggml's.
    #[test]
    fn numbers_come_back_within_half_a_step() {
        let mut random = Random(5);
        let numbers: Vec<f32> = (0..320).map(|_| random.normal()).collect();
        for (format, of_weights, steps) in
            [(KvFormat::Q8_0, Format::Q8_0, 127.0), (KvFormat::Q4_0, Format::Q4_0, 8.0)]
        {
            let words = words(format, &numbers);
            assert_eq!(words.len(), format.words(numbers.len()));
            let found = format.decode(&words);
            assert_eq!(found, of_weights.dequantise(bytemuck::cast_slice(&words)));
            for (found, numbers) in found.chunks(32).zip(numbers.chunks(32)) {
                let most = numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                // Of 16 steps of Q4_0, the one at the far end is missing.
                let allowed = |x: f32| if steps == 8.0 && x.abs() > most * 0.9 { 1.0 } else { 0.5 };
                for (found, x) in found.iter().zip(numbers) {
                    // The scale is rounded to 11 bits, too.
                    let limit = allowed(*x) * most / steps + x.abs() / 2048.0 + 1e-6;
                    assert!((found - x).abs() <= limit, "{format:?}: {x} became {found}");
                }
            }
        }
        assert_eq!(KvFormat::F16.decode(&words(KvFormat::F16, &[1.5, -1e6])), [1.5, -65504.0]);
    }
}
