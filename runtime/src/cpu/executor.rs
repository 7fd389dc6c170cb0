//! A graph made ready, and its steps.

use super::activations::Dots;
use super::lower::{Plan, Stage, lower};
use super::matmul::ROWS;
use super::pool::Pool;
use super::run::{LIKELIEST_RUN, Local, MAX_TILES, Run, Shared, Taken, n_parts};
use super::weights::{TILE, zeroed};
use super::{Cpu, CpuError, Weights};
use crate::graph::{Capacity, Chosen, Graph, Op, Rope, Step, Token};
use std::collections::HashMap;
use std::sync::Arc;

/// A graph ready to run.
#[derive(Debug)]
pub struct Executor {
    pool: Arc<Pool>,
    base: Planned,
    /// The same model with low-rank paths, by number.
    adapted: HashMap<u32, (Planned, Weights)>,
    /// Which of them runs; none: the base.
    selected: Option<u32>,
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
    /// Parts of attention.
    parts: Vec<f32>,
    /// The rows of a step, with the token ids that slots stand for.
    tokens: Vec<Token>,
    slots: Vec<Slot>,
    /// A copy of a row of logits, which a choice adjusts.
    adjusted: Vec<f32>,
    /// What the last step says of each output.
    pub chosen: Vec<Chosen>,
}

/// A graph and its plan.
#[derive(Debug)]
struct Planned {
    graph: Graph,
    plan: Plan,
    /// For each stage, how many tasks are taken: of its preparation, and of the stage itself.
    taken: Vec<[Taken; 2]>,
}

impl Planned {
    fn new(
        graph: &Graph,
        weights: &Weights,
        capacity: Capacity,
        keep_values: bool,
        threads: usize,
    ) -> Result<Self, CpuError> {
        let plan = lower(graph, weights, capacity, keep_values)?;
        let taken = plan.stages.iter().map(|_| [(); 2].map(|()| Taken::new(threads))).collect();
        Ok(Self { graph: graph.clone(), plan, taken })
    }

    /// Bytes of a row of prepared activations at most.
    fn row_bytes(&self) -> usize {
        let row_bytes = self.plan.stages.iter().map(|stage| match stage {
            Stage::Products(products) => products.row_bytes,
            Stage::Experts(mix) => mix.row_bytes * mix.per_row,
            Stage::Rows { .. } | Stage::Attention(_) | Stage::Likeliest(_) => 0,
        });
        row_bytes.max().unwrap_or(0)
    }

    fn widest(&self) -> usize {
        self.graph.values.iter().map(|value| value.width).max().unwrap_or(0)
    }
}

