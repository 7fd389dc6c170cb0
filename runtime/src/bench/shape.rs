//! Models by their dimensions: the header of such a file, and random weights.

use clap::ValueEnum;
use nomoat_runtime::gguf::{TensorType, Writer};
use nomoat_runtime::quant::Format;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

/// The models whose dimensions can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// Llama-3.2-1B.
    #[value(name = "llama-1b")]
    Llama1b,
    /// LLaMA-2-13B.
    #[value(name = "llama-13b")]
    Llama13b,
    /// Llama-3.1-8B.
    #[value(name = "llama-8b")]
    Llama8b,
    /// SmolLM2-135M.
    #[value(name = "smollm2-135m")]
    Smollm2,
}

/// Dimensions of a model of the llama family.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub n_layers: u64,
    pub n_embd: u64,
    pub n_ff: u64,
    pub n_heads: u64,
    pub n_kv_heads: u64,
    pub head_dim: u64,
    pub n_vocab: u64,
    /// Whether the embedding is the output projection, too.
    pub is_tied: bool,
    pub rope_base: f32,
    pub context_length: u64,
}

impl Name {
    /// The dimensions, from the model's published configuration.
    pub fn shape(self) -> Shape {
        match self {
            Name::Llama1b => Shape {
                name: "Llama-3.2-1B",
                n_layers: 16,
                n_embd: 2048,
                n_ff: 8192,
                n_heads: 32,
                n_kv_heads: 8,
                head_dim: 64,
                n_vocab: 128_256,
                is_tied: true,
                rope_base: 500_000.0,
                context_length: 131_072,
            },
            Name::Llama13b => Shape {
                name: "LLaMA-2-13B",
                n_layers: 40,
                n_embd: 5120,
                n_ff: 13_824,
                n_heads: 40,
                n_kv_heads: 40,
                head_dim: 128,
                n_vocab: 32_000,
                is_tied: false,
                rope_base: 10_000.0,
                context_length: 4096,
            },
            Name::Llama8b => Shape {
                name: "Llama-3.1-8B",
                n_layers: 32,
                n_embd: 4096,
                n_ff: 14_336,
                n_heads: 32,
                n_kv_heads: 8,
                head_dim: 128,
                n_vocab: 128_256,
                is_tied: false,
                rope_base: 500_000.0,
                context_length: 131_072,
            },
            Name::Smollm2 => Shape {
                name: "SmolLM2-135M",
                n_layers: 30,
                n_embd: 576,
                n_ff: 1536,
                n_heads: 9,
                n_kv_heads: 3,
                head_dim: 64,
                n_vocab: 49_152,
                is_tied: true,
                rope_base: 100_000.0,
                context_length: 8192,
            },
        }
    }
}

/// A SentencePiece vocabulary begins with the unknown token, beginning and end, then one token for each byte.
const CONTROL: [&str; 3] = ["<unk>", "<s>", "</s>"];
const BYTES: usize = 256;

impl Shape {
    /// The tensors of a file with this shape. Those with two dimensions are matrices.
    fn tensors(&self) -> Vec<(String, Vec<u64>)> {
        let n_q = self.n_heads * self.head_dim;
        let n_kv = self.n_kv_heads * self.head_dim;
        let layer = [
            ("attn_norm", vec![self.n_embd]),
            ("attn_q", vec![n_q, self.n_embd]),
            ("attn_k", vec![n_kv, self.n_embd]),
            ("attn_v", vec![n_kv, self.n_embd]),
            ("attn_output", vec![self.n_embd, n_q]),
            ("ffn_norm", vec![self.n_embd]),
            ("ffn_gate", vec![self.n_ff, self.n_embd]),
            ("ffn_up", vec![self.n_ff, self.n_embd]),
            ("ffn_down", vec![self.n_embd, self.n_ff]),
        ];
        let vocabulary = vec![self.n_vocab, self.n_embd];
        let mut tensors = vec![("token_embd.weight".to_string(), vocabulary.clone())];
        for i in 0..self.n_layers {
            tensors
                .extend(layer.iter().map(|(part, shape)| (format!("blk.{i}.{part}.weight"), shape.clone())));
        }
        tensors.push(("output_norm.weight".into(), vec![self.n_embd]));
        if !self.is_tied {
            tensors.push(("output.weight".into(), vocabulary));
        }
        tensors
    }

