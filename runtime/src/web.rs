//! The runtime for JavaScript: what the npm package's worker calls. Structured values are passed as JSON.

use crate::adapter::AdapterFiles;
#[cfg(feature = "cpu")]
use crate::cpu::{Cpu, Team};
#[cfg(feature = "cpu")]
use crate::engine::cpu_kernels;
use crate::engine::{AdapterUse, Device, Engine, Error, Headers, Loading, Request, SequenceId};
use crate::engine::{inspect, measure_speed};
#[cfg(feature = "gpu")]
use crate::gpu::{Gpu, Options, self_test, tune};
use crate::train::{Teaches, TrainingRun};
use js_sys::Reflect;
#[cfg(feature = "cpu")]
use std::sync::{Arc, OnceLock};
use wasm_bindgen::prelude::*;

#[cfg(all(feature = "gpu", feature = "cpu"))]
compile_error!("a build for browsers has one device: enable the feature `gpu` or `cpu`");

/// The device of this build.
#[cfg(feature = "gpu")]
type Only = Gpu;
/// The device of this build.
#[cfg(not(feature = "gpu"))]
type Only = Cpu;

/// A device, and on it a model that is being loaded or is ready. No call may come while another one waits.
#[wasm_bindgen]
pub struct Runtime {
    device: Only,
    loading: Option<Loading<Only>>,
    engine: Option<Engine<Only>>,
    training: Option<TrainingRun<<Only as Teaches>::Learnt>>,
}

/// A JS `Error`. Its `code` is the cause.
fn thrown(error: impl Into<Error>) -> JsValue {
    let error = error.into();
    let js = js_sys::Error::new(&error.to_string());
    // Setting a property of a new object does not fail.
    let _ = Reflect::set(&js, &"code".into(), &error.code().into());
    js.into()
}

fn json(value: &impl serde::Serialize) -> Result<String, JsValue> {
    serde_json::to_string(value).map_err(|e| thrown(Error::InvalidRequest(e.to_string())))
}

fn no_model() -> JsValue {
    thrown(Error::InvalidRequest("no model is loaded".into()))
}

#[wasm_bindgen]
impl Runtime {
    /// Opens the device and tests its kernels.
    pub async fn open(options_json: String) -> Result<Runtime, JsValue> {
        console_error_panic_hook::set_once();
        let options: OpenOptions = serde_json::from_str(&options_json)
            .map_err(|e| thrown(Error::InvalidRequest(format!("malformed options: {e}"))))?;
        let device = open_device(options).await.map_err(thrown)?;
        Ok(Runtime { device, loading: None, engine: None, training: None })
    }

    /// What the device is and can do, as JSON.
    pub fn device_info(&self) -> Result<String, JsValue> {
        json(&Device::info(&self.device))
    }

    /// How fast a model can be expected to be, measured in half a second, as JSON.
    pub async fn measure_speed(&self) -> Result<String, JsValue> {
        json(&measure_speed(&self.device, measured_bytes(&self.device)).await.map_err(thrown)?)
    }

    /// Begins to load a model from files of these sizes. Frees the one before.
    pub fn begin(&mut self, file_sizes: &[f64], options_json: &str) -> Result<(), JsValue> {
        let options = serde_json::from_str(options_json)
            .map_err(|e| thrown(Error::InvalidRequest(format!("malformed options: {e}"))))?;
        let sizes: Vec<u64> = file_sizes.iter().map(|size| *size as u64).collect();
        self.engine = None;
        self.end_training();
        self.loading = Some(Loading::new(&sizes, options));
        Ok(())
    }

    /// Begins to load a draft model for the model, which stays.
    pub fn begin_draft(&mut self, file_sizes: &[f64]) -> Result<(), JsValue> {
        let sizes: Vec<u64> = file_sizes.iter().map(|size| *size as u64).collect();
        self.loading = Some(Loading::draft(&sizes, self.engine.as_ref().ok_or_else(no_model)?));
        Ok(())
    }

    /// Takes a header's next bytes. Returns how many more it needs at least.
    pub fn push_header(&mut self, file: usize, bytes: &[u8]) -> Result<usize, JsValue> {
        self.loading.as_mut().ok_or_else(no_model)?.push_header(file, bytes).map_err(thrown)
    }

    /// When all headers are complete: checks the model, and takes no memory for it on the device.
    pub fn check(&mut self) -> Result<(), JsValue> {
        self.loading.as_mut().ok_or_else(no_model)?.check().map_err(thrown)
    }

    /// After that: allocates the model's memory. Returns what it is, as JSON.
    pub async fn prepare(&mut self) -> Result<String, JsValue> {
        let loading = self.loading.as_mut().ok_or_else(no_model)?;
        json(loading.prepare(&self.device).await.map_err(thrown)?)
    }

