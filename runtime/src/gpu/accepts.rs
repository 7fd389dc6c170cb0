//! Which groups of ops the projection kernels can run, and with which tail.

use super::weights::Weights;
use crate::graph::fuse::{ExpertGroup, Fuses, Part, Product, Products};
use crate::graph::{
    CacheId, Gate, Graph, Half, KV_BLOCK, KvFormat, Norm, NormKind, Rope, Unary, ValueId, WeightId,
};
use crate::quant::{BLOCK, Format};

/// The most rows of a step that runs in groups: the length of the uniform buffer in
/// `matmul/output/heads.wgsl`.
pub(super) const FEW_ROWS: u32 = 8;
/// The most columns that low-rank paths of the same rows can have together, and the bytes of the uniform
/// buffer in `matmul/low_rank.wgsl`.
const MAX_LOW: usize = 512;
pub(super) const LOW_BYTES: u64 = 4 * FEW_ROWS as u64 * MAX_LOW as u64;

/// What follows a group's products, in the form that kernels have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ends {
    pub low: Option<Low>,
    /// One per product, or none.
    pub biases: Vec<WeightId>,
    pub tail: Tail,
}

/// Low-rank paths beside products.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Low {
    /// The rows, times the first matrices of all paths.
    pub down: ValueId,
    /// The second matrix of each product's path, if it has one.
    pub weights: Vec<Option<WeightId>>,
}

/// A group's tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tail {
    /// Stored, or a function of it.
    Plain { f: Option<Unary>, out: ValueId },
    /// It, or a function of it, is added to another value.
    Residual { f: Option<Unary>, residual: ValueId, out: ValueId },
    /// A gate and its partner.
    Gated { f: Gate, out: ValueId },
    /// Queries, keys and values: normalised and rotated, then stored or written to a cache.
    Heads(Heads),
}

/// Widths of queries, keys and values in floats; 0 if the group has none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Heads {
    pub q: usize,
    pub k: usize,
    pub v: usize,
    /// The value that queries are written to.
    pub out: Option<ValueId>,
    /// The cache that keys and values are written to.
    pub cache: Option<CacheId>,
    /// Its format.
    pub kv: KvFormat,
    /// The rotary embedding of queries and keys.
    pub rope: Option<Rope>,
    /// The norms of queries and keys; what is not in the group has that of the other.
    pub norms: Option<[Norm; 2]>,
    /// Whether norms come after the rotary embedding.
    pub norms_last: bool,
    /// Comes before all of that.
    pub f: Option<Unary>,
}

/// What follows a group's products, in the form that kernels have; none if no kernel has it.
pub(super) fn ends(graph: &Graph, products: &Products) -> Option<Ends> {
    let (mut lows, mut biases, mut split) = (Vec::new(), Vec::new(), Vec::new());
    for product in &products.products {
        let (low, rest) = match product.tail.as_slice() {
            [Part::LowRank { down, weight }, rest @ ..] => (Some((*down, *weight)), rest),
            rest => (None, rest),
        };
        let rest = match rest {
            [Part::Bias(bias), rest @ ..] => {
                biases.push(*bias);
                rest
            }
            rest => rest,
        };
        lows.push(low);
        split.push((rest, product));
    }
    if !biases.is_empty() && biases.len() != split.len() {
        return None;
    }
    let width = |id: ValueId| graph.value(id).width;
    let weights = lows.iter().map(|low| low.map(|(_, weight)| weight)).collect();
    let low = lows.iter().flatten().next().map(|(down, _)| Low { down: *down, weights });
    let fits = |low: &Low| {
        let is_same = lows.iter().flatten().all(|(down, _)| *down == low.down);
        is_same && width(low.down).is_multiple_of(8) && width(low.down) <= MAX_LOW
    };
    if !low.as_ref().is_none_or(fits) {
        return None;
    }
    let tail = match split.as_slice() {
        [(rest, one)] => match (*rest, one.out) {
            ([], Some(out)) => Some(Tail::Plain { f: None, out }),
            ([Part::Unary(f)], Some(out)) => Some(Tail::Plain { f: Some(*f), out }),
            ([Part::Add(residual)], Some(out)) if width(out).is_multiple_of(4) => {
                Some(Tail::Residual { f: None, residual: *residual, out })
            }
            ([Part::Unary(f), Part::Add(residual)], Some(out)) if width(out).is_multiple_of(4) => {
                Some(Tail::Residual { f: Some(*f), residual: *residual, out })
            }
            _ => heads(graph, &split),
        },
        [([Part::Gate], _), ([Part::GatedBy(0, f)], up)] => {
            let out = up.out.filter(|out| width(*out).is_multiple_of(2));
            out.map(|out| Tail::Gated { f: *f, out })
        }
        _ => heads(graph, &split),
    };
    // Four neighbouring rows of queries, keys and values must have the same path.
    let is_whole = |heads: Heads| [heads.q, heads.k, heads.v].iter().all(|width| width.is_multiple_of(4));
    let fits = |tail: &Tail| low.is_none() || !matches!(tail, Tail::Heads(heads) if !is_whole(*heads));
    tail.filter(fits).map(|tail| Ends { low, biases, tail })
}

