//! Finds an adapter, opens its device with all features and limits that Nomoat uses, and collects its errors.

use super::kernels::Compiled;
use super::{GpuError, Variants};
use futures_channel::oneshot;
use serde::Serialize;
use std::sync::{Arc, Mutex};

/// Options for opening a device.
#[derive(Clone, Debug)]
pub struct Options {
    /// Kernels to run, as text of [`Variants`]; empty for the defaults.
    pub kernels: String,
    /// Whether the browser supports WGSL's packed integer dot product. Native builds always do.
    pub packed_dot: bool,
    /// The adapter's smallest subgroup size, in a browser that supports subgroups; otherwise 0.
    pub subgroup_size: u32,
    /// The adapter's name if wgpu does not know it, as in browsers.
    pub name: String,
    /// The most bytes that a kernel binds of a buffer, where the device allows more.
    pub max_binding_size: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kernels: String::new(),
            packed_dot: true,
            subgroup_size: 0,
            name: "WebGPU adapter".into(),
            max_binding_size: u64::MAX,
        }
    }
}

/// What a device is and what it supports.
#[derive(Clone, Debug, Serialize)]
pub struct GpuInfo {
    /// The adapter's name.
    pub name: String,
    /// The API below wgpu: `webgpu` in browsers, otherwise `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Driver and version, if known.
    pub driver: String,
    /// Whether this is a software adapter, which runs on the CPU.
    pub is_fallback: bool,
    /// Whether it supports f16 arithmetic.
    pub f16: bool,
    /// The smallest subgroup size; 0 without subgroups.
    pub subgroup_size: u32,
    /// Whether it supports packed integer dot products.
    pub packed_dot: bool,
    /// The kernels that run, as text of [`Variants`].
    pub kernels: String,
    /// Bytes of the largest buffer.
    pub max_buffer_size: u64,
    /// Bytes of the largest range of a buffer that a kernel can bind.
    pub max_binding_size: u64,
}

/// Errors that the device reports asynchronously.
#[derive(Debug, Default)]
struct Faults {
    lost: Option<String>,
    first: Option<GpuError>,
}

/// A pending request to map a buffer.
pub(super) type Mapping = oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>;

