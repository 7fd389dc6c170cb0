//! Projections: fused with their neighbours in steps of one row, by themselves in others.

use super::*;

impl Lowering<'_> {
    pub(super) fn fused(&mut self, fused: &Fused) -> Result<(), GpuError> {
        match fused {
            Fused::Op(op) => self.op(op),
            Fused::Project { x, norm, weight, out } => {
                let (weights, width) = (self.weights, self.graph.values[out.0].width);
                for part in weights.parts(*weight) {
                    let (constants, resources) = self.plain_output(part, *out, width);
                    let n_units = part.n_rows.div_ceil(UNIT);
                    self.matvec(*x, Some(*norm), (*weight, part), "plain", constants, resources, n_units)?;
                }
                Ok(())
            }
            Fused::Residual { x, weight, residual, out } => {
                let width = self.graph.values[out.0].width;
                let resources = vec![whole("residual", self.value(*residual)), whole("y", self.value(*out))];
                let constants = vec![("OUT_WIDTH", width as f64)];
                let part = self.first_part(*weight)?;
                self.matvec(*x, None, (*weight, part), "residual", constants, resources, width / UNIT)
            }
            Fused::GateUp { x, norm, weights, out } => {
                let width = self.graph.values[out.0].width;
                let resources = vec![whole("y", self.value(*out))];
                let constants = vec![("OUT_WIDTH", width as f64)];
                let part = self.first_part(weights[0])?;
                self.matvec(*x, *norm, (weights[0], part), "gate_up", constants, resources, width / 2)
            }
            Fused::Qkv(qkv) => self.qkv(qkv),
        }
    }

    pub(super) fn qkv(&mut self, qkv: &Qkv) -> Result<(), GpuError> {
        let Qkv { x, norm, rope, n_kv_heads, layer, out, .. } = *qkv;
        let constants = vec![
            ("N_HEADS", rope.n_heads as f64),
            ("N_KV_HEADS", n_kv_heads as f64),
            ("HEAD_DIM", rope.head_dim as f64),
            ("N_ROT", rope.n_rot as f64),
            ("NEOX", f64::from(u8::from(rope.neox))),
        ];
        let table = self.rope_table(qkv.turns, qkv.factors, rope.n_rot)?;
        let resources =
            vec![whole("table", &table), whole("kv", &self.buffers.kv[layer]), whole("y", self.value(out))];
        let n_units = (rope.n_heads + 2 * n_kv_heads) * (rope.head_dim / UNIT);
        let part = self.first_part(qkv.weights[0])?;
        self.matvec(x, norm, (qkv.weights[0], part), "qkv", constants, resources, n_units)
    }

    /// One dispatch of `matvec`: `x`, normed first if there is a norm, times the rows from those of `part` on.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn matvec(
        &mut self,
        x: ValueId,
        norm: Option<Norm>,
        (weight, part): (WeightId, &Part),
        output: &str,
        constants: Constants,
        resources: Vec<Resource>,
        n_units: usize,
    ) -> Result<(), GpuError> {
        let format = self.format(weight)?;
        let rows = self.graph.values[x.0].rows;
        let n_cols = self.graph.weights[weight.0].n_cols;
        let (x_kind, mut all) = self.activations(x, norm, format)?;
        all.extend(planes(part));
        all.extend(resources);
        let mut all_constants = self.common_constants(rows, n_cols, part);
        all_constants.extend(constants);
        all_constants.extend(norm.map(|norm| ("EPS", f64::from(norm.eps))));
        let (lanes, grid) = self.units(n_units, n_cols, Extent::Rows(rows, 1));
        let name = format!("matvec.{}.{x_kind}.{output}.{lanes}", suffix(format));
        all.push(self.shape(&all_constants));
        self.push(&name, all_constants, &all, rows, grid)
    }

    /// The buffer that tells projections their shape; ops of one shape share it.
    pub(super) fn shape(&mut self, constants: &Constants) -> Resource {
        let of = |name| constants.iter().find(|(known, _)| *known == name).map_or(0.0, |(_, value)| *value);
        let numbers = ["N_COLS", "W_ROW", "N_ROWS", "FIRST_ROW", "OUT_WIDTH"].map(|name| of(name) as u32);
        let [a, b, c, d, e] = numbers;
        let contents = [a, b, c, d, e, (of("EPS") as f32).to_bits(), 0, 0];
        let (gpu, buffers) = (self.gpu, &mut self.buffers);
        let buffer =
            self.shapes.entry(contents).or_insert_with(|| buffers.add_uniform(gpu, "shape", &contents));
        whole("shape", buffer)
    }

    /// How a kernel gets its activations, and the buffers for it.
    pub(super) fn activations(
        &mut self,
        x: ValueId,
        norm: Option<Norm>,
        format: Format,
    ) -> Result<(&'static str, Vec<Resource>), GpuError> {
        if self.is_int8(format) {
            return Ok(("int8", self.quantised(x, norm)?));
        }
        let mut resources = vec![whole("x", self.value(x))];
        let Some(norm) = norm else { return Ok(("plain", resources)) };
        resources.push(whole("norm", self.vector(norm.weight)?));
        Ok(("normed", resources))
    }

    pub(super) fn is_int8(&self, format: Format) -> bool {
        // Of weights in 8 bits, activations in 8 bits would lose more than the format did.
        matches!(format, Format::Q4_0 | Format::Q4_1) && self.gpu.variants().accuracy == Accuracy::Int8
    }

    /// The value in 8 bits, quantised now unless it just was.
    pub(super) fn quantised(&mut self, x: ValueId, norm: Option<Norm>) -> Result<Vec<Resource>, GpuError> {
        let Value { rows, width } = self.graph.values[x.0];
        let n = u64::from(self.capacity.rows(rows)) * width as u64;
        let (scales_at, scales) = (n.next_multiple_of(PLANE_ALIGN), n / BLOCK as u64 * 8);
        let key = Scratch::Int8(rows, width);
        let buffer = self.scratch(key, scales_at + scales);
        let plane = |name, at, size| (name, buffer.clone(), at, Some(size));
        if self.held.insert(key, (Some(x), norm.map(|n| n.weight))) != Some((Some(x), norm.map(|n| n.weight)))
        {
            let mut constants = vec![domain(rows), ("WIDTH", width as f64)];
            let mut resources =
                vec![whole("x", self.value(x)), plane("y", 0, n), plane("y_scales", scales_at, scales)];
            let mut name = "quantise.plain";
            if let Some(norm) = norm {
                name = "quantise.normed";
                constants.push(("EPS", f64::from(norm.eps)));
                resources.push(whole("norm", self.vector(norm.weight)?));
            }
            self.push(name, constants, &resources, rows, [Extent::Rows(rows, 1), SINGLE, SINGLE])?;
        }
        Ok(vec![plane("x", 0, n), plane("x_scales", scales_at, scales)])
    }

    /// A projection in a step of any number of rows.
    pub(super) fn matmul(&mut self, x: ValueId, weight: WeightId, out: ValueId) -> Result<(), GpuError> {
        let n_cols = self.graph.weights[weight.0].n_cols;
        let Value { rows, width } = self.graph.values[out.0];
        let (weights, format) = (self.weights, self.format(weight)?);
        let variants = *self.gpu.variants();
        let (x_kind, x_resources) = self.activations(x, None, format)?;
        let format = suffix(format);
        for part in weights.parts(weight) {
            let (plain, mut resources) = self.plain_output(part, out, width);
            let mut constants = self.common_constants(rows, n_cols, part);
            constants.extend(plain);
            resources.extend(x_resources.iter().cloned());
            resources.extend(planes(part));
            resources.push(self.shape(&constants));

            let n_units = part.n_rows.div_ceil(UNIT);
            let (lanes, grid) = self.units(n_units, n_cols, Extent::Rows(rows, 1));
            let mut launches = Vec::new();
            let mut add = |from, name: String, grid| {
                let kernel = self.gpu.kernel(&name, constants.clone())?;
                launches.push((from, Launch { kernel, grid }));
                Ok::<_, GpuError>(())
            };
            // A step of many rows may have one output.
            if self.is_one || rows == Rows::Outputs {
                add(1, format!("matvec.{format}.{x_kind}.plain.{lanes}"), grid)?;
            }
            if !self.is_one {
                let few = [grid[0], Extent::Rows(rows, FEW), SINGLE];
                add(2, format!("matmul_few.{format}.{x_kind}.{lanes}"), few)?;
            }
            if !self.is_one && variants.tile {
                let staged = match (x_kind, variants.f16) {
                    ("int8", _) => "int8",
                    (_, true) => "f16",
                    (_, false) => "f32",
                };
                for (from, tile) in [(MANY, TILE / 2), (TILE / 2 + 1, TILE)] {
                    let grid = [
                        Extent::Fixed((part.n_rows as u32).div_ceil(TILE)),
                        Extent::Rows(rows, tile),
                        SINGLE,
                    ];
                    add(from, format!("matmul.{format}.{staged}.{tile}"), grid)?;
                }
            }
            let bind_group = self.bind(&launches[0].1.kernel, &resources)?;
            self.dispatches.push(Dispatch { bind_group, rows, when: When::Always, launches });
        }
        Ok(())
    }

    /// Which lanes share a unit, and the grid for so many units; `y` is its second dimension.
    pub(super) fn units(&self, n_units: usize, n_cols: usize, y: Extent) -> (&'static str, Grid) {
        let (name, group) = match self.gpu.variants().lanes {
            Lanes::One => ("one", 16),
            Lanes::Shared => ("shared", 64),
            Lanes::Subgroup => ("subgroup", 64),
        };
        let per_group = group / self.n_lanes(n_cols);
        let groups = (n_units as u32).div_ceil(per_group).min(MAX_GROUPS);
        (name, [Extent::Fixed(groups), y, SINGLE])
    }

    /// Threads of a unit: no more than a row has blocks.
    pub(super) fn n_lanes(&self, n_cols: usize) -> u32 {
        let variants = self.gpu.variants();
        match variants.lanes {
            Lanes::One => 1,
            _ => variants.n_lanes.min(1 << (n_cols / BLOCK).max(1).ilog2()),
        }
    }

    pub(super) fn common_constants(&self, rows: Rows, n_cols: usize, part: &Part) -> Constants {
        vec![
            domain(rows),
            ("N_COLS", n_cols as f64),
            ("W_ROW", part.buffer_row as f64),
            ("LANES", f64::from(self.n_lanes(n_cols))),
        ]
    }

    pub(super) fn plain_output(&self, part: &Part, out: ValueId, width: usize) -> (Constants, Vec<Resource>) {
        let constants = vec![
            ("N_ROWS", part.n_rows as f64),
            ("FIRST_ROW", part.first_row as f64),
            ("OUT_WIDTH", width as f64),
        ];
        (constants, vec![whole("y", self.value(out))])
    }
}
