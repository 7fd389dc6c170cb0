//! Attention and the table of rotary embeddings.

use super::*;

impl Lowering<'_> {
    pub(super) fn attention(
        &mut self,
        q: ValueId,
        layer: usize,
        attention: Attention,
        out: ValueId,
    ) -> Result<(), GpuError> {
        let Attention { n_heads, n_kv_heads, head_dim, scale, window } = attention;
        if !head_dim.is_multiple_of(8) || head_dim > 512 {
            return Err(GpuError::Unsupported(format!(
                "attention heads of {head_dim} dimensions (multiples of 8 up to 512 are)"
            )));
        }
        // As many heads of the same keys as fit, and rows for the rest of the queries.
        let alike = n_heads / n_kv_heads;
        let heads = (1..=QUERIES).rev().find(|n| alike.is_multiple_of(*n)).unwrap_or(1);
        let constants = |rows: usize| {
            vec![
                ("N_HEADS", n_heads as f64),
                ("N_KV_HEADS", n_kv_heads as f64),
                ("HEAD_DIM", head_dim as f64),
                ("SCALE", f64::from(scale)),
                ("WINDOW", f64::from(window)),
                ("PAGE", f64::from(PAGE)),
                ("HEADS", heads as f64),
                ("ROWS", rows as f64),
            ]
        };
        if !self.gpu.variants().tile {
            let quads = [16, 32, 128].into_iter().find(|quads| head_dim <= 4 * quads).unwrap_or(128);
            let kv = whole("k", &self.buffers.kv[layer]);
            let resources = [whole("q", self.value(q)), kv, whole("y", self.value(out))];
            let grid = [Extent::Fixed(n_heads as u32), Extent::Rows(Rows::Tokens, 1), SINGLE];
            let name = format!("attention_few.{quads}");
            return self.push(&name, constants(1), &resources, Rows::Tokens, grid);
        }
        let splits = self.capacity.cells().div_ceil(SPLIT).min(MAX_SPLITS);
        let bytes = 4 * u64::from(splits) * (n_heads * (head_dim + 2)) as u64;
        let partial = self.scratch(Scratch::Partial(n_heads, head_dim), bytes);
        let kv = &self.buffers.kv[layer];
        let resources = [
            whole("q", self.value(q)),
            whole("k", kv),
            whole("v", kv),
            whole("y", self.value(out)),
            whole("partial", &partial),
        ];
        let pairs = if head_dim <= 128 { 1 } else { 4 };
        let mut launches = Vec::new();
        for (from, rows) in [(1, 1), (2, QUERIES / heads)] {
            let queries = if heads * rows == 1 { 1 } else { QUERIES };
            let kernel = self.gpu.kernel(&format!("attention.{pairs}.{queries}"), constants(rows))?;
            let y = Extent::Rows(Rows::Tokens, rows as u32);
            let grid = [Extent::Fixed((n_heads / heads) as u32), y, Extent::Splits];
            launches.push((from, Launch { kernel, grid }));
        }
        let bind_group = self.bind(&launches[0].1.kernel, &resources)?;
        self.dispatches.push(Dispatch { bind_group, rows: Rows::Tokens, when: When::Always, launches });

        let resources = [whole("partial", &partial), whole("y", self.value(out))];
        let grid = [Extent::Fixed(((n_heads * head_dim / 2) as u32).div_ceil(64)), SINGLE, SINGLE];
        self.push("attention_merge", constants(1), &resources, Rows::Tokens, grid)?;
        if let Some(merge) = self.dispatches.last_mut() {
            merge.when = When::Split;
        }
        Ok(())
    }

    /// The table of cosines and sines, computed now unless it has been.
    pub(super) fn rope_table(
        &mut self,
        turns: WeightId,
        factors: WeightId,
        n_rot: usize,
    ) -> Result<wgpu::Buffer, GpuError> {
        let key = Scratch::RopeTable(turns, factors, n_rot);
        let table = self.scratch(key, 4 * n_rot as u64 * u64::from(self.capacity.tokens));
        if self.held.insert(key, (None, None)).is_none() {
            let resources = [
                whole("turns", self.vector(turns)?),
                whole("factors", self.vector(factors)?),
                whole("y", &table),
            ];
            let constants = vec![("N_ROT", n_rot as f64)];
            let grid = threads(n_rot / 2, Rows::Tokens);
            self.push("rope_table", constants, &resources, Rows::Tokens, grid)?;
        }
        Ok(table)
    }
}
