//! Low-rank adapters: puts low-rank paths beside the products of a graph (LoRA, arXiv 2106.09685).
//!
//! A product `y = x · Wᵀ` with a path becomes `y = x · Wᵀ + (x · Aᵀ) · Bᵀ`. The matrices A of all products of
//! the same rows are stacked in one weight, so that they are one product. Its columns that do not belong to a
//! product are zero in that product's B, which names the others ([`Weight::low_rank`]).
//!
//! Rows of one step may use different sets of paths: then `x · Aᵀ` is multiplied by a row of strengths, which
//! are 0 for the paths that a set does not have. A table has such a row for each set ([`Index::Set`]).

#[cfg(test)]
use crate::graph::testing::{Case, Random};
use crate::graph::{Domain, Graph, Index, Op, Source, Value, ValueId, Weight, WeightId};
use crate::load::Sink;
use crate::quant::Format;
use std::borrow::Cow;
use std::ops::Range;

/// What is added to a tensor that multiplies rows: `B · A`.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// The tensor's name.
    pub tensor: String,
    /// Rows of A and columns of B.
    pub rank: usize,
    /// Columns of A and of the tensor.
    pub n_in: usize,
    /// Rows of B and of the tensor.
    pub n_out: usize,
    /// `[rank, n_in]`, row-major.
    pub a: Vec<f32>,
    /// `[n_out, rank]`, row-major.
    pub b: Vec<f32>,
}

/// A graph with low-rank paths.
#[derive(Clone, Debug)]
pub struct Adapted {
    /// The graph. The values and weights of the graph before keep their numbers; others come after them.
    pub graph: Graph,
    /// The numbers of the weights that are new, row-major.
    pub numbers: Vec<Vec<f32>>,
}

/// The format in which devices hold the matrices of low-rank paths.
const FORMAT: Format = Format::F32;
/// Where matrices A begin in their stack: devices read eight columns of B at a time.
const UNIT: usize = 8;

impl Adapted {
    /// The formats of the weights that are new.
    pub fn formats(&self) -> Vec<Format> {
        vec![FORMAT; self.numbers.len()]
    }

    /// Passes the weights that are new to a device.
    pub fn load(&self, sink: &mut impl Sink) {
        let first = self.graph.weights.len() - self.numbers.len();
        let (mut quants, mut scales) = (Vec::new(), Vec::new());
        for (i, numbers) in self.numbers.iter().enumerate() {
            let blocks =
                FORMAT.whole_blocks(bytemuck::cast_slice(numbers), self.graph.weights[first + i].n_cols);
            quants.clear();
            scales.clear();
            FORMAT.repack(&blocks, &mut quants, &mut scales);
            sink.write_blocks(WeightId(first + i), 0, &quants, &scales);
        }
    }
}

/// Adds paths to a graph, each times its factor. Several paths may be beside the same tensor. Paths beside
/// tensors that no product uses change nothing; the shapes must be those of the tensors ([`misfit`]).
pub fn adapt(graph: &Graph, paths: &[(&LowRank, f32)]) -> Adapted {
    adapt_rows(graph, paths, &[])
}

/// The same where rows of a step use different paths: `sets` has, for each set that [`Token::set`] may name,
/// the strength of each path, which is multiplied with the path's factor. With no sets, every row uses all.
///
/// [`Token::set`]: crate::graph::Token::set
pub fn adapt_rows(graph: &Graph, paths: &[(&LowRank, f32)], sets: &[Vec<f32>]) -> Adapted {
    let mut adapted = Adapted { graph: Graph { ops: Vec::new(), ..graph.clone() }, numbers: Vec::new() };
    let mut tables = Tables { sets, known: Vec::new() };
    let mut done: Vec<ValueId> = Vec::new();
    let has_path = |x: ValueId| {
        graph.ops.iter().any(|op| match *op {
            Op::MatMul { x: rows, weight, .. } => rows == x && is_beside_any(graph, weight, paths),
            _ => false,
        })
    };
    for op in &graph.ops {
        match *op {
            Op::MatMul { x, .. } if has_path(x) => {
                if !done.contains(&x) {
                    done.push(x);
                    adapted.products(graph, x, paths, &mut tables);
                }
            }
            _ => adapted.graph.ops.push(op.clone()),
        }
    }
    adapted
}

