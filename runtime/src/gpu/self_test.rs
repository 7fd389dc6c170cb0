//! The self-test compares a few small graphs with the scalar interpreter. It runs on every device before the
//! device is used, because some devices and drivers give wrong results without an error. The unit tests run
//! the same kinds of cases with many more shapes and with every kernel that the device supports.

use super::{Accuracy, Executor, Gpu, GpuError, Weights};
use crate::graph::testing::{
    Case, Layers, RopeShape, Subject, attention, layers, likeliest, matmul, rms_norm, rope,
};
use crate::graph::{Attention, Chosen, Step, ValueId};
use crate::quant::Format;

/// Runs the self-test. The error names the first case with wrong results.
pub async fn run(gpu: &Gpu) -> Result<(), GpuError> {
    let rope_shape = RopeShape { n_heads: 2, head_dim: 64, n_rot: 64, neox: false };
    let cases = [
        matmul(Format::Q4_0, 70, 96, 1),
        matmul(Format::Q8_0, 70, 96, 1),
        matmul(Format::Q4_1, 70, 96, 37),
        rms_norm(96, 3),
        rope(rope_shape, 8),
        attention(Attention::new(4, 2, 16), 80),
        likeliest(1000, 2),
        layers(Layers::of(Format::Q4_0), &[9, 1]),
    ];
    for mut case in cases {
        // 8 bits do not represent the activations of whole layers exactly.
        if case.steps.len() > 1 && gpu.variants().accuracy == Accuracy::Int8 {
            (case.tolerance, case.same_choice) = (0.2, false);
        }
        let error = deviation(&case, gpu).await?;
        if error > case.tolerance {
            return Err(GpuError::Wrong { device: gpu.info().name.clone(), kernel: case.name, error });
        }
    }
    Ok(())
}

/// The deviation of the device's results from the interpreter's.
async fn deviation(case: &Case, gpu: &Gpu) -> Result<f32, GpuError> {
    let weights = upload(case, gpu)?;
    let mut executor = Executor::with(gpu, &case.graph, &weights, case.capacity(), true)?;
    case.deviation(&mut executor).await
}

pub(super) fn upload(case: &Case, gpu: &Gpu) -> Result<Weights, GpuError> {
    let mut weights = Weights::allocate(gpu, &case.graph, &case.formats())?;
    case.load(&mut weights);
    Ok(weights)
}

impl Subject for Executor {
    type Error = GpuError;

    fn write(&mut self, id: ValueId, data: &[f32]) {
        self.write_value(id, data);
    }

    async fn run(&mut self, step: &Step<'_>) -> Result<Vec<Chosen>, GpuError> {
        self.step(step).await?;
        Ok(self.chosen.clone())
    }

    async fn read(&mut self, id: ValueId, n: usize, n_tokens: usize) -> Result<Option<Vec<f32>>, GpuError> {
        self.read_value(id, n, n_tokens).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
