//! How much of this machine's memory bandwidth the kernels use, op by op, at SmolLM2-135M's shapes.

use super::{Cpu, CpuError, Executor, Weights, weights::zeroed};
use crate::graph::{
    Activation, Attention, Builder, Capacity, Domain, Graph, Output, PAGE, Rope, Step, Token, WeightId,
};
use crate::load::Sink;
use crate::quant::Format;
use serde::Serialize;
use std::hint::black_box;
use web_time::{Duration, Instant};

/// Time for each figure, which is the best of as many steps as fit in it.
const TIME: Duration = Duration::from_millis(400);
/// Blocks that are written to a matrix at a time.
const PIECE: usize = 1 << 10;
/// Bytes, more than caches hold.
const MEMORY: usize = 128 << 20;
/// Bytes that a thread reads in its turn, about as many as the weights of a task.
const TURN: usize = 16 << 10;
const LAYERS: usize = 30;
/// Copies of a layer's matrices, so that those of each op take more memory than caches hold.
const COPIES: usize = 6 * LAYERS;
const CONTEXT: u32 = 346;
/// Rows of decoding and of prefill.
const ROWS: [u32; 2] = [1, 128];
const WIDTH: usize = 576;
const KV_WIDTH: usize = 192;
const HIDDEN: usize = 1536;
const N_VOCAB: usize = 49_152;
const N_HEADS: usize = 9;
const HEAD_DIM: usize = 64;

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What the kernels are compiled to, and the form of activations.
    pub simd: String,
    /// Threads.
    pub threads: usize,
    /// Bytes a second at which all threads together read memory, each a part of its own.
    pub bandwidth: f64,
    /// The same where they take turns in pieces of [`TURN`] bytes.
    pub bandwidth_in_turns: f64,
    /// Each op, with one row and with many.
    pub ops: Vec<Measured>,
}

/// An op, as many times as the model has it.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// Op, format and shape.
    pub op: String,
    /// Rows of the step.
    pub rows: u32,
    /// Seconds of a step.
    pub seconds: f64,
    /// Bytes of weights or of the KV pool that a step reads at least once; 0 where there are none.
    pub bytes: f64,
    /// Multiplications with an addition; 0 where the op does something else.
    pub macs: f64,
}

/// Measures all ops on all threads.
pub fn run(cpu: &Cpu) -> Result<Report, CpuError> {
    let mut ops = Vec::new();
    let products = [
        ("gate", Format::Q4_1, HIDDEN, WIDTH, COPIES),
        ("down", Format::Q4_1, WIDTH, HIDDEN, COPIES),
        ("down", Format::Q4_K, WIDTH, HIDDEN, COPIES),
        ("down", Format::Q5_0, WIDTH, HIDDEN, COPIES),
        ("down", Format::Q6_K, WIDTH, HIDDEN, COPIES),
        ("query", Format::Q4_1, WIDTH, WIDTH, 2 * COPIES),
        ("gate", Format::Q4_0, HIDDEN, WIDTH, COPIES),
        ("gate", Format::Q8_0, HIDDEN, WIDTH, COPIES),
        ("gate", Format::F16, HIDDEN, WIDTH, 2 * LAYERS),
        ("vocabulary", Format::Q8_0, N_VOCAB, WIDTH, 4),
    ];
    for (name, format, n_rows, n_cols, copies) in products {
        for rows in ROWS {
            let mut g = Builder::default();
            let x = g.value(Domain::Tokens, n_cols);
            // One input times many weights, so that no cache holds them all.
            for copy in 0..copies {
                let weight = g.matrix(format!("{name} {copy}"), n_rows, n_cols);
                g.matmul(x, weight);
            }
            let weights = (n_rows * n_cols * copies) as f64;
            ops.push(Measured {
                op: format!("{name} {n_rows}×{n_cols} {}, {copies}×", format.name()),
                rows,
                seconds: time(cpu, &g.finish(), format, rows, 0)?,
                bytes: weights / format.block_len() as f64 * format.block_bytes() as f64,
                macs: weights * f64::from(rows),
            });
        }
    }
    for rows in ROWS {
        let seen = f64::from(rows) * f64::from(2 * CONTEXT - rows + 1) / 2.0;
        ops.push(Measured {
            op: format!("attention at {CONTEXT}, {LAYERS}×"),
            rows,
            seconds: time(cpu, &attention(), Format::F32, rows, 0)?,
            bytes: f64::from(CONTEXT) * (4 * KV_WIDTH * LAYERS) as f64,
            macs: seen * (2 * N_HEADS * HEAD_DIM * LAYERS) as f64,
        });
    }
    for (op, graph, outputs) in
        [("norm, SwiGLU, RoPE, sum, 30×", row_ops(), false), ("likeliest of 49152", likeliest(), true)]
    {
        for rows in ROWS {
            let outputs = if outputs { rows } else { 0 };
            let seconds = time(cpu, &graph, Format::F32, rows, outputs)?;
            ops.push(Measured { op: op.into(), rows, seconds, bytes: 0.0, macs: 0.0 });
        }
    }
    let info = cpu.info();
    let simd = format!("{}, {}", info.simd, info.kernels);
    Ok(Report {
        simd,
        threads: info.threads,
        bandwidth: bandwidth(cpu, MEMORY.div_ceil(info.threads))?,
        bandwidth_in_turns: bandwidth(cpu, TURN)?,
        ops,
    })
}

