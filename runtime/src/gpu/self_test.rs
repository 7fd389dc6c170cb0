//! Kernels against the scalar interpreter, one op at a time, on random data from a fixed seed.
//!
//! [`run`] is the self-test that every device passes before it is used: some devices and drivers compute wrongly, and say nothing.
//! The unit tests below run the same cases at many more shapes, and every kernel variant.

use super::{Class, Executor, Gpu, GpuError, Weights};
use crate::graph::interpreter::Interpreter;
use crate::graph::{
    Attention, Builder, Capacity, Graph, Output, PAGE, Rope, Rows, Source, Step, Token, Value, ValueId, Want,
};
use crate::quant::{BLOCK, Format};

/// Checks a few small kernels; an error names the first that is wrong.
pub async fn run(gpu: &Gpu) -> Result<(), GpuError> {
    let cases = [
        matmul(Format::Q4_0, 70, 96, 1),
        matmul(Format::Q8_0, 70, 96, 1),
        matmul(Format::Q4_1, 70, 96, 37),
        rms_norm(96, 3),
        rope(Rope { n_heads: 2, head_dim: 64, n_rot: 64, neox: false }, 8),
        attention(Attention { n_heads: 4, n_kv_heads: 2, head_dim: 16, scale: 0.25, window: 0 }, 80),
        argmax(1000, 2),
        layers(Format::Q4_0, Rope { n_heads: 4, head_dim: 16, n_rot: 16, neox: false }, &[7, 1], 1),
    ];
    for mut case in cases {
        // Activations of several layers are no whole numbers.
        if case.steps.len() > 1 && gpu.variants().class == Class::Int8 {
            (case.tolerance, case.same_argmax) = (0.2, false);
        }
        let error = case.deviation(gpu).await?;
        if error > case.tolerance {
            return Err(GpuError::Wrong { device: gpu.info().name.clone(), kernel: case.name, error });
        }
    }
    Ok(())
}

/// One graph with its data.
#[derive(Clone)]
pub(crate) struct Case {
    pub name: String,
    pub graph: Graph,
    /// Of each weight: its format and its bytes as a GGUF file has them.
    pub weights: Vec<(Format, Vec<u8>)>,
    pub inputs: Vec<(ValueId, Vec<f32>)>,
    pub tokens: Vec<Token>,
    pub outputs: Vec<Output>,
    pub pages: Vec<u32>,
    pub max_pages: u32,
    /// Tokens of each step.
    pub steps: Vec<usize>,
    /// Largest deviation allowed, in units of the result's root mean square.
    pub tolerance: f32,
    /// Whether the argmax must be the same, too.
    pub same_argmax: bool,
}

impl Case {
    pub fn new(name: String, graph: Graph, n_tokens: u32, tolerance: f32) -> Self {
        let tokens =
            (0..n_tokens).map(|i| Token { id: i * 7 % 131, position: i, sequence: 0, cell: i }).collect();
        let outputs = (0..n_tokens).rev().step_by(2).map(|row| Output { row, target: row * 11 }).collect();
        let max_pages = n_tokens.div_ceil(PAGE);
        let pages = (0..max_pages).collect();
        let mut case = Self {
            name,
            graph,
            weights: vec![],
            inputs: vec![],
            tokens,
            outputs,
            pages,
            max_pages,
            steps: vec![n_tokens as usize],
            tolerance,
            same_argmax: true,
        };
        let mut random = Random(0x9e37_79b9);
        for weight in &case.graph.weights {
            let bytes = match &weight.source {
                Source::Constant(numbers) => bytemuck::cast_slice(numbers).to_vec(),
                Source::Tensor(name) => random.weights(format_of(name), weight.n_rows * weight.n_cols),
            };
            let format = match &weight.source {
                Source::Tensor(name) => format_of(name),
                Source::Constant(_) => Format::F32,
            };
            case.weights.push((format, bytes));
        }
        let is_made = |id| case.graph.ops.iter().any(|op| op.out() == Some(id));
        for (i, value) in case.graph.values.iter().enumerate().filter(|(i, _)| !is_made(ValueId(*i))) {
            let rows = if value.rows == Rows::Tokens { case.tokens.len() } else { case.outputs.len() };
            case.inputs.push((ValueId(i), (0..rows * value.width).map(|_| random.normal()).collect()));
        }
        case
    }

