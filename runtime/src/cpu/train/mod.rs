//! Training on the CPU: computes a training graph and its gradients, see [`crate::train`].
//!
//! Matrices stay as they are for inference, quantised, and are unpacked some thousand numbers at a time, so a
//! loaded model can be trained as it is. Of each layer the input is kept, and what it computes as far as
//! there is memory; the rest is computed again on the way back.

mod attention;
mod head;
mod kernel;
mod ops;
mod product;
mod rows;
mod threads;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use self::head::{Head, Then};
use self::kernel::LANES;
use self::threads::Threads;
use super::{Cpu, CpuError, Weights};
use crate::graph::{Domain, Op, Rope, Token, ValueId};
use crate::train::{Batch, Gradients, OnHost, Teaches, TrainError, TrainingGraph, Walk};
use std::collections::HashMap;

impl From<CpuError> for TrainError {
    fn from(error: CpuError) -> Self {
        Self::Device { code: error.code(), message: error.to_string() }
    }
}

impl Teaches for Cpu {
    type Weights = Weights;
    type Learnt = OnHost;
    type Training<'a> = Training<'a>;

    fn learnt(&self, parameters: Vec<f32>) -> Result<OnHost, TrainError> {
        Ok(OnHost::new(parameters))
    }

    fn training<'a>(
        &self,
        _: &OnHost,
        graph: &'a TrainingGraph,
        weights: &'a Weights,
        kept_bytes: usize,
    ) -> Result<Training<'a>, TrainError> {
        Ok(Training::new(self, graph, weights, kept_bytes)?)
    }
}

/// A training graph on the CPU, over the weights of a model.
#[derive(Debug)]
pub struct Training<'a> {
    threads: Threads,
    graph: &'a TrainingGraph,
    weights: &'a Weights,
    then: Vec<Then>,
    strength: f32,
    /// Floats that may be kept of layers, beside their inputs.
    may_keep: usize,
    /// The rows of the step, filled up to whole blocks of 32.
    tokens: Vec<Token>,
    batch: Batch,
    /// Cosines and sines of each rotary embedding's angles, `[rows / 32][n_rot / 2][2][32]`.
    angles: Vec<(Rope, Vec<f32>)>,
    /// What exists of each value, and of its gradient.
    values: Vec<Option<Vec<f32>>>,
    gradients: Vec<Option<Vec<f32>>>,
    /// For each attention, ln Σ exp(score) of each row of each head.
    sums: HashMap<usize, Vec<f32>>,
    /// Memory that is used again, by its length.
    spare: HashMap<usize, Vec<Vec<f32>>>,
    logits: Vec<f32>,
}

impl<'a> Training<'a> {
    /// `kept_bytes` is how much may be kept of what layers compute: more is faster, and the result is the
    /// same.
    pub fn new(
        cpu: &Cpu,
        graph: &'a TrainingGraph,
        weights: &'a Weights,
        kept_bytes: usize,
    ) -> Result<Self, CpuError> {
        let n_values = graph.graph.values.len();
        let mut then = Vec::new();
        for op in graph.graph.ops.iter().skip(graph.head + 1) {
            match *op {
                Op::Bias { bias, .. } => then.push(Then::Bias(weights.vector(bias)?.to_vec())),
                Op::Unary { f, .. } => then.push(Then::Unary(f)),
                _ => return Err(CpuError::Internal("an op after the logits".into())),
            }
        }
        Ok(Self {
            threads: Threads::new(cpu.pool().clone()),
            graph,
            weights,
            then,
            strength: 1.0,
            may_keep: kept_bytes / size_of::<f32>(),
            tokens: Vec::new(),
            batch: Batch::default(),
            angles: Vec::new(),
            values: vec![None; n_values],
            gradients: vec![None; n_values],
            sums: HashMap::new(),
            spare: HashMap::new(),
            logits: Vec::new(),
        })
    }

    fn n_blocks(&self, domain: Domain) -> usize {
        match domain {
            Domain::Tokens => self.tokens.len() / LANES,
            Domain::Outputs => self.batch.targets.len().div_ceil(LANES),
        }
    }

    /// Zeroes for a value.
    fn zeroes(&mut self, id: ValueId) -> Vec<f32> {
        let n = self.size(id);
        let mut floats = self.spare.get_mut(&n).and_then(Vec::pop).unwrap_or_default();
        floats.clear();
        floats.resize(n, 0.0);
        floats
    }

    fn give_back(&mut self, floats: Option<Vec<f32>>) {
        if let Some(floats) = floats.filter(|floats| !floats.is_empty()) {
            self.spare.entry(floats.len()).or_default().push(floats);
        }
    }

    /// Takes the rows of a step and makes the tables that depend on them.
    fn begin(&mut self, batch: &Batch) -> Result<(), CpuError> {
        for id in 0..self.values.len() {
            self.release(ValueId(id));
        }
        let blocks = [batch.tokens.len(), batch.targets.len()].map(|n| n.div_ceil(LANES));
        if blocks != [Domain::Tokens, Domain::Outputs].map(|domain| self.n_blocks(domain)) {
            self.spare.clear();
        }
        self.batch = batch.clone();
        self.tokens = batch.tokens.clone();
        // Rows that fill up the last block are sequences of their own, which nothing else sees.
        while !self.tokens.len().is_multiple_of(LANES) {
            let sequence = self.tokens.last().map_or(0, |token| token.sequence) + 1;
            self.tokens.push(Token { sequence, ..Token::default() });
        }
        self.angles.clear();
        for op in &self.graph.graph.ops {
            let Op::Rope { rope, .. } = *op else { continue };
            if !self.angles.iter().any(|(known, _)| super::executor::has_same_angles(known, &rope)) {
                let (turns, factors) = (self.weights.vector(rope.turns)?, self.weights.vector(rope.factors)?);
                let table = angles(&self.tokens, &turns[..rope.n_rot / 2], factors, rope.magnitude);
                self.angles.push((rope, table));
            }
        }
        Ok(())
    }

