//! Tasks shared out to the threads of the pool.

use super::attention;
use super::kernel::Vectors;
use crate::cpu::CpuError;
use crate::cpu::pool::Pool;
use crate::cpu::run::{Shared, Taken, Tasks};
use crate::cpu::weights::Unpacking;
use std::sync::Arc;

/// What a thread has for itself.
#[derive(Debug, Default)]
pub struct Scratch {
    /// A part of the left matrix of a product.
    pub pack: Vec<f32>,
    /// Results of LoRA's first matrix.
    pub low: Vec<f32>,
    /// Products of some rows with some tiles.
    pub products: Vec<f32>,
    pub unpacking: Unpacking,
    pub attention: attention::Scratch,
}

/// The pool and what each of its threads needs.
#[derive(Debug)]
pub struct Threads {
    pool: Arc<Pool>,
    pub vectors: Vectors,
    /// Rows in the form that the weights of a product need.
    pub prepared: Vec<u8>,
    taken: Taken,
    scratch: Vec<Scratch>,
}

impl Threads {
    pub fn new(pool: Arc<Pool>) -> Self {
        let threads = pool.team.threads();
        let scratch = (0..threads).map(|_| Scratch::default()).collect();
        Self { pool, vectors: Vectors::find(), prepared: Vec::new(), taken: Taken::new(threads), scratch }
    }

    /// Does so many tasks. What each computes does not depend on the thread that takes it.
    pub fn each(
        &mut self,
        n_tasks: usize,
        task: impl Fn(usize, Vectors, &mut Scratch) + Sync,
    ) -> Result<(), CpuError> {
        self.taken.clear();
        let (taken, vectors, scratch) = (&self.taken, self.vectors, Shared::of(&mut self.scratch));
        self.pool.team.run(&|thread| {
            // SAFETY: each thread has its own.
            let scratch = &mut unsafe { scratch.part(thread, 1) }[0];
            Tasks { taken, thread }.of(n_tasks).for_each(|i| task(i, vectors, scratch));
            Ok(())
        })
    }

    /// A task for each chunk of so many floats; the last may be shorter.
    pub fn each_chunk(
        &mut self,
        floats: &mut [f32],
        len: usize,
        task: impl Fn(usize, &mut [f32], Vectors, &mut Scratch) + Sync,
    ) -> Result<(), CpuError> {
        let n = floats.len();
        let parts = Shared::of(floats);
        self.each(n.div_ceil(len.max(1)), |i, vectors, scratch| {
            // SAFETY: each chunk is one task's alone.
            let part = unsafe { parts.part(i * len, len.min(n - i * len)) };
            task(i, part, vectors, scratch);
        })
    }
}