    pub fn capacity(&self) -> Capacity {
        Capacity {
            tokens: self.tokens.len() as u32,
            outputs: self.outputs.len() as u32,
            sequences: self.pages.len() as u32 / self.max_pages,
            max_pages: self.max_pages,
            pages: self.pages.len() as u32,
        }
    }

    /// All tokens in one step.
    #[cfg(test)]
    pub fn step(&self) -> Step<'_> {
        Step { tokens: &self.tokens, outputs: &self.outputs, pages: &self.pages, max_pages: self.max_pages }
    }

    pub(super) fn upload(&self, gpu: &Gpu) -> Result<Weights, GpuError> {
        let formats: Vec<Format> = self.weights.iter().map(|(format, _)| *format).collect();
        let weights = Weights::allocate(gpu, &self.graph, &formats)?;
        for (i, (format, bytes)) in self.weights.iter().enumerate() {
            let id = crate::graph::WeightId(i);
            if self.graph.weights[i].is_vector {
                weights.write_vector(id, &floats(*format, bytes));
                continue;
            }
            // In pieces of an even number of blocks, as the loader does.
            for (piece, blocks) in bytes.chunks(38 * format.block_bytes()).enumerate() {
                let (mut quants, mut scales) = (Vec::new(), Vec::new());
                format.repack(blocks, &mut quants, &mut scales);
                weights.write_blocks(id, piece * 38, &quants, &scales);
            }
        }
        Ok(weights)
    }

    /// The largest difference between the device's results and the interpreter's, in units of the results' root mean square.
    async fn deviation(&self, gpu: &Gpu) -> Result<f32, GpuError> {
        let mut interpreter = Interpreter::new(
            &self.graph,
            self.weights.iter().map(|(format, bytes)| floats(*format, bytes)).collect(),
            self.capacity(),
        );
        let weights = self.upload(gpu)?;
        let mut executor = Executor::with(gpu, &self.graph, &weights, self.capacity(), true)?;
        let mut worst = 0.0_f32;
        let mut first = 0;
        for &n in &self.steps {
            let rows = first as u32..(first + n) as u32;
            let outputs = self.outputs.iter().filter(|output| rows.contains(&output.row));
            let outputs: Vec<Output> =
                outputs.map(|output| Output { row: output.row - rows.start, ..*output }).collect();
            let step = Step {
                tokens: &self.tokens[first..first + n],
                outputs: &outputs,
                pages: &self.pages,
                max_pages: self.max_pages,
            };
            let inputs = self.inputs.iter().map(|(id, data)| {
                let Value { rows, width } = self.graph.values[id.0];
                let all = rows == Rows::Outputs;
                (*id, if all { data.as_slice() } else { &data[first * width..(first + n) * width] })
            });
            inputs.clone().for_each(|(id, data)| interpreter.values[id.0] = data.to_vec());
            interpreter.step(&step);
            for (i, expected) in interpreter.values.iter().enumerate() {
                executor.write_value(ValueId(i), &vec![f32::NAN; expected.len()]);
            }
            inputs.for_each(|(id, data)| executor.write_value(id, data));
            executor.step(&step, Want::Best).await?;
            for (i, expected) in interpreter.values.iter().enumerate() {
                let id = ValueId(i);
                let is_input = self.inputs.iter().any(|(input, _)| *input == id);
                let is_argmax = self.graph.argmax == Some(id);
                if expected.is_empty() || is_input || !executor.writes(n, id) {
                    continue;
                }
                let mut found = executor.read_value(id, expected.len()).await?;
                if is_argmax && !self.same_argmax {
                    found.iter_mut().zip(expected).step_by(4).for_each(|(f, e)| *f = *e);
                }
                worst = worst.max(distance(&found, expected, is_argmax));
            }
            first += n;
        }
        Ok(worst)
    }
}

