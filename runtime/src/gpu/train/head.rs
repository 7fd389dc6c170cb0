//! The loss: logits of some rows at a time, their softmax, and its gradient in their place. Logits of all
//! rows never exist together.

use super::Training;
use super::product::Matrix;
use crate::gpu::GpuError;
use crate::gpu::kernels::whole;
use crate::graph::{Domain, Op, WeightId};
use crate::train::{TrainError, Walk};
use nomoat_shaders::{Kernel, Train};

/// Logits that exist together, about.
const LOGITS: usize = 8 << 20;

impl Training<'_> {
    /// The head's matrix, and its numbers of rows and columns.
    fn head_matrix(&self) -> Result<(WeightId, usize, usize), GpuError> {
        match self.graph.graph.ops.get(self.graph.head) {
            Some(Op::MatMul { weight, .. }) => {
                let of = self.graph.graph.weight(*weight);
                Ok((*weight, of.n_rows, of.n_cols))
            }
            _ => Err(GpuError::Internal("a head without a product".into())),
        }
    }

    /// The first row and the number of rows of each slice.
    fn slices(&self, n_vocab: usize) -> Vec<(usize, usize)> {
        let n = self.batch.targets.len();
        let per_slice = (LOGITS / n_vocab.max(1)).max(1);
        (0..n).step_by(per_slice).map(|first| (first, per_slice.min(n - first))).collect()
    }

    /// A slice's product, and what each op of the head after it gives.
    fn logits(&mut self, first: usize, n: usize) -> Result<Vec<wgpu::Buffer>, GpuError> {
        let (weight, n_vocab, n_in) = self.head_matrix()?;
        let hidden = self.read(self.graph.hidden)?;
        let mut all = vec![self.queue.floats(n * n_vocab)?];
        self.multiply(
            weight,
            n,
            Matrix::rows(&hidden, first * n_in, n_in),
            Matrix::rows(&all[0], 0, n_vocab),
        )?;
        let graph = self.graph;
        for (i, op) in graph.graph.ops[graph.head + 1..].iter().enumerate() {
            let y = self.queue.floats(n * n_vocab)?;
            self.after(op, [0, n as u32, 0, 1], Domain::Outputs, n_vocab, &all[i], &y)?;
            all.push(y);
        }
        Ok(all)
    }

    /// Computes what each target's logarithm of its probability is. With weights, also the gradient of the
    /// hidden rows.
    pub(super) fn loss(&mut self, weights: Option<&[f32]>) -> Result<(), GpuError> {
        let (weight, n_vocab, n_in) = self.head_matrix()?;
        let hidden = self.graph.hidden;
        if let Some(weights) = weights {
            let gpu = &self.queue.gpu;
            gpu.queue.write_buffer(&self.tables.shares, 0, bytemuck::cast_slice(weights));
            let dx = self.queue.zeros(self.size(hidden))?;
            self.gradients[hidden.0] = Some(dx);
        }
        let graph = self.graph;
        for (first, n) in self.slices(n_vocab) {
            let mut all = self.logits(first, n)?;
            let Some(mut dy) = all.pop() else { continue };
            let constants =
                vec![("WIDTH", n_vocab as f64), ("IS_BACK", f64::from(u8::from(weights.is_some())))];
            let resources = [
                whole("outputs", &self.tables.outputs),
                whole("weights", &self.tables.shares),
                whole("logits", &dy),
                whole("logprobs", &self.tables.logprobs),
            ];
            let part = ("part", &[first as u32, n as u32][..]);
            let kernel = Kernel::Train(Train::Loss);
            self.queue.run(kernel, &constants, part, &resources, [n, 1, 1])?;
            if let (Some(_), Some(dx)) = (weights, self.gradients[hidden.0].clone()) {
                for op in graph.graph.ops[graph.head + 1..].iter().rev() {
                    let Some(x) = all.pop() else { continue };
                    let of_x = self.queue.zeros(n * n_vocab)?;
                    self.after_back(op, [0, n as u32, 0, 1], Domain::Outputs, n_vocab, [&x, &dy, &of_x])?;
                    self.queue.give_back(x);
                    self.queue.give_back(std::mem::replace(&mut dy, of_x));
                }
                let dx = Matrix::rows(&dx, first * n_in, n_in);
                self.multiply_back(weight, n, Matrix::rows(&dy, 0, n_vocab), dx)?;
            }
            all.into_iter().chain([dy]).for_each(|buffer| self.queue.give_back(buffer));
            self.queue.submit();
        }
        Ok(())
    }

    pub(super) async fn read_logprobs(&mut self) -> Result<Vec<f64>, TrainError> {
        let logprobs = self.tables.logprobs.clone();
        let numbers = self.queue.read(&logprobs, self.batch.targets.len()).await?;
        Ok(numbers.into_iter().map(f64::from).collect())
    }

    /// The likeliest token of each target's row; the lowest id wins a tie.
    pub(super) async fn likeliest_tokens(&mut self) -> Result<Vec<u32>, GpuError> {
        let (_, n_vocab, _) = self.head_matrix()?;
        let mut likeliest = Vec::new();
        for (first, n) in self.slices(n_vocab) {
            let all = self.logits(first, n)?;
            let logits = match all.last() {
                Some(logits) => self.queue.read(logits, n * n_vocab).await?,
                None => Vec::new(),
            };
            for row in logits.chunks_exact(n_vocab) {
                let best = row.iter().enumerate().rev().max_by(|(_, a), (_, b)| a.total_cmp(b));
                likeliest.push(best.map_or(0, |(id, _)| id as u32));
            }
            all.into_iter().for_each(|buffer| self.queue.give_back(buffer));
        }
        Ok(likeliest)
    }
}
