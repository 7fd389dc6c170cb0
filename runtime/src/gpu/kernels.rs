//! Pipelines, made once for each kernel variant and set of constants.

use super::{Gpu, GpuError};
use nomoat_shaders::{Access, Shader};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Values of a kernel's `override` constants.
pub(super) type Constants = Vec<(&'static str, f64)>;

/// A variant's name, and its constants with their values' bits.
pub(super) type Key = (&'static str, Vec<(&'static str, u64)>);

/// A compiled kernel.
#[derive(Debug)]
pub(super) struct Kernel {
    pub shader: &'static Shader,
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// All kernels that a device has compiled so far.
pub(super) type Compiled = Mutex<HashMap<Key, Arc<Kernel>>>;

impl Gpu {
    /// The kernel of this name with these constants, compiled on first use.
    pub(super) fn kernel(&self, name: &str, constants: Constants) -> Result<Arc<Kernel>, GpuError> {
        let shader = nomoat_shaders::find(name)
            .ok_or_else(|| GpuError::Internal(format!("there is no kernel {name}")))?;
        // Callers give all that the kernel's relatives have, too.
        let constants: Constants =
            constants.into_iter().filter(|(name, _)| shader.overrides.contains(name)).collect();
        let key = (shader.name, constants.iter().map(|(name, value)| (*name, value.to_bits())).collect());
        let Ok(mut compiled) = self.kernels.lock() else {
            return Err(GpuError::Internal("compiling a kernel panicked".into()));
        };
        Ok(compiled.entry(key).or_insert_with(|| Arc::new(compile(self, shader, &constants))).clone())
    }
}

fn compile(gpu: &Gpu, shader: &'static Shader, constants: &Constants) -> Kernel {
    let device = &gpu.device;
    let mut wgsl = shader.wgsl();
    if gpu.info().backend != "webgpu" {
        // naga has subgroups by the device's feature and rejects the directive that browsers ask for.
        wgsl = wgsl.replace("enable subgroups;", "");
    }
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(shader.name),
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