/// Largest difference by root mean square; infinite if anything is not a number. Of argmax rows, the index must be the same.
pub(crate) fn distance(found: &[f32], expected: &[f32], is_argmax: bool) -> f32 {
    let is_index = |i: usize| is_argmax && i.is_multiple_of(4);
    let numbers = || expected.iter().enumerate().filter(|(i, _)| !is_index(*i)).map(|(_, e)| *e);
    let rms = (numbers().map(|e| e * e).sum::<f32>() / numbers().count().max(1) as f32).sqrt().max(1e-20);
    let mut worst = 0.0_f32;
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        let off = match is_index(i) {
            true => f32::from(u8::from(f.to_bits() != e.to_bits())) * 1e9,
            false => (f - e).abs() / rms,
        };
        worst = if off.is_finite() { worst.max(off) } else { f32::INFINITY };
    }
    worst
}

pub(crate) fn floats(format: Format, bytes: &[u8]) -> Vec<f32> {
    match format {
        Format::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        _ => format.dequantise(bytes),
    }
}

/// The format that a test's tensor is named after.
fn format_of(tensor: &str) -> Format {
    tensor.split(':').next().and_then(Format::from_name).unwrap_or(Format::F32)
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Nearly normal: the sum of four uniform numbers, of variance 1.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| (self.next() >> 40) as f32 / (1 << 24) as f32 - 0.5).sum();
        sum * 3.0_f32.sqrt()
    }

    /// Weights in a file's format: floats around 1/8, or any quants, with scales that make them no larger.
    fn weights(&mut self, format: Format, n: usize) -> Vec<u8> {
        let half = |x: f32| half::f16::from_f32(x).to_le_bytes();
        let scale = if format == Format::Q8_0 { 1024.0 } else { 64.0 };
        match format {
            Format::F32 => (0..n).flat_map(|_| (self.normal() / 8.0).to_le_bytes()).collect(),
            Format::F16 => (0..n).flat_map(|_| half(self.normal() / 8.0)).collect(),
            _ => (0..n / BLOCK)
                .flat_map(|_| {
                    let mut block: Vec<u8> =
                        (0..format.block_bytes()).map(|_| (self.next() >> 32) as u8).collect();
                    for at in (0..format.scales_bytes()).step_by(2) {
                        block[at..at + 2].copy_from_slice(&half(self.normal() / scale));
                    }
                    block
                })
                .collect(),
        }
    }
}

/// Of activations that 8 bits hold exactly: whole numbers of which each block has one of 127.
pub(crate) fn matmul(format: Format, n_rows: usize, n_cols: usize, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let x = g.value(Rows::Tokens, n_cols);
    let w = g.matrix(format.name(), n_rows, n_cols);
    g.matmul(x, w);
    let name = format!("matmul {} {n_rows}x{n_cols}, {n_tokens} rows", format.name());
    // f16 staging rounds weights and activations to 11 bits; float32 sums err by far less.
    let mut case = Case::new(name, g.finish(), n_tokens, 4e-3);
    for block in case.inputs.iter_mut().flat_map(|(_, data)| data.chunks_mut(BLOCK)) {
        block.iter_mut().for_each(|v| *v = (*v * 40.0).round().clamp(-127.0, 127.0) / 64.0);
        block[5] = 127.0 / 64.0;
    }
    case
}

pub(crate) fn rms_norm(width: usize, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let x = g.value(Rows::Tokens, width);
    let w = g.vector("F32", width);
    g.rms_norm(x, w, 1e-5);
    Case::new(format!("rms_norm {width}"), g.finish(), n_tokens, 1e-4)
}

