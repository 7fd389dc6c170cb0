//! A model's numbers in memory.

use super::CpuError;
use crate::graph::{Graph, WeightId};
use crate::quant::Format;

/// All weights of a graph.
#[derive(Debug)]
pub struct Weights {}

impl Weights {
    /// Allocates every weight of the graph; `formats[i]` is what `graph.weights[i]` is stored in.
    pub fn allocate(_graph: &Graph, _formats: &[Format]) -> Result<Self, CpuError> {
        Err(CpuError::Internal("not built yet".into()))
    }

    /// Writes repacked blocks of a matrix, beginning with its block `first_block`.
    pub fn write_blocks(&mut self, _weight: WeightId, _first_block: usize, _quants: &[u8], _scales: &[u8]) {}

    /// Writes a whole vector.
    pub fn write_vector(&mut self, _weight: WeightId, _numbers: &[f32]) {}
}
