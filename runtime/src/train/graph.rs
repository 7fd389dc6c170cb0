//! From a model's graph to its training graph.

use super::TrainError;
use crate::adapter::MAX_RANK;
use crate::adapter::names::parts;
use crate::graph::uses::Uses;
use crate::graph::{Graph, Index, Op, Source, Unary, ValueId, WeightId};
use std::ops::Range;

/// Which projections learn, and how much.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraSpec {
    /// Rows of A, columns of B.
    pub rank: usize,
    /// What LoRA adds is multiplied by `alpha / rank`.
    pub alpha: f32,
    /// Names of projections without their layer, such as `attn_q`; none: all projections of all layers.
    pub targets: Vec<String>,
}

/// LoRA on one tensor: `y = W x + scale * B (A x)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// The tensor's name, as in the model file.
    pub name: String,
    /// Rows of A, columns of B.
    pub rank: usize,
    /// Columns of A.
    pub n_in: usize,
    /// Rows of B.
    pub n_out: usize,
    /// `alpha / rank`.
    pub scale: f32,
    /// Where A `[rank, n_in]` begins in the parameters; B `[n_out, rank]` follows.
    pub start: usize,
}

impl Lora {
    /// Where A is in the parameters.
    pub fn a(&self) -> Range<usize> {
        self.start..self.start + self.rank * self.n_in
    }

    /// Where B is in the parameters.
    pub fn b(&self) -> Range<usize> {
        self.a().end..self.a().end + self.n_out * self.rank
    }
}

/// The rows of a [`Lora`]'s B that belong to a product: a tensor may hold several projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index into [`TrainingGraph::loras`].
    pub lora: usize,
    /// The first row of B.
    pub first_row: usize,
}

/// Ops between two points at which a single value carries all that is computed later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The ops.
    pub ops: Range<usize>,
    /// The value that they begin with; none if they begin with the tokens.
    pub input: Option<ValueId>,
    /// What the way back reads of their results and cannot compute from the input and the others of these
    /// without a product or an attention.
    pub stays: Vec<ValueId>,
}

/// A graph that can be trained. Attention is over the step's own rows, so there is no KV pool.
#[derive(Clone, Debug)]
pub struct TrainingGraph {
    /// The ops, without those that write to caches.
    pub graph: Graph,
    /// What is learnt.
    pub loras: Vec<Lora>,
    /// For each op the LoRA of its product.
    pub parts: Vec<Option<Part>>,
    /// The ops before the head, in order. Of a segment, only the input must be kept; the rest can be computed
    /// again.
    pub segments: Vec<Segment>,
    /// The first op of the head, which computes logits from [`Self::hidden`], each row by itself.
    pub head: usize,
    /// What the head reads, `[outputs, n_embd]`.
    pub hidden: ValueId,
    /// Whether a value depends on a parameter, so that its gradient is needed.
    pub needs: Vec<bool>,
    /// Whether the way back reads a value.
    pub reads: Vec<bool>,
    /// Floats of all parameters.
    pub n_parameters: usize,
    /// Rows of the embedding table.
    pub n_tokens: usize,
    /// Positions that the model has embeddings for, or all.
    pub n_positions: usize,
}

impl TrainingGraph {
    /// The training graph of a language model.
    pub fn new(graph: &Graph, spec: &LoraSpec) -> Result<Self, TrainError> {
        if spec.rank == 0 || spec.rank > MAX_RANK || !spec.alpha.is_finite() {
            let message =
                format!("rank {} and alpha {}; use a rank of 1 to {MAX_RANK}", spec.rank, spec.alpha);
            return Err(TrainError::Setting(message));
        }
        let logits = graph.logits.ok_or_else(|| TrainError::Graph("it has no logits".into()))?;
        let mut this = Self::of_ops(graph)?;
        this.add_loras(spec)?;
        let (head, hidden) = this.find_head(logits)?;
        (this.head, this.hidden) = (head, hidden);
        this.segments = this.cut();
        this.find_needs();
        this.find_stays();
        Ok(this)
    }