    /// Takes the files' next bytes, from the first file's first byte on.
    pub async fn push_data(&mut self, file: usize, bytes: js_sys::Uint8Array) -> Result<(), JsValue> {
        let loading = self.loading.as_mut().ok_or_else(no_model)?;
        loading.push_data(&self.device, file, &bytes.to_vec()).await.map_err(thrown)
    }

    /// After the last byte. Returns the files' digests, as JSON.
    pub async fn finish(&mut self) -> Result<String, JsValue> {
        let loading = self.loading.take().ok_or_else(no_model)?;
        let (engine, sha256) = loading.finish(&self.device).await.map_err(thrown)?;
        self.engine = Some(engine);
        json(&serde_json::json!({ "sha256": sha256 }))
    }

    /// After the last byte of a draft model. Returns the files' digests and what the model is now, as JSON.
    pub async fn finish_draft(&mut self) -> Result<String, JsValue> {
        let loading = self.loading.take().ok_or_else(no_model)?;
        let engine = self.engine.as_mut().ok_or_else(no_model)?;
        let sha256 = loading.finish_draft(&self.device, engine).await.map_err(thrown)?;
        json(&serde_json::json!({ "sha256": sha256, "model": engine.info() }))
    }

    /// Token ids of a text.
    pub fn tokenize(&self, text: &str, parse_special: bool) -> Result<Vec<u32>, JsValue> {
        self.engine.as_ref().ok_or_else(no_model)?.tokenizer().encode(text, parse_special).map_err(thrown)
    }

    /// The text of token ids, without control tokens.
    pub fn detokenize(&self, ids: &[u32]) -> Result<String, JsValue> {
        Ok(self.engine.as_ref().ok_or_else(no_model)?.tokenizer().decode(ids))
    }

    /// Gives the parser for constraints, before the first request that has one: a function that makes a
    /// `Parser` of the module `nomoat_grammar` from the same arguments.
    pub fn use_parser(&self, make: js_sys::Function) {
        crate::text::grammar::use_parser(make);
    }

    /// Takes up a request, which runs beside the others. Computes nothing yet. Returns the number of its
    /// sequence and token counts, as JSON.
    pub fn start(&mut self, request_json: &str) -> Result<String, JsValue> {
        let request = Request::from_json(request_json).map_err(thrown)?;
        json(&self.engine.as_mut().ok_or_else(no_model)?.start(request).map_err(thrown)?)
    }

    /// Waits for a piece of a prompt or for a token. Returns the sequence and how far its answer is, as JSON.
    pub async fn next(&mut self) -> Result<String, JsValue> {
        json(&self.engine.as_mut().ok_or_else(no_model)?.advance().await.map_err(thrown)?)
    }

    /// Whether a request has not ended: after an error, whether it goes on.
    pub fn is_running(&self, sequence: f64) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.is_running(SequenceId::from_number(sequence as u64)))
    }

    /// Ends a request.
    pub fn cancel(&mut self, sequence: f64) {
        if let Some(engine) = &mut self.engine {
            engine.cancel(SequenceId::from_number(sequence as u64));
        }
    }

    /// The names of the cached pages, in the order in which they should be kept.
    pub fn cached_pages(&self) -> Result<Vec<String>, JsValue> {
        Ok(self.engine.as_ref().ok_or_else(no_model)?.cached_pages())
    }

    /// A cached page as bytes; null if it is no longer cached.
    pub async fn read_page(&mut self, name: String) -> Result<JsValue, JsValue> {
        let page = self.engine.as_mut().ok_or_else(no_model)?.read_page(&name).await.map_err(thrown)?;
        Ok(page.map_or(JsValue::NULL, |bytes| js_sys::Uint8Array::from(&bytes[..]).into()))
    }

    /// The pages of a request's prompt, as JSON.
    pub fn prompt_pages(&mut self, request_json: &str) -> Result<String, JsValue> {
        let request = Request::from_json(request_json).map_err(thrown)?;
        json(&self.engine.as_mut().ok_or_else(no_model)?.prompt_pages(&request))
    }

    /// Caches the page of the last tokens, from bytes of [`Self::read_page`]; false if that cannot be.
    /// `set` is that of [`Self::prompt_pages`].
    pub fn restore_page(&mut self, set: Option<u32>, ids: &[u32], bytes: &[u8]) -> Result<bool, JsValue> {
        Ok(self.engine.as_mut().ok_or_else(no_model)?.restore_page(set, ids, bytes))
    }

    /// Forgets all cached pages.
    pub fn forget(&mut self) {
        if let Some(engine) = &mut self.engine {
            engine.forget();
        }
    }

    /// Log-probabilities of a token sequence with these adapters, as JSON.
    pub async fn score(
        &mut self,
        ids: Vec<u32>,
        one_by_one: bool,
        adapters_json: String,
    ) -> Result<String, JsValue> {
        let adapters: Vec<AdapterUse> = serde_json::from_str(&adapters_json)
            .map_err(|e| thrown(Error::InvalidRequest(format!("malformed adapters: {e}"))))?;
        let engine = self.engine.as_mut().ok_or_else(no_model)?;
        json(&engine.score_with(&ids, one_by_one, &adapters).await.map_err(thrown)?)
    }

    /// Loads an adapter from a GGUF file, or from PEFT's weights and settings. Returns what it is, as JSON.
    pub fn load_adapter(
        &mut self,
        name: &str,
        weights: &[u8],
        config: Option<Vec<u8>>,
    ) -> Result<String, JsValue> {
        let files = match &config {
            Some(config) => AdapterFiles::Peft { config, weights },
            None => AdapterFiles::Gguf(weights),
        };
        json(&self.engine.as_mut().ok_or_else(no_model)?.load_adapter(name, files).map_err(thrown)?)
    }

    /// Frees an adapter.
    pub fn unload_adapter(&mut self, name: &str) -> Result<(), JsValue> {
        self.engine.as_mut().ok_or_else(no_model)?.unload_adapter(name).map_err(thrown)
    }
}

