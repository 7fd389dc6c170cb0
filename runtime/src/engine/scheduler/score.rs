//! Scores: probabilities of tokens that are given. They are computed on the first sequence, while no answer
//! runs.

use super::{Scheduler, UnderWay};
use crate::engine::Error;
use crate::engine::cache::Set;
use crate::engine::device::DeviceModel;
use crate::graph::Output;

impl Scheduler {
    /// Empties the first sequence, on which scores are computed with this set of adapters.
    pub fn clear_first(&mut self, set: Set) {
        self.sequences[0].end(&mut self.cache);
        self.sequences[0].set = set;
    }

    /// Begins a step that appends tokens to the first sequence.
    pub fn begin_score(
        &mut self,
        model: &mut impl DeviceModel,
        ids: &[u32],
        outputs: impl Iterator<Item = Output>,
    ) -> Result<(), Error> {
        self.next.clear();
        self.next.plan = self.sequences[0].set;
        self.add_rows(0, ids)?;
        self.next.outputs.extend(outputs);
        self.submit(model)
    }

    /// Records that the tokens of such a step are computed.
    pub fn end_score(&mut self, step: &UnderWay) {
        for share in &step.shares {
            self.sequences[share.sequence].set_computed(share.end, None, &mut self.cache);
        }
    }
}