    /// Bytes that training takes beside the model, at most, with so many rows at once and so much kept of
    /// what layers compute.
    pub fn bytes(&self, rows: usize, kept_bytes: usize) -> u64 {
        let width = |id: ValueId| self.graph.value(id).width;
        let of_segment = |segment: &Segment| -> usize {
            self.graph.ops[segment.ops.clone()].iter().filter_map(Op::out).map(width).sum()
        };
        let stays: usize = self.segments.iter().flat_map(|segment| &segment.stays).map(|id| width(*id)).sum();
        let inputs: usize = self.segments.iter().filter_map(|segment| segment.input).map(width).sum();
        let row_bytes = (rows * size_of::<f32>()) as u64;
        let kept = (kept_bytes as u64).min(stays as u64 * row_bytes);
        // A segment's values and their gradients; parameters, their gradient and two moments.
        let largest = 2 * self.segments.iter().map(of_segment).max().unwrap_or(0);
        let of_rows = (inputs + largest + 2 * width(self.hidden)) as u64 * row_bytes;
        kept + of_rows + 4 * (self.n_parameters * size_of::<f32>()) as u64
    }

    /// The ops alone, as one segment that begins with the graph's inputs. Nothing is learnt.
    pub(crate) fn of_ops(graph: &Graph) -> Result<Self, TrainError> {
        let mut graph = graph.clone();
        graph.ops.retain(|op| !matches!(op, Op::KvWrite { .. }));
        graph.caches.clear();
        for op in &mut graph.ops {
            match op {
                Op::Attention { cache, .. } => *cache = None,
                Op::Embed { .. }
                | Op::Norm { .. }
                | Op::MatMul { .. }
                | Op::Bias { .. }
                | Op::Rope { .. }
                | Op::Unary { .. }
                | Op::Gated { .. }
                | Op::Add { .. }
                | Op::Mul { .. }
                | Op::KvWrite { .. }
                | Op::SelectRows { .. } => {}
                Op::Route { .. } | Op::Experts { .. } | Op::ExpertSum { .. } => {
                    return Err(TrainError::Experts);
                }
            }
        }
        let n_ops = graph.ops.len();
        let rows = |index: Index| {
            let tables = graph.ops.iter().filter_map(move |op| match op {
                Op::Embed { weight, by, .. } if *by == index => Some(*weight),
                _ => None,
            });
            tables.map(|id| graph.weight(id).n_rows).min().unwrap_or(usize::MAX)
        };
        let (n_tokens, n_positions) = (rows(Index::Id), rows(Index::Position));
        let mut this = Self {
            loras: Vec::new(),
            parts: vec![None; n_ops],
            segments: vec![Segment { ops: 0..n_ops, input: None, stays: Vec::new() }],
            head: n_ops,
            hidden: ValueId(0),
            needs: Vec::new(),
            reads: Vec::new(),
            n_parameters: 0,
            n_tokens,
            n_positions,
            graph,
        };
        this.find_needs();
        this.find_stays();
        Ok(this)
    }

    fn add_loras(&mut self, spec: &LoraSpec) -> Result<(), TrainError> {
        let mut known: Vec<String> = Vec::new();
        let mut used = vec![false; spec.targets.len()];
        for (i, op) in self.graph.ops.iter().enumerate() {
            let Op::MatMul { weight, .. } = *op else { continue };
            let Some((name, first_row)) = projection(&self.graph, weight) else { continue };
            let short = parts(name).map_or(name, |(_, short)| short);
            if !known.iter().any(|k| k == short) {
                known.push(short.to_string());
            }
            match spec.targets.iter().position(|target| target == short) {
                Some(at) => used[at] = true,
                None if spec.targets.is_empty() => {}
                None => continue,
            }
            let weight = self.graph.weight(weight);
            let n_out = first_row + weight.n_rows;
            let at = self.loras.iter().position(|lora| lora.name == name).unwrap_or(self.loras.len());
            if at == self.loras.len() {
                let (name, n_in) = (name.to_string(), weight.n_cols);
                let scale = spec.alpha / spec.rank as f32;
                self.loras.push(Lora { name, rank: spec.rank, n_in, n_out, scale, start: 0 });
            }
            self.loras[at].n_out = self.loras[at].n_out.max(n_out);
            self.parts[i] = Some(Part { lora: at, first_row });
        }
        if let Some(at) = used.iter().position(|used| !used) {
            return Err(TrainError::Target { name: spec.targets[at].clone(), known: known.join(", ") });
        }
        for lora in &mut self.loras {
            lora.start = self.n_parameters;
            self.n_parameters = lora.b().end;
        }
        Ok(())
    }

