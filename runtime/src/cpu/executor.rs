//! A graph made ready, and its steps.

use super::attention::Scratch;
use super::lower::{Plan, Stage, lower};
use super::matmul::{Dots, ROWS};
use super::pool::Pool;
use super::run::{LIKELIEST_RUN, Local, MAX_TILES, Run, Shared};
use super::weights::{TILE, zeroed};
use super::{Cpu, CpuError, Weights};
use crate::graph::{Capacity, Chosen, Graph, Op, Rope, Step, Token};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// A graph ready to run.
#[derive(Debug)]
pub struct Executor {
    pool: Arc<Pool>,
    graph: Graph,
    plan: Plan,
    capacity: Capacity,
    values: Vec<f32>,
    kv: Vec<Kv>,
    /// Rotary embeddings with different frequencies, each with the cosines and sines of every row.
    ropes: Vec<(Rope, Vec<[f32; 2]>)>,
    /// Activations in the forms that weights need.
    prepared: Vec<u8>,
    /// For each run of logits: the index of the greatest, that logit, and Σ exp.
    runs: Vec<(usize, f32, f32)>,
    locals: Vec<Local>,
    /// For each stage, how many tasks are taken: of its preparation, and of the stage itself.
    taken: Vec<[AtomicUsize; 2]>,
    /// The rows of a step, with the token ids that slots stand for.
    tokens: Vec<Token>,
    slots: Vec<Slot>,
    /// A copy of a row of logits, which a choice adjusts.
    adjusted: Vec<f32>,
    /// What the last step says of each output.
    pub chosen: Vec<Chosen>,
}

/// A layer of the KV pool.
#[derive(Debug)]
struct Kv {
    keys: Vec<u16>,
    values: Vec<u16>,
}

