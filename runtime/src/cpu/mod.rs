//! The CPU: lowers a graph's ops to stages that a pool of threads works through together.
//!
//! [`Cpu`] is the pool, [`Weights`] a model's numbers, [`Executor`] a graph ready to run over them.

mod attention;
#[cfg(feature = "bench")]
pub mod bench;
mod executor;
mod lower;
mod matmul;
mod numbers;
mod pool;
mod run;
mod self_test;
mod simd;
#[cfg(all(test, feature = "gpu"))]
mod tests;
mod weights;

pub use executor::Executor;
pub use pool::Team;
pub use weights::{Weights, check_memory};

use pool::Pool;
use serde::Serialize;
use std::sync::Arc;
use thiserror::Error;

/// What goes wrong on the CPU.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum CpuError {
    /// Memory could not be had.
    #[error("the CPU has not enough memory: {0}")]
    OutOfMemory(String),
    /// A kernel's result differs from the known answer.
    #[error("this browser's CPU code computes wrongly ({kernel}: off by {error:.2e}); it is not used")]
    Wrong {
        /// Which kernel.
        kernel: String,
        /// Largest deviation from the reference.
        error: f32,
    },
    /// A fault of ours.
    #[error("CPU error: {0}")]
    Internal(String),
}

/// What the device is and can.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceInfo {
    /// `CPU`.
    pub name: String,
    /// `cpu`.
    pub backend: String,
    /// Which vector instructions the kernels use.
    pub simd: String,
    /// How many threads work.
    pub threads: usize,
    /// `exact`; or `int8` where activations have 8 bits.
    pub kernels: String,
}

/// The processor, with its threads.
#[derive(Clone, Debug)]
pub struct Cpu {
    pool: Arc<Pool>,
    int8: bool,
}

impl Cpu {
    /// Starts the threads and tests that the kernels compute rightly.
    pub fn open(threads: usize) -> Result<Self, CpuError> {
        self_test::run()?;
        let pool = Pool::start(threads)
            .map_err(|e| CpuError::OutOfMemory(format!("a thread could not be started: {e}")))?;
        Ok(Self { pool: Arc::new(pool), int8: false })
    }

    /// The same with a team whose other threads have been started elsewhere.
    pub fn with_team(team: Arc<Team>) -> Result<Self, CpuError> {
        self_test::run()?;
        Ok(Self { pool: Arc::new(Pool::of(team)), int8: false })
    }

    /// From now on activations of 8 bits do for 4-bit weights, instead of 16, or not: faster, less exact.
    pub fn set_int8(&mut self, int8: bool) {
        self.int8 = int8;
    }

    /// Whether they do.
    pub fn int8(&self) -> bool {
        self.int8
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// What the device is and can.
    pub fn info(&self) -> DeviceInfo {
        DeviceInfo {
            name: "CPU".into(),
            backend: "cpu".into(),
            simd: simd::NAME.into(),
            threads: self.pool.team.threads(),
            kernels: if self.int8 && simd::HAS_DOT_I8 { "int8" } else { "exact" }.into(),
        }
    }
}

/// One thread a core, at most 8: beyond that memory is the limit.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(8))
}
