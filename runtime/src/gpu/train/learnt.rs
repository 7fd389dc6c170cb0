//! What is learnt, on the device: parameters, gradient, moments, and AdamW.

use super::queue::Queue;
use crate::gpu::buffers::STORAGE;
use crate::gpu::kernels::{Resource, whole};
use crate::gpu::{Gpu, GpuError};
use crate::train::learnt::check_length;
use crate::train::{Kind, Learnt, TrainError, Update};
use nomoat_shaders::{Kernel, Train};
use std::borrow::Cow;

/// Numbers that a workgroup takes.
const PER_GROUP: usize = 1024;
/// A norm that no gradient has.
const NO_CLIP: f32 = 1e30;

/// Lists of numbers in buffers of a GPU.
#[derive(Debug)]
pub struct OnGpu {
    pub(super) queue: Queue,
    n: usize,
    pub(super) parameters: wgpu::Buffer,
    pub(super) gradient: wgpu::Buffer,
    first: wgpu::Buffer,
    second: wgpu::Buffer,
}

impl OnGpu {
    /// These parameters; the rest is 0.
    pub(super) fn new(gpu: &Gpu, parameters: &[f32]) -> Result<Self, GpuError> {
        let bytes = size_of_val(parameters) as u64;
        if bytes > gpu.info().max_buffer_size {
            return Err(GpuError::OutOfMemory(format!("{bytes} bytes of parameters")));
        }
        let make = |label| gpu.buffer(label, bytes, STORAGE | wgpu::BufferUsages::COPY_SRC);
        let this = Self {
            queue: Queue::new(gpu),
            n: parameters.len(),
            parameters: make("parameters"),
            gradient: make("gradient"),
            first: make("first moments"),
            second: make("second moments"),
        };
        gpu.queue.write_buffer(&this.parameters, 0, bytemuck::cast_slice(parameters));
        Ok(this)
    }

    fn list(&self, kind: Kind) -> &wgpu::Buffer {
        match kind {
            Kind::Parameters => &self.parameters,
            Kind::Gradient => &self.gradient,
            Kind::First => &self.first,
            Kind::Second => &self.second,
        }
    }

    /// Adds the dispatches of an update. Returns the buffer of the sum of the gradient's squares.
    fn encode(&self, update: &Update) -> Result<wgpu::Buffer, GpuError> {
        let n_groups = self.n.div_ceil(PER_GROUP).max(1);
        let (parts, square) = (self.queue.floats(n_groups)?, self.queue.floats(1)?);
        // What a binding may hold, and the most workgroups of a dispatch.
        let most = (self.queue.gpu.info().max_binding_size as usize / 4).min(65_535 * PER_GROUP);
        let ranges: Vec<(usize, usize)> = (0..self.n)
            .step_by((most / PER_GROUP).max(1) * PER_GROUP)
            .map(|at| (at, (self.n - at).min(most / PER_GROUP * PER_GROUP)))
            .collect();
        let part = |name, buffer: &wgpu::Buffer, (at, n): (usize, usize)| -> Resource {
            (name, buffer.clone(), 4 * at as u64, Some(4 * n as u64))
        };
        let total = |x: Resource, y: &wgpu::Buffer, n: usize, at: usize, per_group: usize, squares: bool| {
            let constants = vec![("SQUARES", f64::from(u8::from(squares)))];
            let shape = [n as u32, per_group as u32, (at / PER_GROUP) as u32];
            let grid = [n.div_ceil(per_group), 1, 1];
            self.queue.run(
                Kernel::Train(Train::Total),
                &constants,
                ("part", &shape),
                &[x, whole("y", y)],
                grid,
            )
        };
        for &(at, n) in &ranges {
            total(part("x", &self.gradient, (at, n)), &parts, n, at, PER_GROUP, true)?;
        }
        total(whole("x", &parts), &square, n_groups, 0, n_groups, false)?;
        let Update { rate, root, decay, betas: [beta1, beta2], eps, clip } = *update;
        let numbers =
            [rate, root, decay, beta1, beta2, eps, clip.unwrap_or(NO_CLIP).min(NO_CLIP)].map(f32::to_bits);
        for range in ranges {
            let uniform = [&[range.1 as u32][..], &numbers].concat();
            let resources = [
                whole("square", &square),
                part("gradient", &self.gradient, range),
                part("parameters", &self.parameters, range),
                part("first", &self.first, range),
                part("second", &self.second, range),
            ];
            let grid = [range.1.div_ceil(PER_GROUP), 1, 1];
            let kernel = Kernel::Train(Train::Adam);
            self.queue.run(kernel, &Vec::new(), ("update", &uniform), &resources, grid)?;
        }
        self.queue.give_back(parts);
        Ok(square)
    }
}

impl Learnt for OnGpu {
    fn clear(&mut self) {
        self.queue.clear(&self.gradient);
    }

    async fn update(&mut self, update: &Update) -> Result<f32, TrainError> {
        let square = self.encode(update)?;
        let found = self.queue.read(&square, 1).await?;
        self.queue.give_back(square);
        Ok(found[0].sqrt())
    }

    async fn read(&self, kind: Kind) -> Result<Cow<'_, [f32]>, TrainError> {
        Ok(Cow::Owned(self.queue.read(self.list(kind), self.n).await?))
    }

    fn write(&mut self, kind: Kind, numbers: &[f32]) -> Result<(), TrainError> {
        check_length(numbers.len(), self.n)?;
        // What was collected before uses the numbers before.
        self.queue.submit();
        self.queue.gpu.queue.write_buffer(self.list(kind), 0, bytemuck::cast_slice(numbers));
        Ok(())
    }
}

/// In browsers, a dropped buffer waits for the garbage collector.
impl Drop for OnGpu {
    fn drop(&mut self) {
        let all = [&self.parameters, &self.gradient, &self.first, &self.second];
        all.into_iter().for_each(wgpu::Buffer::destroy);
    }
}