/// Teaching the loaded model, in parts between which it can answer.
#[wasm_bindgen]
impl Runtime {
    /// Begins to teach from examples as JSONL, in place of what was taught before. Returns the plan, as JSON.
    pub fn begin_training(&mut self, settings_json: &str, data: String) -> Result<String, JsValue> {
        let settings = serde_json::from_str(settings_json)
            .map_err(|e| thrown(Error::InvalidRequest(format!("malformed settings of training: {e}"))))?;
        self.training = None;
        let engine = self.engine.as_ref().ok_or_else(no_model)?;
        let run = engine.begin_training(&self.device, settings, data);
        json(&self.training.insert(run.map_err(thrown)?).plan())
    }

    /// Goes on from a checkpoint. Returns the plan, as JSON.
    pub fn resume_training(&mut self, checkpoint: &[u8]) -> Result<String, JsValue> {
        self.training = None;
        let run = self.engine.as_ref().ok_or_else(no_model)?.resume_training(&self.device, checkpoint);
        json(&self.training.insert(run.map_err(thrown)?).plan())
    }

    /// Computes the next part. Returns how far it is, as JSON.
    pub async fn advance_training(&mut self) -> Result<String, JsValue> {
        let engine = self.engine.as_ref().ok_or_else(no_model)?;
        let run = self.training.as_mut().ok_or_else(no_training)?;
        json(&engine.advance_training(&self.device, run).await.map_err(thrown)?)
    }

    /// All that is needed to go on later.
    pub async fn training_checkpoint(&self) -> Result<Vec<u8>, JsValue> {
        let run = self.training.as_ref().ok_or_else(no_training)?;
        run.checkpoint().await.map_err(thrown)
    }

    /// What has been learnt, as GGUF.
    pub async fn trained_gguf(&self) -> Result<Vec<u8>, JsValue> {
        let run = self.training.as_ref().ok_or_else(no_training)?;
        let mut file = Vec::new();
        let written = run.files().write_gguf(&run.parameters().await.map_err(thrown)?, &mut file);
        written.map_err(|e| thrown(Error::InvalidRequest(format!("the adapter cannot be saved: {e}"))))?;
        Ok(file)
    }

    /// What has been learnt, as PEFT saves it: the bytes of `adapter_model.safetensors` and
    /// `adapter_config.json`; nothing if PEFT's names are not known. `base` is the base model's name.
    pub async fn trained_peft(&self, base: String) -> Result<Option<js_sys::Array>, JsValue> {
        let run = self.training.as_ref().ok_or_else(no_training)?;
        if run.files().check_peft().is_err() {
            return Ok(None);
        }
        let files = run.files().write_peft(&run.parameters().await.map_err(thrown)?, &base);
        let (weights, config) = files.map_err(thrown)?;
        let bytes = |bytes: &[u8]| js_sys::Uint8Array::from(bytes);
        Ok(Some(js_sys::Array::of2(&bytes(&weights), &bytes(config.as_bytes()))))
    }

    /// Frees what training takes.
    pub fn end_training(&mut self) {
        self.training = None;
    }
}

fn no_training() -> JsValue {
    thrown(Error::InvalidRequest("nothing is being taught".into()))
}

/// The headers of a model that is only looked at: no device is opened, and no memory is taken for it.
#[wasm_bindgen]
pub struct Inspector {
    headers: Headers,
}

