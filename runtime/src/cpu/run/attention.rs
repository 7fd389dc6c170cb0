//! The stages of attention.

use super::super::attention::{self, Merge, Pool, SPAN, attend_rows, attend_span, part_len, runs, spans};
use super::super::lower::Attend;
use super::{CpuError, Local, Run, Tasks};
use crate::graph::{Op, Token};
use std::ops::Range;

/// Rows of a task.
const ROWS: usize = 16;
/// Floats of parts at most: 8 MiB.
const MAX_PARTS: usize = 2 << 20;

/// Spans of the longest context of a step.
fn n_spans(tokens: &[Token]) -> usize {
    tokens.iter().map(|token| token.position as usize / SPAN + 1).max().unwrap_or(0)
}

/// Floats of the parts that the threads need to share the rows of a step; 0 where they have enough to do with
/// whole rows, or contexts are short.
pub(in crate::cpu) fn n_parts(ops: &[Op], tokens: &[Token], threads: usize) -> usize {
    let n_spans = n_spans(tokens);
    let of = |op: &Op| match op {
        Op::Attention { shape, cache: Some(_), .. } => part_len(*shape) * shape.n_heads,
        _ => 0,
    };
    let n = tokens.len() * n_spans * ops.iter().map(of).max().unwrap_or(0);
    if threads == 1 || tokens.len() > ROWS || n_spans < 2 || n > MAX_PARTS { 0 } else { n }
}

/// What attention reads and writes.
struct Rows<'a, 'r> {
    run: &'a Run<'r>,
    attend: Attend,
}

impl<'a> Rows<'a, '_> {
    fn query(&self, row: usize, head: usize) -> &'a [f32] {
        let n = self.attend.shape.head_dim;
        // SAFETY: nobody writes to queries in this stage.
        unsafe { &self.run.input(self.attend.q, row)[head * n..][..n] }
    }

    /// # Safety
    /// The head of the row is this task's alone.
    #[allow(clippy::mut_from_ref)]
    unsafe fn output(&self, row: usize, head: usize) -> &'a mut [f32] {
        let n = self.attend.shape.value_dim;
        // SAFETY: as promised by the caller.
        unsafe { self.run.columns(self.attend.out, row, head * n, n) }
    }
}

impl Run<'_> {
    pub(super) fn attention(
        &self,
        attend: Attend,
        tasks: [Tasks; 2],
        local: &mut Local,
    ) -> Result<(), CpuError> {
        let Attend { cache, shape, .. } = attend;
        let sinks = shape.sinks.map(|sinks| self.weights.vector(sinks)).transpose()?;
        let Some(cache) = cache else { return self.attention_of_rows(attend, sinks, tasks[1], local) };
        let [keys, values] = &self.kv[cache.0];
        // SAFETY: nobody writes to the pool in this stage.
        let (keys, values) = unsafe { (keys.read(0, keys.1), values.read(0, values.1)) };
        let format = self.graph.caches[cache.0].format;
        let pool = Pool { shape, step: self.step, format, keys, values, sinks };
        let rows = Rows { run: self, attend };
        if self.parts.1 > 0 {
            return self.attention_in_parts(&rows, pool, tasks, local);
        }
        let n = self.step.tokens.len();
        let blocks = n.div_ceil(ROWS);
        // Heads of the same keys go together, since converting those takes longest, unless that leaves
        // threads idle.
        let alike = shape.n_heads / shape.n_kv_heads;
        let heads = if blocks * shape.n_kv_heads >= self.threads { alike } else { 1 };
        let groups = shape.n_heads / heads;
        for task in tasks[1].of(blocks * groups) {
            // The last rows see most.
            let (block, group) = (blocks - 1 - task / groups, task % groups);
            let of_block = block * ROWS..n.min((block + 1) * ROWS);
            let query = |row, head| rows.query(row, head);
            // SAFETY: these heads of these rows are this task's.
            let output = |row, head| unsafe { rows.output(row, head) };
            let heads = group * heads..(group + 1) * heads;
            attention::attend(pool, of_block, heads, query, output, &mut local.attention);
        }
        Ok(())
    }

    /// Few rows with long contexts: a task is a span of a sequence for the heads of the same keys, next to
    /// those of its other keys. So threads share a row, and a thread reads pages that lie side by side.
    fn attention_in_parts(
        &self,
        rows: &Rows,
        pool: Pool,
        tasks: [Tasks; 2],
        local: &mut Local,
    ) -> Result<(), CpuError> {
        let (shape, tokens) = (pool.shape, self.step.tokens);
        let (len, n_groups) = (part_len(shape), shape.n_kv_heads);
        let alike = shape.n_heads / n_groups;
        // [span, group, row, head of the group]
        let place = |span: usize, group: usize, row: usize| {
            ((span * n_groups + group) * tokens.len() + row) * alike * len
        };
        let of_run =
            |run: Range<usize>| spans(shape, &tokens[run.clone()]).map(move |span| (run.clone(), span));
        let work: Vec<(Range<usize>, usize)> = runs(tokens, 0..tokens.len()).flat_map(of_run).collect();
        for task in tasks[0].of(work.len() * n_groups) {
            let ((run, span), group) = (work[task / n_groups].clone(), task % n_groups);
            // SAFETY: this span of these heads is this task's.
            let parts = unsafe { self.parts.part(place(span, group, run.start), run.len() * alike * len) };
            let heads = group * alike..(group + 1) * alike;
            let query = |row, head| rows.query(row, head);
            attend_span(pool, run, heads, span, query, parts, &mut local.attention);
        }
        (self.meet)()?;
        for task in tasks[1].of(tokens.len() * shape.n_heads) {
            let (row, head) = (task / shape.n_heads, task % shape.n_heads);
            // SAFETY: the head of the row is this task's; parts are only read.
            let mut merge = Merge::begin(&pool, head, unsafe { rows.output(row, head) });
            for span in spans(shape, &tokens[row..=row]) {
                let at = place(span, head / alike, row) + head % alike * len;
                // SAFETY: as above.
                merge.add(unsafe { self.parts.read(at, len) });
            }
            merge.end();
        }
        Ok(())
    }

    /// Over the step's own rows.
    fn attention_of_rows(
        &self,
        Attend { q, k, v, shape, out, .. }: Attend,
        sinks: Option<&[f32]>,
        tasks: Tasks,
        local: &mut Local,
    ) -> Result<(), CpuError> {
        let tokens = self.step.tokens;
        for row in tasks.of(tokens.len()) {
            // SAFETY: the row is this task's; queries, keys and values are only read.
            let (keys, values) = unsafe { (|row| self.input(k, row), |row| self.input(v, row)) };
            let (query, out) = unsafe { (self.input(q, row), self.row(out, row)) };
            let scores = &mut local.attention.scores;
            attend_rows(shape, sinks, tokens, row, query, (&keys, &values), out, scores);
        }
        Ok(())
    }
}
