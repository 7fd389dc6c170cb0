//! Fusion: groups of ops that a device runs together. A group is products of the same rows, with an optional
//! norm before them and a tail of small parts after each product. Fusion changes the speed, never the result.

mod experts;

pub use experts::ExpertGroup;

use super::uses::Uses;
use super::{Activation, CacheId, Gate, Graph, Half, Norm, Op, Rope, Unary, ValueId, WeightId};

/// Ops that run together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What is computed.
    pub work: Work,
    /// The index of its last op: the group runs in that op's place.
    pub last_op: usize,
}

/// What a group computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// A single op.
    Op(Op),
    /// Products of the same rows.
    Products(Products),
    /// A norm whose result is added to another value.
    NormAdd(NormAdd),
    /// Projections by experts.
    Experts(ExpertGroup),
}

/// `norm(x) + residual`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormAdd {
    /// The rows.
    pub x: ValueId,
    /// Their norm.
    pub norm: Norm,
    /// What it is added to.
    pub residual: ValueId,
    /// The sum.
    pub out: ValueId,
}

/// `x`, normalised first if there is a norm, times one or more weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Products {
    /// The rows.
    pub x: ValueId,
    /// Applied to the rows first.
    pub norm: Option<Norm>,
    /// In the order of the graph.
    pub products: Vec<Product>,
}

/// `x · weightᵀ`, followed by a tail.
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// The matrix.
    pub weight: WeightId,
    /// Applied to the product, in order.
    pub tail: Vec<Part>,
    /// The value that the tail gives; none if the tail ends in a cache or in another product's tail.
    pub out: Option<ValueId>,
}

/// A part of a tail. `y` is the result so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// `y + down · weightᵀ`: what a low-rank path adds.
    LowRank {
        /// The rows, times the path's first matrix.
        down: ValueId,
        /// Its second matrix.
        weight: WeightId,
    },
    /// `y + bias`.
    Bias(WeightId),
    /// The norm of each head, or of the row.
    Norm(Norm),
    /// Rotary embedding.
    Rope(Rope),
    /// `f(y)`.
    Unary(Unary),
    /// `y` is a gate, which another product's tail uses with [`Part::GatedBy`].
    Gate,
    /// The gate and `y` become one number, see [`super::Gate`]. The number is the index of the gate's product
    /// in the group.
    GatedBy(usize, Gate),
    /// `y + residual`.
    Add(ValueId),
    /// Writes `y` to a cache.
    KvWrite(CacheId, Half),
}

impl Group {
    fn op(i: usize, op: &Op) -> Self {
        Self { work: Work::Op(op.clone()), last_op: i }
    }

    /// The values that it reads.
    pub fn inputs(&self) -> Vec<ValueId> {
        match &self.work {
            Work::Op(op) => op.inputs(),
            Work::Products(products) => {
                let tails = products.products.iter().flat_map(|product| &product.tail);
                let added = tails.filter_map(|part| match part {
                    Part::Add(other) | Part::LowRank { down: other, .. } => Some(*other),
                    _ => None,
                });
                std::iter::once(products.x).chain(added).collect()
            }
            Work::NormAdd(NormAdd { x, residual, .. }) => vec![*x, *residual],
            Work::Experts(group) => group.inputs(),
        }
    }

    /// The values that it writes.
    pub fn outs(&self) -> Vec<ValueId> {
        match &self.work {
            Work::Op(op) => op.out().into_iter().collect(),
            Work::Products(products) => products.products.iter().filter_map(|product| product.out).collect(),
            Work::NormAdd(NormAdd { out, .. }) | Work::Experts(ExpertGroup { out, .. }) => vec![*out],
        }
    }
}

/// Which groups a device can run.
pub trait Fuses {
    /// Whether the device supports this part. A tail ends before a part that it does not support.
    fn takes(&self, _part: &Part) -> bool {
        true
    }

    /// Whether the device runs a norm and the addition of its result to another value together.
    fn adds_norms(&self) -> bool {
        false
    }

    /// Whether the device can run these projections by experts with what follows them.
    fn takes_experts(&self, _graph: &Graph, _group: &ExpertGroup) -> bool {
        false
    }

