//! Small models of the llama family for tests: their headers, and whole files with random weights.

use super::{Config, ModelError, Tensors, build};
use crate::gguf::{Header, HeaderReader, TensorType, Value, Writer};
use crate::graph::Graph;
use crate::graph::testing::Random;

/// A model that a test may change before it is written.
#[derive(Clone, Debug)]
pub(crate) struct TestModel {
    /// Metadata; a later entry replaces an earlier one of the same key.
    pub metadata: Vec<(String, Value)>,
    /// Names and shapes.
    pub tensors: Vec<(String, Vec<u64>)>,
}

/// Positions that the model was trained for.
pub(crate) const CONTEXT: usize = 96;

/// The vocabulary: control tokens, letters, and letters after a space. Every text of small letters has
/// tokens.
pub(crate) fn words() -> Vec<String> {
    let letters = || ('a'..='z').map(String::from);
    let control = ["<unk>", "<s>", "</s>"].map(String::from);
    control
        .into_iter()
        .chain(["▁".into()])
        .chain(letters())
        .chain(letters().map(|l| format!("▁{l}")))
        .collect()
}

impl TestModel {
    /// Two layers; four heads of 16 floats share two key/value heads. The embedding is the output, too.
    pub fn new() -> Self {
        let words = words();
        let n_vocab = words.len() as u64;
        // Unknown, control, text: see `tokenizer.ggml.token_type` in the GGUF specification.
        let kinds: Vec<i32> = (0..words.len())
            .map(|id| {
                if id == 0 {
                    2
                } else if id < 3 {
                    3
                } else {
                    1
                }
            })
            .collect();
        let template = "{% for m in messages %}{{ '<s>' + m.content + '</s>' }}{% endfor %}";
        let metadata: Vec<(&str, Value)> = vec![
            ("general.architecture", "llama".into()),
            ("llama.context_length", (CONTEXT as u32).into()),
            ("llama.embedding_length", 32_u32.into()),
            ("llama.block_count", 2_u32.into()),
            ("llama.feed_forward_length", 64_u32.into()),
            ("llama.attention.head_count", 4_u32.into()),
            ("llama.attention.head_count_kv", 2_u32.into()),
            ("llama.attention.key_length", 16_u32.into()),
            ("llama.attention.layer_norm_rms_epsilon", 1e-5_f32.into()),
            ("llama.rope.dimension_count", 16_u32.into()),
            ("tokenizer.ggml.model", "llama".into()),
            ("tokenizer.ggml.scores", (0..words.len()).map(|id| -(id as f32)).collect::<Vec<f32>>().into()),
            ("tokenizer.ggml.tokens", words.into()),
            ("tokenizer.ggml.token_type", kinds.into()),
            ("tokenizer.ggml.unknown_token_id", 0_u32.into()),
            ("tokenizer.ggml.bos_token_id", 1_u32.into()),
            ("tokenizer.ggml.eos_token_id", 2_u32.into()),
            ("tokenizer.chat_template", template.into()),
        ];
        let mut tensors = vec![("token_embd.weight".to_string(), vec![n_vocab, 32])];
        for layer in 0..2 {
            let parts: [(&str, &[u64]); 9] = [
                ("attn_norm", &[32]),
                ("attn_q", &[64, 32]),
                ("attn_k", &[32, 32]),
                ("attn_v", &[32, 32]),
                ("attn_output", &[32, 64]),
                ("ffn_norm", &[32]),
                ("ffn_gate", &[64, 32]),
                ("ffn_up", &[64, 32]),
                ("ffn_down", &[32, 64]),
            ];
            let named =
                |(part, shape): &(&str, &[u64])| (format!("blk.{layer}.{part}.weight"), shape.to_vec());
            tensors.extend(parts.iter().map(named));
        }
        tensors.push(("output_norm.weight".into(), vec![32]));
        let metadata = metadata.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        Self { metadata, tensors }
    }

    /// Sets a metadata entry.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Without a metadata entry.
    pub fn without(mut self, key: &str) -> Self {
        self.metadata.retain(|(other, _)| other != key);
        self
    }

    /// Adds a tensor, or gives one another shape.
    pub fn with_tensor(mut self, name: &str, shape: &[u64]) -> Self {
        self.tensors.retain(|(other, _)| other != name);
        self.tensors.push((name.into(), shape.to_vec()));
        self
    }

    /// Without a tensor.
    pub fn without_tensor(mut self, name: &str) -> Self {
        self.tensors.retain(|(other, _)| other != name);
        self
    }

    /// The files of the model, split into so many. All tensors are F32. Numbers depend on a tensor's name
    /// alone.
    pub fn files(&self, n_files: usize) -> Vec<Vec<u8>> {
        let n_each = self.tensors.len().div_ceil(n_files);
        let tensors = self.tensors.chunks(n_each);
        tensors.enumerate().map(|(file, tensors)| self.file(file, n_files, tensors)).collect()
    }

    fn file(&self, file: usize, n_files: usize, tensors: &[(String, Vec<u64>)]) -> Vec<u8> {
        let metadata = self.metadata.iter().filter(|_| file == 0);
        let mut writer =
            metadata.fold(Writer::new(), |writer, (key, value)| writer.metadata(key, value.clone()));
        if n_files > 1 {
            writer = writer.metadata("split.no", file as u32).metadata("split.count", n_files as u32);
        }
        let writer =
            tensors.iter().fold(writer, |writer, (name, shape)| writer.tensor(name, shape, TensorType::F32));
        let mut bytes = Vec::new();
        writer
            .write(&mut bytes, |i, out| {
                let (name, shape) = &tensors[i];
                let mut random =
                    Random(name.bytes().fold(7, |seed, byte| seed * 31 % 1_000_003 + u64::from(byte)));
                let is_norm = shape.len() == 1;
                (0..shape.iter().product()).try_for_each(|_| {
                    let number = if is_norm { 1.0 + random.normal() / 8.0 } else { random.normal() / 3.0 };
                    out.write_all(&number.to_le_bytes())
                })
            })
            .unwrap();
        bytes
    }

    /// The header of its only file.
    pub fn header(&self) -> Header {
        let file = &self.files(1)[0];
        let mut reader = HeaderReader::new(file.len() as u64);
        reader.push(file).unwrap();
        reader.finish().unwrap()
    }

    /// Its configuration.
    pub fn config(&self) -> Result<Config, ModelError> {
        Config::from_metadata(&self.header().metadata, words().len())
    }

    /// Its graph.
    pub fn graph(&self) -> Result<Graph, ModelError> {
        build(&self.config()?, &Tensors::of(&[self.header()])?)
    }
}
