//! Projections by experts, with what follows them.

use super::{Fuses, Group, Work};
use crate::graph::uses::Uses;
use crate::graph::{Experts, Gate, Graph, Op, ValueId, WeightId};

/// Projections by experts. What follows them is a gated pair, or a sum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertGroup {
    /// The projections; of a gated pair, those of the gate's partner.
    pub experts: Experts,
    /// The gate's weight and bias, in a gated pair.
    pub gate: Option<(WeightId, Option<WeightId>, Gate)>,
    /// Whether what the experts of a row give is added up, each times its weight.
    pub is_summed: bool,
    /// Added to the sum.
    pub residual: Option<ValueId>,
    /// The result.
    pub out: ValueId,
}

impl ExpertGroup {
    /// Projections alone.
    pub fn of(experts: Experts, out: ValueId) -> Self {
        Self { experts, gate: None, is_summed: false, residual: None, out }
    }

    /// The values that it reads.
    pub fn inputs(&self) -> Vec<ValueId> {
        [self.experts.x, self.experts.route].into_iter().chain(self.residual).collect()
    }

    /// Rows of an expert.
    pub fn n_rows(&self, graph: &Graph) -> usize {
        graph.weight(self.experts.weight).n_rows / self.experts.n_experts
    }
}

/// The largest group that starts with the op and that the device takes, of ops that are not taken yet. Marks
/// its ops as taken.
pub(super) fn group(
    graph: &Graph,
    uses: &Uses,
    device: &impl Fuses,
    taken: &mut [bool],
    first: usize,
) -> Option<Group> {
    let Op::Experts { experts, out } = graph.ops[first] else { return None };
    let mut all: Vec<(ExpertGroup, Vec<usize>)> = Vec::new();
    let next = |value: ValueId| match *uses.readers(value) {
        [reader] if graph.logits != Some(value) => Some((reader, &graph.ops[reader])),
        _ => None,
    };
    match next(out) {
        Some((reader, &Op::Gated { gate, up, f, out: result })) if gate == out && up != out => {
            let partner = uses.maker(up).filter(|_| next(up).is_some());
            if let Some((partner, &Op::Experts { experts: other, .. })) = partner.map(|i| (i, &graph.ops[i]))
                && (other.x, other.route, other.n_experts) == (experts.x, experts.route, experts.n_experts)
            {
                let gate = Some((experts.weight, experts.bias, f));
                all.push((
                    ExpertGroup { gate, ..ExpertGroup::of(other, result) },
                    vec![first, partner, reader],
                ));
            }
        }
        Some((reader, &Op::ExpertSum { x, route, out: sum })) if x == out && route == experts.route => {
            let summed = ExpertGroup { is_summed: true, ..ExpertGroup::of(experts, sum) };
            if let Some((last, &Op::Add { a, b, out })) = next(sum)
                && a != b
            {
                let residual = Some(if a == sum { b } else { a });
                all.push((ExpertGroup { residual, out, ..summed }, vec![first, reader, last]));
            }
            all.push((summed, vec![first, reader]));
        }
        _ => {}
    }
    let is_free = |ops: &[usize]| !ops.iter().any(|op| taken[*op]);
    let mut all = all.into_iter().filter(|(group, ops)| is_free(ops) && device.takes_experts(graph, group));
    let (group, ops) = all.next()?;
    let last_op = *ops.last()?;
    drop(all);
    ops.iter().for_each(|op| taken[*op] = true);
    Some(Group { work: Work::Experts(group), last_op })
}
