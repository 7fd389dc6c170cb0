//! Which ops of a graph run as one dispatch in steps of one row, where dispatches cost more than arithmetic: projections with the norm
//! before them and with what follows.

use crate::graph::{Graph, Op, Rope, ValueId, WeightId};

/// An RMSNorm that is done by whoever reads its result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Norm {
    pub weight: WeightId,
    pub eps: f32,
}

/// What one dispatch does. `x` is normed first where there is a norm.
#[derive(Clone, Debug)]
pub(super) enum Fused {
    /// An op by itself.
    Op(Op),
    /// `out = x · weightᵀ`
    Project { x: ValueId, norm: Norm, weight: WeightId, out: ValueId },
    /// `out = residual + x · weightᵀ`
    Residual { x: ValueId, weight: WeightId, residual: ValueId, out: ValueId },
    /// `out = swiglu(x · gateᵀ, x · upᵀ)`; the weights are `[gate, up]`.
    GateUp { x: ValueId, norm: Option<Norm>, weights: [WeightId; 2], out: ValueId },
    /// Queries, turned, in `out`; keys, turned, and values in the KV pool. The weights are `[q, k, v]`.
    Qkv(Qkv),
}

#[derive(Clone, Debug)]
pub(super) struct Qkv {
    pub x: ValueId,
    pub norm: Option<Norm>,
    pub weights: [WeightId; 3],
    pub turns: WeightId,
    pub factors: WeightId,
    /// Of the queries; keys differ in their number of heads.
    pub rope: Rope,
    pub n_kv_heads: usize,
    pub layer: usize,
    pub out: ValueId,
}

impl Fused {
    /// The value that is written, if any.
    pub fn out(&self) -> Option<ValueId> {
        match self {
            Fused::Op(op) => op.out(),
            Fused::Project { out, .. } | Fused::Residual { out, .. } | Fused::GateUp { out, .. } => {
                Some(*out)
            }
            Fused::Qkv(qkv) => Some(qkv.out),
        }
    }

    /// The values that are read.
    pub fn inputs(&self) -> Vec<ValueId> {
        match self {
            Fused::Op(op) => op.inputs(),
            Fused::Project { x, .. } | Fused::GateUp { x, .. } => vec![*x],
            Fused::Residual { x, residual, .. } => vec![*x, *residual],
            Fused::Qkv(qkv) => vec![qkv.x],
        }
    }
}

/// The graph's ops in dispatches, each with the index of its last op. `are_stacked` tells whether weights lie in one buffer, one below
/// the other.
pub(super) fn fuse(graph: &Graph, are_stacked: impl Fn(&[WeightId]) -> bool) -> Vec<(usize, Fused)> {
    let mut finder = Finder { graph, taken: vec![false; graph.ops.len()] };
    let mut found: Vec<(usize, Fused)> = Vec::new();
    for (i, op) in graph.ops.iter().enumerate() {
        let fused = match *op {
            Op::KvWrite { .. } => finder.qkv(i, &are_stacked),
            Op::SwiGlu { .. } => finder.gate_up(i, &are_stacked),
            Op::Add { a, b, out } => finder.residual(i, a, b, out).or_else(|| finder.residual(i, b, a, out)),
            _ => None,
        };
        found.extend(fused.map(|fused| (i, fused)));
    }
    for i in 0..graph.ops.len() {
        if !finder.taken[i] {
            let fused = finder.project(i).unwrap_or_else(|| Fused::Op(graph.ops[i].clone()));
            found.push((i, fused));
        }
    }
    // A norm that a projection took is no op by itself.
    found.retain(|(i, fused)| !matches!(fused, Fused::Op(_)) || !finder.taken[*i]);
    found.sort_by_key(|(i, _)| *i);
    found
}

/// Weights that should be stacked in one buffer.
pub(super) fn stacks(graph: &Graph) -> Vec<Vec<WeightId>> {
    fuse(graph, |_| true)
        .into_iter()
        .filter_map(|(_, fused)| match fused {
            Fused::GateUp { weights, .. } => Some(weights.to_vec()),
            Fused::Qkv(qkv) => Some(qkv.weights.to_vec()),
            _ => None,
        })
        .collect()
}

struct Finder<'g> {
    graph: &'g Graph,
    /// Ops that are part of something fused.
    taken: Vec<bool>,
}

/// A projection with the rotary embedding after it.
struct Turned {
    ops: [usize; 2],
    x: ValueId,
    weight: WeightId,
    turns: WeightId,
    factors: WeightId,
    rope: Rope,
}

