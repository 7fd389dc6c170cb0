//! From a model's files to an [`Engine`]: headers first, then the graph and its buffers, then the data in
//! pieces.

use super::adapters::Adapters;
use super::quantization::quantization;
use super::scheduler::Scheduler;
use super::{Device, DeviceModel, Engine, Error, Pooling, Recommended, kept};
use crate::gguf::{Header, HeaderReader, Metadata};
use crate::graph::{Capacity, Graph, KV_BLOCK, KvFormat, PAGE};
use crate::load::{FileLoader, bytes_per_token, formats};
use crate::model::{Config, ModelError, Tensors, build, check_architecture};
use crate::quant::Format;
use crate::text::{ChatTemplate, Tokenizer, ToolPrompt, ToolUse};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// How to load a model.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct LoadOptions {
    /// Positions of a sequence; at most what the model was trained for. Default: that, but no more than 4096.
    pub context_length: Option<usize>,
    /// Whole contexts that the KV pool has room for, 1 to 8. Default: by [`Self::memory`]. Answers share the
    /// room: up to 8 run at once, as far as it holds their prompts and the most that they may become.
    pub parallel: Option<u32>,
    /// Bytes of memory that the device has, as far as known. By default the KV pool has room for as many
    /// whole contexts as fit into a 32nd of it, at least for one.
    pub memory: u64,
    /// A built-in chat template, such as `vicuna`, instead of the file's: [`ChatTemplate::named`].
    pub template: Option<String>,
    /// The same for files that have none, such as `plain` for base models.
    pub fallback_template: Option<String>,
    /// A response template as JSON, which says how answers are marked, instead of the file's or what the chat
    /// template shows: [`ChatTemplate::with_response_template`].
    pub response_template: Option<String>,
    /// How the KV pool stores keys and values.
    pub kv_format: KvFormat,
}

/// What a loaded model is, and how much memory it takes.
#[derive(Clone, Debug, Serialize)]
pub struct ModelInfo {
    /// `general.name`, else the architecture.
    pub name: String,
    /// `general.architecture`.
    pub architecture: String,
    /// Numbers in all tensors.
    pub parameters: u64,
    /// What people call its format, such as `Q4_K_M`.
    pub quantization: String,
    /// Positions that a sequence can have.
    pub context_length: usize,
    /// Positions that the model was trained for.
    pub trained_context_length: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Bytes of its tensors in the file.
    pub tensor_bytes: u64,
    /// Bytes of weights that are read for each token of an answer.
    pub bytes_per_token: u64,
    /// Bytes of all its buffers on the GPU, the KV pool included; 0 on the CPU.
    pub gpu_bytes: u64,
    /// Bytes of the KV pool.
    pub kv_bytes: u64,
    /// Whether the file has a chat template, or a vocabulary whose usual template is known.
    pub has_chat_template: bool,
    /// The name of the draft model, whose buffers are part of the sizes above; none: there is none.
    pub draft: Option<String>,
    /// Who tells the model about tools; none without a chat template.
    pub tools: Option<ToolPrompt>,
    /// How its makers recommend to choose tokens.
    pub sampling: Recommended,
    /// `general.license`.
    pub license: Option<String>,
    /// What was odd in the file and has been put right, in sentences.
    pub warnings: Vec<String>,
}

/// Bytes that may wait in the device's queue. After more, the loader waits for the device.
const QUEUED: u64 = 16 << 20;

/// Most rows of a step with logits: those of large vocabularies take half a megabyte each.
const MAX_OUTPUTS: u32 = 64;

/// The part of the device's memory that the KV pool takes by default.
const POOL_PART: u64 = 32;

/// Most sequences that run at once; every device takes steps with that many rows.
const MAX_SEQUENCES: u32 = 8;

/// The headers of a model's files, while they arrive.
#[derive(Debug)]
pub struct Headers {
    readers: Vec<HeaderReader>,
}

impl Headers {
    /// For files of these sizes in bytes.
    pub fn new(sizes: &[u64]) -> Self {
        Self { readers: sizes.iter().map(|size| HeaderReader::new(*size)).collect() }
    }

    /// Takes the next bytes of a file, from its start on. Returns how many more its header needs at least; 0
    /// when it is complete.
    pub fn push(&mut self, file: usize, bytes: &[u8]) -> Result<usize, Error> {
        let reader = self.readers.get_mut(file).ok_or_else(|| out_of_order("a header of no file"))?;
        Ok(reader.push(bytes)?)
    }

    /// The headers, when all are complete.
    pub fn finish(&mut self) -> Result<Vec<Header>, Error> {
        Ok(self.readers.drain(..).map(HeaderReader::finish).collect::<Result<_, _>>()?)
    }
}

