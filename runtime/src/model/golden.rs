//! Graphs of tiny models, run by the interpreter, against what llama.cpp computes: `tests/golden/README.md`.

use super::family::FAMILIES;
use super::*;
use crate::gguf::HeaderReader;
use crate::graph::interpreter::Interpreter;
use crate::graph::{Capacity, Op, Output, PAGE, Rope, Source, Step, Token};
use crate::quant::Format;
use serde::Deserialize;
use std::path::Path;

/// The largest mean difference of log-probabilities that counts as equal.
const TOLERANCE: f64 = 0.01;

#[derive(Deserialize)]
struct Entry {
    prompt_ids: Vec<u32>,
    greedy_ids: Vec<u32>,
    prompt_steps: Vec<Likeliest>,
    steps: Vec<Likeliest>,
}

#[derive(Deserialize)]
struct Likeliest {
    ids: Vec<u32>,
    logprobs: Vec<f64>,
}

pub(crate) struct Tiny {
    pub file: Vec<u8>,
    pub header: Header,
    pub config: Config,
    golden: Entry,
}

/// How far results are from the golden ones.
#[derive(Debug)]
struct Distance {
    /// Mean difference of the log-probabilities of the ten likeliest tokens.
    mean: f64,
    /// Whether each token of the answer is the likeliest.
    same_answer: bool,
}

impl Tiny {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny").join(name);
        let file = std::fs::read(path.with_extension("gguf")).unwrap();
        let mut reader = HeaderReader::new(file.len() as u64);
        reader.push(&file).unwrap();
        let header = reader.finish().unwrap();
        let n_vocab = header.metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap().len();
        let config = Config::from_metadata(&header.metadata, n_vocab).unwrap();
        let golden = std::fs::read_to_string(path.with_extension("json")).unwrap();
        let [golden] = serde_json::from_str::<[Entry; 1]>(&golden).unwrap();
        Self { file, header, config, golden }
    }

    pub fn graph(&self) -> Graph {
        self.graph_of(&self.config)
    }

    fn graph_of(&self, config: &Config) -> Graph {
        build(config, &Tensors::of(std::slice::from_ref(&self.header)).unwrap()).unwrap()
    }

    /// The tokens of prompt and answer.
    pub fn ids(&self) -> Vec<u32> {
        self.golden.prompt_ids.iter().chain(&self.golden.greedy_ids).copied().collect()
    }

    /// The tokens of prompt and answer; for each but the last, the likeliest next token and the logarithm of
    /// its probability.
    pub fn likeliest(&self) -> (Vec<u32>, Vec<(u32, f64)>) {
        let steps = self.golden.prompt_steps.iter().chain(&self.golden.steps);
        (self.ids(), steps.map(|step| (step.ids[0], step.logprobs[0])).collect())
    }

    /// The numbers of a graph's weights.
    pub fn weights(&self, graph: &Graph) -> Vec<Vec<f32>> {
        let tensors = Tensors::of(std::slice::from_ref(&self.header)).unwrap();
        let numbers = |weight: &Weight| match &weight.source {
            Source::Constant(numbers) => numbers.clone(),
            Source::Tensors(_) => unreachable!("all files here have merged experts"),
            Source::Tensor { name, first_row } => {
                let tensor = tensors.get(name).unwrap();
                let bytes = &self.file[tensor.offset as usize..][..tensor.n_bytes as usize];
                let numbers = Format::from_name(&tensor.ty.name()).unwrap().dequantise(bytes);
                let first = first_row * if weight.is_vector { 1 } else { weight.n_cols };
                numbers[first..][..weight.n_rows * weight.n_cols].to_vec()
            }
        };
        graph.weights.iter().map(numbers).collect()
    }

    fn distance(&self, graph: &Graph, weights: Vec<Vec<f32>>, one_by_one: bool) -> Distance {
        let Entry { prompt_ids, greedy_ids, prompt_steps, steps } = &self.golden;
        let ids: Vec<u32> = prompt_ids.iter().chain(greedy_ids).copied().collect();
        // The last token of the answer predicts nothing.
        let (_, ids) = ids.split_last().unwrap();
        let golden: Vec<&Likeliest> = prompt_steps.iter().chain(steps).collect();
        assert_eq!(ids.len(), golden.len());
        let found = logprobs(graph, weights, ids, one_by_one);
        let off = golden.iter().zip(&found).flat_map(|(golden, found)| {
            golden.ids.iter().zip(&golden.logprobs).map(|(id, logprob)| (found[*id as usize] - logprob).abs())
        });
        let n: usize = golden.iter().map(|golden| golden.ids.len()).sum();
        let answer = found[prompt_steps.len()..].iter().zip(greedy_ids);
        let same_answer = answer.clone().all(|(found, id)| {
            let others = found.iter().enumerate().filter(|(other, _)| *other != *id as usize);
            others.map(|(_, logprob)| *logprob).fold(f64::MIN, f64::max) < found[*id as usize]
        });
        Distance { mean: off.sum::<f64>() / n as f64, same_answer }
    }
}