impl Finder<'_> {
    fn made_by(&self, id: ValueId) -> Option<usize> {
        self.graph.ops.iter().position(|op| op.out() == Some(id))
    }

    fn n_uses(&self, id: ValueId) -> usize {
        let is_result = [self.graph.logits, self.graph.argmax].contains(&Some(id));
        let uses = self.graph.ops.iter().map(|op| op.inputs().iter().filter(|input| **input == id).count());
        uses.sum::<usize>() + usize::from(is_result)
    }

    /// The projection that makes this value for one reader alone: (op, input, weight).
    fn projection(&self, id: ValueId) -> Option<(usize, ValueId, WeightId)> {
        let i = self.made_by(id).filter(|i| !self.taken[*i] && self.n_uses(id) == 1)?;
        match self.graph.ops[i] {
            Op::MatMul { x, weight, .. } => Some((i, x, weight)),
            _ => None,
        }
    }

    /// The rotary embedding of a projection, likewise.
    fn turned(&self, id: ValueId) -> Option<Turned> {
        let i = self.made_by(id).filter(|_| self.n_uses(id) == 1)?;
        let Op::Rope { x, turns, factors, rope, .. } = self.graph.ops[i] else { return None };
        let (projection, x, weight) = self.projection(x)?;
        Some(Turned { ops: [i, projection], x, weight, turns, factors, rope })
    }

    /// The norm behind a value that has so many readers, all in one dispatch: (op, its input, the norm).
    fn norm(&self, id: ValueId, n_readers: usize) -> Option<(usize, ValueId, Norm)> {
        let i = self.made_by(id).filter(|i| !self.taken[*i] && self.n_uses(id) == n_readers)?;
        match self.graph.ops[i] {
            Op::RmsNorm { x, weight, eps, .. } => Some((i, x, Norm { weight, eps })),
            _ => None,
        }
    }

    /// Takes ops, and the norm before them if there is one; returns the input and the norm.
    fn take(&mut self, ops: &[usize], x: ValueId, n_readers: usize) -> (ValueId, Option<Norm>) {
        ops.iter().for_each(|op| self.taken[*op] = true);
        match self.norm(x, n_readers) {
            Some((op, x, norm)) => {
                self.taken[op] = true;
                (x, Some(norm))
            }
            None => (x, None),
        }
    }

    fn qkv(&mut self, i: usize, are_stacked: impl Fn(&[WeightId]) -> bool) -> Option<Fused> {
        let Op::KvWrite { k, v, layer } = self.graph.ops[i] else { return None };
        let q = self.graph.ops.iter().find_map(|op| match *op {
            Op::Attention { q, layer: l, .. } if l == layer => Some(q),
            _ => None,
        })?;
        let (q_turned, k_turned) = (self.turned(q)?, self.turned(k)?);
        let (v_op, v_x, wv) = self.projection(v)?;
        let Turned { x, turns, factors, rope, .. } = q_turned;
        let is_one = x == k_turned.x && x == v_x && turns == k_turned.turns && factors == k_turned.factors;
        let n_kv_heads = k_turned.rope.n_heads;
        let same_rope = k_turned.rope == Rope { n_heads: n_kv_heads, ..rope };
        // What the kernel asks for.
        let fits = rope.head_dim.is_multiple_of(4) && rope.n_rot.is_multiple_of(4);
        let weights = [q_turned.weight, k_turned.weight, wv];
        if !is_one || !same_rope || !fits || !are_stacked(&weights) {
            return None;
        }
        let (x, norm) = self.take(&[q_turned.ops, k_turned.ops].concat(), x, 3);
        self.taken[v_op] = true;
        self.taken[i] = true;
        Some(Fused::Qkv(Qkv { x, norm, weights, turns, factors, rope, n_kv_heads, layer, out: q }))
    }

    fn gate_up(&mut self, i: usize, are_stacked: impl Fn(&[WeightId]) -> bool) -> Option<Fused> {
        let Op::SwiGlu { gate, up, out } = self.graph.ops[i] else { return None };
        let (gate_op, x, gate) = self.projection(gate)?;
        let (up_op, up_x, up) = self.projection(up)?;
        let fits = self.graph.values[out.0].width.is_multiple_of(2);
        if x != up_x || !fits || !are_stacked(&[gate, up]) {
            return None;
        }
        let (x, norm) = self.take(&[i, gate_op, up_op], x, 2);
        Some(Fused::GateUp { x, norm, weights: [gate, up], out })
    }

    fn residual(&mut self, i: usize, residual: ValueId, sum: ValueId, out: ValueId) -> Option<Fused> {
        let (op, x, weight) = self.projection(sum)?;
        if !self.graph.values[out.0].width.is_multiple_of(4) || self.graph.weights[weight.0].n_rows == 0 {
            return None;
        }
        self.taken[op] = true;
        self.taken[i] = true;
        Some(Fused::Residual { x, weight, residual, out })
    }

    fn project(&mut self, i: usize) -> Option<Fused> {
        let Op::MatMul { x, weight, out } = self.graph.ops[i] else { return None };
        let (op, x, norm) = self.norm(x, 1)?;
        self.taken[op] = true;
        Some(Fused::Project { x, norm, weight, out })
    }
}
