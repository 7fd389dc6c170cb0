//! `nomoat bench`: what the CPU's kernels reach of this machine's memory bandwidth, op by op, at SmolLM2-135M's shapes.

use anyhow::Result;
use nomoat_runtime::cpu::{Cpu, Executor, Weights};
use nomoat_runtime::graph::{Attention, Builder, Capacity, Graph, PAGE, Rows, Step, Token, Want, WeightId};
use nomoat_runtime::quant::Format;
use std::hint::black_box;
use std::time::Instant;

/// Prints a table; every figure is the best of several rounds.
pub fn run(threads: usize) -> Result<()> {
    let cpu = Cpu::open(threads)?;
    let bandwidth = bandwidth(threads);
    println!("{threads} threads; memory is read at {bandwidth:.1} GB/s");
    println!("{:<28} {:>6} {:>9} {:>8} {:>8} {:>9}", "op", "rows", "ms", "GB/s", "share", "GMAC/s");
    for (name, format, shape, copies) in [
        ("gate, Q4_1", Format::Q4_1, (1536, 576), 60),
        ("down, Q4_1", Format::Q4_1, (576, 1536), 60),
        ("query, Q4_1", Format::Q4_1, (576, 576), 120),
        ("gate, Q4_0", Format::Q4_0, (1536, 576), 60),
        ("gate, Q8_0", Format::Q8_0, (1536, 576), 60),
        ("output, Q8_0", Format::Q8_0, (49_152, 576), 1),
    ] {
        for tokens in [1, 128] {
            let graph = products(format, shape, copies);
            let (seconds, bytes) = time(&cpu, &graph, format, tokens, tokens)?;
            let macs = (shape.0 * shape.1 * copies) as f64 * f64::from(tokens);
            report(name, tokens, seconds, bytes, bandwidth, macs);
        }
    }
    for tokens in [1, 128] {
        let context = 346;
        let (seconds, _) = time(&cpu, &attention(30), Format::F32, tokens, context)?;
        let seen = f64::from(tokens) * f64::from(2 * context - tokens + 1) / 2.0;
        let bytes = f64::from(context) * 192.0 * 4.0 * 30.0;
        report("attention at 346, 30 layers", tokens, seconds, bytes, bandwidth, seen * 9.0 * 128.0 * 30.0);
    }
    Ok(())
}

fn report(name: &str, rows: u32, seconds: f64, bytes: f64, bandwidth: f64, macs: f64) {
    let speed = bytes / seconds / 1e9;
    println!(
        "{name:<28} {rows:>6} {:>9.3} {speed:>8.2} {:>7.0}% {:>9.1}",
        seconds * 1e3,
        speed / bandwidth * 100.0,
        macs / seconds / 1e9
    );
}

/// GB/s at which all threads together read more than any cache holds.
fn bandwidth(threads: usize) -> f64 {
    let numbers = vec![1_u64; 32 << 20];
    let bytes = size_of_val(numbers.as_slice()) as f64;
    let read = || {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in numbers.chunks(numbers.len().div_ceil(threads)) {
                scope
                    .spawn(move || black_box(black_box(part).iter().fold(0, |a: u64, b| a.wrapping_add(*b))));
            }
        });
        start.elapsed().as_secs_f64()
    };
    bytes / (0..8).map(|_| read()).fold(f64::INFINITY, f64::min) / 1e9
}

/// The same input times `copies` weights, so that no cache holds them all.
fn products(format: Format, (rows, cols): (usize, usize), copies: usize) -> Graph {
    let mut g = Builder::default();
    let x = g.value(Rows::Tokens, cols);
    for copy in 0..copies {
        let weight = g.matrix(format!("{} {copy}", format.name()), rows, cols);
        g.matmul(x, weight);
    }
    g.finish()
}

fn attention(layers: usize) -> Graph {
    let mut g = Builder::default();
    let (q, k) = (g.value(Rows::Tokens, 576), g.value(Rows::Tokens, 192));
    let shape = Attention { n_heads: 9, n_kv_heads: 3, head_dim: 64, scale: 0.125, window: 0 };
    for _ in 0..layers {
        let layer = g.kv_layer(192);
        g.kv_write(k, k, layer);
        g.attention(q, layer, shape);
    }
    g.finish()
}

/// Seconds of a step over the last `tokens` of `context` positions, and the bytes of the graph's weights.
fn time(cpu: &Cpu, graph: &Graph, format: Format, tokens: u32, context: u32) -> Result<(f64, f64)> {
    let mut weights = Weights::allocate(graph, &vec![format; graph.weights.len()])?;
    let mut bytes = 0;
    for (i, weight) in graph.weights.iter().enumerate() {
        let blocks = weight.n_rows * weight.n_cols / 32;
        let quants: Vec<u8> = (0..blocks * format.quants_bytes()).map(|i| (i * 31 % 253) as u8).collect();
        let scales = half::f16::from_f32(0.01).to_le_bytes().repeat(blocks * format.scales_bytes() / 2);
        weights.write_blocks(WeightId(i), 0, &quants, &scales);
        bytes += blocks * format.block_bytes();
    }
    let pages = context.div_ceil(PAGE);
    let capacity = Capacity { tokens, outputs: 1, sequences: 1, max_pages: pages, pages };
    let mut executor = Executor::new(cpu, graph, &weights, capacity)?;
    let token = |position| Token { id: 0, position, sequence: 0, cell: position };
    let rows: Vec<Token> = (context - tokens..context).map(token).collect();
    let page_table: Vec<u32> = (0..pages).collect();
    let step = Step { tokens: &rows, outputs: &[], pages: &page_table, max_pages: pages };
    let mut best = f64::INFINITY;
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < 1.0 {
        let start = Instant::now();
        executor.step(&weights, &step, Want::Best)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok((best, bytes as f64))
}