/// A layer of the KV pool, in words of its format.
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
        let base = Planned::new(graph, weights, capacity, keep_values, cpu.pool().team.threads())?;
        let cells = capacity.cells() as usize;
        let mut kv = Vec::new();
        for cache in &graph.caches {
            kv.push(Kv {
                keys: zeroed(cells * cache.format.words(cache.keys), "keys")?,
                values: zeroed(cells * cache.format.words(cache.values), "values")?,
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
        let local = || -> Result<Local, CpuError> {
            let products = || zeroed(ROWS * MAX_TILES * TILE, "activations");
            Ok(Local { products: [products()?, products()?], ..Local::default() })
        };
        let n_runs = graph.n_vocab().div_ceil(LIKELIEST_RUN) * capacity.outputs as usize;
        let mut executor = Self {
            pool: cpu.pool().clone(),
            values: Vec::new(),
            prepared: Vec::new(),
            runs: vec![(0, 0.0, 0.0); n_runs],
            locals: (0..cpu.info().threads).map(|_| local()).collect::<Result<_, _>>()?,
            parts: Vec::new(),
            adjusted: zeroed(graph.n_vocab(), "logits")?,
            slots: vec![Slot::default(); capacity.sequences as usize],
            tokens: Vec::new(),
            chosen: Vec::new(),
            adapted: HashMap::new(),
            selected: None,
            capacity,
            kv,
            ropes,
            base,
        };
        let needs = (executor.base.plan.n_floats, executor.base.row_bytes(), executor.base.widest());
        executor.make_room(needs)?;
        Ok(executor)
    }

    /// Allocates what plans with so many floats, bytes of a prepared row and floats of the widest value
    /// compute on, where there is less.
    fn make_room(&mut self, (n_floats, row_bytes, widest): (usize, usize, usize)) -> Result<(), CpuError> {
        let rows = self.capacity.tokens.max(self.capacity.outputs) as usize;
        at_least(&mut self.values, n_floats)?;
        at_least(&mut self.prepared, rows * row_bytes)?;
        for local in &mut self.locals {
            at_least(&mut local.prepared, row_bytes)?;
            at_least(&mut local.normed, widest)?;
        }
        Ok(())
    }

    /// Adds the model with low-rank paths, over the same KV pool, under a number. `weights` are those of its
    /// graph.
    pub fn add(&mut self, number: u32, graph: &Graph, weights: Weights) -> Result<(), CpuError> {
        let planned = Planned::new(graph, &weights, self.capacity, false, self.pool.team.threads())?;
        self.make_room((planned.plan.n_floats, planned.row_bytes(), planned.widest()))?;
        self.adapted.insert(number, (planned, weights));
        Ok(())
    }

    /// Frees what [`Self::add`] added.
    pub fn remove(&mut self, number: u32) {
        self.adapted.remove(&number);
        self.selected = self.selected.filter(|selected| *selected != number);
    }

    /// Chooses what the next steps run: what was added under a number, or the base.
    pub fn select(&mut self, number: Option<u32>) {
        self.selected = number.filter(|number| self.adapted.contains_key(number));
    }

    /// The graph as it was before paths were added.
    pub fn graph(&self) -> &Graph {
        &self.base.graph
    }

    fn planned(&self) -> &Planned {
        let adapted = self.selected.and_then(|number| self.adapted.get(&number));
        adapted.map_or(&self.base, |(planned, _)| planned)
    }

    /// What a step may hold.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// Stages of a step.
    pub fn stages(&self) -> usize {
        self.planned().plan.stages.len()
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

    /// The keys and values of a page: of each cache its keys, then its values.
    pub fn read_page(&self, page: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        for half in self.kv.iter().flat_map(|kv| [&kv.keys, &kv.values]) {
            let n = half.len() / self.capacity.pages as usize;
            let numbers = half.get(page as usize * n..(page as usize + 1) * n).unwrap_or_default();
            bytes.extend_from_slice(bytemuck::cast_slice(numbers));
        }
        bytes
    }

    /// Sets the keys and values of a page; bytes of another length than [`Self::read_page`] gives are left
    /// alone.
    pub fn write_page(&mut self, page: u32, mut bytes: &[u8]) {
        if page >= self.capacity.pages
            || bytes.len() as u64 != self.kv_bytes() / u64::from(self.capacity.pages)
        {
            return;
        }
        for half in self.kv.iter_mut().flat_map(|kv| [&mut kv.keys, &mut kv.values]) {
            let n = half.len() / self.capacity.pages as usize;
            let numbers = bytemuck::cast_slice_mut(&mut half[page as usize * n..(page as usize + 1) * n]);
            let (its, rest) = bytes.split_at(numbers.len());
            numbers.copy_from_slice(its);
            bytes = rest;
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
        let Planned { graph, plan, .. } = self.planned();
        let n = graph.n_vocab();
        let place = graph.logits.and_then(|id| plan.places[id.0]);
        let row = place.and_then(|at| self.values.get(at + output * n..)?.get(..n));
        row.filter(|_| output < self.chosen.len()).unwrap_or_default()
    }

    /// The first `n` floats of a value's place.
    #[cfg(test)]
    pub(super) fn value(&mut self, id: crate::graph::ValueId, n: usize) -> Option<&mut [f32]> {
        let at = self.base.plan.places[id.0]?;
        Some(&mut self.values[at..at + n])
    }

    /// Where a value lies.
    #[cfg(test)]
    pub(super) fn place(&self, id: crate::graph::ValueId) -> Option<usize> {
        self.base.plan.places[id.0]
    }

    /// Runs a step with the weights that the executor was made with, or those of what is selected. What it
    /// says of its outputs is then in [`Self::chosen`] and [`Self::logits`].
    pub fn step(&mut self, weights: &Weights, step: &Step) -> Result<(), CpuError> {
        let adapted = self.selected.and_then(|number| self.adapted.get_mut(&number));
        let (Planned { graph, plan, taken }, weights) = match adapted {
            Some((planned, weights)) => (planned, &*weights),
            None => (&mut self.base, weights),
        };
        step.check(graph, self.capacity)?;
        self.tokens.clear();
        self.tokens.extend(step.tokens.iter().map(|token| match token.id & Token::FROM_SLOT {
            0 => *token,
            bit => Token { id: self.slots[(token.id - bit) as usize].token, ..*token },
        }));
        self.chosen.clear();
        if graph.logits.is_some() {
            self.chosen.resize(step.outputs.len(), Chosen::default());
        }
        let by_likelihood = (0..step.outputs.len()).filter(|i| step.outputs[*i].by_choice == 0);
        let by_likelihood: Vec<usize> = by_likelihood.collect();
        for (rope, table) in &mut self.ropes {
            fill(table, step, weights.vector(rope.turns)?, weights.vector(rope.factors)?, rope.magnitude);
        }
        taken.iter_mut().flatten().for_each(Taken::clear);
        let pool = self.pool.clone();
        let n_parts = n_parts(&graph.ops, &self.tokens, pool.team.threads());
        at_least(&mut self.parts, n_parts)?;
        let run = Run {
            plan,
            graph,
            weights,
            step: &Step { tokens: &self.tokens, ..*step },
            threads: pool.team.threads(),
            dots: Dots::best(),
            meet: &|| pool.team.meet(),
            taken,
            ropes: &self.ropes,
            by_likelihood: &by_likelihood,
            values: Shared::of(&mut self.values),
            prepared: Shared::of(&mut self.prepared),
            runs: Shared::of(&mut self.runs),
            locals: Shared::of(&mut self.locals),
            parts: Shared::of(&mut self.parts[..n_parts]),
            chosen: Shared::of(&mut self.chosen),
            kv: self.kv.iter_mut().map(Kv::shared).collect(),
        };
        pool.team.run(&|thread| run.all(thread))?;
        self.choose(step);
        Ok(())
    }

    /// Chooses the tokens of the outputs that have a choice, and puts every token into its slot.
    fn choose(&mut self, step: &Step) {
        let Planned { graph, plan, .. } = self.planned();
        let n = graph.n_vocab();
        let Some(at) = graph.logits.and_then(|id| plan.places[id.0]) else { return };
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

/// Makes it so long at least; what was in it is lost.
fn at_least<T: bytemuck::Zeroable + Copy>(numbers: &mut Vec<T>, n: usize) -> Result<(), CpuError> {
    if numbers.len() < n {
        *numbers = Vec::new();
        *numbers = zeroed(n, "activations")?;
    }
    Ok(())
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
