//! LoRA's matrices in files: PEFT's safetensors, and GGUF as llama.cpp reads it.
//!
//! Names and shapes are those of `peft` and of llama.cpp's `convert_lora_to_gguf.py`. GGUF files of some
//! architectures have the rows of queries and keys in another order than Hugging Face's, and so have the rows
//! of B.

use super::{Lora, TrainError, TrainingGraph};
use crate::adapter::head_dim;
use crate::adapter::names::{self, MODULES, is_permuted};
use crate::gguf::{TensorType, Writer};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use std::io::Write;

/// The name in GGUF of a module in PEFT's configuration, such as `q_proj`.
pub fn target_of_module(module: &str) -> Option<&'static str> {
    MODULES.iter().find(|(path, _)| path.rsplit('.').next() == Some(module)).map(|(_, name)| *name)
}

/// A model whose adapters are read or written.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// What is trained.
    pub graph: &'a TrainingGraph,
    /// `general.architecture`.
    pub architecture: &'a str,
}

impl Files<'_> {
    /// A LoRA's module in PEFT, and the length of heads if rows of B are permuted.
    fn module(&self, lora: &Lora) -> Result<(String, Option<usize>), TrainError> {
        let unknown =
            || TrainError::Setting(format!("PEFT's name of {} is not known; save it as GGUF", lora.name));
        let mut parts = lora.name.split('.');
        let (Some("blk"), Some(layer), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(unknown());
        };
        let (module, _) = MODULES.iter().find(|(_, known)| *known == name).ok_or_else(unknown)?;
        let layer: usize = layer.parse().map_err(|_| unknown())?;
        let head_dim = head_dim(&self.graph.graph).filter(|_| is_permuted(self.architecture, name));
        Ok((format!("base_model.model.model.layers.{layer}.{module}"), head_dim))
    }

    /// Reads numbers as PEFT saves them, into the order of the parameters. Returns them and, for each LoRA,
    /// whether the file has it.
    pub fn read_peft(&self, file: &[u8]) -> Result<(Vec<f32>, Vec<bool>), TrainError> {
        let bad = |what: String| TrainError::Setting(format!("the safetensors file is not valid: {what}"));
        let tensors = SafeTensors::deserialize(file).map_err(|e| bad(e.to_string()))?;
        let mut parameters = vec![0.0; self.graph.n_parameters];
        let mut has = Vec::new();
        for lora in &self.graph.loras {
            let (module, head_dim) = self.module(lora)?;
            let names = [format!("{module}.lora_A.weight"), format!("{module}.lora_B.weight")];
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
                to[gguf_row(row, lora.n_out, head_dim) * lora.rank..][..lora.rank].copy_from_slice(numbers);
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
        for lora in &self.graph.loras {
            let (module, head_dim) = self.module(lora)?;
            let short = MODULES.iter().map(|(path, _)| *path).find(|path| module.ends_with(path));
            modules.extend(short.and_then(|path| path.rsplit('.').next()));
            let from = &parameters[lora.b()];
            let rows = (0..lora.n_out)
                .flat_map(|row| &from[gguf_row(row, lora.n_out, head_dim) * lora.rank..][..lora.rank]);
            let b = rows.copied().collect();
            all.push((
                format!("{module}.lora_A.weight"),
                [lora.rank, lora.n_in],
                parameters[lora.a()].to_vec(),
            ));
            all.push((format!("{module}.lora_B.weight"), [lora.n_out, lora.rank], b));
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
            "fan_in_fan_out": false,
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

/// Where a row of Hugging Face's layout is in GGUF's, if its matrix has heads whose rows are in another
/// order.
fn gguf_row(row: usize, n_rows: usize, head_dim: Option<usize>) -> usize {
    match head_dim.filter(|head_dim| n_rows.is_multiple_of(*head_dim)) {
        Some(head_dim) => names::gguf_row(row, head_dim),
        None => row,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::gguf::HeaderReader;
    use crate::model::golden::Tiny;
    use crate::train::tests::{random_parameters, spec};

    /// numpy's `arange(16).reshape(2, 2, 4).swapaxes(1, 2).reshape(16)`: GGUF's row i is this row of PEFT's.
    #[test]
    fn rows_go_where_the_converter_puts_them() {
        let converted = [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15];
        for (gguf, row) in converted.into_iter().enumerate() {
            assert_eq!(gguf_row(row, 16, Some(8)), gguf);
            assert_eq!(gguf_row(row, 16, None), row);
        }
    }

    #[test]
    fn what_is_saved_is_read() {
        for name in ["llama", "qwen2"] {
            let tiny = Tiny::new(name);
            let graph = TrainingGraph::new(&tiny.graph(), &spec(3)).unwrap();
            let files = Files { graph: &graph, architecture: &tiny.config.architecture };
            let parameters = random_parameters(&graph);
            let (file, config) = files.write_peft(&parameters, "base").unwrap();
            let (found, has) = files.read_peft(&file).unwrap();
            assert!(found == parameters && has.iter().all(|has| *has), "{name}");
            let config: serde_json::Value = serde_json::from_str(&config).unwrap();
            assert_eq!((&config["r"], &config["lora_alpha"]), (&3.into(), &6.0.into()));
            assert_eq!(config["target_modules"].as_array().unwrap().len(), 7);
            // Rows are permuted for one of the two.
            let q = graph.loras.iter().find(|lora| lora.name == "blk.0.attn_q.weight").unwrap();
            let tensors = SafeTensors::deserialize(&file).unwrap();
            let b = tensors.tensor("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight").unwrap();
            let same = bytemuck::pod_collect_to_vec::<u8, f32>(b.data()) == parameters[q.b()];
            assert_eq!(same, name == "qwen2");

            let mut gguf = Vec::new();
            files.write_gguf(&parameters, &mut gguf).unwrap();
            let mut reader = HeaderReader::new(gguf.len() as u64);
            reader.push(&gguf).unwrap();
            let header = reader.finish().unwrap();
            assert_eq!(header.metadata.str("general.type").unwrap(), Some("adapter"));
            assert_eq!(header.metadata.f32("adapter.lora.alpha").unwrap(), Some(6.0));
            let tensor = header.tensors.iter().find(|t| t.name == "blk.0.attn_q.weight.lora_b").unwrap();
            assert_eq!(tensor.shape, [q.n_out as u64, 3]);
            let bytes = &gguf[tensor.offset as usize..][..tensor.n_bytes as usize];
            assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(bytes), parameters[q.b()]);

            let (wrong, _) = Files { graph: &TrainingGraph::new(&tiny.graph(), &spec(4)).unwrap(), ..files }
                .read_peft(&file)
                .map_or_else(|e| (e.to_string(), ()), |_| (String::new(), ()));
            assert!(wrong.contains("not F32 [4, "), "{wrong}");
        }
    }
}
