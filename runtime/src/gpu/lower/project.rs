//! Lowers projections: in groups for steps of few rows, alone for steps of many rows.

use super::super::accepts::{Ends, FEW_ROWS, Heads, LOW_BYTES, Low, Tail, ends};
use super::attend::stored;
use super::*;
use crate::graph::KvFormat;
use crate::graph::fuse::Products;
use nomoat_shaders::{Lanes, Operands, Output, Packed, Staged, Tile};

/// The most units of a product with the first matrices of low-rank paths that has small workgroups where
/// threads share no rows, and their threads.
const SMALL: usize = 32;
const SMALL_GROUP: u32 = 2;

/// A projection of one piece of a weight, or of several stacked weights.
struct Projection<'p> {
    x: ValueId,
    norm: Option<Norm>,
    weight: WeightId,
    piece: &'p Piece,
    output: Output,
    /// The bias; if several are stacked, the first.
    bias: Option<Vector>,
    /// The buffers of low-rank paths, if there are any.
    low: Option<Vec<Resource>>,
    /// Floats per row of the result.
    out_width: usize,
    /// Rows of the piece, or of all stacked weights.
    n_rows: usize,
    constants: Constants,
    resources: Vec<Resource>,
}

/// The constants of a gate, see `common/gate.wgsl`.
pub(in crate::gpu) fn gate_constants(gate: Gate) -> Vec<(&'static str, f64)> {
    let limit = ("LIMIT", f64::from(gate.limit.unwrap_or(0.0)));
    unary(Some(Unary::Activation(gate.f))).into_iter().chain([limit]).collect()
}

