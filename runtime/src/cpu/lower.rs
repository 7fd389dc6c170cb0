//! From ops to stages: what threads do between two barriers, and where values lie.

use super::matmul::Class;
use super::{CpuError, Weights};
use crate::graph::{Attention, Capacity, Graph, Op, Rows, ValueId, WeightId};

/// One part of a step. Threads share its tasks and wait for each other after it.
#[derive(Debug)]
pub(super) enum Stage {
    /// Ops of which a row needs nothing but the same row; a task is a row, taken through all of them.
    Rows { rows: Rows, ops: Vec<Op> },
    /// Products of the same rows; a task is some tiles of weights.
    MatMul(MatMul),
    /// A task is some rows and some heads.
    Attention { q: ValueId, layer: usize, attention: Attention, out: ValueId },
    /// A task is a row.
    SelectRows { x: ValueId, out: ValueId },
    /// A task is a run of a row's logits.
    Argmax { logits: ValueId, out: ValueId },
}

/// `x`, normed if so wanted, times some weights.
#[derive(Debug)]
pub(super) struct MatMul {
    pub x: ValueId,
    pub norm: Option<(WeightId, f32)>,
    pub parts: Vec<Part>,
    /// What the weights need of `x`, each with its offset in a row of prepared activations.
    pub classes: Vec<(Class, usize)>,
    /// Bytes of that row.
    pub row_bytes: usize,
}

/// One weight's product and what becomes of it.
#[derive(Debug)]
pub(super) struct Part {
    pub weight: WeightId,
    pub finish: Finish,
    pub out: ValueId,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Finish {
    Keep,
    /// The sum with another value.
    Add(ValueId),
    /// The product is the gate; this weight makes the other half.
    SwiGlu(WeightId),
}

/// A graph's stages and the places of its values.
#[derive(Debug)]
pub(super) struct Plan {
    pub stages: Vec<Stage>,
    /// Of each value, where it starts in the floats that the plan computes on; none where nothing but a fused op sees it.
    pub places: Vec<Option<usize>>,
    pub n_floats: usize,
    /// Of each value, which rows it has.
    pub rows: Vec<Rows>,
}

/// Makes the plan. With `keep_values`, nothing is fused and every value has a place of its own.
pub(super) fn lower(
    graph: &Graph,
    weights: &Weights,
    capacity: Capacity,
    keep_values: bool,
) -> Result<Plan, CpuError> {
    let mut lowering = Lowering { graph, weights, stages: Vec::new(), stage_of: Vec::new(), keep_values };
    let mut fused = vec![false; graph.values.len()];
    while lowering.stage_of.len() < graph.ops.len() {
        lowering.next(&mut fused)?;
    }
    let (places, n_floats) = place(graph, &lowering.stage_of, capacity, &fused, keep_values);
    let rows = graph.values.iter().map(|value| value.rows).collect();
    Ok(Plan { stages: lowering.stages, places, n_floats, rows })
}

struct Lowering<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    stages: Vec<Stage>,
    /// Of each op that is lowered, its stage.
    stage_of: Vec<usize>,
    keep_values: bool,
}

