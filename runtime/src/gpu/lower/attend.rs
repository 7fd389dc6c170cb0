//! Lowers attention, writes to the KV pool and rotary embeddings.

use super::*;
use crate::graph::{Cache, Growth, KvFormat};
use nomoat_shaders::{Blocks, Keys, Kv, Room};

impl Lowering<'_> {
    pub(super) fn attention(
        &mut self,
        q: ValueId,
        cache: CacheId,
        shape: Attention,
        out: ValueId,
    ) -> Result<(), GpuError> {
        let Attention { n_heads, n_kv_heads, head_dim, value_dim, .. } = shape;
        let most = head_dim.max(value_dim);
        if !(head_dim | value_dim).is_multiple_of(2) || most > 512 {
            return Err(GpuError::Unsupported(format!(
                "attention heads of {head_dim} and {value_dim} dimensions (only even numbers up to 512)"
            )));
        }
        // A workgroup takes as many heads of the same keys as possible, then rows up to QUERIES queries.
        let shared_by = n_heads / n_kv_heads;
        let heads = (1..=QUERIES).rev().find(|n| shared_by.is_multiple_of(*n)).unwrap_or(1);
        let constants = |rows: usize| {
            let mut all = vec![
                ("N_HEADS", n_heads as f64),
                ("N_KV_HEADS", n_kv_heads as f64),
                ("HEAD_DIM", head_dim as f64),
                ("VALUE_DIM", value_dim as f64),
                ("WINDOW", f64::from(shape.window)),
                ("PAGE", f64::from(PAGE)),
                ("HEADS", heads as f64),
                ("ROWS", rows as f64),
            ];
            all.extend(score_constants(&shape));
            all
        };
        let keys = match stored(self.graph.caches[cache.0].format) {
            Kv::Blocks(blocks) => Keys::Blocks(blocks),
            Kv::F16 if (head_dim | value_dim).is_multiple_of(8) => Keys::Eight,
            Kv::F16 => Keys::Two,
        };
        let kv = self.buffers.kv[cache.0].clone();
        let mut resources = vec![whole("q", self.value(q)?), whole("k", &kv), whole("y", self.value(out)?)];
        if let Some(sinks) = shape.sinks {
            resources.push(whole("sinks", &self.vector(sinks)?.buffer));
        }
        let sinks = shape.sinks.is_some();
        if !self.gpu.variants().tile {
            let room = match most {
                ..=64 => Room::Small,
                65..=128 => Room::Medium,
                _ => Room::Large,
            };
            let kernel = Kernel::AttentionFew { room, keys, sinks };
            let grid = [Extent::Fixed(n_heads as u32), Extent::Rows(Domain::Tokens, 1), SINGLE];
            return self.push(kernel, &constants(1), &resources, Domain::Tokens, grid);
        }
        let splits = self.capacity.cells().div_ceil(SPLIT).min(MAX_SPLITS);
        let bytes = 4 * u64::from(splits) * (n_heads * (value_dim + 2)) as u64;
        let partial = self.scratch(Scratch::Partial(n_heads, value_dim), bytes);
        resources.extend([whole("v", &kv), whole("partial", &partial)]);
        let wide = value_dim > 128;
        let mut launches = Vec::new();
        for (from, rows) in [(1, 1), (2, QUERIES / heads)] {
            let grouped = heads * rows > 1;
            let pipeline =
                self.gpu.kernel(Kernel::Attention { wide, grouped, keys, sinks }, &constants(rows))?;
            let y = Extent::Rows(Domain::Tokens, rows as u32);
            let grid = [Extent::Fixed((n_heads / heads) as u32), y, Extent::Splits];
            launches.push((from, Launch { pipeline, grid }));
        }
        let bind_group = self.bind(&launches[0].1.pipeline, &resources)?;
        let domain = Domain::Tokens;
        self.dispatches.push(Dispatch { bind_group, domain, when: When::Always, launches });

        let resources = [whole("partial", &partial), whole("y", self.value(out)?)];
        let grid = [Extent::Fixed(((n_heads * value_dim / 2) as u32).div_ceil(64)), SINGLE, SINGLE];
        self.push(Kernel::AttentionMerge, &constants(1), &resources, Domain::Tokens, grid)?;
        if let Some(merge) = self.dispatches.last_mut() {
            merge.when = When::Split;
        }
        Ok(())
    }

    pub(super) fn kv_write(&mut self, x: ValueId, cache: CacheId, half: Half) -> Result<(), GpuError> {
        let Cache { keys, values, format } = self.graph.caches[cache.0];
        if !(keys | values).is_multiple_of(2) {
            let message = format!("keys of {keys} and values of {values} floats (only even numbers)");
            return Err(GpuError::Unsupported(message));
        }
        let width = self.graph.value(x).width;
        let resources = [whole("x", self.value(x)?), whole("kv", &self.buffers.kv[cache.0])];
        // Places are counted in words of f16, or in numbers of blocks.
        let kv = stored(format);
        let unit = if kv == Kv::F16 { 2 } else { 1 };
        let at = if half == Half::Keys { 0 } else { keys / unit };
        let constants = [
            ("WIDTH", width as f64),
            ("CELL", ((keys + values) / unit) as f64),
            ("AT", at as f64),
            ("PAGE", f64::from(PAGE)),
        ];
        let grid = threads(width / 2, Domain::Tokens);
        self.push(Kernel::KvWrite(kv), &constants, &resources, Domain::Tokens, grid)
    }

    pub(super) fn rope(&mut self, x: ValueId, rope: Rope, out: ValueId) -> Result<(), GpuError> {
        let constants = [
            ("N_HEADS", rope.n_heads as f64),
            ("HEAD_DIM", rope.head_dim as f64),
            ("N_ROT", rope.n_rot as f64),
            ("NEOX", f64::from(u8::from(rope.neox))),
        ];
        let table = self.rope_table(rope)?;
        let resources = [whole("table", &table), whole("x", self.value(x)?), whole("y", self.value(out)?)];
        let pairs = rope.n_heads * rope.head_dim / 2;
        self.push(Kernel::Rope, &constants, &resources, Domain::Tokens, threads(pairs, Domain::Tokens))
    }

    /// The table of cosines and sines. It is computed once per list.
    pub(super) fn rope_table(&mut self, rope: Rope) -> Result<wgpu::Buffer, GpuError> {
        let Rope { turns, factors, n_rot, magnitude, .. } = rope;
        let key = Scratch::RopeTable(turns, factors, n_rot, magnitude.to_bits());
        let table = self.scratch(key, 4 * n_rot as u64 * u64::from(self.capacity.tokens));
        if self.held.insert(key, (None, None)).is_none() {
            let resources = [
                whole("turns", &self.vector(turns)?.buffer),
                whole("factors", &self.vector(factors)?.buffer),
                whole("y", &table),
            ];
            let constants = [("N_ROT", n_rot as f64), ("MAGNITUDE", f64::from(magnitude))];
            let grid = threads(n_rot / 2, Domain::Tokens);
            self.push(Kernel::RopeTable, &constants, &resources, Domain::Tokens, grid)?;
        }
        Ok(table)
    }
}

/// How kernels call the format of a cache.
pub(super) fn stored(format: KvFormat) -> Kv {
    match format {
        KvFormat::F16 => Kv::F16,
        KvFormat::Q8_0 => Kv::Blocks(Blocks::Q8_0),
        KvFormat::Q4_0 => Kv::Blocks(Blocks::Q4_0),
    }
}

/// The constants of `attention/scores.wgsl`.
pub(in crate::gpu) fn score_constants(shape: &Attention) -> Constants {
    let mut all = vec![("SCALE", f64::from(shape.scale))];
    if let Some(Growth { every, factor }) = shape.growth {
        all.extend([("GROWTH", f64::from(factor)), ("EVERY", f64::from(every.max(1)))]);
    }
    all.extend(shape.soft_cap.map(|cap| ("SOFT_CAP", f64::from(cap))));
    if let Some(exponent) = shape.alibi {
        let n_slopes = 1_u32 << shape.n_heads.max(1).ilog2();
        all.extend([("ALIBI", f64::from(exponent)), ("N_SLOPES", f64::from(n_slopes))]);
    }
    all
}
