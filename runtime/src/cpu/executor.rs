//! Runs steps of a lowered graph.

use super::{Cpu, CpuError, Weights};
use crate::graph::{Best, Capacity, Graph, Step, Want};

/// A graph ready to run.
#[derive(Debug)]
pub struct Executor {
    capacity: Capacity,
    logits: Vec<f32>,
    /// Of each output row of the last step.
    pub best: Vec<Best>,
}

impl Executor {
    /// Plans the graph and allocates what it computes on.
    pub fn new(_cpu: &Cpu, _graph: &Graph, capacity: Capacity) -> Result<Self, CpuError> {
        Ok(Self { capacity, logits: Vec::new(), best: Vec::new() })
    }

    /// What a step may hold.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Runs one step.
    pub fn step(&mut self, _weights: &Weights, _step: &Step, _want: Want) -> Result<(), CpuError> {
        Err(CpuError::Internal("not built yet".into()))
    }

    /// Of the last step's output row.
    pub fn logits(&mut self) -> &mut [f32] {
        &mut self.logits
    }

    /// Stages of a step.
    pub fn stages(&self) -> usize {
        0
    }

    /// Bytes of the KV pool.
    pub fn kv_bytes(&self) -> u64 {
        0
    }
}