/// Natural-log probabilities of all tokens after each of `ids`.
fn logprobs(graph: &Graph, weights: Vec<Vec<f32>>, ids: &[u32], one_by_one: bool) -> Vec<Vec<f64>> {
    let n = ids.len() as u32;
    let pages: Vec<u32> = (0..n.div_ceil(PAGE)).rev().collect();
    let max_pages = pages.len() as u32;
    let capacity = Capacity { tokens: n, outputs: n, sequences: 1, max_pages, pages: max_pages };
    let mut interpreter = Interpreter::new(graph, weights, capacity);
    let tokens: Vec<Token> = (0..)
        .zip(ids)
        .map(|(position, id)| {
            let cell = pages[(position / PAGE) as usize] * PAGE + position % PAGE;
            Token { id: *id, position, sequence: 0, cell, ..Token::default() }
        })
        .collect();
    let mut found = Vec::new();
    for tokens in tokens.chunks(if one_by_one { 1 } else { ids.len() }) {
        let outputs: Vec<Output> = (0..tokens.len() as u32).map(|row| Output::likeliest(row, 0)).collect();
        let step = Step { tokens, outputs: &outputs, choices: &[], pages: &pages, max_pages };
        step.check(graph, capacity).unwrap();
        interpreter.step(&step);
        let logits = &interpreter.values[graph.logits.unwrap().0];
        found.extend(logits.chunks_exact(graph.n_vocab()).map(|row| {
            let total: f64 = row.iter().map(|logit| f64::from(*logit).exp()).sum();
            row.iter().map(|logit| f64::from(*logit) - total.ln()).collect::<Vec<f64>>()
        }));
    }
    found
}