/// A model that is being loaded.
pub struct Loading<D: Device> {
    options: LoadOptions,
    /// It is a draft model for the model of this tokenizer.
    draft_of: Option<Arc<Tokenizer>>,
    sizes: Vec<u64>,
    headers: Headers,
    checked: Option<(Vec<Header>, Checked)>,
    prepared: Option<Prepared<D>>,
    /// The file whose data comes next.
    file: usize,
    queued: u64,
    digests: Vec<String>,
}

struct Prepared<D: Device> {
    model: D::Model,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    tool_use: Option<ToolUse>,
    pooling: Pooling,
    info: ModelInfo,
    loaders: VecDeque<FileLoader>,
}

/// A model that can run, as far as its headers say.
pub(super) struct Checked {
    pub tokenizer: Tokenizer,
    pub template: Option<ChatTemplate>,
    /// Whether that is more than the fallback.
    pub has_chat_template: bool,
    pub config: Config,
    pub context_length: usize,
    pub graph: Graph,
    pub formats: Vec<Format>,
}

/// Checks a model's headers and builds its graph. Takes the vocabulary out of the metadata, so that it is not
/// held twice.
pub(super) fn check(headers: &mut [Header], options: &LoadOptions) -> Result<Checked, Error> {
    check_split(headers)?;
    let metadata = &mut headers[0].metadata;
    if let Some(architecture) = metadata.str("general.architecture")? {
        check_architecture(architecture)?;
    }
    let tokenizer = Tokenizer::from_metadata(metadata)?;
    let named = |name: &String| ChatTemplate::named(name, &tokenizer);
    let mut template = match &options.template {
        Some(name) => Some(named(name)?),
        None => ChatTemplate::from_metadata(metadata, &tokenizer)?,
    };
    let has_chat_template = template.is_some();
    if template.is_none() {
        template = options.fallback_template.as_ref().map(named).transpose()?;
    }
    if let Some(json) = &options.response_template {
        template = template.map(|template| template.with_response_template(json)).transpose()?;
    }
    let mut config = Config::from_metadata(metadata, tokenizer.vocab_size())?;
    let context_length = context_length(options.context_length, &config)?;
    config.positions = context_length;
    let tensors = Tensors::of(headers)?;
    let mut graph = build(&config, &tensors)?;
    graph.set_kv_format(options.kv_format).map_err(|size| odd_heads(options.kv_format, size))?;
    let formats = formats(&graph, &tensors)?;
    Ok(Checked { tokenizer, template, has_chat_template, config, context_length, graph, formats })
}

impl<D: Device> Loading<D> {
    /// Begins with a model's files, in order, of these sizes in bytes.
    pub fn new(sizes: &[u64], options: LoadOptions) -> Self {
        Self {
            options,
            draft_of: None,
            sizes: sizes.to_vec(),
            headers: Headers::new(sizes),
            checked: None,
            prepared: None,
            file: 0,
            queued: 0,
            digests: Vec::new(),
        }
    }

    /// The same for a draft model. Ends with [`Self::finish_draft`].
    pub fn draft(sizes: &[u64], engine: &Engine<D>) -> Self {
        let caches = &engine.model.graph().caches;
        let options = LoadOptions {
            context_length: Some(engine.info.context_length),
            parallel: Some(1),
            kv_format: caches.first().map(|cache| cache.format).unwrap_or_default(),
            // Its own is not used, and might not be valid.
            template: Some("plain".into()),
            ..Default::default()
        };
        Self { draft_of: Some(engine.tokenizer.clone()), ..Self::new(sizes, options) }
    }

    /// Takes the next bytes of a file, from its start on. Returns how many more its header needs at least; 0
    /// when it is complete.
    pub fn push_header(&mut self, file: usize, bytes: &[u8]) -> Result<usize, Error> {
        self.headers.push(file, bytes)
    }

    /// When all headers are complete: checks the model. Takes nothing of a device, so that another model can
    /// stay there until this one is known to run.
    pub fn check(&mut self) -> Result<(), Error> {
        self.checked = Some(self.check_headers()?);
        Ok(())
    }

    fn check_headers(&mut self) -> Result<(Vec<Header>, Checked), Error> {
        let mut headers = self.headers.finish()?;
        let checked = check(&mut headers, &self.options)?;
        if let Some(tokenizer) = &self.draft_of {
            tokenizer.check_same_ids(&checked.tokenizer).map_err(Error::Draft)?;
        }
        Ok((headers, checked))
    }

