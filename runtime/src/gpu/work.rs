//! Counts the bytes and multiply-adds that an op needs with any kernel. They give the least time that the op
//! can take, for comparison with measured times.

use super::accepts::{Ends, Tail, ends};
use crate::graph::fuse::{ExpertGroup, Group, NormAdd, Products, Work as GroupWork};
use crate::graph::{CacheId, Chosen, Domain, Experts, Graph, Op, Step, Token, Value, ValueId, WeightId};
use crate::quant::Format;

/// Bytes and multiply-adds of one or more ops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Weights once; activations in and out; keys and values of all visible positions, once per sequence.
    pub bytes: u64,
    /// Multiply-adds of projections and attention. Those of norms and other small ops are not counted.
    pub macs: u64,
}

/// Counts the work of a step's ops.
pub(super) struct Counter<'a> {
    pub graph: &'a Graph,
    /// The format of each weight.
    pub formats: &'a [Format],
    pub step: &'a Step<'a>,
}

impl Counter<'_> {
    /// The work of a group, and a description with its shape.
    pub fn count(&self, group: &Group) -> (Work, String) {
        let (mut work, what) = match &group.work {
            GroupWork::Op(op) => self.op(op),
            GroupWork::Products(products) => self.products(products),
            GroupWork::NormAdd(NormAdd { norm, out, .. }) => {
                let vectors = norm.vectors().fold(Work::default(), |work, id| work + self.vector(id));
                (vectors, format!("norm, add {}", self.graph.value(*out).width))
            }
            GroupWork::Experts(group) => self.experts(group),
        };
        let read = match group.work {
            // Reads only as many rows as it writes.
            GroupWork::Op(Op::SelectRows { out, .. }) => vec![out],
            _ => group.inputs(),
        };
        work.bytes += read.into_iter().chain(group.outs()).map(|id| self.value_bytes(id)).sum::<u64>();
        (work, what)
    }

    /// The work of finding the likeliest token of each output.
    pub fn likeliest(&self) -> (Work, String) {
        let n_vocab = self.graph.n_vocab() as u64;
        let bytes = self.rows(Domain::Outputs) * (4 * n_vocab + size_of::<Chosen>() as u64);
        (Work { bytes, macs: 0 }, format!("likeliest of {n_vocab}"))
    }

    /// Rows that a group computes.
    pub fn n_rows(&self, group: &Group) -> u32 {
        let domain = group.outs().first().map_or(Domain::Tokens, |id| self.graph.value(*id).domain);
        self.rows(domain) as u32
    }

    fn products(&self, products: &Products) -> (Work, String) {
        let ids: Vec<WeightId> = products.products.iter().map(|product| product.weight).collect();
        let mut work = self.projection(&ids, self.graph.value(products.x).domain);
        if let Some(norm) = products.norm {
            work = norm.vectors().fold(work, |work, id| work + self.vector(id));
        }
        let shape = self.shape(&ids);
        let what = match ends(self.graph, products) {
            None => format!("group {shape}"),
            Some(Ends { low, biases, tail }) => {
                work = biases.iter().fold(work, |work, bias| work + self.vector(*bias));
                let beside = if low.is_some() { ", low rank" } else { "" };
                if let Some(low) = low {
                    work = work + self.projection(&low.matrices(), self.graph.value(low.down).domain);
                }
                let what = match tail {
                    Tail::Plain { f: None, .. } if products.norm.is_some() => {
                        format!("norm, project {shape}")
                    }
                    Tail::Plain { .. } => format!("project {shape}"),
                    Tail::Residual { .. } => format!("project {shape}, add"),
                    Tail::Gated { .. } => format!("gate, up {shape}"),
                    Tail::Heads(heads) => {
                        // Keys and values are written as f16.
                        work.bytes += 2 * (heads.k + heads.v) as u64 * self.rows(Domain::Tokens);
                        format!("q, k, v {shape}")
                    }
                };
                what + beside
            }
        };
        (work, what)
    }

    /// The work of the chosen experts. Rows that choose the same read its weights once; how many do is not
    /// known, so all choose others here, as far as there are others.
    fn experts(&self, group: &ExpertGroup) -> (Work, String) {
        let Experts { route, n_experts, weight, .. } = group.experts;
        let domain = self.graph.value(group.out).domain;
        let pairs = self.rows(domain) * self.graph.n_used(route) as u64;
        let read = pairs.min(n_experts as u64);
        let n_rows = group.n_rows(self.graph) as u64;
        let weights = || [weight].into_iter().chain(group.gate.map(|(gate, ..)| gate));
        let work = weights().fold(Work::default(), |work, id| {
            let n_cols = self.graph.weight(id).n_cols as u64;
            let (bytes, macs) = (read * n_rows * self.row_bytes(id), pairs * n_rows * n_cols);
            work + Work { bytes, macs }
        });
        let rows = n_rows as usize * weights().count();
        let what = if group.is_summed { ", sum" } else { "" };
        (work, format!("experts {rows} x {}{what}", self.graph.weight(weight).n_cols))
    }

    fn op(&self, op: &Op) -> (Work, String) {
        let none = Work::default();
        let width = |id: ValueId| self.graph.values[id.0].width;
        match *op {
            Op::Embed { weight, .. } => {
                let n_cols = self.graph.weight(weight).n_cols;
                let bytes = self.rows(Domain::Tokens) * self.row_bytes(weight);
                (Work { bytes, macs: 0 }, format!("embed {n_cols}"))
            }
            Op::MatMul { x, weight, .. } => {
                let work = self.projection(&[weight], self.graph.value(x).domain);
                (work, format!("project {}", self.shape(&[weight])))
            }
            Op::Norm { norm, out, .. } => {
                let work = norm.vectors().fold(none, |work, id| work + self.vector(id));
                (work, format!("norm {}", width(out)))
            }
            Op::Bias { bias, out, .. } => (self.vector(bias), format!("bias {}", width(out))),
            Op::Rope { out, .. } => (none, format!("rope {}", width(out))),
            Op::KvWrite { x, cache, .. } => {
                let words = self.graph.caches[cache.0].format.words(width(x));
                let bytes = 2 * words as u64 * self.rows(Domain::Tokens);
                (Work { bytes, macs: 0 }, format!("write keys or values {}", width(x)))
            }
            Op::Attention { cache, shape, .. } => {
                let seen = |token: &Token| {
                    let all = u64::from(token.position) + 1;
                    if shape.window == 0 { all } else { all.min(shape.window.into()) }
                };
                let products: u64 = self.step.tokens.iter().map(seen).sum();
                let head_macs = ((shape.head_dim + shape.value_dim) * shape.n_heads) as u64;
                let kv = cache.map_or(none, |cache| self.kv_cells(cache, self.seen_cells(shape.window)));
                let what =
                    format!("attention, {}/{} heads of {}", shape.n_heads, shape.n_kv_heads, shape.head_dim);
                (Work { macs: products * head_macs, ..kv }, what)
            }
            Op::Unary { out, .. } => (none, format!("function of {}", width(out))),
            Op::Gated { out, .. } => (none, format!("gated {}", width(out))),
            Op::Add { out, .. } => (none, format!("add {}", width(out))),
            Op::Mul { out, .. } => (none, format!("multiply {}", width(out))),
            Op::Route { logits, .. } => (none, format!("route to experts of {}", width(logits))),
            Op::Experts { experts, out } => self.experts(&ExpertGroup::of(experts, out)),
            Op::ExpertSum { out, .. } => (none, format!("sum of experts {}", width(out))),
            Op::SelectRows { out, .. } => (none, format!("select rows of {}", width(out))),
        }
    }

    fn rows(&self, domain: Domain) -> u64 {
        match domain {
            Domain::Tokens => self.step.tokens.len() as u64,
            Domain::Outputs => self.step.outputs.len() as u64,
        }
    }

    fn value_bytes(&self, id: ValueId) -> u64 {
        let Value { domain, width } = self.graph.value(id);
        4 * width as u64 * self.rows(domain)
    }

    fn row_bytes(&self, id: WeightId) -> u64 {
        let format = self.formats[id.0];
        format.row_bytes(self.graph.weight(id).n_cols) as u64
    }

    fn vector(&self, id: WeightId) -> Work {
        Work { bytes: 4 * self.graph.weights[id.0].n_cols as u64, macs: 0 }
    }

    /// The work of multiplying every row by these matrices, without the bytes of activations.
    fn projection(&self, ids: &[WeightId], domain: Domain) -> Work {
        let rows = self.rows(domain);
        ids.iter().fold(Work::default(), |work, id| {
            let weight = &self.graph.weights[id.0];
            let n_rows = weight.n_rows as u64;
            // Of low-rank paths, only the columns that are not zero are read.
            let (n_cols, row_bytes) = match &weight.low_rank {
                Some(columns) => (columns.len() as u64, 4 * columns.len() as u64),
                None => (weight.n_cols as u64, self.row_bytes(*id)),
            };
            work + Work { bytes: n_rows * row_bytes, macs: rows * n_rows * n_cols }
        })
    }

    /// Keys and values of `n` positions.
    fn kv_cells(&self, cache: CacheId, n: u64) -> Work {
        Work { bytes: self.graph.caches[cache.0].bytes(1) * n, macs: 0 }
    }

    /// Positions that at least one row of a sequence attends to, summed over all sequences.
    fn seen_cells(&self, window: u32) -> u64 {
        let n_sequences = self.step.pages.len() as u32 / self.step.max_pages.max(1);
        (0..n_sequences)
            .filter_map(|sequence| {
                let positions =
                    self.step.tokens.iter().filter(|t| t.sequence == sequence).map(|t| t.position);
                let (first, last) = (positions.clone().min()?, positions.max()?);
                let start = if window == 0 { 0 } else { (first + 1).saturating_sub(window) };
                Some(u64::from(last + 1 - start))
            })
            .sum()
    }

    /// The shape of the stacked matrices, `rows x columns`.
    fn shape(&self, ids: &[WeightId]) -> String {
        let weights = || ids.iter().map(|id| &self.graph.weights[id.0]);
        let n_rows: usize = weights().map(|weight| weight.n_rows).sum();
        format!("{n_rows} x {}", weights().next().map_or(0, |weight| weight.n_cols))
    }
}