    /// Whether the device can run these products as one group. It is never asked about a single product
    /// without a norm and a tail. Declined ops run one by one.
    fn accepts(&self, graph: &Graph, products: &Products) -> bool;
}

/// Every op as its own group.
pub fn unfused(graph: &Graph) -> Vec<Group> {
    graph.ops.iter().enumerate().map(|(i, op)| Group::op(i, op)).collect()
}

/// The graph's ops in groups that the device accepts, in the order in which they run.
pub fn fuse(graph: &Graph, device: &impl Fuses) -> Vec<Group> {
    let n_ops = graph.ops.len();
    let mut fuser =
        Fuser { graph, uses: Uses::of(graph), device, taken: vec![false; n_ops], normed: vec![0; n_ops] };
    let mut groups: Vec<Group> = Vec::new();
    for i in 0..graph.ops.len() {
        if let Op::MatMul { x, .. } = graph.ops[i]
            && !fuser.taken[i]
        {
            groups.extend(fuser.group(x, i));
        }
    }
    for i in 0..graph.ops.len() {
        groups.extend(experts::group(graph, &fuser.uses, device, &mut fuser.taken, i));
    }
    if device.adds_norms() {
        groups.extend((0..graph.ops.len()).filter_map(|i| fuser.norm_add(i)).collect::<Vec<_>>());
    }
    let alone = graph.ops.iter().enumerate().filter(|(i, _)| !fuser.taken[*i]);
    groups.extend(alone.map(|(i, op)| Group::op(i, op)));
    groups.sort_by_key(|group| group.last_op);
    groups
}

struct Fuser<'a, D> {
    graph: &'a Graph,
    uses: Uses,
    device: &'a D,
    /// For each op, whether it is in a group.
    taken: Vec<bool>,
    /// For each norm, the products that groups compute it for. Groups of the same rows each compute it.
    normed: Vec<usize>,
}

/// A product and its tail, before it is in a group.
#[derive(Clone)]
struct Candidate {
    weight: WeightId,
    /// Indices of its ops: the product, then one per part of the tail.
    ops: Vec<usize>,
    /// For each part of the tail, the product that a low-rank path adds.
    low: Vec<Option<usize>>,
    tail: Vec<Part>,
    /// The result of the product, then of each part of the tail.
    values: Vec<Option<ValueId>>,
}

impl Candidate {
    /// The same product with only the first `n_parts` of its tail.
    fn cut(&self, n_parts: usize) -> Self {
        Self {
            weight: self.weight,
            ops: self.ops[..=n_parts].to_vec(),
            low: self.low[..n_parts].to_vec(),
            tail: self.tail[..n_parts].to_vec(),
            values: self.values[..=n_parts].to_vec(),
        }
    }

    fn product(&self) -> Product {
        let is_gate = self.tail.last() == Some(&Part::Gate);
        let out = self.values.last().copied().flatten().filter(|_| !is_gate);
        Product { weight: self.weight, tail: self.tail.clone(), out }
    }
}

