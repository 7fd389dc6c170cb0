//! Finding an adapter, opening its device with all that it offers, and hearing of its errors.

use super::kernels::Compiled;
use super::{GpuError, Variants};
use futures_channel::oneshot;
use serde::Serialize;
use std::sync::{Arc, Mutex};

/// How to choose and use an adapter.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which kernels to run, in the words of [`Variants`]; empty: the usual ones.
    pub kernels: String,
    /// Whether browsers take WGSL's packed integer dot product; natively it always is there.
    pub packed_dot: bool,
    /// Size of the adapter's smallest subgroups where the browser gives the feature to the device; 0: it has none.
    pub subgroup_size: u32,
    /// What to call an adapter that wgpu knows no name of, as in browsers.
    pub name: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { kernels: String::new(), packed_dot: true, subgroup_size: 0, name: "WebGPU adapter".into() }
    }
}

/// What a device is and can.
#[derive(Clone, Debug, Serialize)]
pub struct GpuInfo {
    /// The adapter's own description.
    pub name: String,
    /// The API beneath: `webgpu` in browsers, else `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Driver and its version, where told.
    pub driver: String,
    /// Software on the CPU.
    pub is_fallback: bool,
    /// f16 arithmetic is there.
    pub f16: bool,
    /// Threads of the smallest subgroups; 0: there are none.
    pub subgroup_size: u32,
    /// Packed integer dot products are there.
    pub packed_dot: bool,
    /// Which kernels run, in the words of [`Variants`].
    pub kernels: String,
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

/// A buffer's bytes on their way to the host.
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
        let offered = adapter.features();
        let features = offered
            & (wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY);
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
        // wgpu knows no subgroups in browsers; there the page says what it has asked for.
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

    /// What the device is and can.
    pub fn info(&self) -> &GpuInfo {
        &self.info
    }

    /// Which kernels run.
    pub fn variants(&self) -> &Variants {
        &self.variants
    }

    /// Has other kernels run from now on.
    pub fn set_variants(&mut self, variants: Variants) {
        self.variants = variants;
        self.info.kernels = variants.to_string();
    }

    /// Changes what the device is taken for.
    #[cfg(test)]
    pub(super) fn pretend(&mut self, change: impl FnOnce(&mut GpuInfo)) {
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
        self.wait(None);
        let _ = receiver.await;
        self.check()
    }

    /// Asks for the first bytes of a mappable buffer; they come once what was submitted before is done.
    pub(super) fn request(&self, buffer: &wgpu::Buffer, size: u64) -> Mapping {
        let (sender, receiver) = oneshot::channel();
        buffer.map_async(wgpu::MapMode::Read, 0..size, move |result| {
            let _ = sender.send(result);
        });
        receiver
    }

    /// Fills `data` with what was asked for, as soon as it is there, and gives the buffer free.
    pub(super) async fn receive(
        &self,
        buffer: &wgpu::Buffer,
        mapping: Mapping,
        submission: Option<wgpu::SubmissionIndex>,
        data: &mut [u8],
    ) -> Result<(), GpuError> {
        self.wait(submission);
        let mapped = mapping.await;
        self.check()?;
        match mapped {
            Ok(Ok(())) => {
                let range = buffer.get_mapped_range(0..data.len() as u64);
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

    /// Fills `data` from the start of a mappable buffer, once what was submitted is done.
    pub(super) async fn read(&self, buffer: &wgpu::Buffer, data: &mut [u8]) -> Result<(), GpuError> {
        let mapping = self.request(buffer, data.len() as u64);
        self.receive(buffer, mapping, None, data).await
    }

    /// Native devices make progress only when polled, up to a submission or to the last; browsers do by themselves.
    fn wait(&self, submission: Option<wgpu::SubmissionIndex>) {
        #[cfg(not(target_arch = "wasm32"))]
        let _ = self.device.poll(wgpu::PollType::Wait { submission_index: submission, timeout: None });
        #[cfg(target_arch = "wasm32")]
        let _ = submission;
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