impl Lowering<'_> {
    pub(super) fn products(&mut self, products: &Products) -> Result<(), GpuError> {
        let ends = ends(self.graph, products)
            .ok_or_else(|| GpuError::Internal("no kernel can run this group".into()))?;
        let is_direct = ends.are_direct();
        let Ends { low, biases, tail } = ends;
        let weights: Vec<WeightId> = products.products.iter().map(|product| product.weight).collect();
        let (mut constants, mut resources) = (Vec::new(), Vec::new());
        let (output, out_width) = match tail {
            Tail::Plain { f, out } => {
                constants.extend(unary(f));
                resources.push(whole("y", self.value(out)?));
                (Output::Plain, self.graph.value(out).width)
            }
            Tail::Residual { f, residual, out } => {
                constants.extend(unary(f));
                resources.push(whole("residual", self.value(residual)?));
                resources.push(whole("y", self.value(out)?));
                (Output::Residual, self.graph.value(out).width)
            }
            Tail::Gated { f, out } => {
                constants.extend(gate_constants(f));
                resources.push(whole("y", self.value(out)?));
                (Output::Gated, self.graph.value(out).width)
            }
            Tail::Heads(heads) if is_direct => {
                (constants, resources) = self.heads(heads)?;
                (Output::Heads, heads.q)
            }
            Tail::Heads(heads) => {
                constants.extend(unary(heads.f));
                resources.push(whole("y", &self.before_heads_end(heads)));
                (Output::Plain, heads.q + heads.k + heads.v)
            }
        };
        let n_rows: usize = weights.iter().map(|id| self.graph.weight(*id).n_rows).sum();
        let bias = biases.first().map(|bias| self.vector(*bias).cloned()).transpose()?;
        let low = low.map(|low| self.low(&weights, low)).transpose()?;
        let in_pieces = weights.len() == 1;
        let stored = self.weights;
        for piece in stored.pieces(weights[0]) {
            self.project(Projection {
                x: products.x,
                norm: products.norm,
                weight: weights[0],
                piece,
                output,
                bias: bias.clone(),
                low: low.clone(),
                out_width,
                n_rows: if in_pieces { piece.n_rows } else { n_rows },
                constants: constants.clone(),
                resources: resources.clone(),
            })?;
        }
        match tail {
            Tail::Heads(heads) if !is_direct => self.heads_end(heads),
            _ => Ok(()),
        }
    }

    /// Queries, keys and values as they come from the projection.
    fn before_heads_end(&mut self, heads: Heads) -> wgpu::Buffer {
        let width = heads.q + heads.k + heads.v;
        self.scratch(Scratch::Products(width), 4 * u64::from(FEW_ROWS) * width as u64)
    }

    fn heads_end(&mut self, heads: Heads) -> Result<(), GpuError> {
        let (mut constants, mut resources) = self.heads(heads)?;
        resources.push(whole("x", &self.before_heads_end(heads)));
        if let Some([q, k]) = heads.norms {
            let length = |norm: Norm| norm.weight.map_or(1, |weight| self.graph.weight(weight).n_cols);
            constants.extend([
                ("EPS", f64::from(q.eps)),
                ("LAYER", f64::from(u8::from(q.kind == NormKind::Layer))),
                ("LAST", f64::from(u8::from(heads.norms_last))),
                ("Q_RUN", q.run as f64),
                ("K_RUN", k.run as f64),
                ("Q_LENGTH", length(q) as f64),
                ("K_LENGTH", length(k) as f64),
            ]);
            resources.extend([self.norm_weight("q_norm", q)?, self.norm_weight("k_norm", k)?]);
        }
        let n_heads = (heads.q + heads.k + heads.v) / heads.head_dim();
        let grid = [Extent::Fixed(n_heads as u32), Extent::Rows(Domain::Tokens, 1), SINGLE];
        let kernel = Kernel::HeadsEnd { norms: heads.norms.is_some(), kv: stored(heads.kv) };
        self.push(kernel, &constants, &resources, Domain::Tokens, grid)
    }

    fn heads(&mut self, heads: Heads) -> Result<(Constants, Vec<Resource>), GpuError> {
        let head_dim = heads.head_dim();
        let n = |width: usize| (width / head_dim) as f64;
        let (keys, cell) = heads.cache.map_or((0, 0), |cache| {
            let cache = self.graph.caches[cache.0];
            // In words of f16, or in numbers of blocks.
            (cache.keys, cache.width() / if heads.kv == KvFormat::F16 { 2 } else { 1 })
        });
        let mut constants = vec![
            ("N_Q", n(heads.q)),
            ("N_K", n(heads.k)),
            ("N_V", n(heads.v)),
            ("KEYS", keys as f64),
            ("CELL", cell as f64),
            ("HEAD_DIM", head_dim as f64),
            ("PAGE", f64::from(PAGE)),
        ];
        let table = match heads.rope {
            Some(rope) => {
                constants.extend([("N_ROT", rope.n_rot as f64), ("NEOX", f64::from(u8::from(rope.neox)))]);
                self.rope_table(rope)?
            }
            None => {
                constants.extend([("N_ROT", 0.0), ("NEOX", 0.0)]);
                self.scratch(Scratch::NoTable, 16)
            }
        };
        // Outputs that the group does not have must still be bound; the kernel does not touch them.
        let nothing = self.buffers.step.results.clone();
        let kv = heads.cache.map_or(nothing.clone(), |cache| self.buffers.kv[cache.0].clone());
        let y = heads.out.map(|out| self.value(out).cloned()).transpose()?.unwrap_or(nothing);
        Ok((constants, vec![whole("table", &table), whole("kv", &kv), whole("y", &y)]))
    }

    /// A projection alone, for steps of any number of rows.
    pub(super) fn matmul(&mut self, x: ValueId, weight: WeightId, out: ValueId) -> Result<(), GpuError> {
        let stored = self.weights;
        for piece in stored.pieces(weight) {
            self.project(Projection {
                x,
                norm: None,
                weight,
                piece,
                output: Output::Plain,
                bias: None,
                low: None,
                out_width: self.graph.value(out).width,
                n_rows: piece.n_rows,
                constants: unary(None).to_vec(),
                resources: vec![whole("y", self.value(out)?)],
            })?;
        }
        Ok(())
    }

    fn project(&mut self, p: Projection) -> Result<(), GpuError> {
        let domain = self.graph.value(p.x).domain;
        let n_cols = self.graph.weight(p.weight).n_cols.next_multiple_of(BLOCK);
        let layout = self.layout(p.weight)?;
        let int8 = self.int8(p.weight, layout);
        let (operands, mut resources) = match (int8, p.norm) {
            (Some(packed), norm) => (Operands::Int8(packed), self.quantised(p.x, norm)?),
            (None, None) => (Operands::Floats(layout), vec![self.whole_blocks(p.x, 1)?]),
            (None, Some(norm)) => {
                let weight = self.norm_weight("norm", norm)?;
                (Operands::Normed(layout), vec![whole("x", self.value(p.x)?), weight])
            }
        };
        resources.extend(self.planes(p.weight, p.piece));
        resources.extend(p.resources);
        resources.extend(p.bias.as_ref().map(|bias| whole("bias", &bias.buffer)));
        let tail = nomoat_shaders::Tail { output: p.output, bias: p.bias.is_some(), low: p.low.is_some() };
        resources.extend(p.low.into_iter().flatten());
        let eps = p.norm.map_or(0.0, |norm| norm.eps);
        let bias_at = p.bias.as_ref().map_or(0, |bias| bias.at);
        let [n_cols_, w_row, n_rows, first_row, out_width] =
            [n_cols, p.piece.buffer_row, p.n_rows, p.piece.first_row, p.out_width].map(|n| n as u32);
        let shape = [n_cols_, w_row, n_rows, first_row, out_width, eps.to_bits(), bias_at as u32, 0];
        resources.push(self.shape(&shape));
        let mut constants = vec![rows_constant(domain), ("LANES", f64::from(self.n_lanes(n_cols)))];
        constants.extend(p.constants);
        // The first matrices of low-rank paths have few rows; all of a processor's threads should have some.
        let n_units = p.n_rows.div_ceil(UNIT);
        let is_small = self.graph.weight(p.weight).low_rank.is_some() && n_units <= SMALL;
        if is_small && self.gpu.variants().lanes == super::super::Lanes::One {
            constants.push(("GROUP", f64::from(SMALL_GROUP)));
        }

        let (lanes, x_groups) = self.units(n_units, n_cols, is_small);
        let mut all: Vec<(u32, Kernel, Grid)> = Vec::new();
        // A step of many rows can have a single output.
        if self.is_few || domain == Domain::Outputs {
            all.push((1, Kernel::Matvec(operands, tail, lanes), [x_groups, Extent::Rows(domain, 1), SINGLE]));
        }
        let few = [x_groups, Extent::Rows(domain, FEW), SINGLE];
        all.push((2, Kernel::MatmulFew(operands, tail, lanes), few));
        if !self.is_few && self.gpu.variants().tile {
            let staged = match (int8, self.gpu.variants().f16) {
                (Some(packed), _) => Staged::Int8(packed),
                (None, true) => Staged::F16(layout),
                (None, false) => Staged::F32(layout),
            };
            for (from, rows, tile) in [(MANY, TILE / 2, Tile::Small), (TILE / 2 + 1, TILE, Tile::Large)] {
                let grid = [Extent::Fixed(n_rows.div_ceil(TILE)), Extent::Rows(domain, rows), SINGLE];
                all.push((from, Kernel::Matmul(staged, tile), grid));
            }
        }
        // In ascending order of rows: a later launch replaces an earlier one.
        let mut launches = Vec::new();
        for (from, kernel, grid) in all {
            launches.push((from, Launch { pipeline: self.gpu.kernel(kernel, &constants)?, grid }));
        }
        let bind_group = self.bind(&launches[0].1.pipeline, &resources)?;
        self.dispatches.push(Dispatch { bind_group, domain, when: When::Always, launches });
        Ok(())
    }

    /// The value, or a copy in which each of a row's runs is filled up with zeros to whole blocks.
    pub(super) fn whole_blocks(&mut self, x: ValueId, runs: usize) -> Result<Resource, GpuError> {
        let value = self.graph.value(x);
        let (domain, width) = (value.domain, value.width / runs);
        if width.is_multiple_of(BLOCK) {
            return Ok(whole("x", self.value(x)?));
        }
        let padded = width.next_multiple_of(BLOCK);
        let key = Scratch::Padded(value, runs);
        let buffer = self.scratch(key, 4 * u64::from(self.capacity.rows(domain)) * (runs * padded) as u64);
        let held = (Some(x), None);
        if self.held.insert(key, held) != Some(held) {
            let constants = [
                rows_constant(domain),
                ("WIDTH", width as f64),
                ("Y_WIDTH", padded as f64),
                ("RUNS", runs as f64),
            ];
            let resources = [whole("x", self.value(x)?), whole("y", &buffer)];
            self.push(Kernel::Pad, &constants, &resources, domain, threads(runs * padded, domain))?;
        }
        Ok(whole("x", &buffer))
    }

    /// The weight of a norm in a group.
    fn norm_weight(&self, name: &'static str, norm: Norm) -> Result<Resource, GpuError> {
        let weight = norm.weight.ok_or_else(|| GpuError::Internal("a norm without a weight".into()))?;
        Ok(whole(name, &self.vector(weight)?.buffer))
    }

    /// A piece's planes and, where its layout has one, the grid.
    pub(super) fn planes(&mut self, id: WeightId, piece: &Piece) -> Vec<Resource> {
        let planes = piece.planes;
        let mut resources = vec![
            ("quants", piece.buffer.clone(), 0, Some(planes.quants)),
            ("scales", piece.buffer.clone(), planes.scales_offset, Some(planes.scales)),
        ];
        let layout = self.weights.formats[id.0].layout();
        if let Some(numbers) = layout.grid() {
            let (gpu, buffers) = (self.gpu, &mut self.buffers);
            let buffer = self.grids.entry(layout).or_insert_with(|| {
                let words: Vec<u32> = bytemuck::pod_collect_to_vec::<u8, u32>(numbers);
                buffers.add_uniform(gpu, "grid", &words)
            });
            resources.push(whole("grid", buffer));
        }
        resources
    }

    /// The uniform buffer with a projection's shape. Projections of the same shape share it.
    pub(super) fn shape(&mut self, contents: &[u32]) -> Resource {
        whole("shape", &self.constants(contents))
    }

    fn constants(&mut self, contents: &[u32]) -> wgpu::Buffer {
        let (gpu, buffers) = (self.gpu, &mut self.buffers);
        let add = || buffers.add_uniform(gpu, "constants", contents);
        self.shapes.entry(contents.to_vec()).or_insert_with(add).clone()
    }

    /// What kernels read of the low-rank paths beside these weights, see `matmul/low_rank.wgsl`.
    fn low(&mut self, weights: &[WeightId], low: Low) -> Result<Vec<Resource>, GpuError> {
        let graph = self.graph;
        let mut b = None;
        // Products that are not there begin after all rows.
        let mut paths = [[u32::MAX, 0, 0, 0]; 3];
        let mut first = 0;
        for ((path, weight), second) in paths.iter_mut().zip(weights).zip(&low.weights) {
            path[0] = first;
            first += graph.weight(*weight).n_rows as u32;
            let Some(second) = second else { continue };
            let (Some(columns), [piece]) = (&graph.weight(*second).low_rank, self.weights.pieces(*second))
            else {
                return Err(GpuError::Internal("a low-rank path that no kernel can run".into()));
            };
            let [from, to] = [columns.start / 8, columns.end.div_ceil(8)].map(|n| n as u32);
            path[1..].copy_from_slice(&[piece.buffer_row as u32, from, to]);
            b = Some(("b", piece.buffer.clone(), 0, Some(piece.planes.quants)));
        }
        let width = graph.value(low.down).width;
        let [width, b_width] = [width, width.next_multiple_of(BLOCK)].map(|n| n as u32 / 8);
        let contents = [[width, b_width, 0, 0]].iter().chain(&paths).flatten().copied().collect::<Vec<_>>();
        let down = ("low", self.value(low.down)?.clone(), 0, Some(LOW_BYTES));
        let paths = whole("paths", &self.constants(&contents));
        Ok([paths, down].into_iter().chain(b).collect())
    }

    /// The layout for integer dot products, if activations are quantised to 8 bits. Only 4-bit weights use
    /// it: with other formats, quantising activations would lose more precision than the format does.
    fn int8(&self, weight: WeightId, layout: Layout) -> Option<Packed> {
        let format = self.weights.formats[weight.0];
        let is_small = format.quants_bytes() * 8 <= 4 * format.block_len();
        layout.packed().filter(|_| is_small && self.gpu.variants().accuracy == Accuracy::Int8)
    }

    /// The value in 8 bits. It is quantised unless the scratch buffer already holds it.
    fn quantised(&mut self, x: ValueId, norm: Option<Norm>) -> Result<Vec<Resource>, GpuError> {
        let value = self.graph.value(x);
        let Value { domain, width } = value;
        let n = u64::from(self.capacity.rows(domain)) * width as u64;
        let (scales_at, scales) = (n.next_multiple_of(PLANE_ALIGN), n / BLOCK as u64 * 8);
        let key = Scratch::Int8(value);
        let buffer = self.scratch(key, scales_at + scales);
        let plane = |name, at, size| (name, buffer.clone(), at, Some(size));
        let held = (Some(x), norm.and_then(|norm| norm.weight));
        if self.held.insert(key, held) != Some(held) {
            let mut constants = vec![rows_constant(domain), ("WIDTH", width as f64)];
            let mut resources =
                vec![whole("x", self.value(x)?), plane("y", 0, n), plane("y_scales", scales_at, scales)];
            if let Some(norm) = norm {
                constants.push(("EPS", f64::from(norm.eps)));
                resources.push(self.norm_weight("norm", norm)?);
            }
            let kernel = Kernel::Quantise { normed: norm.is_some() };
            self.push(kernel, &constants, &resources, domain, [SINGLE, Extent::Rows(domain, 1), SINGLE])?;
        }
        Ok(vec![plane("x", 0, n), plane("x_scales", scales_at, scales)])
    }

    /// How threads share a unit, and the number of workgroups for `n_units` units.
    pub(super) fn units(&self, n_units: usize, n_cols: usize, is_small: bool) -> (Lanes, Extent) {
        let lanes = self.gpu.variants().lanes.into();
        let group = match lanes {
            Lanes::One if is_small => SMALL_GROUP,
            Lanes::One => 16,
            _ => 64,
        };
        let per_group = group / self.n_lanes(n_cols);
        (lanes, Extent::Fixed((n_units as u32).div_ceil(per_group).min(MAX_GROUPS)))
    }

    /// Threads per unit: at most as many as a row has blocks.
    pub(super) fn n_lanes(&self, n_cols: usize) -> u32 {
        let variants = self.gpu.variants();
        match variants.lanes {
            super::super::Lanes::One => 1,
            _ => variants.n_lanes.min(1 << (n_cols / BLOCK).max(1).ilog2()),
        }
    }
}
