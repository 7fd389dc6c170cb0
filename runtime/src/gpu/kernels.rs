//! Compiles pipelines, once per kernel variant and set of constants.

use super::{Gpu, GpuError};
use nomoat_shaders::{Access, Kernel, Shader};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The values of a kernel's `override` constants.
pub(super) type Constants = Vec<(&'static str, f64)>;

/// A kernel and the bits of its constants.
pub(super) type Key = (Kernel, Vec<(&'static str, u64)>);

/// A compiled kernel.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub shader: Shader,
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// The name of a binding, its buffer, an offset and a size; no size means up to the buffer's end.
pub(super) type Resource = (&'static str, wgpu::Buffer, u64, Option<u64>);

pub(super) fn whole(name: &'static str, buffer: &wgpu::Buffer) -> Resource {
    (name, buffer.clone(), 0, None)
}

impl Pipeline {
    /// Binds buffers by their names in WGSL; of several with one name, the first.
    pub fn bind(&self, gpu: &Gpu, resources: &[Resource]) -> Result<wgpu::BindGroup, GpuError> {
        let name = self.shader.kernel.to_string();
        let mut entries = Vec::new();
        for binding in &self.shader.bindings {
            let found = resources.iter().find(|(name, ..)| *name == binding.name);
            let (_, buffer, offset, size) = found.ok_or_else(|| {
                GpuError::Internal(format!("kernel {name} needs a buffer {}", binding.name))
            })?;
            entries.push(wgpu::BindGroupEntry {
                binding: binding.index,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                    buffer,
                    offset: *offset,
                    size: size.and_then(wgpu::BufferSize::new),
                }),
            });
        }
        Ok(gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(&name),
            layout: &self.layout,
            entries: &entries,
        }))
    }
}

/// All kernels that a device has compiled so far.
pub(super) type Compiled = Mutex<HashMap<Key, Arc<Pipeline>>>;

impl Gpu {
    /// The kernel with these constants, compiled on first use. Constants that the kernel does not declare are
    /// ignored, so that callers can pass the same list to related kernels.
    pub(super) fn kernel(&self, kernel: Kernel, constants: &Constants) -> Result<Arc<Pipeline>, GpuError> {
        let key = (kernel, constants.iter().map(|(name, value)| (*name, value.to_bits())).collect());
        let Ok(mut compiled) = self.kernels.lock() else {
            return Err(GpuError::Internal("a panic while a kernel was compiled".into()));
        };
        if let Some(pipeline) = compiled.get(&key) {
            return Ok(pipeline.clone());
        }
        let shader = kernel.shader().map_err(GpuError::Internal)?;
        let has = |name: &str| shader.overrides.iter().any(|known| known == name);
        let constants: Constants = constants.iter().filter(|(name, _)| has(name)).copied().collect();
        let slim = (kernel, constants.iter().map(|(name, value)| (*name, value.to_bits())).collect());
        let pipeline = match compiled.get(&slim) {
            Some(pipeline) => pipeline.clone(),
            None => Arc::new(compile(self, shader, &constants)),
        };
        compiled.insert(slim, pipeline.clone());
        compiled.insert(key, pipeline.clone());
        Ok(pipeline)
    }
}

fn compile(gpu: &Gpu, shader: Shader, constants: &Constants) -> Pipeline {
    let device = &gpu.device;
    let label = shader.kernel.to_string();
    let mut wgsl = shader.wgsl.clone();
    if gpu.info().backend != "webgpu" {
        // Browsers require this directive; naga rejects it and only needs the device's feature.
        wgsl = wgsl.replace("enable subgroups;", "");
    }
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(&label),
        source: wgpu::ShaderSource::Wgsl(wgsl.into()),
    });
    let entries: Vec<_> = shader
        .bindings
        .iter()
        .map(|binding| wgpu::BindGroupLayoutEntry {
            binding: binding.index,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: match binding.access {
                    Access::Uniform => wgpu::BufferBindingType::Uniform,
                    Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                    Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
                },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
        label: Some(&label),
        entries: &entries,
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(&label),
        bind_group_layouts: &[Some(&layout)],
        ..Default::default()
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&label),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions { constants, ..Default::default() },
        cache: None,
    });
    Pipeline { shader, pipeline, layout }
}