    /// The first op of the head and what it reads: a product, then biases, factors and at most one soft cap,
    /// whose gradients need the logits alone.
    fn find_head(&self, logits: ValueId) -> Result<(usize, ValueId), TrainError> {
        let uses = Uses::of(&self.graph);
        let (mut id, mut n_caps) = (logits, 0);
        while let Some(at) = uses.maker(id) {
            match self.graph.ops[at] {
                Op::Bias { x, .. } | Op::Unary { x, f: Unary::Scale(_), .. } => id = x,
                Op::Unary { x, f: Unary::SoftCap(_), .. } if n_caps == 0 => (id, n_caps) = (x, 1),
                Op::MatMul { x, .. } if self.parts[at].is_none() => {
                    let is_last = self.graph.ops[at + 1..]
                        .iter()
                        .all(|op| matches!(op, Op::Bias { .. } | Op::Unary { .. }));
                    if !is_last {
                        break;
                    }
                    return Ok((at, x));
                }
                _ => break,
            }
        }
        Err(TrainError::Graph("its logits are not those of one product".into()))
    }

    /// Cuts the ops before the head into segments: before each attention but the first, at the last point
    /// that a single value passes.
    fn cut(&self) -> Vec<Segment> {
        let uses = Uses::of(&self.graph);
        let crossing = |at: usize| {
            let mut crossing = (0..self.graph.values.len()).map(ValueId).filter(|id| {
                uses.maker(*id).is_some_and(|maker| maker < at)
                    && uses.readers(*id).iter().any(|reader| *reader >= at)
            });
            match (crossing.next(), crossing.next()) {
                (Some(one), None) => Some(one),
                _ => None,
            }
        };
        let is_attention = |at: &usize| matches!(self.graph.ops[*at], Op::Attention { .. });
        let mut segments = Vec::new();
        let (mut start, mut input, mut before) = (0, None, 0);
        for at in (0..self.head).filter(is_attention) {
            let point = (before + 1..=at).rev().find_map(|at| Some((at, crossing(at)?)));
            if let Some((point, id)) = point.filter(|_| before > 0) {
                segments.push(Segment { ops: start..point, input, stays: Vec::new() });
                (start, input) = (point, Some(id));
            }
            before = at;
        }
        segments.push(Segment { ops: start..self.head, input, stays: Vec::new() });
        segments
    }

    fn find_needs(&mut self) {
        // Inputs, which only tests have, are learnt, too.
        let uses = Uses::of(&self.graph);
        self.needs = (0..self.graph.values.len()).map(|id| uses.maker(ValueId(id)).is_none()).collect();
        for (op, part) in self.graph.ops.iter().zip(&self.parts) {
            let needs = part.is_some() || op.inputs().iter().any(|id| self.needs[id.0]);
            if let Some(out) = op.out() {
                self.needs[out.0] = needs;
            }
        }
    }

    /// What is kept of segments, and what of it the way back reads.
    fn find_stays(&mut self) {
        self.reads = vec![false; self.graph.values.len()];
        for (op, part) in self.graph.ops.iter().zip(&self.parts) {
            if op.out().is_some_and(|out| self.needs[out.0]) {
                read_back(op, part.is_some()).iter().for_each(|id| self.reads[id.0] = true);
            }
        }
        let mut next = None;
        for segment in self.segments.iter_mut().rev() {
            // What is there on the way back, or can be computed without much work.
            let mut known: Vec<ValueId> = segment.input.into_iter().collect();
            for op in &self.graph.ops[segment.ops.clone()] {
                let Some(out) = op.out() else { continue };
                let is_cheap = !matches!(op, Op::MatMul { .. } | Op::Attention { .. });
                if is_cheap && op.inputs().iter().all(|id| known.contains(id)) {
                    known.push(out);
                } else if self.reads[out.0] {
                    known.push(out);
                    segment.stays.extend(Some(out).filter(|out| Some(*out) != next));
                }
            }
            next = segment.input;
        }
    }
}

/// The values that an op's gradients are computed from, beside that of its result. With `learns`, the op has
/// a LoRA.
fn read_back(op: &Op, learns: bool) -> Vec<ValueId> {
    match *op {
        Op::MatMul { x, .. } if learns => vec![x],
        Op::Norm { x, .. } | Op::Unary { x, .. } => vec![x],
        Op::Attention { q, k, v, out, .. } => vec![q, k, v, out],
        Op::Gated { gate, up, .. } => vec![gate, up],
        Op::Mul { a, b, .. } => vec![a, b],
        // What they do to a gradient does not depend on their values.
        _ => vec![],
    }
}

/// The tensor of a layer's projection, and the weight's first row in it.
fn projection(graph: &Graph, id: WeightId) -> Option<(&str, usize)> {
    match &graph.weight(id).source {
        Source::Tensor { name, first_row } if name.starts_with("blk.") => Some((name, *first_row)),
        _ => None,
    }
}