/// At positions far into a context, where sines and cosines of large angles go wrong first.
pub(crate) fn rope(shape: Rope, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let x = g.value(Rows::Tokens, shape.n_heads * shape.head_dim);
    let n = shape.n_rot;
    let turns = (0..n / 2).map(|i| 10_000_f32.powf(-2.0 * i as f32 / n as f32) / std::f32::consts::TAU);
    let turns = g.constant(turns.collect());
    let factors = g.constant((0..n / 2).map(|i| 1.0 + i as f32 / 8.0).collect());
    g.rope(x, turns, factors, shape);
    let mut case = Case::new(format!("{shape:?}"), g.finish(), n_tokens, 1e-3);
    case.tokens.iter_mut().for_each(|token| token.position *= 1000);
    case
}

/// The pool's pages are in reverse order, so that page tables matter.
pub(crate) fn attention(shape: Attention, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let q = g.value(Rows::Tokens, shape.n_heads * shape.head_dim);
    let k = g.value(Rows::Tokens, shape.n_kv_heads * shape.head_dim);
    let v = g.value(Rows::Tokens, shape.n_kv_heads * shape.head_dim);
    let layer = g.kv_layer(shape.n_kv_heads * shape.head_dim);
    g.kv_write(k, v, layer);
    g.attention(q, layer, shape);
    let mut case = Case::new(format!("attention {shape:?}, {n_tokens} rows"), g.finish(), n_tokens, 1e-3);
    case.pages.reverse();
    for token in &mut case.tokens {
        token.cell = case.pages[(token.position / PAGE) as usize] * PAGE + token.position % PAGE;
    }
    case
}

/// A small language model on an input, in steps of so many tokens: what is fused is tested by it.
pub(crate) fn layers(format: Format, rope: Rope, steps: &[usize], n_layers: usize) -> Case {
    let Rope { n_heads, head_dim, .. } = rope;
    let (n_embd, n_kv_heads, n_ff, n_vocab) = (64, 2, 96, 70);
    let (n_q, n_kv) = (n_heads * head_dim, n_kv_heads * head_dim);
    let mut g = Builder::default();
    let name = format.name();
    let mut x = g.value(Rows::Tokens, n_embd);
    let half = rope.n_rot / 2;
    let turns = (0..half).map(|i| 100_f32.powf(-(i as f32) / half as f32) / std::f32::consts::TAU);
    let turns = g.constant(turns.collect());
    let factors = g.constant(vec![1.0; half]);
    for i in 0..n_layers {
        let layer = g.kv_layer(n_kv);
        // Names tell tensors apart; what comes before the colon is the format.
        let matrix = |g: &mut Builder, part: &str, n_rows, n_cols| {
            g.matrix(format!("{name}:{part}{i}"), n_rows, n_cols)
        };
        let norm = g.vector(format!("F32:n{i}"), n_embd);
        let h = g.rms_norm(x, norm, 1e-5);
        let (wq, wk) = (matrix(&mut g, "q", n_q, n_embd), matrix(&mut g, "k", n_kv, n_embd));
        let (wv, wo) = (matrix(&mut g, "v", n_kv, n_embd), matrix(&mut g, "o", n_embd, n_q));
        let (q, k, v) = (g.matmul(h, wq), g.matmul(h, wk), g.matmul(h, wv));
        let q = g.rope(q, turns, factors, rope);
        let k = g.rope(k, turns, factors, Rope { n_heads: n_kv_heads, ..rope });
        g.kv_write(k, v, layer);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let a = g.attention(q, layer, Attention { n_heads, n_kv_heads, head_dim, scale, window: 0 });
        let a = g.matmul(a, wo);
        x = g.add(x, a);
        let norm = g.vector(format!("F32:m{i}"), n_embd);
        let h = g.rms_norm(x, norm, 1e-5);
        let (wg, wu) = (matrix(&mut g, "g", n_ff, n_embd), matrix(&mut g, "u", n_ff, n_embd));
        let wd = matrix(&mut g, "d", n_embd, n_ff);
        let (gate, up) = (g.matmul(h, wg), g.matmul(h, wu));
        let f = g.swiglu(gate, up);
        let f = g.matmul(f, wd);
        x = g.add(x, f);
    }
    let x = g.select_rows(x);
    let norm = g.vector("F32:last", n_embd);
    let x = g.rms_norm(x, norm, 1e-5);
    let output = g.matrix(format!("{name}:output"), n_vocab, n_embd);
    let logits = g.matmul(x, output);
    let best = g.argmax(logits);
    g.results(logits, best);
    let n_tokens: usize = steps.iter().sum();
    let mut case = Case::new(format!("layers {name} {rope:?} {steps:?}"), g.finish(), n_tokens as u32, 4e-3);
    case.steps = steps.to_vec();
    case
}