    /// A writer for a file with this shape, and all matrices in one format.
    pub fn writer(&self, format: Format) -> Writer {
        self.tensors().iter().fold(self.described(), |file, (name, shape)| {
            file.tensor(name, shape, if shape.len() == 1 { TensorType::F32 } else { tensor_type(format) })
        })
    }

    /// Bytes of a layer's matrices.
    pub fn layer_bytes(&self, format: Format) -> u64 {
        let n_q = self.n_heads * self.head_dim;
        let n_kv = self.n_kv_heads * self.head_dim;
        let weights = (2 * n_q + 2 * n_kv + 3 * self.n_ff) * self.n_embd;
        weights / format.block_len() as u64 * format.block_bytes() as u64
    }

    /// A writer with all metadata and no tensors yet. The vocabulary has the right size, but no meaning.
    fn described(&self) -> Writer {
        let n_vocab = self.n_vocab as usize;
        let n_control = CONTROL.len();
        let words: Vec<String> = CONTROL
            .iter()
            .map(|word| word.to_string())
            .chain((0..BYTES).map(|byte| format!("<0x{byte:02X}>")))
            .chain((n_control + BYTES..n_vocab).map(|id| format!("▁{id}")))
            .collect();
        // Unknown, control, byte, text: see `tokenizer.ggml.token_type` in the GGUF specification.
        let kind = |id: usize| match id {
            0 => 2,
            _ if id < n_control => 3,
            _ if id < n_control + BYTES => 6,
            _ => 1,
        };
        let number = |n: u64| n as u32;
        Writer::new()
            .metadata("general.architecture", "llama")
            .metadata("general.name", format!("{} (random weights)", self.name))
            .metadata("general.quantization_version", 2_u32)
            .metadata("llama.vocab_size", number(self.n_vocab))
            .metadata("llama.context_length", number(self.context_length))
            .metadata("llama.embedding_length", number(self.n_embd))
            .metadata("llama.block_count", number(self.n_layers))
            .metadata("llama.feed_forward_length", number(self.n_ff))
            .metadata("llama.attention.head_count", number(self.n_heads))
            .metadata("llama.attention.head_count_kv", number(self.n_kv_heads))
            .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32)
            .metadata("llama.rope.dimension_count", number(self.head_dim))
            .metadata("llama.rope.freq_base", self.rope_base)
            .metadata("tokenizer.ggml.model", "llama")
            .metadata("tokenizer.ggml.tokens", words)
            .metadata("tokenizer.ggml.scores", (0..n_vocab).map(|id| -(id as f32)).collect::<Vec<f32>>())
            .metadata("tokenizer.ggml.token_type", (0..n_vocab).map(kind).collect::<Vec<i32>>())
            .metadata("tokenizer.ggml.unknown_token_id", 0_u32)
            .metadata("tokenizer.ggml.bos_token_id", 1_u32)
            .metadata("tokenizer.ggml.eos_token_id", 2_u32)
    }

    /// Writes the whole file, for other programs.
    pub fn write(&self, format: Format, path: &Path) -> io::Result<()> {
        let tensors = self.tensors();
        self.writer(format).write(BufWriter::new(File::create(path)?), |i, out| {
            match tensors[i].1.as_slice() {
                &[n_rows, n_cols] => {
                    let n_blocks = (n_rows * n_cols) as usize / format.block_len();
                    let blocks = blocks(format, n_cols as usize, n_blocks, i as u64);
                    let mut left = n_blocks * format.block_bytes();
                    while left > 0 {
                        let n = left.min(blocks.len());
                        out.write_all(&blocks[..n])?;
                        left -= n;
                    }
                    Ok(())
                }
                shape => (0..shape[0]).try_for_each(|_| out.write_all(&1.0_f32.to_le_bytes())),
            }
        })
    }
}

/// Most blocks in a run.
pub const RUN: usize = 1 << 16;

