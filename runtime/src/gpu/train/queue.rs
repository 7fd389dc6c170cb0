//! Dispatches that are collected and submitted together, and memory that is used again.

use crate::gpu::buffers::STORAGE;
use crate::gpu::kernels::{Constants, Pipeline, Resource};
use crate::gpu::{Gpu, GpuError};
use crate::quant;
use nomoat_shaders::Kernel;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes between uniforms: the greatest alignment that a device may want.
const ALIGN: usize = 256;
/// Uniforms of one submission, at most.
const UNIFORMS: usize = 1024;

enum Command {
    Run { pipeline: Arc<Pipeline>, group: wgpu::BindGroup, grid: [u32; 3] },
    Clear(wgpu::Buffer),
}

/// A device's work; clones share it.
#[derive(Clone)]
pub struct Queue {
    pub gpu: Gpu,
    shared: Rc<RefCell<Shared>>,
}

struct Shared {
    /// The uniform of each dispatch.
    uniforms: Vec<u8>,
    arena: wgpu::Buffer,
    commands: Vec<Command>,
    /// Buffers that are used again, by their size.
    spare: HashMap<u64, Vec<wgpu::Buffer>>,
    /// What [`Queue::begin`] was last given.
    sizes: [usize; 2],
    grids: HashMap<quant::Layout, wgpu::Buffer>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue of {} commands", self.shared.borrow().commands.len())
    }
}

/// In browsers, a dropped buffer waits for the garbage collector.
impl Drop for Shared {
    fn drop(&mut self) {
        self.arena.destroy();
        self.spare.values().flatten().chain(self.grids.values()).for_each(wgpu::Buffer::destroy);
    }
}

impl Queue {
    pub fn new(gpu: &Gpu) -> Self {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let arena = gpu.buffer("uniforms", (ALIGN * UNIFORMS) as u64, usage);
        let (uniforms, commands) = (Vec::new(), Vec::new());
        let (spare, grids) = (HashMap::new(), HashMap::new());
        let shared = Shared { uniforms, arena, commands, spare, sizes: [0; 2], grids };
        Self { gpu: gpu.clone(), shared: Rc::new(RefCell::new(shared)) }
    }

    /// A buffer of so many numbers, with any contents.
    pub fn floats(&self, n: usize) -> Result<wgpu::Buffer, GpuError> {
        let bytes = (4 * n as u64).max(16);
        if bytes > self.gpu.info().max_binding_size {
            return Err(GpuError::OutOfMemory(format!("{bytes} bytes for one value of a step")));
        }
        Ok(match self.shared.borrow_mut().spare.get_mut(&bytes).and_then(Vec::pop) {
            Some(buffer) => buffer,
            None => self.gpu.buffer("training", bytes, STORAGE | wgpu::BufferUsages::COPY_SRC),
        })
    }

    /// A buffer of so many zeros.
    pub fn zeros(&self, n: usize) -> Result<wgpu::Buffer, GpuError> {
        let buffer = self.floats(n)?;
        self.clear(&buffer);
        Ok(buffer)
    }

    pub fn clear(&self, buffer: &wgpu::Buffer) {
        self.shared.borrow_mut().commands.push(Command::Clear(buffer.clone()));
    }

    pub fn give_back(&self, buffer: wgpu::Buffer) {
        self.shared.borrow_mut().spare.entry(buffer.size()).or_default().push(buffer);
    }

    /// Begins a step: starts what was collected before. Memory of steps of other sizes is freed.
    pub fn begin(&self, sizes: [usize; 2]) {
        self.submit();
        let mut shared = self.shared.borrow_mut();
        if shared.sizes != sizes {
            shared.sizes = sizes;
            shared.spare.drain().for_each(|(_, all)| all.iter().for_each(wgpu::Buffer::destroy));
        }
    }

    /// The grid of a weight layout that has one.
    pub fn grid(&self, layout: quant::Layout) -> Option<wgpu::Buffer> {
        let numbers = layout.grid()?;
        let make = || {
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let buffer = self.gpu.buffer("grid", numbers.len() as u64, usage);
            self.gpu.queue.write_buffer(&buffer, 0, numbers);
            buffer
        };
        Some(self.shared.borrow_mut().grids.entry(layout).or_insert_with(make).clone())
    }

    /// Adds a dispatch. `uniform` is the name and the contents of its uniform buffer.
    pub fn run(
        &self,
        kernel: Kernel,
        constants: &Constants,
        (name, words): (&'static str, &[u32]),
        resources: &[Resource],
        grid: [usize; 3],
    ) -> Result<(), GpuError> {
        if self.shared.borrow().uniforms.len() >= ALIGN * UNIFORMS {
            self.submit();
        }
        let pipeline = self.gpu.kernel(kernel, constants)?;
        let mut shared = self.shared.borrow_mut();
        let at = shared.uniforms.len();
        shared.uniforms.extend_from_slice(bytemuck::cast_slice(words));
        shared.uniforms.resize(at + ALIGN, 0);
        let uniform = (name, shared.arena.clone(), at as u64, Some(ALIGN as u64));
        let group = pipeline.bind(&self.gpu, &[resources, &[uniform]].concat())?;
        let grid = grid.map(|n| n as u32);
        shared.commands.push(Command::Run { pipeline, group, grid });
        Ok(())
    }

    /// Starts what has been collected.
    pub fn submit(&self) {
        let mut shared = self.shared.borrow_mut();
        self.gpu.queue.write_buffer(&shared.arena, 0, &shared.uniforms);
        shared.uniforms.clear();
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        let mut commands = std::mem::take(&mut shared.commands).into_iter().peekable();
        while let Some(command) = commands.next() {
            let Command::Run { pipeline, group, grid } = command else {
                if let Command::Clear(buffer) = command {
                    encoder.clear_buffer(&buffer, 0, None);
                }
                continue;
            };
            let mut pass = encoder.begin_compute_pass(&Default::default());
            let mut next = Some((pipeline, group, grid));
            while let Some((pipeline, group, [x, y, z])) = next {
                pass.set_pipeline(&pipeline.pipeline);
                pass.set_bind_group(0, &group, &[]);
                pass.dispatch_workgroups(x, y, z);
                next = match commands.next_if(|command| matches!(command, Command::Run { .. })) {
                    Some(Command::Run { pipeline, group, grid }) => Some((pipeline, group, grid)),
                    _ => None,
                };
            }
        }
        self.gpu.queue.submit([encoder.finish()]);
    }

    /// Does all work, then reads the first numbers of a buffer.
    pub async fn read(&self, buffer: &wgpu::Buffer, n: usize) -> Result<Vec<f32>, GpuError> {
        self.submit();
        let mut numbers = vec![0.0; n];
        let parts = [(buffer, 0, 4 * n as u64)];
        self.gpu.read_parts(&parts, bytemuck::cast_slice_mut(&mut numbers)).await?;
        Ok(numbers)
    }
}