    /// The loss, and with weights the gradient of the hidden rows. `look` sees the logits, see [`Head::run`].
    fn head(
        &mut self,
        weights: Option<&[f32]>,
        look: impl FnMut(&[f32], usize, usize),
    ) -> Result<Vec<f64>, CpuError> {
        let graph = self.graph;
        let Some(Op::MatMul { weight, .. }) = graph.graph.ops.get(graph.head) else {
            return Err(CpuError::Internal("a head without a product".into()));
        };
        let mut gradient = weights.map(|_| self.zeroes(graph.hidden));
        let hidden = self.values[graph.hidden.0].as_deref();
        let hidden = hidden.ok_or_else(|| CpuError::Internal("a loss before its rows".into()))?;
        let head = Head { matrix: self.weights.matrix(*weight)?, then: &self.then };
        let targets = &self.batch.targets;
        let gradients = weights.zip(gradient.as_deref_mut());
        let logprobs = head.run(&mut self.threads, hidden, targets, &mut self.logits, gradients, look)?;
        self.gradients[graph.hidden.0] = gradient;
        Ok(logprobs)
    }
}

impl<'a> Walk<'a> for Training<'a> {
    type Error = CpuError;

    fn graph(&self) -> &'a TrainingGraph {
        self.graph
    }

    fn may_keep(&self) -> usize {
        self.may_keep
    }

    fn size(&self, id: ValueId) -> usize {
        let value = self.graph.graph.value(id);
        value.width * LANES * self.n_blocks(value.domain)
    }

    fn exists(&self, id: ValueId) -> bool {
        self.values[id.0].is_some()
    }

    fn release(&mut self, id: ValueId) {
        let value = self.values[id.0].take();
        self.give_back(value);
        let gradient = self.gradients[id.0].take();
        self.give_back(gradient);
    }

    fn compute(&mut self, op: usize, parameters: &[f32]) -> Result<(), CpuError> {
        self.compute_op(op, parameters)
    }

    fn differentiate(&mut self, op: usize, parameters: &[f32], gradient: &mut [f32]) -> Result<(), CpuError> {
        self.differentiate_op(op, parameters, gradient)
    }
}

impl Gradients for Training<'_> {
    type Learnt = OnHost;

    fn forward(&mut self, batch: &Batch, learnt: &OnHost) -> Result<(), TrainError> {
        batch.check(self.graph)?;
        if batch.targets.is_empty() {
            return Err(TrainError::Example("nothing is to be predicted".into()));
        }
        self.begin(batch)?;
        Ok(self.walk(&learnt.parameters)?)
    }

    async fn logprobs(&mut self) -> Result<Vec<f64>, TrainError> {
        Ok(self.head(None, |_, _, _| {})?)
    }

    async fn backward(&mut self, learnt: &mut OnHost, weights: &[f32]) -> Result<Vec<f64>, TrainError> {
        if weights.len() != self.batch.targets.len() {
            return Err(TrainError::Example(format!("{} weights", weights.len())));
        }
        let logprobs = self.head(Some(weights), |_, _, _| {})?;
        self.walk_back(&learnt.parameters, &mut learnt.gradient)?;
        Ok(logprobs)
    }

    fn set_strength(&mut self, strength: f32) {
        self.strength = strength;
    }

    async fn likeliest(&mut self) -> Result<Vec<u32>, TrainError> {
        let mut likeliest = Vec::new();
        self.head(None, |logits, n_blocks, n_rows| {
            let width = logits.len() / (n_blocks * LANES);
            for row in 0..n_rows {
                let logits = &logits[row / LANES * width * LANES..][..width * LANES];
                let of_row = logits[row % LANES..].iter().step_by(LANES).enumerate();
                // The lowest id wins a tie.
                let best = of_row.rev().max_by(|(_, a), (_, b)| a.total_cmp(b));
                likeliest.push(best.map_or(0, |(id, _)| id as u32));
            }
        })?;
        Ok(likeliest)
    }
}

/// Cosines and sines of the rows' angles, times the magnitude, `[rows / 32][pairs][2][32]`.
fn angles(tokens: &[Token], turns: &[f32], factors: &[f32], magnitude: f32) -> Vec<f32> {
    let mut table = Vec::with_capacity(2 * tokens.len() * turns.len());
    for rows in tokens.chunks(LANES) {
        for (turn, factor) in turns.iter().zip(factors) {
            let angle = |token: &Token| {
                let turn = token.position as f32 * (turn / factor);
                (turn - turn.round()) * std::f32::consts::TAU
            };
            table.extend(rows.iter().map(|token| magnitude * angle(token).cos()));
            table.extend(rows.iter().map(|token| magnitude * angle(token).sin()));
        }
    }
    table
}