pub(crate) fn argmax(n_vocab: usize, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let x = g.value(Rows::Tokens, n_vocab);
    let logits = g.select_rows(x);
    let best = g.argmax(logits);
    g.results(logits, best);
    Case::new(format!("argmax of {n_vocab}"), g.finish(), n_tokens, 1e-4)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::gpu::executor::MAX_IN_FLIGHT;
    use crate::gpu::{Options, Variants};
    use crate::graph::{BIN, Choice, Feed, IN_PROMPT};
    use bytemuck::Zeroable;
    use std::sync::OnceLock;

    /// The device of these tests. It is not taken for the software that it may be, which gets other kernels unless told.
    fn device() -> Gpu {
        static DEVICE: OnceLock<Gpu> = OnceLock::new();
        let open = || {
            let mut gpu = pollster::block_on(Gpu::open(Options::default())).unwrap();
            gpu.pretend(|info| info.is_fallback = false);
            gpu
        };
        DEVICE.get_or_init(open).clone()
    }

    /// Choices of kernels that between them run every variant that the device can, with what they may be off by.
    fn choices() -> Vec<(Gpu, f32)> {
        let gpu = device();
        let mut words = vec![
            ("exact,one,few,f32", 1e-4),
            ("exact,shared:32,tile,f32", 1e-4),
            ("exact,shared:4,few,f32", 1e-4),
            ("int8,one,few,f32", 1e-4),
            ("int8,shared:16,tile,f32", 1e-4),
        ];
        if gpu.info().f16 {
            // Staging as f16 rounds weights and activations to 11 bits.
            words.push(("exact,shared:64,tile,f16", 4e-3));
        }
        if gpu.info().subgroup_size > 0 {
            words.extend([("exact,subgroup,tile,f32", 1e-4), ("int8,subgroup:4,few,f32", 1e-4)]);
        }
        words
            .into_iter()
            .map(|(words, tolerance)| {
                let mut gpu = gpu.clone();
                gpu.set_variants(Variants::parse(words, gpu.info()).unwrap());
                (gpu, tolerance)
            })
            .collect()
    }

    fn check(case: Case) {
        check_with("", case);
    }

    /// With kernels of these words.
    fn check_with(words: &str, case: Case) {
        let mut gpu = device();
        gpu.set_variants(Variants::parse(words, gpu.info()).unwrap());
        let error = pollster::block_on(case.deviation(&gpu)).unwrap();
        assert!(error <= case.tolerance, "{} ({}): {error}", case.name, gpu.variants());
    }

    #[test]
    fn device_passes() {
        for (gpu, _) in choices() {
            pollster::block_on(run(&gpu)).unwrap();
        }
    }

    /// One row, a few, and many.
    #[test]
    fn matmuls() {
        for (gpu, tolerance) in choices() {
            for format in Format::ALL {
                for (rows, cols, tokens) in [
                    (1, 32, 1),
                    (63, 96, 1),
                    (65, 544, 1),
                    (130, 1024, 1),
                    (63, 96, 2),
                    (130, 544, 8),
                    (1, 32, 9),
                    (65, 544, 31),
                    (130, 96, 70),
                ] {
                    let case = matmul(format, rows, cols, tokens);
                    let error = pollster::block_on(case.deviation(&gpu)).unwrap();
                    assert!(error <= tolerance, "{} ({}): {error}", case.name, gpu.variants());
                }
            }
        }
    }

    /// Prefill, then one row at a time.
    #[test]
    fn fused_layers() {
        let rope = |head_dim, n_rot, neox| Rope { n_heads: 4, head_dim, n_rot, neox };
        for (gpu, tolerance) in choices() {
            let is_int8 = gpu.variants().class == Class::Int8;
            for format in Format::ALL {
                for rope in [rope(16, 16, false), rope(16, 16, true), rope(24, 16, true)] {
                    let mut case = layers(format, rope, &[11, 1, 1, 3, 1], 2);
                    case.same_argmax = !is_int8;
                    let error = pollster::block_on(case.deviation(&gpu)).unwrap();
                    // Of activations in 8 bits, the deviation is what that rounding brings.
                    let tolerance = if is_int8 { 0.2 } else { 10.0 * tolerance };
                    assert!(error <= tolerance, "{} ({}): {error}", case.name, gpu.variants());
                }
            }
        }
    }

    #[test]
    fn decoding_takes_few_dispatches() {
        let mut gpu = device();
        gpu.set_variants(Variants::parse("tile", gpu.info()).unwrap());
        let count = |n_layers, position| {
            let rope = Rope { n_heads: 4, head_dim: 16, n_rot: 16, neox: false };
            let mut case = layers(Format::Q4_1, rope, &[1], n_layers);
            case.max_pages = position / PAGE + 1;
            case.pages = (0..case.max_pages).collect();
            case.tokens[0].position = position;
            let weights = case.upload(&gpu).unwrap();
            let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
            let (tokens, outputs, pages) = (&case.tokens, &case.outputs, &case.pages);
            let step = Step { tokens, outputs, pages, max_pages: case.max_pages };
            pollster::block_on(executor.step(&step, Want::Best)).unwrap();
            executor.dispatches()
        };
        assert_eq!(count(3, 0) - count(2, 0), 5);
        assert_eq!(count(3, 5000) - count(2, 5000), 6);
    }

    /// Logits that lie in the middle of bins, so that rounding does not move a token from one to the next.
    fn logits_in_bins(n_vocab: usize, temperature: f32) -> Vec<f32> {
        let mut random = Random(n_vocab as u64);
        let mut depths = (0..n_vocab).map(|_| (random.normal().abs() * 300.0).floor());
        let mut logits: Vec<f32> = depths.by_ref().map(|bin| 3.0 - (bin + 0.5) * BIN * temperature).collect();
        logits[n_vocab / 2] = 3.0;
        logits
    }

    /// The device chooses the tokens that the reference chooses.
    #[test]
    fn choices_by_chance() {
        let gpu = device();
        let plain = Choice { temperature: 1.0, top_p: 1.0, repetition_penalty: 1.0, ..Choice::zeroed() };
        let choices = [
            plain,
            Choice { temperature: 0.5, seed: [9, 4], ..plain },
            Choice { top_k: 40, ..plain },
            Choice { top_k: 40, top_p: 0.7, ..plain },
            Choice { temperature: 2.0, top_p: 0.9, min_p: 0.01, ..plain },
            Choice { min_p: 0.2, ..plain },
            Choice { temperature: 0.0, presence_penalty: 0.5, adjusts: 1, ..plain },
            Choice { repetition_penalty: 1.3, frequency_penalty: 0.2, adjusts: 1, ..plain },
        ];
        for n_vocab in [4, 2049, 49_152] {
            let case = argmax(n_vocab, 1);
            let weights = case.upload(&gpu).unwrap();
            let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
            for choice in choices {
                let temperature = if choice.temperature > 0.0 { choice.temperature } else { 1.0 };
                let logits = logits_in_bins(n_vocab, temperature);
                let mut seen: Vec<u32> =
                    (0..n_vocab).map(|i| if i % 3 == 0 { IN_PROMPT } else { 0 }).collect();
                let bias: Vec<f32> = (0..n_vocab).map(|i| if i % 7 == 0 { 0.25 } else { 0.0 }).collect();
                executor.adjust(&seen, &bias);
                let mut chosen = Vec::new();
                for counter in 0..12 {
                    let choice = Choice { counter, ..choice };
                    executor.write_value(case.inputs[0].0, &logits);
                    pollster::block_on(executor.step(&case.step(), Want::Choice(choice))).unwrap();
                    let expected = choice.choose(&mut logits.clone(), &seen, &bias);
                    assert_eq!(executor.best[0].id, expected, "{choice:?} of {n_vocab}");
                    seen[expected as usize] += 1;
                    chosen.push(expected);
                }
                chosen.sort_unstable();
                chosen.dedup();
                assert!(n_vocab < 100 || chosen.len() > 1, "{choice:?} of {n_vocab} is always the same");
            }
        }
    }

    /// A step that is fed by the one before gives what it gives when the host feeds it.
    #[test]
    fn the_chosen_token_feeds_the_next_step() {
        let gpu = device();
        let mut g = Builder::default();
        let words = g.matrix("F32", 40, 32);
        let x = g.embed(words);
        let x = g.select_rows(x);
        let output = g.matrix("F32:output", 40, 32);
        let logits = g.matmul(x, output);
        let best = g.argmax(logits);
        g.results(logits, best);
        let case = Case::new("feed".into(), g.finish(), 1, 0.0);
        let weights = case.upload(&gpu).unwrap();
        let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
        let step = |id: u32| [Token { id, position: 0, sequence: 0, cell: 0 }];
        let run = async {
            let mut by_host = vec![7];
            for i in 0..9 {
                let (tokens, outputs) = (step(by_host[i]), [Output { row: 0, target: 0 }]);
                let step = Step { tokens: &tokens, outputs: &outputs, pages: &case.pages, max_pages: 1 };
                executor.step(&step, Want::Best).await?;
                by_host.push(executor.best[0].id);
            }
            let mut by_device = vec![7];
            for i in 0..9 {
                // The id is not to be used but in the first step.
                let (tokens, outputs) = (step(if i == 0 { 7 } else { 0 }), [Output { row: 0, target: 0 }]);
                let step = Step { tokens: &tokens, outputs: &outputs, pages: &case.pages, max_pages: 1 };
                let feed = if i == 0 { Feed::Host } else { Feed::Previous };
                if executor.in_flight() == MAX_IN_FLIGHT {
                    executor.result().await?;
                    by_device.push(executor.best[0].id);
                }
                executor.submit(&step, Want::Best, feed)?;
            }
            while executor.in_flight() > 0 {
                executor.result().await?;
                by_device.push(executor.best[0].id);
            }
            Ok::<_, GpuError>((by_host, by_device))
        };
        let (by_host, by_device) = pollster::block_on(run).unwrap();
        assert_eq!(by_host, by_device);
        assert!(by_host.windows(2).any(|pair| pair[0] != pair[1]), "{by_host:?}");
    }

    #[test]
    fn weights_in_parts() {
        let mut gpu = device();
        for format in Format::ALL {
            // Three parts, of which the last is short.
            let limit = (50 * 96 / BLOCK * format.block_bytes()) as u64;
            gpu.pretend(|info| info.max_binding_size = limit + 512);
            for tokens in [1, 3, 9] {
                let case = matmul(format, 131, 96, tokens);
                let error = pollster::block_on(case.deviation(&gpu)).unwrap();
                assert!(error <= case.tolerance, "{}: {error}", case.name);
            }
            let error = pollster::block_on(embed(format, 131, 96, 31).deviation(&gpu)).unwrap();
            assert!(error <= 1e-4, "embed {format:?}: {error}");
        }
    }

    fn embed(format: Format, n_vocab: usize, width: usize, n_tokens: u32) -> Case {
        let mut g = Builder::default();
        let w = g.matrix(format.name(), n_vocab, width);
        g.embed(w);
        Case::new(format!("embed {}", format.name()), g.finish(), n_tokens, 1e-4)
    }

    #[test]
    fn embeddings() {
        for format in Format::ALL {
            check(embed(format, 131, 32, 1));
            check(embed(format, 131, 576, 40));
        }
    }

    #[test]
    fn norms_and_elementwise() {
        for (width, tokens) in [(4, 1), (96, 5), (576, 3), (260, 33)] {
            check(rms_norm(width, tokens));
            let mut g = Builder::default();
            let (a, b) = (g.value(Rows::Tokens, width), g.value(Rows::Tokens, width));
            g.swiglu(a, b);
            g.add(a, b);
            check(Case::new(format!("swiglu and add {width}"), g.finish(), tokens, 1e-4));
        }
    }

    #[test]
    fn swiglu_at_the_extremes() {
        let mut g = Builder::default();
        let (gate, up) = (g.value(Rows::Tokens, 8), g.value(Rows::Tokens, 8));
        g.swiglu(gate, up);
        let mut case = Case::new("swiglu extremes".into(), g.finish(), 1, 1e-4);
        case.inputs[0].1 = vec![-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4, -0.0];
        case.inputs[1].1 = vec![1.0; 8];
        check(case);
    }

    #[test]
    fn ropes() {
        for (head_dim, n_rot, neox) in
            [(64, 64, false), (64, 64, true), (80, 32, false), (80, 32, true), (2, 2, false)]
        {
            check(rope(Rope { n_heads: 3, head_dim, n_rot, neox }, 9));
        }
    }

    #[test]
    fn attentions() {
        let shape = |n_heads, n_kv_heads, head_dim, window| Attention {
            n_heads,
            n_kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            window,
        };
        for (shape, tokens) in [
            (shape(1, 1, 8, 0), 1),
            (shape(9, 3, 64, 0), 65),
            (shape(4, 4, 128, 0), 130),
            (shape(2, 1, 256, 0), 33),
            (shape(4, 2, 80, 40), 129),
            (shape(12, 1, 16, 0), 7),
        ] {
            check_with("tile", attention(shape, tokens));
            check_with("few", attention(shape, tokens));
        }
    }

    /// One row whose context is shared between workgroups.
    #[test]
    fn attention_is_split_and_merged() {
        for (window, n_tokens) in [(0, 257), (0, 700), (300, 700)] {
            let shape = Attention { n_heads: 6, n_kv_heads: 2, head_dim: 40, scale: 0.2, window };
            let mut case = attention(shape, n_tokens);
            case.steps = vec![n_tokens as usize - 2, 1, 1];
            check_with("tile", case);
        }
    }

    /// Rows of two sequences in one step see only their own.
    #[test]
    fn attention_keeps_sequences_apart() {
        let shape = Attention { n_heads: 2, n_kv_heads: 1, head_dim: 32, scale: 0.2, window: 0 };
        let mut case = attention(shape, 40);
        case.pages = vec![2, 0, 1, 3];
        case.max_pages = 2;
        for (i, token) in case.tokens.iter_mut().enumerate() {
            (token.sequence, token.position) = (i as u32 % 2, i as u32 / 2);
            token.cell = case.pages[(token.sequence * 2) as usize] * PAGE + token.position;
        }
        check_with("few", case.clone());
        check_with("tile", case);
    }

    #[test]
    fn argmaxes() {
        for (n_vocab, tokens) in [(4, 1), (1000, 3), (5000, 140), (49_152, 2)] {
            check(argmax(n_vocab, tokens));
        }
        let mut tie = argmax(1024, 1);
        tie.inputs[0].1 = vec![0.5; 1024];
        check(tie);
    }

    /// The self-test must be able to fail.
    #[test]
    fn a_wrong_result_is_refused() {
        assert_eq!(distance(&[1.0, f32::NAN], &[1.0, 1.0], false), f32::INFINITY);
        assert!(distance(&[1.0, 1.02], &[1.0, 1.0], false) > 0.01);
        assert!(
            distance(&[f32::from_bits(3), 1.0, 1.0, 1.0], &[f32::from_bits(2), 1.0, 1.0, 1.0], true) > 1.0
        );
    }
}
