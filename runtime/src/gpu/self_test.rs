//! Kernels against the scalar interpreter, one op at a time, on random data from a fixed seed.
//!
//! [`run`] is the self-test that every device passes before it is used: some devices and drivers compute wrongly, and say nothing.
//! The unit tests below run the same cases at many more shapes, and every kernel variant.

use super::{Accuracy, Executor, Gpu, GpuError, Weights};
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
        if case.steps.len() > 1 && gpu.variants().accuracy == Accuracy::Int8 {
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
mod tests;
