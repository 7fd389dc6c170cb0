//! How tokens are found or chosen after a step's last op.

use super::*;

impl Lowering<'_> {
    /// The likeliest token of each output row, in two steps: by parts, then over them.
    pub(super) fn best(&mut self, logits: ValueId, out: ValueId) -> Result<(), GpuError> {
        let (parts, constants, grid) = self.parts(logits);
        let resources = [whole("logits", self.value(logits)), whole("parts", &parts)];
        self.push("best_part.plain", constants.clone(), &resources, Rows::Outputs, grid)?;
        let next = whole("next", &self.buffers.step.tokens);
        let resources = [&resources[..], &[whole("y", self.value(out)), next]].concat();
        let grid = [Extent::Rows(Rows::Outputs, 64), SINGLE, SINGLE];
        self.push("argmax", constants, &resources, Rows::Outputs, grid)
    }

    /// A token chosen by chance for the only output row, see [`Choice`].
    pub(super) fn choice(&mut self, logits: ValueId, out: ValueId) -> Result<ChoiceBuffers, GpuError> {
        let n_vocab = self.graph.values[logits.0].width as u64;
        let (parts, constants, [x, ..]) = self.parts(logits);
        let grid = [x, SINGLE, SINGLE];
        let (gpu, buffers) = (self.gpu, &mut self.buffers);
        let choice = buffers.add_uniform(gpu, "choice", &[0; size_of::<Choice>() / 4]);
        let [seen, bias] = ["seen", "bias"].map(|name| buffers.add(gpu, name, 4 * n_vocab));
        let histogram = buffers.add(gpu, "histogram", 4 * BINS as u64);
        let winners = buffers.add(gpu, "winners", 8 * n_vocab.div_ceil(PART as u64));
        let resources = [
            whole("logits", self.value(logits)),
            whole("choice", &choice),
            whole("seen", &seen),
            whole("bias", &bias),
            whole("parts", &parts),
            whole("histogram", &histogram),
            whole("winners", &winners),
            whole("y", self.value(out)),
            whole("next", &self.buffers.step.tokens),
        ];
        let mut push = |name: &str, grid| self.push(name, constants.clone(), &resources, Rows::Outputs, grid);
        push("best_part.adjusted", grid)?;
        push("choice_count", grid)?;
        push("choice_race", grid)?;
        push("choice_end", [SINGLE; 3])?;
        self.dispatches[1].when = When::Truncated;
        Ok(ChoiceBuffers { choice, seen, bias })
    }

    /// Where the likeliest of each part of logits goes, with the constants and the grid of kernels that work on parts.
    pub(super) fn parts(&mut self, logits: ValueId) -> (wgpu::Buffer, Constants, Grid) {
        let n_vocab = self.graph.values[logits.0].width;
        let n_parts = n_vocab.div_ceil(PART);
        let size = 16 * n_parts as u64 * u64::from(self.capacity.outputs);
        let parts = self.scratch(Scratch::Parts(n_parts), size);
        let constants = vec![("N_VOCAB", n_vocab as f64), ("N_PARTS", n_parts as f64)];
        (parts, constants, [Extent::Fixed(n_parts as u32), Extent::Rows(Rows::Outputs, 1), SINGLE])
    }
}