/// An open device.
#[derive(Clone, Debug)]
pub struct Gpu {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    info: GpuInfo,
    variants: Variants,
    pub(super) kernels: Arc<Compiled>,
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
        let mut limits = adapter.limits();
        let max_binding = limits.max_storage_buffer_binding_size.min(options.max_binding_size);
        limits.max_storage_buffer_binding_size = max_binding;
        let offered = adapter.features();
        let features = offered
            & (wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY);
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                required_features: features,
                required_limits: limits,
                ..Default::default()
            })
            .await
            .map_err(|e| GpuError::NoAdapter(e.to_string()))?;

        let about = adapter.get_info();
        let limits = device.limits();
        // In browsers, wgpu does not know the subgroup size, so the caller passes it.
        let is_browser = about.backend == wgpu::Backend::BrowserWebGpu;
        let subgroup_size = match (is_browser, features.contains(wgpu::Features::SUBGROUP)) {
            (true, _) => options.subgroup_size,
            (false, true) => about.subgroup_min_size,
            (false, false) => 0,
        };
        let name = if about.name.is_empty() { options.name } else { about.name };
        let mut info = GpuInfo {
            name,
            kernels: String::new(),
            backend: match about.backend {
                wgpu::Backend::BrowserWebGpu => "webgpu".into(),
                other => other.to_string(),
            },
            driver: format!("{} {}", about.driver, about.driver_info).trim().to_string(),
            is_fallback: about.device_type == wgpu::DeviceType::Cpu,
            f16: features.contains(wgpu::Features::SHADER_F16),
            subgroup_size,
            packed_dot: options.packed_dot || !is_browser,
            max_buffer_size: limits.max_buffer_size,
            max_binding_size: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
        };

        let variants = Variants::parse(&options.kernels, &info).map_err(GpuError::Kernels)?;
        info.kernels = variants.to_string();

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
        Ok(Self { device, queue, info, variants, kernels: Arc::default(), faults })
    }

    /// What the device is and what it supports.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// The kernels that run.
    pub fn variants(&self) -> &Variants {
        &self.variants
    }

    /// Changes the kernels of executors that are created later.
    pub fn set_variants(&mut self, variants: Variants) {
        self.variants = variants;
        self.info.kernels = variants.to_string();
    }

    /// Changes what the device reports about itself.
    #[cfg(test)]
    pub(super) fn pretend(&mut self, change: impl FnOnce(&mut GpuInfo)) {
        change(&mut self.info);
    }

    /// Returns the first error since the last call. A lost device comes before any other error.
    pub fn check(&self) -> Result<(), GpuError> {
        let Ok(mut faults) = self.faults.lock() else {
            return Err(GpuError::Internal("a panic in the error handler".into()));
        };
        let first = faults.first.take();
        match (&faults.lost, first) {
            (Some(reason), _) => Err(GpuError::Lost(reason.clone())),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }

    /// A zeroed buffer. If there was no memory for it, [`Self::settle`] returns the error.
    pub(super) fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: size.next_multiple_of(4).max(16),
            usage,
            mapped_at_creation: false,
        })
    }

    /// Waits until the device has finished all submitted work, and returns its first error.
    pub async fn settle(&self) -> Result<(), GpuError> {
        // Submitting also starts queued writes.
        self.queue.submit([]);
        let (sender, receiver) = oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            let _ = sender.send(());
        });
        self.wait(None);
        let _ = receiver.await;
        self.check()
    }

    /// Requests the first bytes of a mappable buffer. They arrive after the work that was submitted before.
    pub(super) fn request(&self, buffer: &wgpu::Buffer, size: u64) -> Mapping {
        let (sender, receiver) = oneshot::channel();
        buffer.map_async(wgpu::MapMode::Read, 0..size, move |result| {
            let _ = sender.send(result);
        });
        receiver
    }

    /// Waits for requested bytes, copies them into parts, one after the other, and unmaps the buffer.
    pub(super) async fn receive<const N: usize>(
        &self,
        buffer: &wgpu::Buffer,
        mapping: &mut Mapping,
        submission: Option<wgpu::SubmissionIndex>,
        parts: [&mut [u8]; N],
    ) -> Result<(), GpuError> {
        self.wait(submission);
        let mapped = mapping.await;
        self.check()?;
        match mapped {
            Ok(Ok(())) => {
                let size: usize = parts.iter().map(|part| part.len()).sum();
                let range = buffer.get_mapped_range(0..size as u64);
                let result = range
                    .map(|view| {
                        let mut at = 0;
                        for part in parts {
                            part.copy_from_slice(&view[at..at + part.len()]);
                            at += part.len();
                        }
                    })
                    .map_err(|e| GpuError::Internal(e.to_string()));
                buffer.unmap();
                result
            }
            // A lost device rejects the mapping, sometimes before it reports that it is lost.
            _ => Err(GpuError::Lost("a result could not be read".into())),
        }
    }

    /// Waits for all submitted work, then fills `data` from the start of a mappable buffer.
    pub(super) async fn read(&self, buffer: &wgpu::Buffer, data: &mut [u8]) -> Result<(), GpuError> {
        let mut mapping = self.request(buffer, data.len() as u64);
        self.receive(buffer, &mut mapping, None, [data]).await
    }

    /// Reads parts of buffers (buffer, start, bytes), one after the other, after what is submitted.
    pub(super) async fn read_parts(
        &self,
        parts: &[(&wgpu::Buffer, u64, u64)],
        data: &mut [u8],
    ) -> Result<(), GpuError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self.buffer("staging", data.len() as u64, usage);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut at = 0;
        for (buffer, start, bytes) in parts {
            encoder.copy_buffer_to_buffer(buffer, *start, &staging, at, *bytes);
            at += bytes;
        }
        self.queue.submit([encoder.finish()]);
        let result = self.read(&staging, data).await;
        staging.destroy();
        result
    }

    /// Polls a native device until a submission, by default the last one, is done. Without polling, native
    /// devices run no callbacks; browsers need no polling.
    fn wait(&self, submission: Option<wgpu::SubmissionIndex>) {
        #[cfg(not(target_arch = "wasm32"))]
        let _ = self.device.poll(wgpu::PollType::Wait { submission_index: submission, timeout: None });
        #[cfg(target_arch = "wasm32")]
        let _ = submission;
    }

    /// Destroys the device at once and frees its memory.
    pub fn destroy(&self) {
        self.device.destroy();
    }
}

fn convert(error: wgpu::Error) -> GpuError {
    match error {
        wgpu::Error::OutOfMemory { .. } => GpuError::OutOfMemory("a buffer could not be allocated".into()),
        other => GpuError::Internal(other.to_string()),
    }
}
