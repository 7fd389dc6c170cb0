//! A graph made ready, and its steps.

use super::attention::Scratch;
use super::lower::{Plan, Stage, lower};
use super::matmul::{Dots, ROWS};
use super::pool::Pool;
use super::run::{ARGMAX_RUN, Local, MAX_TILES, Run, Shared};
use super::weights::{TILE, zeroed};
use super::{Cpu, CpuError, Weights};
use crate::graph::{Best, Capacity, Graph, Op, Step, ValueId, Want, WeightId};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// A graph ready to run.
#[derive(Debug)]
pub struct Executor {
    pool: Arc<Pool>,
    plan: Plan,
    widths: Vec<usize>,
    logits: Option<ValueId>,
    argmax: Option<ValueId>,
    capacity: Capacity,
    values: Vec<f32>,
    /// Keys and values of each layer, and the floats of a position in each.
    kv: Vec<(Vec<u16>, Vec<u16>, usize)>,
    /// Distinct rotary embeddings: turns, factors, and for each row the cosines and sines.
    ropes: Vec<(WeightId, WeightId, Vec<[f32; 2]>)>,
    /// Activations as weights want them.
    prepared: Vec<u8>,
    /// (argmax, its logit, Σ exp) of each run of logits.
    runs: Vec<(usize, f32, f32)>,
    locals: Vec<Local>,
    /// Of each stage, tasks that have been taken: of its preparation, and of itself.
    taken: Vec<[AtomicUsize; 2]>,
    /// Of each output row of the last step.
    pub best: Vec<Best>,
}

impl Executor {
    /// Plans the graph and allocates what it computes on.
    pub fn new(cpu: &Cpu, graph: &Graph, weights: &Weights, capacity: Capacity) -> Result<Self, CpuError> {
        Self::with(cpu, graph, weights, capacity, false)
    }

    pub(super) fn with(
        cpu: &Cpu,
        graph: &Graph,
        weights: &Weights,
        capacity: Capacity,
        keep_values: bool,
    ) -> Result<Self, CpuError> {
        let plan = lower(graph, weights, capacity, keep_values)?;
        let cells = capacity.cells() as usize;
        let mut kv = Vec::new();
        for &width in &graph.kv_widths {
            kv.push((zeroed(cells * width, "keys")?, zeroed(cells * width, "values")?, width));
        }
        let mut ropes: Vec<(WeightId, WeightId, Vec<[f32; 2]>)> = Vec::new();
        for op in &graph.ops {
            if let Op::Rope { turns, factors, rope, .. } = *op
                && !ropes.iter().any(|known| (known.0, known.1) == (turns, factors))
            {
                let table = zeroed(capacity.tokens as usize * (rope.n_rot / 2), "rotary embeddings")?;
                ropes.push((turns, factors, table));
            }
        }
        let row_bytes = plan.stages.iter().map(|stage| match stage {
            Stage::MatMul(matmul) => matmul.row_bytes,
            _ => 0,
        });
        let row_bytes = row_bytes.max().unwrap_or(0);
        let widths: Vec<usize> = graph.values.iter().map(|value| value.width).collect();
        let widest = widths.iter().copied().max().unwrap_or(0);
        let rows = capacity.tokens.max(capacity.outputs) as usize;
        let local = || {
            Ok(Local {
                prepared: zeroed(row_bytes, "activations")?,
                normed: zeroed(widest, "activations")?,
                products: [
                    zeroed(ROWS * MAX_TILES * TILE, "activations")?,
                    zeroed(ROWS * MAX_TILES * TILE, "activations")?,
                ],
                attention: Scratch::default(),
            })
        };
        let n_vocab = graph.logits.map_or(0, |id| widths[id.0]);
        let of_argmax = graph.ops.iter().find_map(|op| match op {
            Op::Argmax { logits, .. } => Some(widths[logits.0]),
            _ => None,
        });
        let n_runs = of_argmax.unwrap_or(n_vocab).div_ceil(ARGMAX_RUN) * capacity.outputs as usize;
        Ok(Self {
            pool: cpu.pool().clone(),
            values: zeroed(plan.n_floats, "activations")?,
            prepared: zeroed(rows * row_bytes, "activations")?,
            runs: vec![(0, 0.0, 0.0); n_runs],
            locals: (0..cpu.info().threads).map(|_| local()).collect::<Result<_, _>>()?,
            taken: plan.stages.iter().map(|_| Default::default()).collect(),
            plan,
            widths,
            logits: graph.logits,
            argmax: graph.argmax,
            capacity,
            kv,
            ropes,
            best: Vec::new(),
        })
    }

