//! Finding an adapter, opening its device with all that it offers, and hearing of its errors.

use super::GpuError;
use futures_channel::oneshot;
use serde::Serialize;
use std::sync::{Arc, Mutex};

/// How to choose and use an adapter.
#[derive(Clone, Debug)]
pub struct Options {
    /// Use f16 arithmetic where the adapter has it.
    pub f16: bool,
    /// What to call an adapter that wgpu knows no name of, as in browsers.
    pub name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { f16: true, name: "WebGPU adapter".into() }
    }
}

/// What a device is and can.
#[derive(Clone, Debug, Serialize)]
pub struct DeviceInfo {
    /// The adapter's own description.
    pub name: String,
    /// The API beneath: `webgpu` in browsers, else `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Driver and its version, where told.
    pub driver: String,
    /// Software on the CPU.
    pub is_fallback: bool,
    /// f16 arithmetic is there and used.
    pub f16: bool,
    /// Threads can exchange values within a subgroup.
    pub subgroups: bool,
    /// Largest buffer, in bytes.
    pub max_buffer_size: u64,
    /// Largest part of a buffer that a kernel can see, in bytes.
    pub max_binding_size: u64,
}

/// Errors that arrive outside of any call.
#[derive(Debug, Default)]
struct Faults {
    lost: Option<String>,
    first: Option<GpuError>,
}

/// An open device.
#[derive(Clone, Debug)]
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    info: DeviceInfo,
    faults: Arc<Mutex<Faults>>,
}

impl Gpu {
    /// Opens the most capable adapter.
    pub async fn open(options: Options) -> Result<Self, GpuError> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance
            .request_adapter(&wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..Default::default()
            })
            .await
            .map_err(|e| GpuError::NoAdapter(e.to_string()))?;
        let offered = adapter.features();
        let wanted = if options.f16 { wgpu::Features::SHADER_F16 } else { wgpu::Features::empty() };
        let features = offered & wanted;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                required_features: features,
                required_limits: adapter.limits(),
                ..Default::default()
            })
            .await
            .map_err(|e| GpuError::NoAdapter(e.to_string()))?;

        let about = adapter.get_info();
        let limits = device.limits();
        let name = if about.name.is_empty() { options.name } else { about.name };
        let info = DeviceInfo {
            name,
            backend: match about.backend {
                wgpu::Backend::BrowserWebGpu => "webgpu".into(),
                other => other.to_string(),
            },
            driver: format!("{} {}", about.driver, about.driver_info).trim().to_string(),
            is_fallback: about.device_type == wgpu::DeviceType::Cpu,
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroups: offered.contains(wgpu::Features::SUBGROUP),
            max_buffer_size: limits.max_buffer_size,
            max_binding_size: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        };

        let faults = Arc::new(Mutex::new(Faults::default()));
        let sink = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            if let Ok(mut faults) = sink.lock() {
                faults.lost.get_or_insert(format!("{reason:?}: {message}"));
            }
        });
        let sink = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            if let Ok(mut faults) = sink.lock() {
                faults.first.get_or_insert(convert(error));
            }
        }));
        Ok(Self { device, queue, info, faults })
    }

    /// What the device is and can.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Changes what the device is taken for.
    #[cfg(test)]
    pub(super) fn pretend(&mut self, change: impl FnOnce(&mut DeviceInfo)) {
        change(&mut self.info);
    }

    /// The first error that has arrived since the last call, a lost device before any other.
    pub fn check(&self) -> Result<(), GpuError> {
        let Ok(mut faults) = self.faults.lock() else {
            return Err(GpuError::Internal("the error handler panicked".into()));
        };
        let first = faults.first.take();
        match (&faults.lost, first) {
            (Some(reason), _) => Err(GpuError::Lost(reason.clone())),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }

    /// A zeroed buffer. Whether there was memory for it shows in [`Self::settle`].
    pub(super) fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: size.next_multiple_of(4).max(16),
            usage,
            mapped_at_creation: false,
        })
    }

    /// Waits until the device has done all that was submitted, so that its errors and memory are known.
    pub async fn settle(&self) -> Result<(), GpuError> {
        // Writes are only begun by a submit.
        self.queue.submit([]);
        let (sender, receiver) = oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            let _ = sender.send(());
        });
        self.wait();
        let _ = receiver.await;
        self.check()
    }

    /// Fills `data` from the start of a mappable buffer, once what was submitted is done.
    pub(super) async fn read(&self, buffer: &wgpu::Buffer, data: &mut [u8]) -> Result<(), GpuError> {
        let (sender, receiver) = oneshot::channel();
        let size = data.len() as u64;
        buffer.map_async(wgpu::MapMode::Read, 0..size, move |result| {
            let _ = sender.send(result);
        });
        self.wait();
        let mapped = receiver.await;
        self.check()?;
        match mapped {
            Ok(Ok(())) => {
                let range = buffer.get_mapped_range(0..size);
                let result = range
                    .map(|view| data.copy_from_slice(&view))
                    .map_err(|e| GpuError::Internal(e.to_string()));
                buffer.unmap();
                result
            }
            // A lost device rejects the mapping, perhaps before it says that it is lost.
            _ => Err(GpuError::Lost("a result could not be read".into())),
        }
    }

    /// Native devices make progress only when polled; browsers do by themselves.
    fn wait(&self) {
        #[cfg(not(target_arch = "wasm32"))]
        let _ = self.device.poll(wgpu::PollType::wait_indefinitely());
    }

    /// Gives the device up at once, with all its memory.
    pub fn destroy(&self) {
        self.device.destroy();
    }
}

fn convert(error: wgpu::Error) -> GpuError {
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory("a buffer was refused".into()),
        other => GpuError::Internal(other.to_string()),
    }
}
