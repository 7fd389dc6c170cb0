//! The way through a training graph, forwards and back, which is the same on every device: segment after
//! segment, of which the input is kept, and what it computes as far as there is memory.

use super::TrainingGraph;
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
            self.compute_segment(segment, parameters)?;
            if is_kept {
                continue;
            }
            // What the next segment begins with stays.
            let next = graph.segments.get(segment + 1).and_then(|next| next.input);
            for id in graph.outs(segment).filter(|id| Some(*id) != next) {
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

    /// Computes what is not there of a segment.
    fn compute_segment(&mut self, segment: usize, parameters: &[f32]) -> Result<(), Self::Error> {
        let graph = self.graph();
        for op in graph.segments[segment].ops.clone() {
            if graph.graph.ops[op].out().is_some_and(|out| !self.exists(out)) {
                self.compute(op, parameters)?;
            }
        }
        self.flush();
        Ok(())
    }

    /// Which segments' values are kept: the last ones, as far as there is memory. The last is used at once.
    fn kept(&self) -> Vec<bool> {
        let graph = self.graph();
        let mut left = self.may_keep();
        let mut kept = vec![false; graph.segments.len()];
        for segment in (0..kept.len()).rev() {
            let n: usize = graph.outs(segment).map(|id| self.size(id)).sum();
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