impl Lowering<'_> {
    /// Whether an op's output is read by `n` ops and by nobody else.
    fn is_read_by(&self, value: ValueId, n: usize) -> bool {
        let readers = self.graph.ops.iter().flat_map(Op::inputs).filter(|input| *input == value).count();
        let is_result = [self.graph.logits, self.graph.argmax].contains(&Some(value));
        readers == n && !is_result && !self.keep_values
    }

    fn push(&mut self, stage: Stage, n_ops: usize) {
        self.stages.push(stage);
        self.stage_of.extend(std::iter::repeat_n(self.stages.len() - 1, n_ops));
    }

    /// Lowers the next op and those that are fused with it.
    fn next(&mut self, fused: &mut [bool]) -> Result<(), CpuError> {
        let ops = &self.graph.ops[self.stage_of.len()..];
        match ops[0] {
            Op::RmsNorm { x, weight, eps, out } => {
                let products = products(&ops[1..], out);
                if products.is_empty() || !self.is_read_by(out, products.len()) {
                    return self.row(&ops[0]);
                }
                fused[out.0] = true;
                self.matmul(x, Some((weight, eps)), products, fused)
            }
            Op::MatMul { x, .. } => self.matmul(x, None, products(ops, x), fused),
            Op::Attention { q, layer, attention, out } => {
                self.push(Stage::Attention { q, layer, attention, out }, 1);
                Ok(())
            }
            Op::SelectRows { x, out } => {
                self.push(Stage::SelectRows { x, out }, 1);
                Ok(())
            }
            Op::Argmax { logits, out } => {
                self.push(Stage::Argmax { logits, out }, 1);
                Ok(())
            }
            _ => self.row(&ops[0]),
        }
    }

    fn row(&mut self, op: &Op) -> Result<(), CpuError> {
        match *op {
            Op::Embed { weight, .. } => self.weights.matrix(weight).map(drop)?,
            Op::RmsNorm { weight, .. } => self.weights.vector(weight).map(drop)?,
            Op::Rope { turns, factors, .. } => {
                self.weights.vector(turns).and(self.weights.vector(factors)).map(drop)?;
            }
            _ => {}
        }
        let value = op.out().or_else(|| op.inputs().first().copied());
        let of = value.map_or(Rows::Tokens, |id| self.graph.values[id.0].rows);
        match self.stages.last_mut() {
            Some(Stage::Rows { rows, ops }) if *rows == of => {
                ops.push(op.clone());
                self.stage_of.push(self.stages.len() - 1);
            }
            _ => self.push(Stage::Rows { rows: of, ops: vec![op.clone()] }, 1),
        }
        Ok(())
    }

    fn matmul(
        &mut self,
        x: ValueId,
        norm: Option<(WeightId, f32)>,
        products: Vec<(WeightId, ValueId)>,
        fused: &mut [bool],
    ) -> Result<(), CpuError> {
        if let Some((weight, _)) = norm {
            self.weights.vector(weight)?;
        }
        let mut n_ops = products.len() + usize::from(norm.is_some());
        let mut classes: Vec<(Class, usize)> = Vec::new();
        let mut row_bytes = 0;
        for (weight, _) in &products {
            let class = self.weights.matrix(*weight)?.class;
            if !classes.iter().any(|(known, _)| *known == class) {
                classes.push((class, row_bytes));
                row_bytes += class.row_bytes(self.graph.values[x.0].width);
            }
        }
        let next = self.graph.ops.get(self.stage_of.len() + n_ops);
        let parts = match (products.as_slice(), next) {
            (&[(weight, product)], Some(&Op::Add { a, b, out }))
                if (a == product) != (b == product) && self.is_read_by(product, 1) =>
            {
                fused[product.0] = true;
                n_ops += 1;
                vec![Part { weight, finish: Finish::Add(if a == product { b } else { a }), out }]
            }
            (&[one, other], Some(&Op::SwiGlu { gate, up, out }))
                if [(one.1, other.1), (other.1, one.1)].contains(&(gate, up))
                    && self.is_read_by(gate, 1)
                    && self.is_read_by(up, 1)
                    && self.is_alike(one.0, other.0)? =>
            {
                (fused[gate.0], fused[up.0]) = (true, true);
                n_ops += 1;
                let (gate, up) = if one.1 == gate { (one.0, other.0) } else { (other.0, one.0) };
                vec![Part { weight: gate, finish: Finish::SwiGlu(up), out }]
            }
            (products, _) => {
                let keep = |&(weight, out)| Part { weight, finish: Finish::Keep, out };
                products.iter().map(keep).collect()
            }
        };
        self.push(Stage::MatMul(MatMul { x, norm, parts, classes, row_bytes }), n_ops);
        Ok(())
    }

    fn is_alike(&self, a: WeightId, b: WeightId) -> Result<bool, CpuError> {
        let (a, b) = (self.weights.matrix(a)?, self.weights.matrix(b)?);
        Ok(a.n_rows == b.n_rows && a.n_blocks == b.n_blocks)
    }
}

/// The products of `x` that `ops` begin with.
fn products(ops: &[Op], x: ValueId) -> Vec<(WeightId, ValueId)> {
    let product = |op: &Op| match *op {
        Op::MatMul { x: of, weight, out } if of == x => Some((weight, out)),
        _ => None,
    };
    ops.iter().map_while(product).collect()
}

/// Where values start, and how many floats they take. A place is taken over by a later value of the same size once the last stage
/// that reads it is past.
fn place(
    graph: &Graph,
    stage_of: &[usize],
    capacity: Capacity,
    fused: &[bool],
    keep_values: bool,
) -> (Vec<Option<usize>>, usize) {
    let mut made_at = vec![None; graph.values.len()];
    let mut last_read = vec![0; graph.values.len()];
    for (op, stage) in graph.ops.iter().zip(stage_of) {
        for input in op.inputs() {
            last_read[input.0] = *stage;
        }
        if let Some(out) = op.out() {
            made_at[out.0] = Some(*stage);
        }
    }
    // (start, size, the stage after which it is free)
    let mut taken: Vec<(usize, usize, usize)> = Vec::new();
    let mut n_floats = 0;
    let mut places = Vec::new();
    for (i, value) in graph.values.iter().enumerate() {
        if fused[i] {
            places.push(None);
            continue;
        }
        let size = value.width * capacity.rows(value.rows) as usize;
        let is_result = [graph.logits, graph.argmax].contains(&Some(ValueId(i)));
        let until = if keep_values || is_result || made_at[i].is_none() { usize::MAX } else { last_read[i] };
        let free = taken.iter_mut().find(|t| t.1 == size && made_at[i].is_some_and(|made| t.2 < made));
        places.push(Some(match free {
            Some(place) => {
                place.2 = until;
                place.0
            }
            None => {
                taken.push((n_floats, size, until));
                // Whole cache lines, so that threads do not write to the same one.
                n_floats += size.next_multiple_of(16);
                n_floats - size.next_multiple_of(16)
            }
        }));
    }
    (places, n_floats)
}