#[wasm_bindgen]
impl Inspector {
    /// Begins with files of these sizes.
    #[wasm_bindgen(constructor)]
    pub fn new(file_sizes: &[f64]) -> Self {
        console_error_panic_hook::set_once();
        let sizes: Vec<u64> = file_sizes.iter().map(|size| *size as u64).collect();
        Self { headers: Headers::new(&sizes) }
    }

    /// Takes a header's next bytes. Returns how many more it needs at least.
    pub fn push_header(&mut self, file: usize, bytes: &[u8]) -> Result<usize, JsValue> {
        self.headers.push(file, bytes).map_err(thrown)
    }

    /// When all headers are complete: what the model is and whether it runs, as JSON.
    pub fn finish(&mut self, options_json: &str) -> Result<String, JsValue> {
        let options = serde_json::from_str(options_json)
            .map_err(|e| thrown(Error::InvalidRequest(format!("malformed options: {e}"))))?;
        let headers = self.headers.finish().map_err(thrown)?;
        json(&inspect(headers, &options).map_err(thrown)?)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.device.destroy();
    }
}

/// The CPU's threads, in the memory that they share.
#[cfg(feature = "cpu")]
static TEAM: OnceLock<Arc<Team>> = OnceLock::new();

/// Sets the number of threads, this one included. Comes before the device is opened.
#[cfg(feature = "cpu")]
#[wasm_bindgen]
pub fn start_team(threads: usize) {
    TEAM.get_or_init(|| Team::new(threads));
}

/// Does the work of thread 1, 2, ... on a worker of its own over the same memory. Returns when the device is
/// freed.
#[cfg(feature = "cpu")]
#[wasm_bindgen]
pub fn work(thread: usize) {
    if let Some(team) = TEAM.get() {
        team.work(thread);
    }
}

/// For a thread whose [`work`] has ended with an error: without this, the others would wait for it for ever.
#[cfg(feature = "cpu")]
#[wasm_bindgen]
pub fn fail_team() {
    if let Some(team) = TEAM.get() {
        team.fail();
    }
}

/// What the CPU's kernels reach, as JSON; on the team, if there is one.
#[cfg(feature = "bench")]
#[wasm_bindgen]
pub fn bench() -> Result<String, JsValue> {
    let cpu = open_cpu().map_err(thrown)?;
    json(&crate::cpu::bench::run(&cpu).map_err(thrown)?)
}

#[cfg(feature = "cpu")]
fn open_cpu() -> Result<Cpu, crate::cpu::CpuError> {
    match TEAM.get() {
        Some(team) => Cpu::with_team(team.clone()),
        None => Cpu::open(1),
    }
}

#[cfg(feature = "gpu")]
async fn open_device(options: OpenOptions) -> Result<Gpu, Error> {
    check_device(&options.device, "webgpu")?;
    let mut gpu = Options {
        kernels: options.kernels,
        packed_dot: options.packed_dot,
        subgroup_size: options.subgroup_size,
        ..Options::default()
    };
    if !options.adapter_name.is_empty() {
        gpu.name = options.adapter_name;
    }
    let mut gpu = Gpu::open(gpu).await?;
    if options.measure {
        tune::measure(&mut gpu).await?;
    }
    self_test::run(&gpu).await?;
    Ok(gpu)
}

#[cfg(not(feature = "gpu"))]
async fn open_device(options: OpenOptions) -> Result<Cpu, Error> {
    check_device(&options.device, "cpu")?;
    let int8 = cpu_kernels(&options.kernels)?;
    let mut cpu = open_cpu()?;
    cpu.set_int8(int8);
    Ok(cpu)
}

/// Bytes of weights for measuring the speed: software takes long for many.
#[cfg(feature = "gpu")]
fn measured_bytes(gpu: &Gpu) -> usize {
    if gpu.info().is_fallback { 8 << 20 } else { 256 << 20 }
}

#[cfg(not(feature = "gpu"))]
fn measured_bytes(_: &Cpu) -> usize {
    64 << 20
}

fn check_device(wanted: &str, only: &str) -> Result<(), Error> {
    match wanted == only {
        true => Ok(()),
        false => Err(Error::InvalidRequest(format!(
            "this build of the runtime has no device `{wanted}`, only `{only}`"
        ))),
    }
}

/// How to open the device.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct OpenOptions {
    /// `webgpu` or `cpu`; each build has one of them.
    device: String,
    /// What the browser calls the adapter; wgpu does not pass it on.
    adapter_name: String,
    /// Threads of the adapter's smallest subgroups, where devices get the feature; wgpu does not know it.
    subgroup_size: u32,
    /// Whether the browser's WGSL has packed integer dot products.
    packed_dot: bool,
    /// Which kernels to run; empty: the usual ones. On the CPU `exact` or `int8`.
    kernels: String,
    /// Whether to measure which of them are the fastest.
    measure: bool,
}
