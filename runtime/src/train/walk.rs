//! The way through a training graph, forwards and back, which is the same on every device: segment after
//! segment, of which the input is kept, and what the way back reads as far as there is memory.

use super::TrainingGraph;
use super::graph::Segment;
use crate::graph::{Op, ValueId};

/// What a device does for one op or one value at a time.
pub trait Walk<'g> {
    /// Why the device failed.
    type Error;

    /// What is walked through.
    fn graph(&self) -> &'g TrainingGraph;

    /// Numbers that may be kept of segments, beside their inputs.
    fn may_keep(&self) -> usize;

    /// Numbers of a value.
    fn size(&self, id: ValueId) -> usize;

    /// Whether a value is computed.
    fn exists(&self, id: ValueId) -> bool;

    /// Forgets a value and its gradient.
    fn release(&mut self, id: ValueId);

    /// Computes an op.
    fn compute(&mut self, op: usize, parameters: &[f32]) -> Result<(), Self::Error>;

    /// Adds to the gradients of an op's inputs, and of its parameters.
    fn differentiate(
        &mut self,
        op: usize,
        parameters: &[f32],
        gradient: &mut [f32],
    ) -> Result<(), Self::Error>;

    /// Called when all ops of a segment have been given.
    fn flush(&mut self) {}

    /// Computes all segments.
    fn walk(&mut self, parameters: &[f32]) -> Result<(), Self::Error> {
        let graph = self.graph();
        for (segment, is_kept) in self.kept().into_iter().enumerate() {
            let Segment { ops, stays, .. } = &graph.segments[segment];
            for op in ops.clone().filter(|op| graph.graph.ops[*op].out().is_some()) {
                self.compute(op, parameters)?;
            }
            self.flush();
            // What the next segment or the head begins with stays.
            let next = graph.segments.get(segment + 1).map_or(Some(graph.hidden), |next| next.input);
            for id in graph.outs(segment).filter(|id| Some(*id) != next && !(is_kept && stays.contains(id))) {
                self.release(id);
            }
        }
        Ok(())
    }

    /// From the gradient of the last segment's result back to the first segment.
    fn walk_back(&mut self, parameters: &[f32], gradient: &mut [f32]) -> Result<(), Self::Error> {
        let graph = self.graph();
        for segment in (0..graph.segments.len()).rev() {
            self.compute_segment(segment, parameters)?;
            for op in graph.segments[segment].ops.clone().rev() {
                self.differentiate(op, parameters, gradient)?;
            }
            self.flush();
            // The value that the next segment began with is this one's last.
            graph.outs(segment).for_each(|id| self.release(id));
        }
        Ok(())
    }

    /// Computes what the way back reads of a segment and is not there.
    fn compute_segment(&mut self, segment: usize, parameters: &[f32]) -> Result<(), Self::Error> {
        let graph = self.graph();
        let mut wanted = graph.reads.clone();
        let mut missing = Vec::new();
        for op in graph.segments[segment].ops.clone().rev() {
            let what = &graph.graph.ops[op];
            if what.out().is_some_and(|out| wanted[out.0] && !self.exists(out)) {
                missing.push(op);
                what.inputs().iter().for_each(|id| wanted[id.0] = true);
            }
        }
        missing.into_iter().rev().try_for_each(|op| self.compute(op, parameters))?;
        self.flush();
        Ok(())
    }

    /// Of which segments values are kept: the last ones, as far as there is memory. The last is used at once.
    fn kept(&self) -> Vec<bool> {
        let graph = self.graph();
        let mut left = self.may_keep();
        let mut kept = vec![false; graph.segments.len()];
        for segment in (0..kept.len()).rev() {
            let n: usize = graph.segments[segment].stays.iter().map(|id| self.size(*id)).sum();
            if n > left && segment + 1 < kept.len() {
                break;
            }
            left = left.saturating_sub(n);
            kept[segment] = true;
        }
        kept
    }
}

impl TrainingGraph {
    /// The values that a segment computes.
    fn outs(&self, segment: usize) -> impl Iterator<Item = ValueId> {
        self.graph.ops[self.segments[segment].ops.clone()].iter().filter_map(Op::out)
    }
}
