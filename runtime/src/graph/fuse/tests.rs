//! Groups of a small model's layers, for devices that accept different things.

use super::*;
use crate::adapter::beside;
use crate::graph::testing::{Layers, cases, layers};
use crate::quant::Format;

/// A device that accepts what `F` returns true for.
struct Device<F>(F);

impl<F: Fn(&Products) -> bool> Fuses for Device<F> {
    fn accepts(&self, _: &Graph, products: &Products) -> bool {
        (self.0)(products)
    }
}

fn graph() -> Graph {
    layers(Layers::of(Format::Q4_0), &[1]).graph
}

fn tails(groups: &[Group]) -> Vec<String> {
    let name = |part: &Part| match part {
        Part::LowRank { .. } => "low",
        Part::Bias(_) => "bias",
        Part::Norm(_) => "norm",
        Part::Rope(_) => "rope",
        Part::Unary(_) => "unary",
        Part::Gate => "gate",
        Part::GatedBy(..) => "gated",
        Part::Add(_) => "add",
        Part::KvWrite(_, Half::Keys) => "keys",
        Part::KvWrite(_, Half::Values) => "values",
    };
    let tail = |product: &Product| product.tail.iter().map(name).collect::<Vec<_>>().join(" ");
    groups
        .iter()
        .map(|group| match &group.work {
            Work::Op(_) => "op".into(),
            Work::NormAdd(_) => "norm add".into(),
            Work::Experts(group) => {
                let parts = [
                    ("gated", group.gate.is_some()),
                    ("sum", group.is_summed),
                    ("add", group.residual.is_some()),
                ];
                let parts: Vec<&str> = parts.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
                format!("experts[{}]", parts.join(" "))
            }
            Work::Products(products) => {
                let tails: Vec<String> = products.products.iter().map(tail).collect();
                format!("{}[{}]", if products.norm.is_some() { "norm " } else { "" }, tails.join(", "))
            }
        })
        .collect()
}

#[test]
fn a_layer_is_five_groups_if_all_are_accepted() {
    let groups = fuse(&graph(), &Device(|_: &Products| true));
    let layer = ["norm [rope, rope keys, values]", "op", "[add]", "norm [gate, gated]", "[add]"];
    assert_eq!(tails(&groups), [&layer[..], &["op", "norm []"]].concat());
    // Only queries: keys and values go to the cache.
    assert_eq!(groups[0].outs().len(), 1);
}

#[test]
fn low_rank_paths_are_parts_of_tails() {
    let graph =
        |rank: &dyn Fn(&str) -> usize| beside(layers(Layers::of(Format::Q4_0), &[1]), 1.0, rank).graph;
    let all = graph(&|_| 3);
    let groups = fuse(&all, &Device(|_: &Products| true));
    let first = ["norm []", "norm [low rope, low rope keys, low values]", "op", "op", "[low add]"];
    let last = ["norm []", "norm [low gate, low gated]", "op", "[low add]", "op", "norm []", "norm [low]"];
    assert_eq!(tails(&groups), [&first[..], &last].concat());
    // What the path's first matrix gives is read by the group that has the second one.
    assert_eq!(groups[1].inputs(), [groups[0].inputs(), vec![groups[0].outs()[0]; 3]].concat());
    // Only beside some of the products.
    let some = graph(&|part| usize::from(["k0", "u0"].contains(&part)));
    let groups = ["norm []", "norm [rope, low rope keys, values]", "op", "[add]"];
    assert_eq!(tails(&fuse(&some, &Device(|_: &Products| true)))[..4], groups);
    // A device that does not take them adds the product to the one that is made later.
    let groups = tails(&fuse(&all, &Columns));
    assert_eq!(groups[..4], ["norm [, , , ]", "[add, add, add]", "op", "op"]);
}

#[test]
fn nothing_is_fused_if_nothing_is_accepted() {
    let graph = graph();
    assert_eq!(fuse(&graph, &Device(|_: &Products| false)), unfused(&graph));
}

/// A device that runs norms with the addition of their results.
struct AddsNorms;

