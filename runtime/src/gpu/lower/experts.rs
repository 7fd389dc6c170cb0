//! Lowers mixtures of experts: the choice of experts, their projections, and the sum of what they give.

use super::*;
use crate::graph::{Experts, Routing, Score};
use nomoat_shaders::Staged;

/// The most experts that `experts/route.wgsl` has room for.
const MAX_EXPERTS: usize = 1024;

/// The most tiles of pairs of a row and an expert: see `experts/sort.wgsl`.
pub(in crate::gpu) fn most_tiles(pairs: u32, experts: u32) -> u32 {
    pairs.div_ceil(TILE / 2) + experts.min(pairs)
}

impl Lowering<'_> {
    pub(super) fn route(&mut self, logits: ValueId, routing: Routing, out: ValueId) -> Result<(), GpuError> {
        let Value { domain, width } = self.graph.value(logits);
        if width > MAX_EXPERTS || routing.n_used > width {
            return Err(GpuError::Unsupported(format!("{} of {width} experts", routing.n_used)));
        }
        let flag = |is| f64::from(u8::from(is));
        let constants = [
            rows_constant(domain),
            ("N_EXPERTS", width as f64),
            ("N_USED", routing.n_used as f64),
            ("SIGMOID", flag(routing.score == Score::Sigmoid)),
            ("NORMED", flag(routing.is_normed)),
            ("SCALE", f64::from(routing.scale)),
        ];
        let resources = [whole("logits", self.value(logits)?), whole("y", self.value(out)?)];
        let grid = [SINGLE, Extent::Rows(domain, 1), SINGLE];
        self.push(Kernel::Route, &constants, &resources, domain, grid)
    }

    /// Projections by experts, and what follows them in a group.
    pub(super) fn expert_group(&mut self, group: ExpertGroup) -> Result<(), GpuError> {
        if !group.is_summed {
            let y = whole("y", self.value(group.out)?);
            return self.experts(group, y);
        }
        // Only steps of few rows have sums in groups.
        let width = self.graph.n_used(group.experts.route) * group.n_rows(self.graph);
        let summands = self.scratch(Scratch::Summands(width), 4 * u64::from(FEW_ROWS) * width as u64);
        self.experts(group, whole("y", &summands))?;
        self.expert_sum(whole("x", &summands), group.experts.route, group.residual, group.out)
    }

    /// Only the weights of chosen experts are read. In steps of many rows, tiles of rows share an expert;
    /// otherwise a workgroup computes one row.
    fn experts(&mut self, group: ExpertGroup, y: Resource) -> Result<(), GpuError> {
        let Experts { x, route, n_experts, mut weight, mut bias } = group.experts;
        if let Some((gate, gate_bias, _)) = group.gate {
            (weight, bias) = (gate, gate_bias);
        }
        let Value { domain, width } = self.graph.value(x);
        let n_used = self.graph.n_used(route);
        let (all_rows, n_cols) = (self.graph.weight(weight).n_rows, self.graph.weight(weight).n_cols);
        let (n_rows, per_row) = (all_rows / n_experts, width / n_cols);
        if u64::from(self.capacity.rows(domain)) * n_used as u64 > u64::from(MAX_GROUPS) {
            return Err(GpuError::Unsupported(format!("{n_used} experts for each row")));
        }
        let bias = bias.map(|bias| self.vector(bias).cloned()).transpose()?;
        let x = self.whole_blocks(x, per_row)?;
        let padded = n_cols.next_multiple_of(BLOCK);
        let bias_at = bias.as_ref().map_or(0, |bias| bias.at);
        let layout = self.layout(weight)?;
        let mut constants = vec![
            rows_constant(domain),
            ("LANES", f64::from(self.n_lanes(padded))),
            ("N_USED", n_used as f64),
            ("PER_ROW", per_row as f64),
            ("SAME", (n_used / per_row) as f64),
        ];
        constants.extend(group.gate.into_iter().flat_map(|(.., f)| gate_constants(f)));
        let mut resources = vec![x, whole("route", self.value(route)?), y];
        resources.extend(bias.as_ref().map(|bias| whole("bias", &bias.buffer)));
        let bias = bias.is_some();
        let (kernel, grid) = if !self.is_few && self.gpu.variants().tile {
            let (sorted, pairs_at) = self.sorted(route, n_experts)?;
            resources.push(whole("sorted", &sorted));
            constants.push(("PAIRS_AT", f64::from(pairs_at)));
            let f16 = self.gpu.variants().f16;
            let staged = if f16 { Staged::F16(layout) } else { Staged::F32(layout) };
            let tiles = Extent::Tiles(domain, n_used as u32, n_experts as u32);
            let grid = [Extent::Fixed((n_rows as u32).div_ceil(TILE)), tiles, SINGLE];
            (Kernel::ExpertMatmul { staged, bias }, grid)
        } else {
            let gated = group.gate.is_some();
            let n_units = n_rows.div_ceil(if gated { UNIT / 2 } else { UNIT });
            let (lanes, x_groups) = self.units(n_units, padded, false);
            let grid = [x_groups, Extent::Pairs(domain, n_used as u32), SINGLE];
            (Kernel::Experts { layout, lanes, bias, gated }, grid)
        };
        let stored = self.weights;
        for piece in stored.pieces(weight) {
            let held = [
                ("FIRST_EXPERT", (piece.first_row / n_rows) as f64),
                ("N_EXPERTS", (piece.n_rows / n_rows) as f64),
            ];
            let w_row = piece.buffer_row;
            let shape = [padded, w_row, n_rows, 0, n_used * n_rows, 0, bias_at, 0].map(|n| n as u32);
            let resources = [&resources[..], &self.planes(weight, piece), &[self.shape(&shape)]].concat();
            self.push(kernel, &[&constants[..], &held].concat(), &resources, domain, grid)?;
        }
        Ok(())
    }

    /// The pairs of rows and experts, sorted by expert, and where they begin after the tiles. They are sorted
    /// once for each route.
    fn sorted(&mut self, route: ValueId, n_experts: usize) -> Result<(wgpu::Buffer, u32), GpuError> {
        let value = self.graph.value(route);
        let n_used = self.graph.n_used(route);
        let pairs = self.capacity.rows(value.domain) * n_used as u32;
        let pairs_at = 1 + 3 * most_tiles(pairs, n_experts as u32);
        let key = Scratch::Sorted(value, n_experts);
        let sorted = self.scratch(key, 4 * u64::from(pairs_at + pairs));
        let held = (Some(route), None);
        if self.held.insert(key, held) != Some(held) {
            let constants = [
                rows_constant(value.domain),
                ("N_EXPERTS", n_experts as f64),
                ("N_USED", n_used as f64),
                ("PAIRS_AT", f64::from(pairs_at)),
            ];
            let resources = [whole("route", self.value(route)?), whole("sorted", &sorted)];
            self.push(Kernel::ExpertSort, &constants, &resources, value.domain, [SINGLE; 3])?;
        }
        Ok((sorted, pairs_at))
    }

    pub(super) fn sum_of_value(&mut self, x: ValueId, route: ValueId, out: ValueId) -> Result<(), GpuError> {
        let x = whole("x", self.value(x)?);
        self.expert_sum(x, route, None, out)
    }

    fn expert_sum(
        &mut self,
        x: Resource,
        route: ValueId,
        residual: Option<ValueId>,
        out: ValueId,
    ) -> Result<(), GpuError> {
        let Value { domain, width } = self.graph.value(out);
        let n_used = self.graph.n_used(route);
        let constants = [rows_constant(domain), ("WIDTH", width as f64), ("N_USED", n_used as f64)];
        let mut resources = vec![x, whole("route", self.value(route)?), whole("y", self.value(out)?)];
        if let Some(residual) = residual {
            resources.push(whole("residual", self.value(residual)?));
        }
        let kernel = Kernel::ExpertSum { add: residual.is_some() };
        self.push(kernel, &constants, &resources, domain, threads(width, domain))
    }
}
