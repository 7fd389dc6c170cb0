//! From a graph to stages: what threads do between two barriers, and where values lie.

use super::activations::Activations;
use super::{CpuError, Weights};
use crate::graph::fuse::{ExpertGroup, Fuses, Group, Part, Product, Products, Work, fuse, unfused};
use crate::graph::uses::place;
use crate::graph::{Attention, CacheId, Capacity, Domain, Experts, Graph, Norm, Op, ValueId, WeightId};

/// What threads do of a step between two barriers: they share its tasks.
#[derive(Debug)]
pub(super) enum Stage {
    /// Ops that compute each row by itself. A task is a row, taken through all of them.
    Rows { domain: Domain, ops: Vec<Op> },
    /// A task is some tiles of weights.
    Products(Multiply),
    /// A task is some tiles of one or more experts' weights.
    Experts(Mix),
    /// A task is some rows and some heads.
    Attention(Attend),
    /// The likeliest tokens of the logits. A task is a run of a row's logits.
    Likeliest(ValueId),
}

/// Products of the same rows.
#[derive(Debug)]
pub(super) struct Multiply {
    pub work: Products,
    /// The forms in which the weights need the rows, each with its offset in a row of prepared activations.
    pub forms: Vec<(Activations, usize)>,
    /// Bytes of a row of prepared activations.
    pub row_bytes: usize,
}

/// Projections by experts.
#[derive(Debug)]
pub(super) struct Mix {
    pub work: ExpertGroup,
    /// Experts that each row uses.
    pub n_used: usize,
    /// Rows that the experts of a row read: one for all, or one for each.
    pub per_row: usize,
    /// As for [`Multiply`].
    pub forms: Vec<(Activations, usize)>,
    /// Bytes of one of the rows that experts read, in prepared activations.
    pub row_bytes: usize,
}

/// Attention, see [`Op::Attention`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Attend {
    pub q: ValueId,
    pub k: ValueId,
    pub v: ValueId,
    pub cache: Option<CacheId>,
    pub shape: Attention,
    pub out: ValueId,
}

/// A graph's stages and the places of its values.
#[derive(Debug)]
pub(super) struct Plan {
    pub stages: Vec<Stage>,
    /// Where each value starts in the floats that the plan computes on; none where no stage writes it.
    pub places: Vec<Option<usize>>,
    pub n_floats: usize,
}

/// Makes the plan. With `keep_values`, nothing is fused and every value has a place of its own.
pub(super) fn lower(
    graph: &Graph,
    weights: &Weights,
    capacity: Capacity,
    keep_values: bool,
) -> Result<Plan, CpuError> {
    let groups = groups(graph, keep_values);
    let mut lowering = Lowering { graph, weights, stages: Vec::new() };
    for group in &groups {
        match &group.work {
            Work::Op(op) => lowering.op(op)?,
            Work::Products(products) => lowering.products(products.clone())?,
            Work::Experts(group) => lowering.experts(*group)?,
            Work::NormAdd(_) => return Err(CpuError::Internal("a group that the CPU does not run".into())),
        }
    }
    lowering.stages.extend(graph.logits.map(Stage::Likeliest));
    let places = place(graph, &[&groups], keep_values);
    let mut n_floats = 0;
    let mut starts = Vec::new();
    for shape in &places.shapes {
        starts.push(n_floats);
        // Whole cache lines, so that threads do not write to the same one.
        n_floats += (shape.width * capacity.rows(shape.domain) as usize).next_multiple_of(16);
    }
    let places = places.of.iter().map(|place| place.map(|place| starts[place])).collect();
    Ok(Plan { stages: lowering.stages, places, n_floats })
}

/// The graph's ops, in the order in which they run.
pub(super) fn groups(graph: &Graph, keep_values: bool) -> Vec<Group> {
    if keep_values { unfused(graph) } else { fuse(graph, &ByColumns) }
}

/// The CPU's fusion: what a task has of a product is some columns, so a tail can have only what needs no
/// others.
struct ByColumns;

impl Fuses for ByColumns {
    fn takes(&self, part: &Part) -> bool {
        match part {
            Part::Bias(_) | Part::Unary(_) | Part::Gate | Part::GatedBy(..) | Part::Add(_) => true,
            Part::LowRank { .. } | Part::Norm(_) | Part::Rope(_) | Part::KvWrite(..) => false,
        }
    }

    fn takes_experts(&self, graph: &Graph, group: &ExpertGroup) -> bool {
        let n_rows = |weight| graph.weight(weight).n_rows;
        group.gate.is_none_or(|(weight, ..)| n_rows(weight) == n_rows(group.experts.weight))
    }

    /// Tails that consist of such parts alone. The task of a gated product computes the gate's columns, too,
    /// for which both must have the same; a gate is not gated itself.
    fn accepts(&self, graph: &Graph, Products { products, .. }: &Products) -> bool {
        let gate = |part: &Part| match *part {
            Part::GatedBy(gate, _) => products.get(gate),
            _ => None,
        };
        let is_same_size =
            |a: &Product, b: &Product| graph.weight(a.weight).n_rows == graph.weight(b.weight).n_rows;
        products.iter().all(|product| {
            product.tail.iter().all(|part| self.takes(part))
                && product.tail.iter().filter_map(gate).all(|gate| {
                    is_same_size(gate, product)
                        && !gate.tail.iter().any(|part| matches!(part, Part::GatedBy(..)))
                })
        })
    }
}