impl std::ops::Add for Work {
    type Output = Work;

    fn add(self, other: Work) -> Work {
        Work { bytes: self.bytes + other.bytes, macs: self.macs + other.macs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::accepts::Accepts;
    use crate::graph::Output;
    use crate::graph::fuse::{fuse, unfused};
    use crate::graph::testing::{Layers, layers};

    /// A layer with an embedding of 64, 4 heads of 16, 2 KV heads, a feed-forward of 96 and 70 tokens, in
    /// Q4_0: 18 bytes per 32 weights.
    fn count(positions: std::ops::Range<u32>, in_groups: bool) -> Vec<(String, Work)> {
        let case = layers(Layers::of(Format::Q4_0), &[1]);
        let (graph, formats) = (&case.graph, case.formats());
        let tokens: Vec<Token> =
            positions.map(|position| Token { position, cell: position, ..Default::default() }).collect();
        let (outputs, pages) = ([Output::likeliest(0, 0)], [0, 1, 2, 3]);
        let step = Step { tokens: &tokens, outputs: &outputs, choices: &[], pages: &pages, max_pages: 4 };
        let counter = Counter { graph, formats: &formats, step: &step };
        let accepts = Accepts { formats: &formats, max_binding: 1 << 20, weights: None };
        let groups = if in_groups { fuse(graph, &accepts) } else { unfused(graph) };
        let counted = groups.iter().map(|group| counter.count(group)).map(|(work, what)| (what, work));
        let (work, what) = counter.likeliest();
        counted.chain([(what, work)]).collect()
    }

    #[track_caller]
    fn assert_has(all: &[(String, Work)], what: &str, bytes: u64, macs: u64) {
        assert!(all.contains(&(what.to_string(), Work { bytes, macs })), "{what} is not in {all:?}");
    }

    #[test]
    fn decode_is_counted_as_by_hand() {
        let all = count(100..101, true);
        // 128 rows of 2 blocks; norm, input and output of 64 floats; a KV cell of 2 x 32 f16.
        assert_has(&all, "q, k, v 128 x 64", 128 * 36 + 2 * 256 + 256 + 128, 128 * 64);
        // 101 cells; queries and results of 64 floats; 101 x 4 heads x 16, for keys and for values.
        assert_has(&all, "attention, 4/2 heads of 16", 101 * 128 + 512, 101 * 4 * 16 * 2);
        // Input, residual and sum.
        assert_has(&all, "project 64 x 64, add", 64 * 36 + 3 * 256, 64 * 64);
        assert_has(&all, "gate, up 192 x 64", 192 * 36 + 2 * 256 + 384, 192 * 64);
        assert_has(&all, "project 64 x 96, add", 64 * 54 + 384 + 2 * 256, 64 * 96);
        assert_has(&all, "norm, project 70 x 64", 70 * 36 + 2 * 256 + 280, 70 * 64);
        // The logits and four result numbers.
        assert_has(&all, "likeliest of 70", 280 + 16, 0);
    }

    #[test]
    fn prefill_is_counted_as_by_hand() {
        let all = count(10..13, false);
        assert_has(&all, "project 64 x 64", 64 * 36 + 3 * 512, 3 * 64 * 64);
        assert_has(&all, "norm 64", 256 + 3 * 512, 0);
        // Positions 0 to 12 once; 11 + 12 + 13 pairs of positions.
        assert_has(&all, "attention, 4/2 heads of 16", 13 * 128 + 3 * 512, 36 * 4 * 16 * 2);
        assert_has(&all, "write keys or values 32", 3 * 64 + 3 * 128, 0);
        assert_has(&all, "gated 96", 3 * 3 * 384, 0);
        assert_has(&all, "select rows of 64", 2 * 256, 0);
        // One output.
        assert_has(&all, "project 70 x 64", 70 * 36 + 256 + 280, 70 * 64);
    }
}
