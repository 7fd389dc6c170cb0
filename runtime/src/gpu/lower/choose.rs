//! Lowers the search for the likeliest token, and choices, which run after a step's last op.

use super::*;

impl Lowering<'_> {
    /// The likeliest token of each output without a choice, in two dispatches: per part, then over all parts.
    pub(super) fn likeliest(&mut self, logits: ValueId) -> Result<(), GpuError> {
        let (parts, constants, grid) = self.parts(logits);
        let y = whole("y", &self.buffers.step.results);
        let resources = [whole("logits", self.value(logits)?), whole("parts", &parts), y];
        self.push(Kernel::LikeliestPart { adjusted: false }, &constants, &resources, Domain::Outputs, grid)?;
        let grid = [Extent::Rows(Domain::Outputs, 64), SINGLE, SINGLE];
        self.push(Kernel::Likeliest, &constants, &resources, Domain::Outputs, grid)
    }

    /// The token of each output with a choice.
    pub(super) fn choice(&mut self, logits: ValueId) -> Result<SlotBuffers, GpuError> {
        let n_vocab = self.graph.value(logits).width as u64;
        let (parts, constants, grid) = self.parts(logits);
        let (slots, outputs) = (u64::from(self.capacity.sequences), u64::from(self.capacity.outputs));
        let n_parts = n_vocab.div_ceil(LOGITS as u64);
        let (gpu, buffers) = (self.gpu, &mut self.buffers);
        let seen = buffers.add(gpu, "seen", 4 * (n_vocab + n_vocab.div_ceil(32)) * slots);
        let bias = buffers.add(gpu, "bias", 4 * n_vocab * slots);
        let histogram = buffers.add(gpu, "histogram", 4 * BINS as u64 * slots);
        let winners = buffers.add(gpu, "winners", 8 * n_parts * outputs);
        let resources = [
            whole("logits", self.value(logits)?),
            whole("seen", &seen),
            whole("bias", &bias),
            whole("parts", &parts),
            whole("histogram", &histogram),
            whole("winners", &winners),
            whole("y", &self.buffers.step.results),
        ];
        let mut push = |kernel, grid| self.push(kernel, &constants, &resources, Domain::Outputs, grid);
        push(Kernel::LikeliestPart { adjusted: true }, grid)?;
        push(Kernel::ChoiceCount, grid)?;
        push(Kernel::ChoiceRace, grid)?;
        push(Kernel::ChoiceEnd, [SINGLE, Extent::Rows(Domain::Outputs, 1), SINGLE])?;
        self.dispatches[1].when = When::Truncated;
        Ok(SlotBuffers { seen, bias })
    }

    /// The buffer for the likeliest token of each part, and the constants and grid of kernels that work on
    /// parts.
    fn parts(&mut self, logits: ValueId) -> (wgpu::Buffer, Constants, Grid) {
        let n_vocab = self.graph.value(logits).width;
        let n_parts = n_vocab.div_ceil(LOGITS);
        let size = 16 * n_parts as u64 * u64::from(self.capacity.outputs);
        let parts = self.scratch(Scratch::Parts(n_parts), size);
        let constants = vec![("N_VOCAB", n_vocab as f64), ("N_PARTS", n_parts as f64)];
        (parts, constants, [Extent::Fixed(n_parts as u32), Extent::Rows(Domain::Outputs, 1), SINGLE])
    }
}
