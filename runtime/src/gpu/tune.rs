//! Finds the fastest kernel variants on a device by a short measurement.

use super::{Executor, Gpu, GpuError, Lanes, Variants, Weights, self_test};
use crate::graph::{Builder, Capacity, Domain, Graph, PAGE, Step, Token};
use crate::quant::Format;
use web_time::{Duration, Instant};

/// Columns of the measured projections.
const COLS: usize = 2048;
/// Rows of a prefill step.
const PREFILL: u32 = 128;
/// The time for measuring a candidate, unless one round takes longer.
const TIME: Duration = Duration::from_millis(25);

/// Chooses the fastest kernels of the device's accuracy, in about a second. Software adapters keep the
/// defaults: they are too slow for this measurement.
pub async fn measure(gpu: &mut Gpu) -> Result<(), GpuError> {
    if gpu.info().is_fallback {
        return Ok(());
    }
    let usual = *gpu.variants();
    fastest(gpu, decode_candidates(gpu, usual), 1, &projections(4096, 8)).await?;
    let now = *gpu.variants();
    fastest(gpu, prefill_candidates(gpu, now), PREFILL, &projections(2048, 2)).await?;
    if let Err(GpuError::Wrong { .. }) = self_test::run(gpu).await {
        // The fastest kernels give wrong results; the defaults may not.
        gpu.set_variants(usual);
    }
    Ok(())
}

/// Variants of how many threads share a row of weights, and how.
fn decode_candidates(gpu: &Gpu, now: Variants) -> Vec<Variants> {
    let of = |lanes, n_lanes| Variants { lanes, n_lanes, ..now };
    let shared = [8, 16, 32, 64].map(|n| of(Lanes::Shared, n));
    let most = gpu.info().subgroup_size.min(64);
    let subgroup = [4, 8, 16, 32, 64].into_iter().filter(|n| *n <= most).map(|n| of(Lanes::Subgroup, n));
    let mut all: Vec<Variants> = shared.into_iter().chain(subgroup).collect();
    all.retain(|variants| *variants != now);
    // The current variants come first and stay unless others are clearly faster.
    all.insert(0, now);
    all
}

/// Variants of how prefill stages its tiles.
fn prefill_candidates(gpu: &Gpu, now: Variants) -> Vec<Variants> {
    let mut all = vec![now, Variants { tile: true, f16: false, ..now }];
    if gpu.info().f16 {
        all.push(Variants { tile: true, f16: true, ..now });
    }
    all
}

/// Multiplies the same rows by `copies` matrices. Together they must be too large for the device's caches.
fn projections(n_rows: usize, copies: usize) -> Graph {
    let mut g = Builder::default();
    let x = g.value(Domain::Tokens, COLS);
    for copy in 0..copies {
        let weight = g.matrix(format!("{copy}"), n_rows, COLS);
        g.matmul(x, weight);
    }
    g.finish()
}

/// Sets the variants that run the graph fastest.
async fn fastest(gpu: &mut Gpu, candidates: Vec<Variants>, rows: u32, graph: &Graph) -> Result<(), GpuError> {
    let weights = Weights::allocate(gpu, graph, &vec![Format::Q4_0; graph.weights.len()])?;
    let mut best = (Duration::MAX, *gpu.variants());
    for variants in candidates {
        gpu.set_variants(variants);
        let time = time(gpu, graph, &weights, rows).await?;
        // A gain of less than a tenth is noise.
        if best.0 == Duration::MAX || time < best.0.mul_f32(0.9) {
            best = (time, variants);
        }
    }
    gpu.set_variants(best.1);
    Ok(())
}

/// The time of the fastest round of steps.
async fn time(gpu: &Gpu, graph: &Graph, weights: &Weights, rows: u32) -> Result<Duration, GpuError> {
    let pages = rows.div_ceil(PAGE);
    let capacity = Capacity { tokens: rows, outputs: 1, sequences: 1, max_pages: pages, pages };
    let mut executor = Executor::new(gpu, graph, weights, capacity)?;
    let tokens: Vec<Token> = (0..rows).map(|i| Token { position: i, cell: i, ..Token::default() }).collect();
    let page_table: Vec<u32> = (0..pages).collect();
    let step = Step { tokens: &tokens, outputs: &[], choices: &[], pages: &page_table, max_pages: pages };
    // The first step compiles the kernels.
    executor.step(&step).await?;
    let (start, mut shortest) = (Instant::now(), Duration::MAX);
    loop {
        let round = Instant::now();
        for _ in 0..executor.depth() {
            executor.submit(&step)?;
        }
        executor.drain().await?;
        shortest = shortest.min(round.elapsed());
        if start.elapsed() > TIME {
            return Ok(shortest);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::gpu::{Accuracy, Options};

    /// The fastest kernels pass the self-test and have the accuracy that was asked for.
    #[test]
    fn the_fastest_kernels_are_correct() {
        for (words, accuracy) in [("exact", Accuracy::Exact), ("int8", Accuracy::Int8)] {
            pollster::block_on(async {
                let options = Options { kernels: words.into(), ..Default::default() };
                let mut gpu = Gpu::open(options).await.unwrap();
                gpu.pretend(|info| info.is_fallback = false);
                measure(&mut gpu).await.unwrap();
                assert_eq!(gpu.variants().accuracy, accuracy);
                let words = gpu.variants().to_string();
                assert_eq!(Variants::parse(&words, gpu.info()).map(|v| v.to_string()), Ok(words));
                self_test::run(&gpu).await.unwrap();
            });
        }
    }

    #[test]
    fn candidates_fit_the_device() {
        let gpu = pollster::block_on(Gpu::open(Options::default())).unwrap();
        let now = *gpu.variants();
        for variants in decode_candidates(&gpu, now).into_iter().chain(prefill_candidates(&gpu, now)) {
            let words = variants.to_string();
            assert_eq!(Variants::parse(&words, gpu.info()).map(|v| v.to_string()), Ok(words));
        }
        assert_eq!(decode_candidates(&gpu, now)[0], now);
    }
}