impl Ends {
    /// Whether the projection's kernel can do it all, see [`Heads::are_direct`]. With both biases and
    /// low-rank paths, it would read more buffers than every device supports.
    pub fn are_direct(&self) -> bool {
        let Tail::Heads(heads) = self.tail else { return true };
        heads.are_direct() && (self.low.is_none() || self.biases.is_empty())
    }
}

impl Low {
    /// The second matrices.
    pub fn matrices(&self) -> Vec<WeightId> {
        self.weights.iter().flatten().copied().collect()
    }
}

fn heads(graph: &Graph, products: &[(&[Part], &Product)]) -> Option<Tail> {
    let mut heads = Heads::default();
    // Of queries and keys.
    let (mut turns, mut norms) = (Vec::new(), Vec::new());
    for (i, (parts, product)) in products.iter().enumerate() {
        let (f, parts) = match parts {
            [Part::Unary(f), rest @ ..] => (Some(*f), rest),
            rest => (None, *rest),
        };
        if i > 0 && f != heads.f {
            return None;
        }
        heads.f = f;
        let width = graph.weight(product.weight).n_rows;
        let (norm, rope, rest) = match parts {
            [Part::Norm(norm), Part::Rope(rope), rest @ ..] => (Some(*norm), Some(*rope), rest),
            [Part::Rope(rope), Part::Norm(norm), rest @ ..] => {
                heads.norms_last = true;
                (Some(*norm), Some(*rope), rest)
            }
            [Part::Norm(norm), rest @ ..] => (Some(*norm), None, rest),
            [Part::Rope(rope), rest @ ..] => (None, Some(*rope), rest),
            rest => (None, None, rest),
        };
        let is_first = |others: &[usize]| others.iter().all(|other| *other == 0);
        match (rest, product.out) {
            ([], Some(out)) if is_first(&[heads.q, heads.k, heads.v]) => {
                (heads.q, heads.out) = (width, Some(out));
                turns.push(rope);
                norms.push(norm);
            }
            ([Part::KvWrite(cache, Half::Keys)], None) if is_first(&[heads.k, heads.v]) => {
                (heads.k, heads.cache) = (width, Some(*cache));
                turns.push(rope);
                norms.push(norm);
            }
            ([Part::KvWrite(cache, Half::Values)], None)
                if heads.v == 0 && rope.is_none() && norm.is_none() =>
            {
                if heads.cache.is_some_and(|known| known != *cache) {
                    return None;
                }
                (heads.v, heads.cache) = (width, Some(*cache));
            }
            _ => return None,
        }
    }
    // Queries and keys must have the same rotary embedding, except for the number of heads, or none. Their
    // norms may have different weights, and runs as long as their rows.
    let plain_rope = |rope: &Rope| Rope { n_heads: 0, ..*rope };
    let plain_norm = |norm: &Norm| (norm.kind, norm.eps.to_bits());
    heads.rope = turns.first().copied().flatten();
    let norm = norms.first().copied().flatten();
    if turns.iter().any(|rope| rope.as_ref().map(plain_rope) != heads.rope.as_ref().map(plain_rope))
        || norms.iter().any(|other| other.as_ref().map(plain_norm) != norm.as_ref().map(plain_norm))
    {
        return None;
    }
    heads.kv = heads.cache.map_or(KvFormat::F16, |cache| graph.caches[cache.0].format);
    heads.norms = norm.map(|norm| [norm, norms.last().copied().flatten().unwrap_or(norm)]);
    let head = heads.head_dim();
    // Nothing but a norm is no matter of heads. A norm after the rotary embedding gives the same as before
    // it, except for its weight, if the embedding changes no lengths.
    let has_more = heads.rope.is_some() || heads.cache.is_some();
    let turns_only = heads.rope.is_none_or(|rope| rope.magnitude == 1.0);
    let fits = |norm: Norm| {
        let is_last_rms = norm.kind == NormKind::Rms && turns_only;
        norm.run.is_multiple_of(head)
            && norm.weight.is_some()
            && norm.bias.is_none()
            && (!heads.norms_last || (is_last_rms && norm.run == head))
    };
    if !heads.norms.is_none_or(|norms| has_more && norms.into_iter().all(fits)) {
        return None;
    }
    let is_whole = [heads.q, heads.k, heads.v].iter().all(|width| width.is_multiple_of(head));
    let unit = if heads.kv == KvFormat::F16 { 2 } else { KV_BLOCK };
    (is_whole && head.is_multiple_of(unit)).then_some(Tail::Heads(heads))
}