    /// After that, or in place of it: builds the graph and allocates its buffers on the device.
    pub async fn prepare(&mut self, device: &D) -> Result<&ModelInfo, Error> {
        let (headers, checked) = match self.checked.take() {
            Some(checked) => checked,
            None => self.check_headers()?,
        };
        let Checked { tokenizer, template, has_chat_template, config, context_length, graph, formats } =
            checked;
        let LoadOptions { parallel, memory, .. } = self.options;
        let mut capacity = capacity(device, context_length, parallel.unwrap_or(1))?;
        if parallel.is_none() {
            capacity.pages *= contexts(device, &graph, capacity.cells(), memory);
        }
        if self.draft_of.is_some() {
            (capacity.outputs, capacity.sequences) = (1, 1);
        }
        let kv_buffer = largest_cache(&graph, capacity.cells());
        if kv_buffer > device.max_buffer() {
            let limit = (context_length as u64 * device.max_buffer() / kv_buffer.max(1)) as usize;
            return Err(Error::ContextMemory { wanted: context_length, limit });
        }
        let mut model = loop {
            match allocate(device, &graph, &formats, capacity).await {
                // Nobody asked for more than one context.
                Err(_) if parallel.is_none() && capacity.pages > capacity.max_pages => {
                    capacity.pages = capacity.max_pages;
                }
                model => break model?,
            }
        };
        model.warm_up()?;

        let info = describe(&headers, &config);
        let tool_use = template.as_ref().map(ChatTemplate::tool_use);
        let info = ModelInfo {
            tools: tool_use.as_ref().map(|tool_use| tool_use.prompt),
            context_length,
            gpu_bytes: model.gpu_bytes(),
            bytes_per_token: bytes_per_token(&graph, &formats),
            kv_bytes: model.kv_bytes(),
            has_chat_template,
            vocab_size: tokenizer.vocab_size(),
            warnings: tokenizer.warnings().to_vec(),
            ..info
        };
        let files = self.sizes.iter().zip(&headers);
        let loaders = files.map(|(size, header)| FileLoader::new(*size, header, &graph, &formats)).collect();
        let pooling = Pooling::from_metadata(&headers[0].metadata)?;
        let prepared = Prepared { model, tokenizer, template, tool_use, pooling, info, loaders };
        Ok(&self.prepared.insert(prepared).info)
    }

    /// Takes the next bytes of a file's data, from its first byte on; files in order.
    pub async fn push_data(&mut self, device: &D, file: usize, bytes: &[u8]) -> Result<(), Error> {
        let prepared = self.prepared.as_mut().ok_or_else(|| out_of_order("data before the headers"))?;
        if file == self.file + 1 {
            finish_file(prepared, &mut self.digests)?;
            self.file += 1;
        }
        let loader = prepared.loaders.front_mut().filter(|_| file == self.file);
        loader.ok_or_else(|| out_of_order("files out of order"))?.push(bytes, &mut prepared.model)?;
        self.queued += bytes.len() as u64;
        if self.queued > QUEUED {
            self.queued = 0;
            device.settle().await?;
        }
        Ok(())
    }

    /// After the last byte: the engine, and the SHA-256 of each file.
    pub async fn finish(mut self, device: &D) -> Result<(Engine<D>, Vec<String>), Error> {
        let prepared = self.finished(device).await?;
        let (model, info) = (&prepared.model, &prepared.info);
        let scheduler = Scheduler::new(model.capacity(), info.context_length, model.graph().window());
        let engine = Engine {
            model: prepared.model,
            draft: None,
            tokenizer: Arc::new(prepared.tokenizer),
            grammars: None,
            format: prepared.template.as_ref().map(ChatTemplate::format).unwrap_or_default(),
            tool_use: prepared.tool_use,
            pooling: prepared.pooling,
            embedder: None,
            template: prepared.template,
            info: prepared.info,
            page_root: kept::root(&device.kernels(), self.options.kv_format, &self.digests),
            adapters: Adapters::default(),
            scheduler,
            events: VecDeque::new(),
            n_requests: 0,
        };
        Ok((engine, self.digests))
    }

    /// After the last byte of a draft model: gives it to the engine. Returns the SHA-256 of each file.
    pub async fn finish_draft(mut self, device: &D, engine: &mut Engine<D>) -> Result<Vec<String>, Error> {
        let Prepared { model, info, .. } = self.finished(device).await?;
        engine.set_draft(model, info.name, info.context_length);
        Ok(self.digests)
    }

    async fn finished(&mut self, device: &D) -> Result<Prepared<D>, Error> {
        let mut prepared = self.prepared.take().ok_or_else(|| out_of_order("finished before the headers"))?;
        while !prepared.loaders.is_empty() {
            finish_file(&mut prepared, &mut self.digests)?;
        }
        device.settle().await?;
        prepared.model.drain().await?;
        Ok(prepared)
    }
}