fn is_beside_any(graph: &Graph, weight: WeightId, paths: &[(&LowRank, f32)]) -> bool {
    let name = graph.weight(weight).source.name();
    paths.iter().any(|(path, _)| path.tensor == name)
}

impl Adapted {
    fn value(&mut self, domain: Domain, width: usize) -> ValueId {
        self.graph.values.push(Value { domain, width });
        ValueId(self.graph.values.len() - 1)
    }

    fn weight(
        &mut self,
        name: String,
        [n_rows, n_cols]: [usize; 2],
        low_rank: Option<Range<usize>>,
        numbers: Vec<f32>,
    ) -> WeightId {
        let source = Source::Tensor { name, first_row: 0 };
        self.graph.weights.push(Weight { source, is_vector: false, n_rows, n_cols, low_rank });
        self.numbers.push(numbers);
        WeightId(self.graph.weights.len() - 1)
    }

    /// Adds the products of rows of which some have paths beside them, all at once: first that with A, then
    /// with the weights, then with each B, then the sums. In this order, devices can fuse the sums with the
    /// products.
    fn products(&mut self, graph: &Graph, x: ValueId, paths: &[(&LowRank, f32)], tables: &mut Tables) {
        let mut stack = Stack::default();
        let products = graph.ops.iter().filter_map(|op| match *op {
            Op::MatMul { x: rows, weight, out } if rows == x => Some((weight, out)),
            _ => None,
        });
        let products: Vec<(WeightId, ValueId)> = products.collect();
        let has_path = |weight: &WeightId| is_beside_any(graph, *weight, paths);
        for (weight, _) in products.iter().filter(|(weight, _)| has_path(weight)) {
            stack.push(graph.weight(*weight).source.name(), paths);
        }
        let Value { domain, width } = graph.value(x);
        let n_rows = stack.n_rows;
        let names: Vec<String> = stack.tensors.iter().map(|(name, _)| format!("{name}.lora_a")).collect();
        let numbers = std::mem::take(&mut stack.numbers);
        let a = self.weight(names.join(", "), [n_rows, width], Some(0..width), numbers);
        let down = self.value(domain, n_rows);
        self.graph.ops.push(Op::MatMul { x, weight: a, out: down });
        let down = self.by_set(down, &stack, paths, tables);
        let (mut ups, mut sums) = (Vec::new(), Vec::new());
        for (weight, out) in products {
            if !has_path(&weight) {
                self.graph.ops.push(Op::MatMul { x, weight, out });
                continue;
            }
            let b = self.wide_b(graph.weight(weight), paths, &stack);
            let width = graph.value(out).width;
            let [base, low] = [self.value(domain, width), self.value(domain, width)];
            self.graph.ops.push(Op::MatMul { x, weight, out: base });
            ups.push(Op::MatMul { x: down, weight: b, out: low });
            sums.push(Op::Add { a: base, b: low, out });
        }
        self.graph.ops.extend(ups.into_iter().chain(sums));
    }

    /// `down` with each column times the strength that its path has in the set of the row.
    fn by_set(
        &mut self,
        down: ValueId,
        stack: &Stack,
        paths: &[(&LowRank, f32)],
        tables: &mut Tables,
    ) -> ValueId {
        if tables.sets.is_empty() {
            return down;
        }
        let Value { domain, width } = self.graph.value(down);
        let numbers: Vec<f32> = tables.sets.iter().flat_map(|set| stack.strengths(paths, set)).collect();
        let known = tables.known.iter().find(|known| (known.domain, &known.numbers) == (domain, &numbers));
        let strengths = match known {
            Some(known) => known.strengths,
            None => {
                let shape = [tables.sets.len(), width];
                let weight = self.weight("strengths".into(), shape, None, numbers.clone());
                let mut strengths = self.value(Domain::Tokens, width);
                self.graph.ops.push(Op::Embed { weight, by: Index::Set, out: strengths });
                if domain == Domain::Outputs {
                    let x = std::mem::replace(&mut strengths, self.value(domain, width));
                    self.graph.ops.push(Op::SelectRows { x, out: strengths });
                }
                tables.known.push(Table { domain, numbers, strengths });
                strengths
            }
        };
        let out = self.value(domain, width);
        self.graph.ops.push(Op::Mul { a: down, b: strengths, out });
        out
    }