impl Fuses for AddsNorms {
    fn adds_norms(&self) -> bool {
        true
    }

    fn accepts(&self, _: &Graph, products: &Products) -> bool {
        let mut parts = products.products.iter().flat_map(|product| &product.tail);
        !parts.any(|part| matches!(part, Part::Norm(_)))
    }
}

#[test]
fn norms_after_a_product_are_added_in_the_same_group() {
    let graph = layers(Layers { post_norms: true, ..Layers::of(Format::Q4_0) }, &[1]).graph;
    let layer =
        ["norm [rope, rope keys, values]", "op", "op", "norm add", "norm [gate, gated]", "[unary add]"];
    assert_eq!(tails(&fuse(&graph, &AddsNorms))[..6], layer);
}

/// A device that runs what follows experts together with them.
struct TakesExperts;

impl Fuses for TakesExperts {
    fn takes_experts(&self, _: &Graph, _: &ExpertGroup) -> bool {
        true
    }

    fn accepts(&self, _: &Graph, _: &Products) -> bool {
        true
    }
}

#[test]
fn experts_are_run_with_their_gates_sums_and_residuals() {
    let graph = &cases::experts()[0].graph;
    let groups = ["op", "experts[gated]", "experts[sum add]", "op", "experts[sum]", "op"];
    assert_eq!(tails(&fuse(graph, &TakesExperts)), groups);
}

/// A device that supports only parts that work on each column.
struct Columns;

impl Fuses for Columns {
    fn takes(&self, part: &Part) -> bool {
        !matches!(part, Part::LowRank { .. } | Part::Norm(_) | Part::Rope(_) | Part::KvWrite(..))
    }

    fn accepts(&self, _: &Graph, _: &Products) -> bool {
        true
    }
}

#[test]
fn tails_end_before_an_unsupported_part() {
    let graph = layers(Layers { biases: true, ..Layers::of(Format::Q4_0) }, &[1]).graph;
    let layer = ["norm [bias, bias, bias]", "op", "op", "op", "op", "op", "[bias add]"];
    assert_eq!(tails(&fuse(&graph, &Columns))[..7], layer);
}

#[test]
fn every_op_is_in_one_group_whatever_is_accepted() {
    let graph = graph();
    let n_ops = graph.ops.len();
    for declined in [Part::Gate, Part::KvWrite(CacheId(0), Half::Keys)] {
        let accepts = |products: &Products| {
            products.products.iter().flat_map(|product| &product.tail).all(|part| *part != declined)
        };
        let groups = fuse(&graph, &Device(accepts));
        let mut norms = std::collections::HashSet::new();
        let in_groups: usize = groups
            .iter()
            .map(|group| match &group.work {
                Work::Op(_) | Work::Experts(_) => 1,
                Work::NormAdd(_) => 2,
                Work::Products(Products { norm, products, .. }) => {
                    // A gated pair is one op but has a part in both tails.
                    let parts = products.iter().flat_map(|product| &product.tail);
                    let n_parts = parts.filter(|part| **part != Part::Gate).count();
                    // Groups of the same rows each have their norm.
                    let is_new = norm.is_some_and(|norm| norms.insert(norm.weight));
                    usize::from(is_new) + products.len() + n_parts
                }
            })
            .sum();
        assert_eq!(in_groups, n_ops, "{:?}", tails(&groups));
        assert!(groups.is_sorted_by_key(|group| group.last_op));
    }
}

#[test]
fn a_device_that_takes_two_products_leaves_the_third_alone() {
    let groups = fuse(&graph(), &Device(|products: &Products| products.products.len() < 3));
    assert_eq!(tails(&groups)[..3], ["norm [rope, rope keys]", "norm [values]", "op"]);
}

#[test]
fn a_norm_is_its_own_op_if_a_product_is_not_accepted_with_it() {
    let groups = fuse(&graph(), &Device(|products: &Products| products.products.len() == 2));
    assert_eq!(tails(&groups)[..3], ["op", "op", "norm [rope, rope keys]"]);
}
