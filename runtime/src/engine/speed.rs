//! How fast a device can be expected to write, measured before there is a model: by products with matrices of
//! zeros.

use super::{Device, DeviceModel, Error};
use crate::graph::{Builder, Capacity, Domain, Graph, Step, Token};
use crate::quant::Format;
use serde::Serialize;
use web_time::{Duration, Instant};

/// Rows and columns of the matrices that are read.
const WIDTH: usize = 2048;
/// Those of matrices whose product takes no time but that of an op.
const SMALL: usize = 64;
/// Products of a token, roughly: models from 100M to 10B weights have 24 to 40 layers of five to seven
/// dispatches.
const OPS: usize = 200;
/// Each figure is the best of so many batches of steps, which together take a quarter of a second.
const BATCHES: usize = 4;
const BATCH: Duration = Duration::from_millis(60);

/// What a token takes on a device: `seconds_per_token`, and the time in which its weights are read.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Speed {
    /// Bytes of weights that are read in a second.
    pub bytes_per_second: f64,
    /// Seconds for a token's ops, however little they read.
    pub seconds_per_token: f64,
}

/// Measures a device in half a second, with so many bytes of weights: more than its caches hold.
pub async fn measure_speed<D: Device>(device: &D, bytes: usize) -> Result<Speed, Error> {
    let matrix = Format::Q4_0.block_bytes() * WIDTH * WIDTH / Format::Q4_0.block_len();
    let n = bytes.div_ceil(matrix).max(1);
    let ops = time(device, &chain(OPS, SMALL)).await?;
    let whole = time(device, &chain(n, WIDTH)).await?;
    // What is left after the ops' own time, but not less than noise allows.
    let reading = (whole - ops * n as f64 / OPS as f64).max(whole / 4.0);
    Ok(Speed { bytes_per_second: (n * matrix) as f64 / reading, seconds_per_token: ops })
}

/// Products that wait for each other, as most of a model's do.
fn chain(n: usize, width: usize) -> Graph {
    let mut g = Builder::default();
    let mut x = g.value(Domain::Tokens, width);
    for i in 0..n {
        let weight = g.matrix(format!("{i}"), width, width);
        x = g.matmul(x, weight);
    }
    g.finish()
}

/// Seconds of a step of one row.
async fn time<D: Device>(device: &D, graph: &Graph) -> Result<f64, Error> {
    let capacity = Capacity { tokens: 1, outputs: 1, sequences: 1, max_pages: 1, pages: 1 };
    let mut model = device.allocate(graph, &vec![Format::Q4_0; graph.weights.len()], capacity)?;
    let tokens = [Token::default()];
    let step = Step { tokens: &tokens, outputs: &[], choices: &[], pages: &[0], max_pages: 1 };
    // The first step compiles the kernels.
    model.submit(&step)?;
    model.drain().await?;
    let mut best = f64::INFINITY;
    for _ in 0..BATCHES {
        let (start, mut steps) = (Instant::now(), 0_u32);
        while start.elapsed() < BATCH {
            for _ in 0..model.depth() {
                model.submit(&step)?;
                steps += 1;
            }
            model.drain().await?;
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(steps));
    }
    Ok(best)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::graph::Op;

    #[test]
    fn each_product_waits_for_the_one_before() {
        let graph = chain(3, SMALL);
        let mut before = None;
        for op in &graph.ops {
            let Op::MatMul { x, out, .. } = op else { panic!("{op:?}") };
            assert!(before.is_none_or(|before| before == *x));
            before = Some(*out);
        }
        assert_eq!((graph.ops.len(), graph.weights.len()), (3, 3));
    }

    fn check<D: Device>(device: &D) {
        let speed = pollster::block_on(measure_speed(device, 1 << 20)).unwrap();
        assert!(speed.bytes_per_second.is_finite() && speed.bytes_per_second > 0.0, "{speed:?}");
        assert!(speed.seconds_per_token.is_finite() && speed.seconds_per_token > 0.0, "{speed:?}");
    }

    #[cfg(feature = "cpu")]
    #[test]
    fn the_cpu_is_measured() {
        check(&crate::cpu::Cpu::open(2).unwrap());
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn a_gpu_is_measured() {
        check(&pollster::block_on(crate::gpu::Gpu::open(crate::gpu::Options::default())).unwrap());
    }
}