    /// The matrices B beside a weight, times their factors, in the columns of their A.
    fn wide_b(&mut self, weight: &Weight, paths: &[(&LowRank, f32)], stack: &Stack) -> WeightId {
        let (name, n_cols) = (weight.source.name(), stack.n_rows);
        let first_row = weight.source.tensors().next().map_or(0, |(_, first_row)| first_row);
        let mut numbers = vec![0.0; weight.n_rows * n_cols];
        let columns =
            stack.tensors.iter().find(|(known, _)| known == name).map_or(0..0, |(_, it)| it.clone());
        let mut at = columns.start;
        for (path, factor) in paths.iter().filter(|(path, _)| path.tensor == name) {
            let rows = path.b.chunks_exact(path.rank).skip(first_row);
            for (wide, row) in numbers.chunks_exact_mut(n_cols).zip(rows) {
                wide[at..at + path.rank].iter_mut().zip(row).for_each(|(wide, b)| *wide = factor * b);
            }
            at += path.rank;
        }
        self.weight(format!("{name}.lora_b"), [weight.n_rows, n_cols], Some(columns), numbers)
    }
}

/// The strengths of paths by set, and the tables of them that a graph has by now.
#[derive(Debug)]
struct Tables<'a> {
    sets: &'a [Vec<f32>],
    known: Vec<Table>,
}

#[derive(Debug)]
struct Table {
    domain: Domain,
    /// `[sets, columns]`.
    numbers: Vec<f32>,
    /// The row of each row's set.
    strengths: ValueId,
}

/// The matrices A of products of the same rows, below each other.
#[derive(Debug, Default)]
struct Stack {
    /// The tensors, each with the rows of its matrices.
    tensors: Vec<(String, Range<usize>)>,
    n_rows: usize,
    numbers: Vec<f32>,
}

impl Stack {
    /// Adds the matrices A beside a tensor, unless they are there.
    fn push(&mut self, name: &str, paths: &[(&LowRank, f32)]) {
        if self.tensors.iter().any(|(known, _)| known == name) {
            return;
        }
        let first = self.n_rows;
        for (path, _) in paths.iter().filter(|(path, _)| path.tensor == name) {
            self.numbers.extend_from_slice(&path.a);
            self.n_rows += path.rank;
        }
        self.tensors.push((name.to_string(), first..self.n_rows));
        let width = self.numbers.len() / self.n_rows.max(1);
        self.n_rows = self.n_rows.next_multiple_of(UNIT);
        self.numbers.resize(self.n_rows * width, 0.0);
    }

    /// For each row of the stack the strength of its path.
    fn strengths(&self, paths: &[(&LowRank, f32)], set: &[f32]) -> Vec<f32> {
        let mut all = vec![0.0; self.n_rows];
        for (name, rows) in &self.tensors {
            let of_tensor = paths.iter().zip(set).filter(|((path, _), _)| path.tensor == *name);
            let own = of_tensor.flat_map(|((path, _), strength)| std::iter::repeat_n(*strength, path.rank));
            all[rows.clone()].iter_mut().zip(own).for_each(|(all, strength)| *all = strength);
        }
        all
    }
}

/// Why paths do not fit a graph, in words that follow the tensor's name.
pub fn misfit(graph: &Graph, path: &LowRank) -> Option<Cow<'static, str>> {
    let products = graph.ops.iter().filter_map(|op| match *op {
        Op::MatMul { weight, .. } => Some(graph.weight(weight)),
        _ => None,
    });
    let of_tensor: Vec<&Weight> = products.filter(|weight| weight.source.name() == path.tensor).collect();
    let rows = of_tensor
        .iter()
        .flat_map(|weight| weight.source.tensors().map(|(_, first_row)| first_row + weight.n_rows));
    let Some(n_out) = rows.max() else { return Some("the model has no such projection".into()) };
    let n_in = of_tensor.iter().map(|weight| weight.n_cols).max().unwrap_or(0);
    ((n_out, n_in) != (path.n_out, path.n_in)).then(|| {
        format!("it is for a matrix of {} x {}, the model's has {n_out} x {n_in}", path.n_out, path.n_in)
            .into()
    })
}

/// A case with low-rank paths beside its products: `rank` has the rank for a tensor's name without its
/// format, and 0 for no path.
#[cfg(test)]
pub(crate) fn beside(case: Case, factor: f32, rank: impl Fn(&str) -> usize) -> Case {
    beside_sets(case, factor, rank, &[])
}