/// Bytes a second at which all threads together read more than caches hold, in turns of so many bytes.
fn bandwidth(cpu: &Cpu, turn: usize) -> Result<f64, CpuError> {
    let numbers: Vec<[u64; 8]> = zeroed(MEMORY / 64, "a measurement")?;
    let team = &cpu.pool().team;
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        let start = Instant::now();
        team.run(&|thread| {
            let mut sums = [0_u64; 8];
            for part in numbers.chunks(turn.div_ceil(64)).skip(thread).step_by(team.threads()) {
                for line in black_box(part) {
                    for (sum, number) in sums.iter_mut().zip(line) {
                        *sum = sum.wrapping_add(*number);
                    }
                }
            }
            black_box(sums);
            Ok(())
        })?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(MEMORY as f64 / best)
}

fn attention() -> Graph {
    let mut g = Builder::default();
    let (q, k) = (g.value(Domain::Tokens, WIDTH), g.value(Domain::Tokens, KV_WIDTH));
    for _ in 0..LAYERS {
        let cache = g.cache(KV_WIDTH, KV_WIDTH);
        g.attention(q, k, k, cache, Attention::new(N_HEADS, 3, HEAD_DIM));
    }
    g.finish()
}

/// What a layer does to each row by itself.
fn row_ops() -> Graph {
    let mut g = Builder::default();
    let (x, k) = (g.value(Domain::Tokens, WIDTH), g.value(Domain::Tokens, KV_WIDTH));
    let hidden = g.value(Domain::Tokens, HIDDEN);
    let norm = g.constant(vec![1.0; WIDTH]);
    let (turns, factors) = (g.constant(vec![0.01; 32]), g.constant(vec![1.0; 32]));
    let rope =
        |n_heads| Rope { n_heads, head_dim: 64, n_rot: 64, neox: false, turns, factors, magnitude: 1.0 };
    for _ in 0..LAYERS {
        g.rms_norm(x, norm, 1e-5);
        g.rope(x, rope(9));
        g.rope(k, rope(3));
        g.add(x, x);
        g.rms_norm(x, norm, 1e-5);
        g.gated(hidden, hidden, Activation::Silu);
        g.add(x, x);
    }
    g.finish()
}

fn likeliest() -> Graph {
    let mut g = Builder::default();
    let logits = g.value(Domain::Outputs, N_VOCAB);
    g.logits(logits);
    g.finish()
}

/// Seconds of a step over the last `rows` positions of the context.
fn time(cpu: &Cpu, graph: &Graph, format: Format, rows: u32, outputs: u32) -> Result<f64, CpuError> {
    let mut weights = Weights::allocate(graph, &vec![format; graph.weights.len()], cpu.int8())?;
    // Every piece of every matrix has the same blocks.
    let (mut quants, mut scales) = (Vec::new(), Vec::new());
    let mut state = 0_u64;
    let bits = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        state ^ (state >> 29)
    };
    format.repack(&format.made_up(PIECE * format.block_len(), 0.01, bits), &mut quants, &mut scales);
    for (i, weight) in graph.weights.iter().enumerate().filter(|(_, weight)| !weight.is_vector) {
        let n_blocks = weight.n_rows * weight.n_cols / format.block_len();
        for first in (0..n_blocks).step_by(PIECE) {
            let n = PIECE.min(n_blocks - first);
            let (quants, scales) =
                (&quants[..n * format.quants_bytes()], &scales[..n * format.scales_bytes()]);
            weights.write_blocks(WeightId(i), first, quants, scales);
        }
    }
    let pages = CONTEXT.div_ceil(PAGE);
    let capacity = Capacity { tokens: rows, outputs: outputs.max(1), sequences: 1, max_pages: pages, pages };
    let mut executor = Executor::new(cpu, graph, &weights, capacity)?;
    let token = |position| Token { position, cell: position, ..Token::default() };
    let tokens: Vec<Token> = (CONTEXT - rows..CONTEXT).map(token).collect();
    let outputs: Vec<Output> = (0..outputs).map(|row| Output::likeliest(row, 0)).collect();
    let page_table: Vec<u32> = (0..pages).collect();
    let step =
        Step { tokens: &tokens, outputs: &outputs, choices: &[], pages: &page_table, max_pages: pages };
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    while begin.elapsed() < TIME {
        let start = Instant::now();
        executor.step(&weights, &step)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}