/// A run of blocks in the format of files. The weights are random, of a size that keeps the size of
/// activations. A matrix repeats this run: it is only used to measure speed.
pub fn blocks(format: Format, n_cols: usize, n_blocks: usize, seed: u64) -> Vec<u8> {
    let n_blocks = n_blocks.min(RUN);
    format.made_up(n_blocks * format.block_len(), 1.0 / (n_cols as f32).sqrt(), random(seed))
}

/// Random numbers of 64 bits: SplitMix64 (Steele, Lea and Flood 2014).
pub fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The type of a format's tensors in files.
fn tensor_type(format: Format) -> TensorType {
    // Every format has a type in files.
    let ty = (0..256).map(TensorType::from_id).find(|ty| ty.name() == format.name());
    ty.unwrap_or(TensorType::F32)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::model::read_header;
    use super::*;
    use nomoat_runtime::gguf::HeaderReader;
    use nomoat_runtime::graph::{Graph, Op};

    /// Compares with the parameter counts and dimensions of the published models.
    #[test]
    fn headers_have_the_published_dimensions() {
        // (parameters, layers, n_embd, n_ff, heads, kv heads, head length, vocabulary)
        for (name, expected) in [
            (Name::Llama1b, (1_235_814_400, 16, 2048, 8192, 32, 8, 64, 128_256)),
            (Name::Llama13b, (13_015_864_320, 40, 5120, 13_824, 40, 40, 128, 32_000)),
            (Name::Llama8b, (8_030_261_248, 32, 4096, 14_336, 32, 8, 128, 128_256)),
            (Name::Smollm2, (134_515_008, 30, 576, 1536, 9, 3, 64, 49_152)),
        ] {
            let (header, config, graph) = read_header(&name.shape(), Format::Q4_0).unwrap();
            let parameters: u64 = header.tensors.iter().map(|tensor| tensor.n_elements()).sum();
            let found = (
                parameters,
                config.layers.len(),
                config.n_embd,
                config.layers[0].n_ff,
                config.layers[0].n_heads,
                config.layers[0].n_kv_heads,
                config.head_dim,
                config.n_vocab,
            );
            assert_eq!(found, expected);
            assert_eq!(n_projections(&graph), 7 * config.layers.len() + 1);
        }
    }

    fn n_projections(graph: &Graph) -> usize {
        graph.ops.iter().filter(|op| matches!(op, Op::MatMul { .. })).count()
    }

    #[test]
    fn bytes_of_a_layer() {
        // 4096 x (4096 + 4096 + 1024 + 1024 + 3 * 14336) weights of 18 bytes per 32.
        assert_eq!(Name::Llama8b.shape().layer_bytes(Format::Q4_0), 122_683_392);
        assert_eq!(Name::Smollm2.shape().layer_bytes(Format::F16), 7_077_888);
    }

    #[test]
    fn a_written_file_has_the_size_that_its_header_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        // Rows of all formats are whole blocks.
        let (n_embd, n_heads, n_kv_heads) = (512, 8, 2);
        let shape = Shape { n_layers: 1, n_vocab: 512, n_embd, n_heads, n_kv_heads, ..Name::Smollm2.shape() };
        for format in Format::ALL {
            shape.write(format, &path).unwrap();
            let file = std::fs::read(&path).unwrap();
            let mut reader = HeaderReader::new(file.len() as u64);
            reader.push(&file).unwrap();
            let header = reader.finish().unwrap();
            let last = header.tensors.iter().map(|tensor| tensor.offset + tensor.n_bytes).max().unwrap();
            assert_eq!(last.next_multiple_of(32), file.len() as u64);
            let writer = shape.writer(format);
            assert_eq!(
                writer.header().unwrap().len() as u64 + writer.data_bytes().unwrap(),
                file.len() as u64
            );
        }
    }

    /// A projection keeps the root mean square of activations.
    #[test]
    fn weights_keep_the_size_of_activations() {
        for format in Format::ALL {
            let weights = format.dequantise(&blocks(format, 1024, 8192, 7));
            let mean_square = weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32;
            assert!((mean_square * 1024.0 - 1.0).abs() < 0.02, "{format:?}: {}", mean_square * 1024.0);
        }
    }
}