/// The same, with a set that has none of the paths, one that has all, and one that has them otherwise. The
/// rows use them in turn.
#[cfg(test)]
pub(crate) fn beside_rows(mut case: Case, factor: f32, rank: impl Fn(&str) -> usize) -> Case {
    case.tokens.iter_mut().zip([0, 1, 2].into_iter().cycle()).for_each(|(token, set)| token.set = set);
    let case = beside_sets(case, factor, rank, &[|_| 0.0, |_| 1.0, |i| [-0.5, 0.0, 1.5][i % 3]]);
    Case { name: format!("{} by row", case.name), ..case }
}

/// `sets` have the strength of each path.
#[cfg(test)]
fn beside_sets(case: Case, factor: f32, rank: impl Fn(&str) -> usize, sets: &[fn(usize) -> f32]) -> Case {
    let mut random = Random(7);
    let mut paths: Vec<(LowRank, f32)> = Vec::new();
    for op in &case.graph.ops {
        let Op::MatMul { weight, .. } = op else { continue };
        let tensor = case.graph.weight(*weight).source.name();
        let rank = rank(tensor.rsplit(':').next().unwrap_or(tensor));
        if rank > 0 {
            paths.push((tests::path(&case.graph, tensor, rank, &mut random), factor));
        }
    }
    let refs: Vec<(&LowRank, f32)> = paths.iter().map(|(path, factor)| (path, *factor)).collect();
    let sets: Vec<Vec<f32>> = sets.iter().map(|set| (0..paths.len()).map(set).collect()).collect();
    let adapted = adapt_rows(&case.graph, &refs, &sets);
    let bytes = |numbers: &Vec<f32>| (FORMAT, bytemuck::cast_slice(numbers).to_vec());
    let weights = case.weights.iter().cloned().chain(adapted.numbers.iter().map(bytes)).collect();
    let name = format!("{}, {} paths", case.name, paths.len());
    Case { name, graph: adapted.graph, weights, ..case }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::graph::interpreter::Interpreter;
    use crate::graph::testing::{Layers, distance, floats, layers};

    /// A path beside a weight of a graph.
    pub fn path(graph: &Graph, tensor: &str, rank: usize, random: &mut Random) -> LowRank {
        let weight = graph.weights.iter().find(|weight| weight.source.name() == tensor).unwrap();
        let (n_out, n_in) = (weight.n_rows, weight.n_cols);
        let mut numbers = |n: usize| (0..n).map(|_| random.normal() / 8.0).collect();
        LowRank {
            tensor: tensor.into(),
            rank,
            n_in,
            n_out,
            a: numbers(rank * n_in),
            b: numbers(n_out * rank),
        }
    }

    fn logits(case: &Case, graph: &Graph, weights: Vec<Vec<f32>>) -> Vec<f32> {
        let mut interpreter = Interpreter::new(graph, weights, case.capacity());
        interpreter.values[0] = case.inputs[0].1.clone();
        interpreter.step(&case.step());
        interpreter.values[graph.logits.unwrap().0].clone()
    }

    #[test]
    fn paths_do_what_merged_weights_do() {
        let case = layers(Layers { biases: true, n_layers: 2, ..Layers::of(Format::F32) }, &[5]);
        let mut random = Random(5);
        let mut paths: Vec<(LowRank, f32)> = ["q0", "k0", "v1", "o0", "o1", "g0", "u1", "d0", "output"]
            .iter()
            .enumerate()
            .map(|(i, part)| (path(&case.graph, &format!("F32:{part}"), 2 + i, &mut random), 0.5 + i as f32))
            .collect();
        // A second one beside the same tensor.
        paths.push((path(&case.graph, "F32:k0", 40, &mut random), -1.5));
        let weights: Vec<Vec<f32>> = case.weights.iter().map(|(f, bytes)| floats(*f, bytes)).collect();
        let mut merged = weights.clone();
        for (path, factor) in &paths {
            let is_its = |weight: &Weight| weight.source.name() == path.tensor;
            let i = case.graph.weights.iter().position(is_its).unwrap();
            for (o, row) in merged[i].chunks_exact_mut(path.n_in).enumerate() {
                for (j, number) in row.iter_mut().enumerate() {
                    let product = |r: usize| path.b[o * path.rank + r] * path.a[r * path.n_in + j];
                    *number += factor * (0..path.rank).map(product).sum::<f32>();
                }
            }
        }
        let expected = logits(&case, &case.graph, merged);
        let refs: Vec<(&LowRank, f32)> = paths.iter().map(|(path, factor)| (path, *factor)).collect();
        let adapted = adapt(&case.graph, &refs);
        let all = weights.iter().chain(&adapted.numbers).cloned().collect();
        let found = logits(&case, &adapted.graph, all);
        assert!(distance(&found, &expected) < 1e-4, "{}", distance(&found, &expected));
        assert!(distance(&logits(&case, &case.graph, weights), &expected) > 0.1, "the paths change nothing");
        assert_eq!(adapt(&case.graph, &[]).graph.ops, case.graph.ops);
    }

    /// Each row gives what the model with its set alone gives.
    #[test]
    fn rows_use_the_paths_of_their_sets() {
        let case = layers(Layers { n_layers: 2, ..Layers::of(Format::F32) }, &[5]);
        let mut random = Random(5);
        let parts = ["q0", "k0", "k0", "o1", "g0", "u1", "d0", "output"];
        let paths: Vec<(LowRank, f32)> = parts
            .iter()
            .enumerate()
            .map(|(i, part)| (path(&case.graph, &format!("F32:{part}"), 2 + 5 * i, &mut random), 0.5))
            .collect();
        let refs: Vec<(&LowRank, f32)> = paths.iter().map(|(path, factor)| (path, *factor)).collect();
        let sets: Vec<Vec<f32>> = vec![
            vec![0.0; paths.len()],
            (0..paths.len()).map(|i| if i % 2 == 0 { 1.5 } else { 0.0 }).collect(),
            (0..paths.len()).map(|i| i as f32 - 2.0).collect(),
        ];
        let weights: Vec<Vec<f32>> = case.weights.iter().map(|(f, bytes)| floats(*f, bytes)).collect();
        let with = |adapted: &Adapted| weights.iter().chain(&adapted.numbers).cloned().collect();
        let each = adapt_rows(&case.graph, &refs, &sets);
        for (n, set) in sets.iter().enumerate() {
            let scaled: Vec<(&LowRank, f32)> =
                refs.iter().zip(set).map(|((path, factor), strength)| (*path, factor * strength)).collect();
            let alone = adapt(&case.graph, &scaled);
            let expected = logits(&case, &alone.graph, with(&alone));
            let mut case = case.clone();
            case.tokens.iter_mut().for_each(|token| token.set = n as u32);
            let found = logits(&case, &each.graph, with(&each));
            assert!(distance(&found, &expected) < 1e-4, "{n}: {}", distance(&found, &expected));
        }
    }

    #[test]
    fn a_path_of_a_tensor_in_parts_is_cut() {
        use crate::graph::{Builder, Domain};
        let mut g = Builder::default();
        let x = g.value(Domain::Tokens, 32);
        let [first, second] = [g.rows_of("w", 0, 3, 32), g.rows_of("w", 3, 5, 32)];
        g.matmul(x, second);
        g.matmul(x, first);
        let graph = g.finish();
        let b: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let path = LowRank { tensor: "w".into(), rank: 2, n_in: 32, n_out: 8, a: vec![1.0; 64], b };
        assert_eq!(misfit(&graph, &path), None);
        let adapted = adapt(&graph, &[(&path, 2.0)]);
        // One A for both products, then a B for each: rows 3 to 7, and rows 0 to 2.
        assert_eq!(adapted.numbers.len(), 3);
        let firsts = |i: usize| adapted.numbers[i].chunks_exact(8).map(|row| row[0]).collect::<Vec<_>>();
        assert_eq!(firsts(1), [12.0, 16.0, 20.0, 24.0, 28.0]);
        assert_eq!(firsts(2), [0.0, 4.0, 8.0]);
        // Rows of another A would begin at a multiple of eight.
        assert_eq!(adapted.graph.weights[2].n_rows, 8);
        assert_eq!(adapted.graph.weights[3].low_rank, Some(0..2));
        let other = LowRank { tensor: "v".into(), ..path.clone() };
        assert_eq!(misfit(&graph, &other).unwrap(), "the model has no such projection");
        let message = misfit(&graph, &LowRank { n_out: 7, ..path }).unwrap();
        assert!(message.contains("7 x 32") && message.contains("8 x 32"), "{message}");
    }
}