impl<D: Fuses> Fuser<'_, D> {
    /// The largest group that starts with the product of op `first` and that the device accepts.
    fn group(&mut self, x: ValueId, first: usize) -> Option<Group> {
        let products = self.uses.readers(x).iter().copied();
        let products = products.filter(|i| !self.taken[*i] && *i >= first);
        let mut all: Vec<Candidate> = products.filter_map(|i| self.candidate(i)).collect();
        all.dedup_by(|a, b| a.ops[0] == b.ops[0]);
        self.pair(&mut all);
        // Tries all products, then fewer, from the last one back. A gate and its partner stay together.
        for n in (1..=all.len()).rev() {
            if n < all.len() && all[n - 1].tail.last() == Some(&Part::Gate) {
                continue;
            }
            if let Some(group) = self.take(x, &all[..n]) {
                return Some(group);
            }
        }
        // Tries the first product alone, with less and less of its tail. Without its partner, a gate is cut.
        let mut alone = all.first()?.clone();
        if alone.tail.last() == Some(&Part::Gate) {
            alone = alone.cut(alone.tail.len() - 1);
        }
        (0..=alone.tail.len()).rev().find_map(|n| self.take(x, &[alone.cut(n)]))
    }

    /// The norm of op `i` and the addition of its result, if nothing else reads that.
    fn norm_add(&mut self, i: usize) -> Option<Group> {
        let Op::Norm { x, norm, out: y } = self.graph.ops[i] else { return None };
        let [reader] = *self.uses.readers(y) else { return None };
        let Op::Add { a, b, out } = self.graph.ops[reader] else { return None };
        if self.taken[i] || self.taken[reader] || self.graph.logits == Some(y) {
            return None;
        }
        (self.taken[i], self.taken[reader]) = (true, true);
        let residual = if a == y { b } else { a };
        Some(Group { work: Work::NormAdd(NormAdd { x, norm, residual, out }), last_op: reader })
    }

    /// The product of an op, with the longest tail that the graph allows.
    fn candidate(&self, op: usize) -> Option<Candidate> {
        let Op::MatMul { weight, out, .. } = self.graph.ops[op] else { return None };
        let mut found =
            Candidate { weight, ops: vec![op], low: vec![], tail: vec![], values: vec![Some(out)] };
        let mut y = out;
        while let [reader] = *self.uses.readers(y) {
            if self.taken[reader] || self.graph.logits == Some(y) {
                break;
            }
            let next = &self.graph.ops[reader];
            let low = self.low_rank(op, y, reader);
            let part = match *next {
                Op::Add { .. } if let Some((_, part)) = low => part,
                Op::Bias { bias, .. } => Part::Bias(bias),
                Op::Norm { norm, .. } => Part::Norm(norm),
                Op::Rope { rope, .. } => Part::Rope(rope),
                Op::Unary { f, .. } => Part::Unary(f),
                // What is made later than the product would only delay it: its maker can add the product.
                Op::Add { a, b, .. } if a != b && self.uses.maker(if a == y { b } else { a }) < Some(op) => {
                    Part::Add(if a == y { b } else { a })
                }
                Op::KvWrite { cache, half, .. } => Part::KvWrite(cache, half),
                Op::Gated { gate, up, .. } if gate != up => match gate == y {
                    true => Part::Gate,
                    // `pair` finds the gate's product.
                    false => Part::GatedBy(usize::MAX, Activation::Silu.into()),
                },
                _ => break,
            };
            if !self.device.takes(&part) {
                break;
            }
            found.ops.push(reader);
            found.low.push(low.map(|(op, _)| op));
            found.tail.push(part);
            found.values.push(next.out());
            match (part, next.out()) {
                (Part::Gate, _) | (_, None) => break,
                (_, Some(out)) => y = out,
            }
        }
        Some(found)
    }

    /// The product that op `reader` adds to `y`, the result of op `op`, if it is that of a low-rank path.
    fn low_rank(&self, op: usize, y: ValueId, reader: usize) -> Option<(usize, Part)> {
        let Op::Add { a, b, .. } = self.graph.ops[reader] else { return None };
        let low = if a == y { b } else { a };
        let maker = self.uses.maker(low)?;
        let Op::MatMul { x: down, weight, .. } = self.graph.ops[maker] else { return None };
        let is_path = self.graph.weight(weight).low_rank.is_some() && self.uses.maker(down) < Some(op);
        let is_free = !self.taken[maker] && *self.uses.readers(low) == [reader];
        (is_path && is_free && a != b).then_some((maker, Part::LowRank { down, weight }))
    }

    /// Connects each gate to the product that it gates. Where one of the two is missing, the tail is cut.
    fn pair(&self, all: &mut [Candidate]) {
        let gated = |candidate: &Candidate, part: Part| {
            let at = candidate
                .tail
                .iter()
                .position(|p| std::mem::discriminant(p) == std::mem::discriminant(&part))?;
            Some((at, candidate.ops[at + 1]))
        };
        let by = Part::GatedBy(usize::MAX, Activation::Silu.into());
        for i in 0..all.len() {
            let pair = gated(&all[i], by).map(|(at, op)| {
                (at, op, (0..i).find(|gate| gated(&all[*gate], Part::Gate).is_some_and(|(_, g)| g == op)))
            });
            match pair {
                None => {}
                Some((at, op, Some(gate))) => {
                    if let Op::Gated { f, .. } = self.graph.ops[op] {
                        all[i].tail[at] = Part::GatedBy(gate, f);
                    }
                }
                Some((at, _, None)) => all[i] = all[i].cut(at),
            }
        }
        let paired: Vec<usize> = all
            .iter()
            .flat_map(|candidate| &candidate.tail)
            .filter_map(|part| if let Part::GatedBy(gate, _) = part { Some(*gate) } else { None })
            .collect();
        for (i, candidate) in all.iter_mut().enumerate() {
            if candidate.tail.last() == Some(&Part::Gate) && !paired.contains(&i) {
                *candidate = candidate.cut(candidate.tail.len() - 1);
            }
        }
    }

    /// Makes a group of the candidates, with the norm before them if possible, and marks their ops as taken.
    fn take(&mut self, x: ValueId, candidates: &[Candidate]) -> Option<Group> {
        let ops = candidates.iter().flat_map(|it| it.ops.iter().chain(it.low.iter().flatten()));
        let mut ops: Vec<usize> = ops.copied().collect();
        let products: Vec<Product> = candidates.iter().map(Candidate::product).collect();
        let readers = self.uses.readers(x);
        let are_products = readers.iter().all(|i| matches!(self.graph.ops[*i], Op::MatMul { .. }));
        let n_readers = readers.len();
        let norm = self.uses.maker(x).filter(|i| !self.taken[*i] && are_products);
        let norm = norm.and_then(|i| match self.graph.ops[i] {
            Op::Norm { x: before, norm, .. } if norm.run == self.graph.value(x).width => {
                Some((i, before, norm))
            }
            _ => None,
        });
        let with_norm = norm.map(|(i, before, norm)| {
            (Some(i), Products { x: before, norm: Some(norm), products: products.clone() })
        });
        let without = (None, Products { x, norm: None, products });
        for (norm_op, work) in with_norm.into_iter().chain([without]) {
            let is_plain = matches!(work.products.as_slice(), [one] if one.tail.is_empty());
            if (is_plain && work.norm.is_none()) || !self.device.accepts(self.graph, &work) {
                continue;
            }
            let last_op = ops.iter().copied().max()?;
            let group = Group { work: Work::Products(work), last_op };
            if !self.can_run(&ops, &group) {
                return None;
            }
            // Once all who read the norm's result compute it themselves, it has no place of its own.
            ops.extend(norm_op.filter(|i| {
                self.normed[*i] += candidates.len();
                self.normed[*i] == n_readers
            }));
            ops.iter().for_each(|i| self.taken[*i] = true);
            return Some(group);
        }
        None
    }

    /// Whether no op outside the group reads a result of the group before its last op, and the group itself
    /// reads none.
    fn can_run(&self, ops: &[usize], group: &Group) -> bool {
        let (last_op, inputs) = (group.last_op, group.inputs());
        let is_late = |out: &ValueId| {
            let mut readers = self.uses.readers(*out).iter();
            !inputs.contains(out) && readers.all(|reader| *reader > last_op || ops.contains(reader))
        };
        let Work::Products(work) = &group.work else { return true };
        let mut caches =
            work.products.iter().flat_map(|product| &product.tail).filter_map(|part| match part {
                Part::KvWrite(cache, _) => Some(*cache),
                _ => None,
            });
        let is_read_late = |cache: CacheId| {
            let reads = |op: &Op| matches!(op, Op::Attention { cache: Some(read), .. } if *read == cache);
            self.graph.ops.iter().position(reads).is_none_or(|reader| reader > last_op)
        };
        group.outs().iter().all(is_late) && caches.all(is_read_late)
    }
}

/// The groups of several products. Their weights should be stacked in one buffer, so that the device can run
/// them together.
pub fn stacks(graph: &Graph, device: &impl Fuses) -> Vec<Products> {
    let groups = fuse(graph, device).into_iter().filter_map(|group| match group.work {
        Work::Products(products) if products.products.len() > 1 => Some(products),
        _ => None,
    });
    groups.collect()
}

#[cfg(test)]
mod tests;