/// What is kept from step to step for the outputs of a slot.
#[derive(Clone, Debug, Default)]
struct Slot {
    /// The token that was chosen last.
    token: u32,
    /// See [`crate::graph::Choice::choose`].
    seen: Vec<u32>,
    bias: Vec<f32>,
    mask: Vec<u32>,
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
        for cache in &graph.caches {
            kv.push(Kv {
                keys: zeroed(cells * cache.keys, "keys")?,
                values: zeroed(cells * cache.values, "values")?,
            });
        }
        let mut ropes: Vec<(Rope, Vec<[f32; 2]>)> = Vec::new();
        for op in &graph.ops {
            if let Op::Rope { rope, .. } = *op
                && !ropes.iter().any(|(known, _)| has_same_angles(known, &rope))
            {
                let table = zeroed(capacity.tokens as usize * (rope.n_rot / 2), "rotary embeddings")?;
                ropes.push((rope, table));
            }
        }
        let row_bytes = plan.stages.iter().map(|stage| match stage {
            Stage::Products(products) => products.row_bytes,
            Stage::Rows { .. } | Stage::Attention(_) | Stage::Likeliest(_) => 0,
        });
        let row_bytes = row_bytes.max().unwrap_or(0);
        let widest = graph.values.iter().map(|value| value.width).max().unwrap_or(0);
        let rows = capacity.tokens.max(capacity.outputs) as usize;
        let local = || -> Result<Local, CpuError> {
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
        let n_runs = graph.n_vocab().div_ceil(LIKELIEST_RUN) * capacity.outputs as usize;
        Ok(Self {
            pool: cpu.pool().clone(),
            values: zeroed(plan.n_floats, "activations")?,
            prepared: zeroed(rows * row_bytes, "activations")?,
            runs: vec![(0, 0.0, 0.0); n_runs],
            locals: (0..cpu.info().threads).map(|_| local()).collect::<Result<_, _>>()?,
            taken: plan.stages.iter().map(|_| Default::default()).collect(),
            adjusted: zeroed(graph.n_vocab(), "logits")?,
            slots: vec![Slot::default(); capacity.sequences as usize],
            tokens: Vec::new(),
            chosen: Vec::new(),
            graph: graph.clone(),
            plan,
            capacity,
            kv,
            ropes,
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
        self.kv.iter().map(|kv| 2 * (kv.keys.len() + kv.values.len()) as u64).sum()
    }

    /// Copies the keys and values of a page to another; pages that are not in the pool are left alone.
    pub fn copy_page(&mut self, from: u32, to: u32) {
        if from.max(to) >= self.capacity.pages {
            return;
        }
        for kv in &mut self.kv {
            for half in [&mut kv.keys, &mut kv.values] {
                let n = half.len() / self.capacity.pages as usize;
                half.copy_within(from as usize * n..(from as usize + 1) * n, to as usize * n);
            }
        }
    }

    /// Sets what the choices of a slot's outputs are adjusted by: a number for each token, or none where
    /// nothing is adjusted. From then on chosen tokens are counted in `seen`.
    pub fn set_slot(&mut self, slot: u32, seen: &[u32], bias: &[f32]) {
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.seen = seen.to_vec();
            slot.bias = bias.to_vec();
        }
    }

    /// Sets the tokens that masked choices of a slot's outputs may take: see [`crate::graph::allows`].
    pub fn set_mask(&mut self, slot: u32, mask: &[u32]) {
        if let Some(slot) = self.slots.get_mut(slot as usize) {
            slot.mask.clear();
            slot.mask.extend_from_slice(mask);
        }
    }

    /// The logits of an output of the last step.
    pub fn logits(&self, output: usize) -> &[f32] {
        let n = self.graph.n_vocab();
        let place = self.graph.logits.and_then(|id| self.plan.places[id.0]);
        let row = place.and_then(|at| self.values.get(at + output * n..)?.get(..n));
        row.filter(|_| output < self.chosen.len()).unwrap_or_default()
    }

    /// The first `n` floats of a value's place.
    #[cfg(test)]
    pub(super) fn value(&mut self, id: crate::graph::ValueId, n: usize) -> Option<&mut [f32]> {
        let at = self.plan.places[id.0]?;
        Some(&mut self.values[at..at + n])
    }

    /// Where a value lies.
    #[cfg(test)]
    pub(super) fn place(&self, id: crate::graph::ValueId) -> Option<usize> {
        self.plan.places[id.0]
    }

    /// Runs a step with the weights that the executor was made with. What it says of its outputs is then in
    /// [`Self::chosen`] and [`Self::logits`].
    pub fn step(&mut self, weights: &Weights, step: &Step) -> Result<(), CpuError> {
        step.check(&self.graph, self.capacity)?;
        self.tokens.clear();
        self.tokens.extend(step.tokens.iter().map(|token| match token.id & Token::FROM_SLOT {
            0 => *token,
            bit => Token { id: self.slots[(token.id - bit) as usize].token, ..*token },
        }));
        self.chosen.clear();
        if self.graph.logits.is_some() {
            self.chosen.resize(step.outputs.len(), Chosen::default());
        }
        let by_likelihood = (0..step.outputs.len()).filter(|i| step.outputs[*i].by_choice == 0);
        let by_likelihood: Vec<usize> = by_likelihood.collect();
        for (rope, table) in &mut self.ropes {
            fill(table, step, weights.vector(rope.turns)?, weights.vector(rope.factors)?, rope.magnitude);
        }
        for counts in &mut self.taken {
            *counts = Default::default();
        }
        let pool = self.pool.clone();
        let run = Run {
            plan: &self.plan,
            graph: &self.graph,
            weights,
            step: &Step { tokens: &self.tokens, ..*step },
            threads: pool.team.threads(),
            dots: Dots::best(),
            meet: &|| pool.team.meet(),
            taken: &self.taken,
            ropes: &self.ropes,
            by_likelihood: &by_likelihood,
            values: Shared::of(&mut self.values),
            prepared: Shared::of(&mut self.prepared),
            runs: Shared::of(&mut self.runs),
            locals: Shared::of(&mut self.locals),
            chosen: Shared::of(&mut self.chosen),
            kv: self.kv.iter_mut().map(Kv::shared).collect(),
        };
        pool.team.run(&|thread| run.all(thread))?;
        self.choose(step);
        Ok(())
    }

    /// Chooses the tokens of the outputs that have a choice, and puts every token into its slot.
    fn choose(&mut self, step: &Step) {
        let n = self.graph.n_vocab();
        let Some(at) = self.graph.logits.and_then(|id| self.plan.places[id.0]) else { return };
        for (i, output) in step.outputs.iter().enumerate() {
            let Some(slot) = self.slots.get_mut(output.slot as usize) else { continue };
            if output.by_choice == 1 {
                self.adjusted.copy_from_slice(&self.values[at + i * n..][..n]);
                let id = step.choices[i].choose(&mut self.adjusted, &slot.seen, &slot.bias, &slot.mask);
                if let Some(seen) = slot.seen.get_mut(id as usize) {
                    *seen += 1;
                }
                self.chosen[i] = Chosen { id, ..Default::default() };
            }
            slot.token = self.chosen[i].id;
        }
    }
}

impl Kv {
    fn shared(&mut self) -> [Shared<u16>; 2] {
        [Shared::of(&mut self.keys), Shared::of(&mut self.values)]
    }
}

/// Whether two rotary embeddings turn by the same angles.
pub(super) fn has_same_angles(a: &Rope, b: &Rope) -> bool {
    (a.turns, a.factors, a.n_rot, a.magnitude) == (b.turns, b.factors, b.n_rot, b.magnitude)
}

/// Cosines and sines of a step's rows, times the magnitude.
fn fill(table: &mut [[f32; 2]], step: &Step, turns: &[f32], factors: &[f32], magnitude: f32) {
    for (row, token) in table.chunks_exact_mut(turns.len().max(1)).zip(step.tokens) {
        for ((out, turn), factor) in row.iter_mut().zip(turns).zip(factors) {
            let turn = token.position as f32 * (turn / factor);
            let (sin, cos) = ((turn - turn.round()) * std::f32::consts::TAU).sin_cos();
            *out = [magnitude * cos, magnitude * sin];
        }
    }
}