impl Heads {
    /// Floats per head. Without a rotary embedding and norms, heads do not matter and any divisor works.
    pub fn head_dim(&self) -> usize {
        let of_norms = self.norms.map(|[norm, _]| norm.run);
        let any = if self.kv == KvFormat::F16 { 4 } else { KV_BLOCK };
        self.rope.map(|rope| rope.head_dim).or(of_norms).unwrap_or(any)
    }

    /// Whether the projection's kernel can do it all. Otherwise, another kernel takes its results: the floats
    /// of one head are computed by several workgroups, so none of them can normalise it or make blocks of it.
    fn are_direct(&self) -> bool {
        let n_rot = self.rope.map_or(0, |rope| rope.n_rot);
        self.norms.is_none()
            && self.kv == KvFormat::F16
            && self.f.is_none()
            && self.head_dim().is_multiple_of(4)
            && n_rot.is_multiple_of(4)
    }
}

/// Accepts the groups that the device can run. Weights that are read together must be in one buffer.
pub(super) struct Accepts<'a> {
    pub formats: &'a [Format],
    pub max_binding: u64,
    /// The weights, once they are allocated.
    pub weights: Option<&'a Weights>,
}

impl Accepts<'_> {
    /// Whether the weights can be stacked in one buffer.
    fn can_stack(&self, graph: &Graph, ids: &[WeightId]) -> bool {
        let Some(first_id) = ids.first() else { return true };
        let first = graph.weight(*first_id);
        let format = self.formats[first_id.0];
        let row_blocks = format.row_blocks(first.n_cols);
        let n_rows: usize = ids.iter().map(|id| graph.weight(*id).n_rows).sum();
        let is_alike = ids.iter().all(|id| {
            let weight = graph.weight(*id);
            // A word of scales must not be split between two matrices.
            let is_whole = (weight.n_rows * row_blocks * format.scales_bytes()).is_multiple_of(4);
            self.formats[id.0] == format && weight.n_cols == first.n_cols && is_whole
        });
        is_alike && format.planes((n_rows * row_blocks) as u64).total() <= self.max_binding
    }
}

impl Fuses for Accepts<'_> {
    fn adds_norms(&self) -> bool {
        true
    }

    /// A gate and its partner must be in one buffer, with biases of both or of none.
    fn takes_experts(&self, graph: &Graph, group: &ExpertGroup) -> bool {
        let Some((gate, gate_bias, _)) = group.gate else { return true };
        let (ids, biases) = ([gate, group.experts.weight], [gate_bias, group.experts.bias]);
        let biases: Vec<WeightId> = biases.into_iter().flatten().collect();
        biases.len() != 1
            && match self.weights {
                None => self.can_stack(graph, &ids),
                Some(weights) => weights.are_stacked(&ids) && weights.are_vectors_stacked(&biases),
            }
    }

    fn accepts(&self, graph: &Graph, products: &Products) -> bool {
        let Some(Ends { low, biases, tail }) = ends(graph, products) else { return false };
        // Sums are scaled after the product, so only this norm can be computed with it.
        let is_simple = |norm: Norm| {
            let Norm { kind, run, weight, bias, .. } = norm;
            kind == NormKind::Rms && run.is_multiple_of(BLOCK) && weight.is_some() && bias.is_none()
        };
        if !products.norm.is_none_or(is_simple) {
            return false;
        }
        let ids: Vec<WeightId> = products.products.iter().map(|product| product.weight).collect();
        // Only these tails can run piece by piece on a weight that is cut by rows.
        let in_pieces = matches!(tail, Tail::Plain { .. } | Tail::Residual { .. });
        let low = low.map_or(Vec::new(), |low| low.matrices());
        if low.iter().any(|id| self.formats[id.0] != Format::F32) {
            return false;
        }
        match self.weights {
            None => (in_pieces || self.can_stack(graph, &ids)) && self.can_stack(graph, &low),
            Some(weights) => {
                let is_stacked = weights.are_stacked(&ids) && weights.are_vectors_stacked(&biases);
                (in_pieces || is_stacked) && weights.are_stacked(&low)
            }
        }
    }
}
