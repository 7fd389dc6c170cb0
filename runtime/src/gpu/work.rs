//! Counts the bytes that an op must move and its multiply-adds, whatever the kernel. Measured times are
//! compared with the time that these take at least.

use super::fuse::{Fused, Qkv};
use crate::graph::{Graph, Op, Rows, Step, Token, Value, ValueId, WeightId};
use crate::quant::{BLOCK, Format};

/// Bytes and multiply-adds of an op, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Weights once; activations in and out; keys and values of all visible positions, once per sequence.
    pub bytes: u64,
    /// Multiply-adds of projections and attention; those of norms and the like are not counted.
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
    /// The work of an op, and a description of it with its shape.
    pub fn count(&self, fused: &Fused) -> (Work, String) {
        let (mut work, what) = match fused {
            Fused::Op(op) => self.op(op),
            Fused::Project { x, weight, norm, .. } => {
                let rows = self.graph.values[x.0].rows;
                let work = self.vector(norm.weight) + self.projection(&[*weight], rows);
                (work, format!("norm, project {}", self.shape(&[*weight])))
            }
            Fused::Residual { weight, .. } => (
                self.projection(&[*weight], Rows::Tokens),
                format!("project {}, add", self.shape(&[*weight])),
            ),
            Fused::GateUp { weights, norm, .. } => (
                norm.map_or(Work::default(), |norm| self.vector(norm.weight))
                    + self.projection(weights, Rows::Tokens),
                format!("gate, up {}", self.shape(weights)),
            ),
            Fused::Qkv(Qkv { weights, norm, layer, .. }) => (
                norm.map_or(Work::default(), |norm| self.vector(norm.weight))
                    + self.projection(weights, Rows::Tokens)
                    + self.kv_cells(*layer, self.step.tokens.len() as u64),
                format!("q, k, v {}", self.shape(weights)),
            ),
        };
        let read = match fused {
            // It reads only the rows that it writes.
            Fused::Op(Op::SelectRows { out, .. }) => vec![*out],
            _ => fused.inputs(),
        };
        work.bytes += read.into_iter().chain(fused.out()).map(|id| self.value_bytes(id)).sum::<u64>();
        (work, what)
    }

    /// Rows that an op computes.
    pub fn n_rows(&self, fused: &Fused) -> u32 {
        self.rows(fused.out().map_or(Rows::Tokens, |id| self.graph.values[id.0].rows)) as u32
    }

    fn op(&self, op: &Op) -> (Work, String) {
        let none = Work::default();
        let width = |id: ValueId| self.graph.values[id.0].width;
        match *op {
            Op::Embed { weight, .. } => {
                let n_cols = self.graph.weights[weight.0].n_cols;
                let bytes = self.rows(Rows::Tokens) * self.row_bytes(weight);
                (Work { bytes, macs: 0 }, format!("embed {n_cols}"))
            }
            Op::MatMul { x, weight, .. } => {
                let work = self.projection(&[weight], self.graph.values[x.0].rows);
                (work, format!("project {}", self.shape(&[weight])))
            }
            Op::RmsNorm { weight, out, .. } => (self.vector(weight), format!("norm {}", width(out))),
            Op::Rope { out, .. } => (none, format!("rope {}", width(out))),
            Op::KvWrite { k, layer, .. } => {
                (self.kv_cells(layer, self.rows(Rows::Tokens)), format!("write keys, values {}", width(k)))
            }
            Op::Attention { layer, attention, .. } => {
                let seen = |token: &Token| {
                    let all = u64::from(token.position) + 1;
                    if attention.window == 0 { all } else { all.min(attention.window.into()) }
                };
                let products: u64 = self.step.tokens.iter().map(seen).sum();
                let head_macs = 2 * attention.head_dim as u64 * attention.n_heads as u64;
                let kv = self.kv_cells(layer, self.seen_cells(attention.window));
                let what = format!(
                    "attention, {}/{} heads of {}",
                    attention.n_heads, attention.n_kv_heads, attention.head_dim
                );
                (Work { macs: products * head_macs, ..kv }, what)
            }
            Op::SwiGlu { out, .. } => (none, format!("swiglu {}", width(out))),
            Op::Add { out, .. } => (none, format!("add {}", width(out))),
            Op::SelectRows { out, .. } => (none, format!("select rows of {}", width(out))),
            Op::Argmax { logits, .. } => (none, format!("argmax of {}", width(logits))),
        }
    }

    fn rows(&self, rows: Rows) -> u64 {
        match rows {
            Rows::Tokens => self.step.tokens.len() as u64,
            Rows::Outputs => self.step.outputs.len() as u64,
        }
    }

    fn value_bytes(&self, id: ValueId) -> u64 {
        let Value { rows, width } = self.graph.values[id.0];
        4 * width as u64 * self.rows(rows)
    }

    fn row_bytes(&self, id: WeightId) -> u64 {
        (self.graph.weights[id.0].n_cols / BLOCK * self.formats[id.0].block_bytes()) as u64
    }

    fn vector(&self, id: WeightId) -> Work {
        Work { bytes: 4 * self.graph.weights[id.0].n_cols as u64, macs: 0 }
    }

    /// The matrices, each multiplied with every row; activations are not counted.
    fn projection(&self, ids: &[WeightId], rows: Rows) -> Work {
        let rows = self.rows(rows);
        ids.iter().fold(Work::default(), |work, id| {
            let weight = &self.graph.weights[id.0];
            let n_rows = weight.n_rows as u64;
            work + Work { bytes: n_rows * self.row_bytes(*id), macs: rows * n_rows * weight.n_cols as u64 }
        })
    }

    /// Keys and values of `n` positions, in f16.
    fn kv_cells(&self, layer: usize, n: u64) -> Work {
        Work { bytes: 4 * self.graph.kv_widths[layer] as u64 * n, macs: 0 }
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

    /// The sum of the matrices' rows, and their columns.
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
    use super::super::fuse::fuse;
    use super::*;
    use crate::gpu::self_test::layers;
    use crate::graph::{Output, Rope};

    /// A layer with an embedding of 64, 4 heads of 16, 2 KV heads, a feed-forward of 96 and 70 tokens, in
    /// Q4_0: 18 bytes per 32 weights.
    fn count(positions: std::ops::Range<u32>, are_stacked: bool) -> Vec<(String, Work)> {
        let rope = Rope { n_heads: 4, head_dim: 16, n_rot: 16, neox: false };
        let graph = layers(Format::Q4_0, rope, &[1], 1).graph;
        let formats: Vec<Format> =
            graph.weights.iter().map(|w| if w.is_vector { Format::F32 } else { Format::Q4_0 }).collect();
        let tokens: Vec<Token> =
            positions.map(|position| Token { position, cell: position, ..Default::default() }).collect();
        let step = Step {
            tokens: &tokens,
            outputs: &[Output { row: 0, target: 0 }],
            pages: &[0, 1, 2, 3],
            max_pages: 4,
        };
        let counter = Counter { graph: &graph, formats: &formats, step: &step };
        let ops = match are_stacked {
            true => fuse(&graph, |_| true).into_iter().map(|(_, fused)| fused).collect(),
            false => graph.ops.iter().map(|op| Fused::Op(op.clone())).collect::<Vec<_>>(),
        };
        ops.iter().map(|op| counter.count(op)).map(|(work, what)| (what, work)).collect()
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
        assert_has(&all, "argmax of 70", 280 + 16, 0);
    }

    #[test]
    fn prefill_is_counted_as_by_hand() {
        let all = count(10..13, false);
        assert_has(&all, "project 64 x 64", 64 * 36 + 3 * 512, 3 * 64 * 64);
        assert_has(&all, "norm 64", 256 + 3 * 512, 0);
        // Positions 0 to 12 once; 11 + 12 + 13 pairs of positions.
        assert_has(&all, "attention, 4/2 heads of 16", 13 * 128 + 3 * 512, 36 * 4 * 16 * 2);
        assert_has(&all, "write keys, values 32", 3 * 128 + 3 * 256, 0);
        assert_has(&all, "swiglu 96", 3 * 3 * 384, 0);
        assert_has(&all, "select rows of 64", 2 * 256, 0);
        // One output.
        assert_has(&all, "project 70 x 64", 70 * 36 + 256 + 280, 70 * 64);
    }
}
