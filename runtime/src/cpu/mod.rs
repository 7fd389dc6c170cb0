//! The CPU: lowers a graph's ops to stages that a pool of threads works through together.
//!
//! [`Cpu`] is the pool, [`Weights`] a model's numbers, [`Executor`] a graph ready to run over them.

mod activations;
mod attention;
#[cfg(feature = "bench")]
pub mod bench;
mod executor;
mod grids;
mod kv;
mod lower;
mod matmul;
mod numbers;
mod pool;
mod run;
mod scales;
mod self_test;
mod simd;
#[cfg(test)]
mod tests;
pub mod train;
mod unpack;
mod weights;

pub use executor::Executor;
pub use pool::Team;
pub use weights::{Weights, check_memory};

use crate::graph::step::StepError;
use pool::Pool;
use serde::Serialize;
use std::sync::Arc;
use thiserror::Error;

/// What goes wrong on the CPU.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum CpuError {
    /// Memory could not be allocated.
    #[error("not enough memory on the CPU: {0}")]
    OutOfMemory(String),
    /// A kernel's result differs from the known answer.
    #[error("the CPU gives wrong results ({kernel}: off by {error:.2e}) and cannot be used")]
    Wrong {
        /// Which kernel.
        kernel: String,
        /// Largest deviation from the reference.
        error: f32,
    },
    /// A step that the executor cannot run.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A thread failed within a step. No further step can run on these threads.
    #[error("a thread of the CPU stopped unexpectedly; load the model again")]
    Thread,
    /// A bug in this program.
    #[error("internal CPU error: {0}")]
    Internal(String),
}

impl CpuError {
    /// The code by which the package chooses its error class.
    pub fn code(&self) -> &'static str {
        match self {
            Self::OutOfMemory(_) => "out_of_memory",
            Self::Wrong { .. } => "device_wrong",
            Self::Thread | Self::Step(_) | Self::Internal(_) => "internal",
        }
    }
}

/// What the CPU is and can do.
#[derive(Clone, Debug, Serialize)]
pub struct CpuInfo {
    /// `CPU`.
    pub name: String,
    /// `cpu`.
    pub backend: String,
    /// Which vector instructions the kernels use.
    pub simd: String,
    /// How many threads it computes on.
    pub threads: usize,
    /// `exact`, or `int8` where activations have 8 bits.
    pub kernels: String,
}

/// The processor, with its threads.
#[derive(Clone, Debug)]
pub struct Cpu {
    pool: Arc<Pool>,
    int8: bool,
}

impl Cpu {
    /// Starts the threads and tests that the kernels give right results.
    pub fn open(threads: usize) -> Result<Self, CpuError> {
        self_test::run()?;
        let pool = Pool::start(threads)
            .map_err(|e| CpuError::OutOfMemory(format!("a thread could not be started: {e}")))?;
        Ok(Self { pool: Arc::new(pool), int8: false })
    }

    /// The same on a team whose other threads have been started elsewhere.
    pub fn with_team(team: Arc<Team>) -> Result<Self, CpuError> {
        self_test::run()?;
        Ok(Self { pool: Arc::new(Pool::of(team)), int8: false })
    }

    /// Chooses whether activations have 8 bits instead of 16 where weights have 4: faster, but less exact.
    /// Weights that are allocated later follow it.
    pub fn set_int8(&mut self, int8: bool) {
        self.int8 = int8;
    }

    /// Whether activations have 8 bits where weights have 4.
    pub fn int8(&self) -> bool {
        self.int8
    }

    fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// What the CPU is and can do.
    pub fn info(&self) -> CpuInfo {
        CpuInfo {
            name: "CPU".into(),
            backend: "cpu".into(),
            simd: simd::NAME.into(),
            threads: self.pool.team.threads(),
            kernels: if self.int8 && simd::HAS_DOT_I8 { "int8" } else { "exact" }.into(),
        }
    }
}

/// One thread for each core, at most 8: with more, memory is the limit.
pub fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(8))
}