struct Lowering<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    stages: Vec<Stage>,
}

impl Lowering<'_> {
    fn op(&mut self, op: &Op) -> Result<(), CpuError> {
        let weights = self.weights;
        match *op {
            Op::Embed { weight, .. } => weights.matrix(weight).map(drop)?,
            Op::Norm { x, norm, .. } => self.check_norm(norm, x)?,
            Op::Bias { bias, .. } => weights.vector(bias).map(drop)?,
            Op::Rope { rope, .. } => {
                weights.vector(rope.turns)?;
                weights.vector(rope.factors)?;
            }
            Op::KvWrite { .. }
            | Op::Unary { .. }
            | Op::Gated { .. }
            | Op::Add { .. }
            | Op::Mul { .. }
            | Op::Route { .. }
            | Op::ExpertSum { .. }
            | Op::SelectRows { .. } => {}
            Op::Experts { experts, out } => return self.experts(ExpertGroup::of(experts, out)),
            Op::MatMul { x, weight, out } => {
                let product = Product { weight, tail: Vec::new(), out: Some(out) };
                return self.products(Products { x, norm: None, products: vec![product] });
            }
            Op::Attention { q, k, v, cache, shape, out } => {
                shape.sinks.map(|sinks| weights.vector(sinks)).transpose()?;
                self.stages.push(Stage::Attention(Attend { q, k, v, cache, shape, out }));
                return Ok(());
            }
        }
        let value = op.out().or_else(|| op.inputs().first().copied());
        let rows = value.map_or(Domain::Tokens, |id| self.graph.value(id).domain);
        match self.stages.last_mut() {
            Some(Stage::Rows { domain, ops }) if *domain == rows => ops.push(op.clone()),
            _ => self.stages.push(Stage::Rows { domain: rows, ops: vec![op.clone()] }),
        }
        Ok(())
    }

    /// Checks that runs are parts of a row, and vectors as long as a run or a row.
    fn check_norm(&self, norm: Norm, x: ValueId) -> Result<(), CpuError> {
        let width = self.graph.value(x).width;
        let mut fits = norm.run > 0 && width.is_multiple_of(norm.run);
        for vector in norm.vectors() {
            let n = self.weights.vector(vector)?.len();
            fits &= n == norm.run || n == width;
        }
        match fits {
            true => Ok(()),
            false => Err(CpuError::Internal(format!("a norm of {} in rows of {width}", norm.run))),
        }
    }

    fn products(&mut self, work: Products) -> Result<(), CpuError> {
        let vectors = work.products.iter().flat_map(|product| &product.tail).filter_map(|part| match part {
            Part::Bias(bias) => Some(*bias),
            _ => None,
        });
        for vector in vectors {
            self.weights.vector(vector)?;
        }
        if let Some(norm) = work.norm {
            self.check_norm(norm, work.x)?;
        }
        let weights = work.products.iter().map(|product| product.weight);
        let (forms, row_bytes) = self.forms(weights, self.graph.value(work.x).width)?;
        self.stages.push(Stage::Products(Multiply { work, forms, row_bytes }));
        Ok(())
    }

    /// The forms in which these weights need rows of this width, each with its offset, and the bytes of all.
    fn forms(
        &self,
        weights: impl Iterator<Item = WeightId>,
        width: usize,
    ) -> Result<(Vec<(Activations, usize)>, usize), CpuError> {
        let mut forms: Vec<(Activations, usize)> = Vec::new();
        let mut row_bytes = 0;
        for weight in weights {
            let form = self.weights.matrix(weight)?.activations;
            if !forms.iter().any(|(known, _)| *known == form) {
                forms.push((form, row_bytes));
                row_bytes += form.row_bytes(width);
            }
        }
        Ok((forms, row_bytes))
    }

    fn experts(&mut self, work: ExpertGroup) -> Result<(), CpuError> {
        let Experts { x, route, n_experts, weight, bias } = work.experts;
        let (n_used, n_cols) = (self.graph.n_used(route), self.graph.weight(weight).n_cols);
        let per_row = self.graph.value(x).width / n_cols.max(1);
        let n_rows = self.graph.weight(weight).n_rows;
        for bias in bias.into_iter().chain(work.gate.and_then(|(_, bias, _)| bias)) {
            if self.weights.vector(bias)?.len() != n_rows {
                return Err(CpuError::Internal("biases that do not fit their experts".into()));
            }
        }
        if n_experts == 0 || !n_rows.is_multiple_of(n_experts) || ![1, n_used].contains(&per_row) {
            return Err(CpuError::Internal(format!("{n_experts} experts with {n_rows} rows")));
        }
        let gate = work.gate.map(|(weight, ..)| weight);
        let (forms, row_bytes) = self.forms([weight].into_iter().chain(gate), n_cols)?;
        self.stages.push(Stage::Experts(Mix { work, n_used, per_row, forms, row_bytes }));
        Ok(())
    }
}
