//! Which groups of ops the kernels of projections take, and as what.

use super::weights::Weights;
use crate::graph::fuse::{Fuses, Part, Product, Products};
use crate::graph::{Activation, CacheId, Graph, Half, Rope, ValueId, WeightId};
use crate::quant::Format;

/// Most rows of a step that the kernels of groups take at once: so many fit the uniform buffer of
/// `matmul/output/heads.wgsl`.
pub(super) const FEW_ROWS: u32 = 8;

/// What becomes of a group's sums, as kernels have it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tail {
    /// Stored, after an activation perhaps.
    Plain { f: Option<Activation>, out: ValueId },
    /// Added to another value.
    Residual { residual: ValueId, out: ValueId },
    /// A gate and what it gates.
    Gated { f: Activation, out: ValueId },
    /// Queries, keys and values.
    Heads(Heads),
}

/// Floats of queries, keys and values; 0 where the group has none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Heads {
    pub q: usize,
    pub k: usize,
    pub v: usize,
    /// Where queries go.
    pub out: Option<ValueId>,
    /// Where keys and values go.
    pub cache: Option<CacheId>,
    /// How queries and keys turn.
    pub rope: Option<Rope>,
}

/// A group as kernels have it: its tail, and its bias, one for each product or none.
pub(super) fn tail(graph: &Graph, products: &Products) -> Option<(Tail, Vec<WeightId>)> {
    let split: Vec<(Option<WeightId>, &[Part], &Product)> =
        products.products.iter().map(split_bias).collect();
    let biases: Vec<WeightId> = split.iter().filter_map(|(bias, ..)| *bias).collect();
    if !biases.is_empty() && biases.len() != split.len() {
        return None;
    }
    let width = |id: ValueId| graph.value(id).width;
    let found = match split.as_slice() {
        [(_, rest, one)] => match (*rest, one.out) {
            ([], Some(out)) => Some(Tail::Plain { f: None, out }),
            ([Part::Activate(f)], Some(out)) => Some(Tail::Plain { f: Some(*f), out }),
            ([Part::Add(residual)], Some(out)) if width(out).is_multiple_of(4) => {
                Some(Tail::Residual { residual: *residual, out })
            }
            _ => heads(graph, &split),
        },
        [(_, [Part::Gate], _), (_, [Part::GatedBy(0, f)], up)] => {
            let out = up.out.filter(|out| width(*out).is_multiple_of(2));
            out.map(|out| Tail::Gated { f: *f, out })
        }
        _ => heads(graph, &split),
    };
    found.map(|tail| (tail, biases))
}

fn split_bias(product: &Product) -> (Option<WeightId>, &[Part], &Product) {
    match product.tail.as_slice() {
        [Part::Bias(bias), rest @ ..] => (Some(*bias), rest, product),
        rest => (None, rest, product),
    }
}

fn heads(graph: &Graph, products: &[(Option<WeightId>, &[Part], &Product)]) -> Option<Tail> {
    let mut heads = Heads::default();
    let mut turns = Vec::new();
    for (_, parts, product) in products {
        let width = graph.weight(product.weight).n_rows;
        let (rope, rest) = match parts {
            [Part::Rope(rope), rest @ ..] => (Some(*rope), rest),
            rest => (None, *rest),
        };
        let is_first = |others: &[usize]| others.iter().all(|other| *other == 0);
        match (rest, product.out) {
            ([], Some(out)) if is_first(&[heads.q, heads.k, heads.v]) => {
                (heads.q, heads.out) = (width, Some(out));
                turns.push(rope);
            }
            ([Part::KvWrite(cache, Half::Keys)], None) if is_first(&[heads.k, heads.v]) => {
                (heads.k, heads.cache) = (width, Some(*cache));
                turns.push(rope);
            }
            ([Part::KvWrite(cache, Half::Values)], None) if heads.v == 0 && rope.is_none() => {
                if heads.cache.is_some_and(|known| known != *cache) {
                    return None;
                }
                (heads.v, heads.cache) = (width, Some(*cache));
            }
            _ => return None,
        }
    }
    // Queries and keys turn alike but for their number of heads, or do not turn.
    let plain = |rope: &Rope| Rope { n_heads: 0, ..*rope };
    heads.rope = turns.first().copied().flatten();
    if turns.iter().any(|rope| rope.as_ref().map(plain) != heads.rope.as_ref().map(plain)) {
        return None;
    }
    let head = heads.head_dim();
    let is_whole = [heads.q, heads.k, heads.v].iter().all(|width| width.is_multiple_of(head));
    let n_rot = heads.rope.map_or(0, |rope| rope.n_rot);
    (is_whole && head.is_multiple_of(4) && n_rot.is_multiple_of(4)).then_some(Tail::Heads(heads))
}

impl Heads {
    /// Floats of a head; where nothing turns, any number does.
    pub fn head_dim(&self) -> usize {
        self.rope.map_or(4, |rope| rope.head_dim)
    }
}

/// The groups that fit the device: weights that are read together lie in one buffer.
pub(super) struct Accepts<'a> {
    pub formats: &'a [Format],
    pub max_binding: u64,
    /// Where weights lie, once they do.
    pub weights: Option<&'a Weights>,
}

impl Accepts<'_> {
    /// Whether the weights can lie in one buffer, one below the other.
    fn can_stack(&self, graph: &Graph, ids: &[WeightId]) -> bool {
        let first = graph.weight(ids[0]);
        let format = self.formats[ids[0].0];
        let row_blocks = first.n_cols / format.block_len();
        let n_rows: usize = ids.iter().map(|id| graph.weight(*id).n_rows).sum();
        let is_alike = ids.iter().all(|id| {
            let weight = graph.weight(*id);
            // Two scales of a word must not belong to two matrices.
            let is_even = (weight.n_rows * row_blocks).is_multiple_of(2);
            self.formats[id.0] == format && weight.n_cols == first.n_cols && is_even
        });
        is_alike && format.planes((n_rows * row_blocks) as u64).total() <= self.max_binding
    }
}

impl Fuses for Accepts<'_> {
    fn takes(&self, part: &Part) -> bool {
        // A head's floats are spread over workgroups.
        !matches!(part, Part::HeadNorm(_))
    }

    fn accepts(&self, graph: &Graph, products: &Products) -> bool {
        let Some((tail, biases)) = tail(graph, products) else { return false };
        let ids: Vec<WeightId> = products.products.iter().map(|product| product.weight).collect();
        // Kernels that store piece by piece take weights that are cut by rows, others do not.
        let in_pieces = matches!(tail, Tail::Plain { .. } | Tail::Residual { .. });
        match self.weights {
            None => in_pieces || self.can_stack(graph, &ids),
            Some(weights) => in_pieces || (weights.are_stacked(&ids) && weights.are_vectors_stacked(&biases)),
        }
    }
}