fn finish_file<D: Device>(prepared: &mut Prepared<D>, digests: &mut Vec<String>) -> Result<(), Error> {
    if let Some(loader) = prepared.loaders.pop_front() {
        digests.push(loader.finish()?);
    }
    Ok(())
}

/// The error for heads of so many numbers, which are not whole blocks.
fn odd_heads(format: KvFormat, size: usize) -> Error {
    Error::InvalidRequest(format!(
        "keys and values in {} need heads of a multiple of {KV_BLOCK} numbers, and this model has heads of \
         {size}; load it with the KV format f16",
        format.name()
    ))
}

fn out_of_order(what: &str) -> Error {
    Error::InvalidRequest(format!("loading failed: {what}"))
}

/// Files of a split model say which of how many they are.
fn check_split(headers: &[Header]) -> Result<(), Error> {
    for (i, header) in headers.iter().enumerate() {
        let count = header.metadata.u64("split.count")?.unwrap_or(1);
        let number = header.metadata.u64("split.no")?.unwrap_or(i as u64);
        if count != headers.len() as u64 || number != i as u64 {
            let said = number.saturating_add(1);
            let message = format!("file {} of {} says that it is {said} of {count}", i + 1, headers.len());
            return Err(ModelError::Inconsistent(message).into());
        }
    }
    match headers {
        [] => Err(out_of_order("no files")),
        _ => Ok(()),
    }
}

fn context_length(wanted: Option<usize>, config: &Config) -> Result<usize, Error> {
    match wanted {
        Some(0) => Err(Error::InvalidRequest("a context length of 0".into())),
        Some(n) => Ok(n.min(config.context_length)),
        None => Ok(config.context_length.min(4096)),
    }
}

fn capacity(device: &impl Device, context_length: usize, parallel: u32) -> Result<Capacity, Error> {
    if parallel == 0 || parallel > MAX_SEQUENCES {
        let message = format!("room for {parallel} contexts; it must be for 1 to {MAX_SEQUENCES}");
        return Err(Error::InvalidRequest(message));
    }
    let max_pages = context_length.div_ceil(PAGE as usize) as u32;
    // Positions in the pool are numbers of 32 bits.
    let most = u32::MAX / PAGE / MAX_SEQUENCES;
    if max_pages > most {
        return Err(Error::ContextMemory { wanted: context_length, limit: (most * PAGE) as usize });
    }
    let tokens = device.max_rows();
    let pages = max_pages * parallel;
    let outputs = tokens.min(MAX_OUTPUTS);
    Ok(Capacity { tokens, outputs, sequences: MAX_SEQUENCES, max_pages, pages })
}

/// Bytes of the largest cache with so many cells.
fn largest_cache(graph: &Graph, cells: u32) -> u64 {
    graph.caches.iter().map(|cache| cache.bytes(cells)).max().unwrap_or(0)
}

/// How many whole contexts, of so many cells, the KV pool has room for where nobody says it.
fn contexts(device: &impl Device, graph: &Graph, cells: u32, memory: u64) -> u32 {
    let room = memory / POOL_PART / graph.kv_bytes(cells).max(1);
    room.min(device.max_buffer() / largest_cache(graph, cells).max(1)).clamp(1, MAX_SEQUENCES.into()) as u32
}

async fn allocate<D: Device>(
    device: &D,
    graph: &Graph,
    formats: &[Format],
    capacity: Capacity,
) -> Result<D::Model, Error> {
    let model = device.allocate(graph, formats, capacity)?;
    device.settle().await?;
    Ok(model)
}

/// What the headers alone say.
fn describe(headers: &[Header], config: &Config) -> ModelInfo {
    let metadata: &Metadata = &headers[0].metadata;
    // Only shown: of another type, they count as absent.
    let text = |key: &str| metadata.str(key).ok().flatten();
    let tensors = || headers.iter().flat_map(|header| &header.tensors);
    ModelInfo {
        name: text("general.name").unwrap_or(&config.architecture).to_string(),
        architecture: config.architecture.clone(),
        parameters: tensors().map(|t| t.n_elements()).sum(),
        quantization: quantization(headers),
        context_length: config.context_length,
        trained_context_length: config.context_length,
        vocab_size: config.n_vocab,
        tensor_bytes: tensors().map(|t| t.n_bytes).sum(),
        bytes_per_token: 0,
        gpu_bytes: 0,
        kv_bytes: 0,
        has_chat_template: false,
        draft: None,
        tools: None,
        sampling: Recommended::of(metadata),
        license: text("general.license").map(str::to_string),
        warnings: Vec::new(),
    }
}