    /// What a step may hold.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Stages of a step.
    pub fn stages(&self) -> usize {
        self.plan.stages.len()
    }

    /// Bytes of the KV pool.
    pub fn kv_bytes(&self) -> u64 {
        self.kv.iter().map(|(keys, values, _)| 2 * (keys.len() + values.len()) as u64).sum()
    }

    /// Logits of the last step's first output row.
    pub fn logits(&mut self) -> &mut [f32] {
        match self.logits.and_then(|id| Some((self.plan.places[id.0]?, self.widths[id.0]))) {
            Some((at, n)) => &mut self.values[at..at + n],
            None => &mut [],
        }
    }

    /// A value's floats, all rows that it can have.
    #[cfg(test)]
    pub(super) fn value(&mut self, id: ValueId, n: usize) -> Option<&mut [f32]> {
        let at = self.plan.places[id.0]?;
        Some(&mut self.values[at..at + n])
    }

    /// Runs one step with the weights that the executor was made with; what is wanted of it is then in [`Self::best`] and
    /// [`Self::logits`].
    pub fn step(&mut self, weights: &Weights, step: &Step, want: Want) -> Result<(), CpuError> {
        let Capacity { tokens, outputs, sequences, max_pages, .. } = self.capacity;
        if step.tokens.len() > tokens as usize
            || step.outputs.len() > outputs as usize
            || step.pages.len() > (sequences * max_pages) as usize
            || step.outputs.iter().any(|output| output.row as usize >= step.tokens.len())
            || step.tokens.iter().any(|token| token.cell >= self.capacity.cells())
            || (want != Want::Best && step.outputs.len() != 1)
        {
            return Err(CpuError::Internal("a step beyond the plan's capacity".into()));
        }
        for (turns, factors, table) in &mut self.ropes {
            fill(table, step, weights.vector(*turns)?, weights.vector(*factors)?);
        }
        for counts in &mut self.taken {
            *counts = Default::default();
        }
        let pool = self.pool.clone();
        let threads = pool.team.threads();
        let run = Run {
            plan: &self.plan,
            widths: &self.widths,
            weights,
            step,
            threads,
            dots: Dots::best(),
            meet: &|| pool.team.meet(),
            taken: &self.taken,
            ropes: &self.ropes,
            values: Shared::of(&mut self.values),
            prepared: Shared::of(&mut self.prepared),
            runs: Shared::of(&mut self.runs),
            locals: Shared::of(&mut self.locals),
            kv: self.kv.iter_mut().map(|(k, v, width)| (Shared::of(k), Shared::of(v), *width)).collect(),
        };
        pool.team.run(&|thread| run.all(thread));
        self.best.clear();
        if let Some(at) = self.argmax.and_then(|id| self.plan.places[id.0]) {
            let rows = self.values[at..][..4 * step.outputs.len()].chunks_exact(4);
            self.best.extend(rows.map(|r| Best {
                id: r[0].to_bits(),
                logit: r[1],
                log_sum: r[2],
                target_logit: r[3],
            }));
        }
        Ok(())
    }
}

/// Cosines and sines of a step's rows.
fn fill(table: &mut [[f32; 2]], step: &Step, turns: &[f32], factors: &[f32]) {
    for (row, token) in table.chunks_exact_mut(turns.len().max(1)).zip(step.tokens) {
        for ((out, turn), factor) in row.iter_mut().zip(turns).zip(factors) {
            let turn = token.position as f32 * (turn / factor);
            let (sin, cos) = ((turn - turn.round()) * std::f32::consts::TAU).sin_cos();
            *out = [cos, sin];
        }
    }
}