/// The names of all models here.
pub(crate) fn models() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let models = files.filter(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    let mut names: Vec<String> =
        models.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn models_compute_what_llama_cpp_computes() {
    let mut architectures = Vec::new();
    for name in models() {
        let model = Tiny::new(&name);
        let graph = model.graph();
        for one_by_one in [false, true] {
            let distance = model.distance(&graph, model.weights(&graph), one_by_one);
            println!("{name}, one by one {one_by_one}: {distance:?}");
            assert!(distance.mean <= TOLERANCE && distance.same_answer, "{name}: {distance:?}");
        }
        architectures.push(model.config.architecture);
    }
    // A family that has no file here has no reference.
    for family in FAMILIES {
        assert!(architectures.iter().any(|name| name == family.name), "{} has no golden file", family.name);
    }
}

/// The golden files tell the right arithmetic from what is nearly right.
#[test]
fn wrong_arithmetic_is_far_from_llama_cpp() {
    let is_far = |what: &str, distance: Distance| {
        println!("{what}: {distance:?}");
        assert!(distance.mean > 10.0 * TOLERANCE, "{what}: {distance:?}");
    };
    for name in models() {
        let model = Tiny::new(&name);
        if !model.graph().ops.iter().any(|op| matches!(op, Op::Rope { .. })) {
            continue;
        }
        let with_rope = |what: &str, change: fn(&mut Rope)| {
            let mut graph = model.graph();
            for op in &mut graph.ops {
                if let Op::Rope { rope, .. } = op {
                    change(rope);
                }
            }
            is_far(&format!("{name} {what}"), model.distance(&graph, model.weights(&graph), false));
        };
        with_rope("with other pairs", |rope| rope.neox = !rope.neox);
        with_rope("without rotary embedding", |rope| rope.n_rot = 0);
    }

    let with_numbers = |name: &str, part: &str, number: f32| {
        let model = Tiny::new(name);
        let graph = model.graph();
        let mut weights = model.weights(&graph);
        for (weight, numbers) in graph.weights.iter().zip(&mut weights) {
            if weight.source.name().contains(part) {
                numbers.fill(number);
            }
        }
        is_far(&format!("{name}, {part} {number}"), model.distance(&graph, weights, false));
    };
    with_numbers("llama-freqs", "rope_freqs", 1.0);
    for part in ["attn_q.bias", "attn_k.bias", "attn_v.bias"] {
        with_numbers("qwen2", part, 0.0);
    }
    for name in ["qwen3", "olmo2", "gemma3", "stablelm-12b", "hunyuan-dense"] {
        with_numbers(name, "attn_q_norm", 1.0);
        with_numbers(name, "attn_k_norm", 1.0);
    }
    for (name, part) in [
        ("gpt2", "position_embd"),
        ("gpt2", "attn_qkv.bias"),
        ("gpt2", "attn_norm.bias"),
        ("gpt2", "attn_output.bias"),
        ("gpt2", "ffn_up.bias"),
        ("gpt2", "ffn_down.bias"),
        ("gpt2", "output_norm.bias"),
        ("phi2", "output.bias"),
    ] {
        with_numbers(name, part, 0.0);
    }
    with_numbers("exaone4", "rope_freqs", 1.0);
    with_numbers("phi3-long", "rope_factors_long", 1.0);
    with_numbers("minicpm", "rope_factors_short", 1.0);
    with_numbers("falcon-40b", "attn_norm_2.weight", 1.0);

    let with_config = |name: &str, what: &str, change: fn(&mut Config)| {
        let model = Tiny::new(name);
        let mut config = model.config.clone();
        change(&mut config);
        let graph = model.graph_of(&config);
        is_far(&format!("{name}, {what}"), model.distance(&graph, model.weights(&graph), false));
    };
    let with_layers = |name: &str, what: &str, change: fn(&mut LayerConfig)| {
        let model = Tiny::new(name);
        let mut config = model.config.clone();
        config.layers.iter_mut().for_each(change);
        let graph = model.graph_of(&config);
        is_far(&format!("{name}, {what}"), model.distance(&graph, model.weights(&graph), false));
    };
    with_config("phi3", "whole heads turn", |config| config.n_rot = config.head_dim);
    with_layers("qwen2", "the usual base", |layer| layer.rope_base = 1e4);
    with_config("olmo2", "no window", |config| config.layers[0].window = 0);
    with_config("olmo2", "a window too short", |config| config.layers[0].window -= 1);
    with_config("olmo2", "a window too long", |config| config.layers[0].window += 1);
    with_config("olmo2", "windows everywhere", |config| config.layers[1].window = 8);
    with_layers("gemma2", "no windows", |layer| layer.window = 0);
    with_layers("gemma3", "no windows", |layer| layer.window = 0);
    with_layers("gemma3", "one base", |layer| layer.rope_base = 1e6);
    with_layers("gemma3", "no scaling", |layer| layer.rope_scaling = RopeScaling::NONE);
    with_layers("smollm3", "rotary embedding everywhere", |layer| layer.has_rope = true);
    with_layers("qwen3-yarn", "no YaRN", |layer| layer.rope_scaling = RopeScaling::NONE);
    with_layers("qwen3-yarn", "linear", |layer| layer.rope_scaling.ramp = None);
    with_layers("qwen3-yarn", "no magnitude", |layer| layer.rope_scaling.magnitude = 1.0);
    with_layers("phi3-long", "no magnitude", |layer| layer.rope_scaling.magnitude = 1.0);
    with_layers("mistral3", "no YaRN", |layer| layer.rope_scaling = RopeScaling::NONE);
    with_config("phi3-long", "short factors", |config| config.positions = config.original_context);
    with_config("minicpm", "long factors", |config| config.positions = config.original_context + 1);
    with_config("mistral3", "no growth", |config| config.traits.growth = None);
    with_config("mpt", "no ALiBi", |config| config.traits.alibi = None);
    with_config("mpt", "no limit", |config| config.traits.qkv_limit = None);
    with_config("gemma", "no embedding scale", |config| config.traits.embedding_scale = 1.0);
    with_config("gemma2", "no cap of scores", |config| config.traits.score_cap = None);
    with_config("gemma2", "no cap of logits", |config| config.traits.logit_cap = None);
    for name in ["granite", "minicpm"] {
        with_config(name, "no embedding scale", |config| config.traits.embedding_scale = 1.0);
        with_config(name, "no residual scale", |config| config.traits.residual_scale = 1.0);
    }
    for name in ["granite", "minicpm", "command-r"] {
        with_config(name, "no logit scale", |config| config.traits.logit_scale = 1.0);
    }
    fn normed(config: &mut Config) {
        if let Some(experts) = &mut config.experts {
            experts.routing.is_normed ^= true;
        }
    }
    for name in ["mixtral", "qwen2moe", "qwen3moe", "olmoe", "gpt-oss", "granitemoe"] {
        with_config(name, "normed otherwise", normed);
        with_config(name, "one expert less", |config| {
            if let Some(experts) = &mut config.experts {
                experts.routing.n_used -= 1;
            }
        });
    }
    for part in ["attn_sinks", "gate_exps.bias", "up_exps.bias", "down_exps.bias", "gate_inp.bias"] {
        with_numbers("gpt-oss", part, 0.0);
    }
    with_layers("gpt-oss", "no windows", |layer| layer.window = 0);
    with_config("gpt-oss", "no scaling in windows", |config| {
        config.layers[0].rope_scaling = RopeScaling::NONE;
    });
    with_numbers("qwen2moe", "gate_inp_shexp", 0.0);
    with_numbers("granitemoe", "down_shexp", 0.0);
    with_config("granite", "the usual scale of scores", |config| config.traits.score_scale = None);
    with_config("gptneox", "one after the other", |config| config.traits.is_parallel = false);
    with_config("gptneox-sequential", "side by side", |config| config.traits.is_parallel = true);
}
