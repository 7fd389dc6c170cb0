//! LoRA's matrices in files: PEFT's safetensors, and GGUF as llama.cpp reads it.
//!
//! Names and shapes are those of `peft` and of llama.cpp's `convert_lora_to_gguf.py`. GGUF files of some
//! architectures have the rows of queries, keys and values in another order than Hugging Face's, and so have
//! the rows of B.

use super::{Lora, TrainError, TrainingGraph};
use crate::adapter::names::{GATE_UP, Names, Rows, parts};
use crate::gguf::{TensorType, Writer};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use std::io::Write;

/// The name in GGUF of a module in PEFT's configuration for an architecture, such as `q_proj`.
pub fn target_of_module(architecture: &str, module: &str) -> Option<&'static str> {
    Names::of(architecture)?.tensor_of_target(module)
}

/// A model whose adapters are read or written.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// What is trained.
    pub graph: &'a TrainingGraph,
    /// `general.architecture`.
    pub architecture: &'a str,
}

/// A LoRA's module at Hugging Face.
struct Module {
    /// The beginning of the names of its matrices.
    path: String,
    /// What the settings call it.
    target: &'static str,
    /// The order of the rows of B in GGUF.
    rows: Rows,
}

impl Files<'_> {
    /// An error that names what is learnt and has no name in PEFT.
    pub fn check_peft(&self) -> Result<(), TrainError> {
        self.graph.loras.iter().try_for_each(|lora| self.module(lora).map(drop))
    }

    fn names(&self) -> Result<&'static Names, TrainError> {
        Names::of(self.architecture).ok_or_else(|| {
            let message = format!("PEFT's names of {} are not known; save it as GGUF", self.architecture);
            TrainError::Setting(message)
        })
    }

    fn module(&self, lora: &Lora) -> Result<Module, TrainError> {
        let names = self.names()?;
        let found = || {
            let (layer, tensor) = parts(&lora.name)?;
            let part = names.part(tensor)?;
            // Gate and up may be in one tensor, or not.
            if tensor == "ffn_up" && self.is_joined(lora) != (part == GATE_UP) {
                return None;
            }
            let rows = Rows::of(self.architecture, tensor, layer, &self.graph.graph);
            let path = format!("base_model.model.{}", names.module(layer, part));
            rows.fit(lora.n_out).then_some(Module { path, target: names.target(part), rows })
        };
        found().ok_or_else(|| {
            TrainError::Setting(format!("PEFT's name of {} is not known; save it as GGUF", lora.name))
        })
    }

    /// Whether a tensor holds several projections.
    fn is_joined(&self, lora: &Lora) -> bool {
        let mut parts = self.graph.parts.iter().flatten();
        parts.any(|part| self.graph.loras[part.lora].name == lora.name && part.first_row > 0)
    }

    /// Reads numbers as PEFT saves them, into the order of the parameters. Returns them and, for each LoRA,
    /// whether the file has it.
    pub fn read_peft(&self, file: &[u8]) -> Result<(Vec<f32>, Vec<bool>), TrainError> {
        let bad = |what: String| TrainError::Setting(format!("the safetensors file is not valid: {what}"));
        let tensors = SafeTensors::deserialize(file).map_err(|e| bad(e.to_string()))?;
        let mut parameters = vec![0.0; self.graph.n_parameters];
        let mut has = Vec::new();
        for lora in &self.graph.loras {
            let Module { path, rows: order, .. } = self.module(lora)?;
            let names = [format!("{path}.lora_A.weight"), format!("{path}.lora_B.weight")];
            let found = names.each_ref().map(|name| tensors.tensor(name).ok());
            let [Some(a), Some(b)] = found else {
                has.push(false);
                continue;
            };
            for (tensor, shape, name) in
                [(&a, [lora.rank, lora.n_in], &names[0]), (&b, [lora.n_out, lora.rank], &names[1])]
            {
                if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
                    let (found, dtype) = (tensor.shape(), tensor.dtype());
                    return Err(bad(format!("{name} is {dtype:?} {found:?} and not F32 {shape:?}")));
                }
            }
            let numbers = |tensor: &TensorView| bytemuck::pod_collect_to_vec::<u8, f32>(tensor.data());
            parameters[lora.a()].copy_from_slice(&numbers(&a));
            let rows = numbers(&b);
            let to = &mut parameters[lora.b()];
            for (row, numbers) in rows.chunks_exact(lora.rank).enumerate() {
                to[order.in_gguf(row) * lora.rank..][..lora.rank].copy_from_slice(numbers);
            }
            has.push(true);
        }
        Ok((parameters, has))
    }

    /// `adapter_model.safetensors` and `adapter_config.json`, as PEFT saves them. `base` is the name or the
    /// folder of the base model.
    pub fn write_peft(&self, parameters: &[f32], base: &str) -> Result<(Vec<u8>, String), TrainError> {
        let mut all: Vec<(String, [usize; 2], Vec<f32>)> = Vec::new();
        let mut modules: Vec<&str> = Vec::new();
        let is_turned = self.names()?.is_turned;
        for lora in &self.graph.loras {
            let Module { path, target, rows: order } = self.module(lora)?;
            modules.push(target);
            let from = &parameters[lora.b()];
            let rows = (0..lora.n_out).flat_map(|row| &from[order.in_gguf(row) * lora.rank..][..lora.rank]);
            let b = rows.copied().collect();
            all.push((
                format!("{path}.lora_A.weight"),
                [lora.rank, lora.n_in],
                parameters[lora.a()].to_vec(),
            ));
            all.push((format!("{path}.lora_B.weight"), [lora.n_out, lora.rank], b));
        }
        modules.sort_unstable();
        modules.dedup();
        let failed = |e: safetensors::SafeTensorError| {
            TrainError::Setting(format!("the adapter cannot be saved: {e}"))
        };
        let mut views = Vec::new();
        for (name, shape, numbers) in &all {
            let bytes = bytemuck::cast_slice(numbers);
            views.push((name.as_str(), TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(failed)?));
        }
        let format = [("format".to_string(), "pt".to_string())];
        let file = serialize(views, Some(format.into_iter().collect())).map_err(failed)?;
        let (rank, scale) = self.graph.loras.first().map_or((1, 1.0), |lora| (lora.rank, lora.scale));
        let config = serde_json::json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base,
            "r": rank,
            "lora_alpha": scale * rank as f32,
            "lora_dropout": 0.0,
            "target_modules": modules,
            "bias": "none",
            "use_rslora": false,
            "use_dora": false,
            "fan_in_fan_out": is_turned,
            "inference_mode": true,
        });
        Ok((file, format!("{config:#}\n")))
    }

    /// A GGUF adapter.
    pub fn write_gguf(&self, parameters: &[f32], out: impl Write) -> std::io::Result<()> {
        let loras = &self.graph.loras;
        let alpha = loras.first().map_or(1.0, |lora| lora.scale * lora.rank as f32);
        let mut writer = Writer::new()
            .metadata("general.type", "adapter")
            .metadata("general.architecture", self.architecture)
            .metadata("adapter.type", "lora")
            .metadata("adapter.lora.alpha", alpha);
        for lora in loras {
            let [rank, n_in, n_out] = [lora.rank, lora.n_in, lora.n_out].map(|n| n as u64);
            writer = writer.tensor(format!("{}.lora_a", lora.name), &[rank, n_in], TensorType::F32).tensor(
                format!("{}.lora_b", lora.name),
                &[n_out, rank],
                TensorType::F32,
            );
        }
        writer.write(out, |i, out| {
            let lora = &loras[i / 2];
            let part = if i % 2 == 0 { lora.a() } else { lora.b() };
            parameters[part].iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::adapter::{Adapter, AdapterFiles, Base};
    use crate::gguf::HeaderReader;
    use crate::model::golden::Tiny;
    use crate::train::LoraSpec;
    use crate::train::tests::{random_parameters, spec, trainable};

    /// Every family that can be trained: what is saved in either form is read as it was, and is an adapter of
    /// the model.
    #[test]
    fn what_is_saved_is_read() {
        for name in trainable() {
            let tiny = Tiny::new(&name);
            let plain = tiny.graph();
            let graph = TrainingGraph::new(&plain, &spec(3)).unwrap();
            let architecture = tiny.config.architecture.as_str();
            let files = Files { graph: &graph, architecture };
            let parameters = random_parameters(&graph);
            let (file, config) = files.write_peft(&parameters, "base").unwrap();
            let (found, has) = files.read_peft(&file).unwrap();
            assert!(found == parameters && has.iter().all(|has| *has), "{name}");
            let mut gguf = Vec::new();
            files.write_gguf(&parameters, &mut gguf).unwrap();

            let peft = AdapterFiles::Peft { config: config.as_bytes(), weights: &file };
            for files in [peft, AdapterFiles::Gguf(&gguf)] {
                let adapter = Adapter::read(files, Base { architecture, graph: &plain }).unwrap();
                assert_eq!(adapter.paths.len(), graph.loras.len(), "{name}");
                for (path, factor) in adapter.paths {
                    let lora = graph.loras.iter().find(|lora| lora.name == path.tensor).unwrap();
                    assert!(path.a == parameters[lora.a()] && path.b == parameters[lora.b()], "{name}");
                    assert_eq!(factor, 2.0);
                }
            }

            let other = TrainingGraph::new(&plain, &spec(4)).unwrap();
            let wrong = Files { graph: &other, ..files }.read_peft(&file).unwrap_err().to_string();
            assert!(wrong.contains("not F32 [4, "), "{wrong}");
        }
    }

    /// The names that `peft` gives when it wraps the modules, and whether rows are in another order.
    #[test]
    fn peft_has_its_own_names() {
        for (name, module, tensor, is_same, targets) in [
            ("llama", "model.layers.0.self_attn.q_proj", "attn_q", false, LLAMA),
            ("llama", "model.layers.0.self_attn.v_proj", "attn_v", true, LLAMA),
            ("qwen2", "model.layers.0.self_attn.q_proj", "attn_q", true, LLAMA),
            ("phi3", "model.layers.0.self_attn.qkv_proj", "attn_qkv", true, PHI3),
            ("phi3", "model.layers.0.mlp.gate_up_proj", "ffn_up", true, PHI3),
            ("glm4", "model.layers.0.mlp.gate_up_proj", "ffn_up", true, GLM4),
            ("gptneox", "gpt_neox.layers.0.attention.query_key_value", "attn_qkv", false, NEOX),
            ("falcon", "transformer.h.0.self_attention.query_key_value", "attn_qkv", true, NEOX),
            ("gpt2", "transformer.h.0.attn.c_attn", "attn_qkv", true, GPT2),
        ] {
            let tiny = Tiny::new(name);
            let graph = TrainingGraph::new(&tiny.graph(), &spec(3)).unwrap();
            let files = Files { graph: &graph, architecture: &tiny.config.architecture };
            let parameters = random_parameters(&graph);
            let (file, config) = files.write_peft(&parameters, "base").unwrap();
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            assert_eq!((&config["r"], &config["lora_alpha"]), (&3.into(), &6.0.into()));
            assert_eq!(config["fan_in_fan_out"], name == "gpt2");
            assert_eq!(config["target_modules"], serde_json::json!(targets), "{name}");
            let tensors = SafeTensors::deserialize(&file).unwrap();
            let b = tensors.tensor(&format!("base_model.model.{module}.lora_B.weight")).unwrap();
            let name_in_gguf = format!("blk.0.{tensor}.weight");
            let lora = graph.loras.iter().find(|lora| lora.name == name_in_gguf).unwrap();
            let same = bytemuck::pod_collect_to_vec::<u8, f32>(b.data()) == parameters[lora.b()];
            assert_eq!(same, is_same, "{name} {module}");
        }
    }

    const LLAMA: &[&str] = &["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"];
    const PHI3: &[&str] = &["down_proj", "gate_up_proj", "o_proj", "qkv_proj"];
    const GLM4: &[&str] = &["down_proj", "gate_up_proj", "k_proj", "o_proj", "q_proj", "v_proj"];
    const NEOX: &[&str] = &["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"];
    const GPT2: &[&str] = &["attn.c_proj", "c_attn", "c_fc", "mlp.c_proj"];

    /// What has no name at Hugging Face is refused by name, and can be saved as GGUF.
    #[test]
    fn what_has_no_name_is_saved_as_gguf() {
        // Queries, keys and values in one tensor, as files of other converters have them.
        for (name, architecture, words) in [
            ("gpt2", "phi2", "blk.0.attn_qkv.weight"),
            ("phi3", "llama", "attn_qkv"),
            ("phi3", "new", "of new"),
        ] {
            let graph = TrainingGraph::new(&Tiny::new(name).graph(), &spec(2)).unwrap();
            let files = Files { graph: &graph, architecture };
            let error = files.check_peft().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("save it as GGUF"), "{error}");
            let mut gguf = Vec::new();
            files.write_gguf(&random_parameters(&graph), &mut gguf).unwrap();
            assert!(!gguf.is_empty());
        }
        // Gate and up in one tensor, where they should not be.
        let targets = vec!["ffn_up".to_string()];
        let spec = LoraSpec { rank: 2, alpha: 1.0, targets };
        let graph = TrainingGraph::new(&Tiny::new("phi3").graph(), &spec).unwrap();
        assert!(Files { graph: &graph, architecture: "phi3" }.check_peft().is_ok());
        assert!(Files { graph: &graph, architecture: "llama" }.check_peft().is_err());
    }

    #[test]
    fn gguf_is_as_llama_cpp_reads_it() {
        let tiny = Tiny::new("llama");
        let graph = TrainingGraph::new(&tiny.graph(), &spec(3)).unwrap();
        let files = Files { graph: &graph, architecture: &tiny.config.architecture };
        let parameters = random_parameters(&graph);
        let mut gguf = Vec::new();
        files.write_gguf(&parameters, &mut gguf).unwrap();
        let mut reader = HeaderReader::new(gguf.len() as u64);
        reader.push(&gguf).unwrap();
        let header = reader.finish().unwrap();
        assert_eq!(header.metadata.str("general.type").unwrap(), Some("adapter"));
        assert_eq!(header.metadata.f32("adapter.lora.alpha").unwrap(), Some(6.0));
        let q = graph.loras.iter().find(|lora| lora.name == "blk.0.attn_q.weight").unwrap();
        let tensor = header.tensors.iter().find(|t| t.name == "blk.0.attn_q.weight.lora_b").unwrap();
        assert_eq!(tensor.shape, [q.n_out as u64, 3]);
        let bytes = &gguf[tensor.offset as usize..][..tensor.n_bytes as usize];
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(bytes), parameters[q.b()]);
    }
}
