//! Pipelines, made once for each kernel variant and set of constants.

use super::{Gpu, GpuError};
use nomoat_shaders::{Access, Shader};
use std::collections::HashMap;
use std::rc::Rc;

/// Values of a kernel's `override` constants.
pub(super) type Constants = Vec<(&'static str, f64)>;

/// A variant's name, and its constants with their values' bits.
type Key = (&'static str, Vec<(&'static str, u64)>);

/// A compiled kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub shader: &'static Shader,
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// All kernels compiled so far.
#[derive(Debug)]
pub(super) struct Kernels {
    gpu: Gpu,
    compiled: HashMap<Key, Rc<Kernel>>,
}

impl Kernels {
    pub fn new(gpu: Gpu) -> Self {
        Self { gpu, compiled: HashMap::new() }
    }

    /// The kernel of this name with these constants, compiled on first use.
    pub fn get(&mut self, name: &str, constants: Constants) -> Result<Rc<Kernel>, GpuError> {
        let shader = nomoat_shaders::find(name)
            .ok_or_else(|| GpuError::Internal(format!("there is no kernel {name}")))?;
        let key = (shader.name, constants.iter().map(|(name, value)| (*name, value.to_bits())).collect());
        let gpu = &self.gpu;
        let kernel = self.compiled.entry(key).or_insert_with(|| Rc::new(compile(gpu, shader, &constants)));
        Ok(kernel.clone())
    }
}

fn compile(gpu: &Gpu, shader: &'static Shader, constants: &Constants) -> Kernel {
    let device = &gpu.device;
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(shader.name),
        source: wgpu::ShaderSource::Wgsl(shader.wgsl.into()),
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
        label: Some(shader.name),
        entries: &entries,
    });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(shader.name),
        bind_group_layouts: &[Some(&layout)],
        ..Default::default()
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(shader.name),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions { constants, ..Default::default() },
        cache: None,
    });
    Kernel { shader, pipeline, layout }
}
