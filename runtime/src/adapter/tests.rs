//! Adapters of the test model, written and read.

use super::*;
use crate::gguf::{TensorType, Value, Writer};
use crate::graph::testing::Random;
use crate::model::testing::TestModel;
use safetensors::tensor::{Dtype, TensorView, serialize};

/// Numbers of an adapter's matrices of one rank: tensor, rows and columns of the weight.
const TENSORS: [(&str, &str, usize, usize); 7] = [
    ("attn_q", "self_attn.q_proj", 64, 32),
    ("attn_k", "self_attn.k_proj", 32, 32),
    ("attn_v", "self_attn.v_proj", 32, 32),
    ("attn_output", "self_attn.o_proj", 32, 64),
    ("ffn_gate", "mlp.gate_proj", 64, 32),
    ("ffn_up", "mlp.up_proj", 64, 32),
    ("ffn_down", "mlp.down_proj", 32, 64),
];

/// A matrix: its name, shape and numbers.
pub(crate) type Named = (String, [usize; 2], Vec<f32>);

/// A random adapter of the test model: name, shape and numbers of each matrix, in Hugging Face's layout.
pub(crate) fn matrices(rank: usize, seed: u64) -> Vec<Named> {
    let mut random = Random(seed);
    let mut all = Vec::new();
    for layer in 0..2 {
        for (_, module, n_out, n_in) in TENSORS {
            for (half, shape) in [("A", [rank, n_in]), ("B", [n_out, rank])] {
                let name = format!("base_model.model.model.layers.{layer}.{module}.lora_{half}.weight");
                let numbers = (0..shape[0] * shape[1]).map(|_| random.normal() / 4.0).collect();
                all.push((name, shape, numbers));
            }
        }
    }
    all
}

/// As PEFT saves it.
pub(crate) fn safetensors(matrices: &[Named]) -> Vec<u8> {
    let views = matrices.iter().map(|(name, shape, numbers)| {
        let bytes = bytemuck::cast_slice(numbers);
        (name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap())
    });
    serialize(views, None).unwrap()
}

/// The same as a GGUF file, with rows of queries and keys in the order of llama's files.
pub(crate) fn gguf(matrices: &[Named], alpha: f32) -> Vec<u8> {
    let metadata: [(&str, Value); 4] = [
        ("general.type", "adapter".into()),
        ("general.architecture", "llama".into()),
        ("adapter.type", "lora".into()),
        ("adapter.lora.alpha", alpha.into()),
    ];
    write(&metadata, matrices)
}

fn write(metadata: &[(&str, Value)], matrices: &[Named]) -> Vec<u8> {
    let mut writer = Writer::new();
    for (key, value) in metadata {
        writer = writer.metadata(*key, value.clone());
    }
    for (name, shape, _) in matrices {
        let part = TENSORS.iter().find(|(_, module, ..)| name.contains(module)).unwrap().0;
        let layer = name.split('.').nth(4).unwrap();
        let half = if name.contains("lora_A") { "a" } else { "b" };
        let name = format!("blk.{layer}.{part}.weight.lora_{half}");
        writer = writer.tensor(name, &shape.map(|n| n as u64), TensorType::F32);
    }
    let mut bytes = Vec::new();
    writer
        .write(&mut bytes, |i, out| {
            let (name, [n_rows, n_cols], numbers) = &matrices[i];
            let is_turned = name.contains("q_proj.lora_B") || name.contains("k_proj.lora_B");
            (0..*n_rows).try_for_each(|row| {
                // Heads of 16.
                let (head, i) = (row / 16, row % 16);
                let from = if is_turned { head * 16 + i % 2 * 8 + i / 2 } else { row };
                out.write_all(bytemuck::cast_slice(&numbers[from * n_cols..][..*n_cols]))
            })
        })
        .unwrap();
    bytes
}

/// `adapter_config.json` with this rank and alpha, and more fields.
pub(crate) fn config(rank: usize, alpha: f32, more: &str) -> String {
    format!(r#"{{"peft_type": "LORA", "r": {rank}, "lora_alpha": {alpha}, "bias": "none"{more}}}"#)
}

fn read(files: AdapterFiles) -> Result<Adapter, AdapterError> {
    let graph = TestModel::new().graph().unwrap();
    Adapter::read(files, Base { architecture: "llama", graph: &graph })
}

fn read_peft(config: &str, weights: &[u8]) -> Result<Adapter, AdapterError> {
    read(AdapterFiles::Peft { config: config.as_bytes(), weights })
}

#[test]
fn both_kinds_of_files_give_the_same() {
    let matrices = matrices(3, 1);
    let mut peft = read_peft(&config(3, 6.0, ""), &safetensors(&matrices)).unwrap();
    let mut gguf = read(AdapterFiles::Gguf(&gguf(&matrices, 6.0))).unwrap();
    let by_name = |(a, _): &(LowRank, f32), (b, _): &(LowRank, f32)| a.tensor.cmp(&b.tensor);
    peft.paths.sort_by(by_name);
    gguf.paths.sort_by(by_name);
    assert_eq!(peft.paths, gguf.paths);
    assert!(peft.paths.iter().all(|(_, factor)| *factor == 2.0));
    let info = peft.info("x");
    // 14 tensors; the numbers of rank 1 are the sums of their rows and columns.
    let parameters = 3 * 2 * TENSORS.iter().map(|(_, _, n_out, n_in)| n_out + n_in).sum::<usize>();
    assert_eq!((info.tensors, info.rank, info.parameters), (14, 3, parameters));
}

#[test]
fn what_is_not_supported_is_named() {
    let matrices = matrices(2, 1);
    let weights = safetensors(&matrices);
    for (more, words) in [
        (r#", "use_dora": true"#, "use_dora"),
        (r#", "modules_to_save": ["lm_head"]"#, "modules_to_save"),
        (r#", "lora_bias": true"#, "lora_bias"),
        (r#", "fan_in_fan_out": true"#, "fan_in_fan_out"),
        (r#", "layer_replication": [[0, 2]]"#, "layer_replication"),
        (r#", "target_parameters": ["x"]"#, "target_parameters"),
        (r#", "trainable_token_indices": [1]"#, "trainable_token_indices"),
        (r#", "use_a_new_idea": 3"#, "use_a_new_idea"),
        (r#", "init_lora_weights": "pissa""#, "pissa"),
        (r#", "task_type": "SEQ_CLS""#, "SEQ_CLS"),
    ] {
        let error = read_peft(&config(2, 4.0, more), &weights).unwrap_err();
        assert_eq!(error.code(), "unsupported_feature", "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let off =
        r#", "use_dora": false, "modules_to_save": null, "use_a_new_idea": {}, "task_type": "CAUSAL_LM""#;
    assert!(read_peft(&config(2, 4.0, off), &weights).is_ok());
    let bias = config(2, 4.0, "").replace("none", "all");
    assert!(read_peft(&bias, &weights).unwrap_err().to_string().contains(r#"bias "all""#));
    let mut other = matrices.clone();
    other[1].0 = other[1].0.replace("lora_B.weight", "lora_magnitude_vector");
    let error = read_peft(&config(2, 4.0, ""), &safetensors(&other)).unwrap_err().to_string();
    assert!(error.contains("q_proj.lora_magnitude_vector"), "{error}");
    let mut experts = matrices.clone();
    experts[1].0 = experts[1].0.replace("self_attn.q_proj", "mlp.experts.3.up_proj");
    let error = read_peft(&config(2, 4.0, ""), &safetensors(&experts)).unwrap_err();
    assert_eq!(error.code(), "unsupported_feature");
    assert!(error.to_string().contains("experts.3.up_proj.lora_B.weight), which cannot be"), "{error}");
    let file = Writer::new()
        .metadata("general.type", "adapter")
        .metadata("general.architecture", "llama")
        .metadata("adapter.type", "lora")
        .tensor("blk.0.ffn_up_exps.weight.lora_a", &[4, 2, 64], TensorType::F32);
    let mut bytes = Vec::new();
    file.write(&mut bytes, |_, out| out.write_all(&[0; 4 * 2 * 64 * 4])).unwrap();
    let error = read(AdapterFiles::Gguf(&bytes)).unwrap_err().to_string();
    assert!(error.contains("experts (blk.0.ffn_up_exps.weight.lora_a)"), "{error}");

    let metadata = |key: &str, value: Value| {
        let mut metadata: Vec<(&str, Value)> = vec![
            ("general.type", "adapter".into()),
            ("general.architecture", "llama".into()),
            ("adapter.type", "lora".into()),
        ];
        metadata.retain(|(known, _)| *known != key);
        metadata.push((key, value));
        read(AdapterFiles::Gguf(&write(&metadata, &matrices))).map(drop)
    };
    for (key, value, words) in [
        ("general.type", "model", "not an adapter"),
        ("adapter.type", "control", "adapter.type"),
        ("general.architecture", "qwen2", "qwen2"),
        ("adapter.alora.invocation_tokens", "1", "invocation_tokens"),
    ] {
        let error = metadata(key, value.into()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn adapters_that_do_not_fit_are_errors() {
    let plain = config(2, 4.0, "");
    let changed = |change: &dyn Fn(&mut Vec<Named>)| {
        let mut matrices = matrices(2, 1);
        change(&mut matrices);
        read_peft(&plain, &safetensors(&matrices)).unwrap_err().to_string()
    };
    let resize = |matrix: &mut Named, shape: [usize; 2]| {
        matrix.1 = shape;
        matrix.2.resize(shape[0] * shape[1], 0.0);
    };
    for (error, words) in [
        (changed(&|m| m.truncate(1)), "only one of its two matrices"),
        (changed(&|m| m.clear()), "no matrices"),
        (changed(&|m| resize(&mut m[4], [2, 31])), "32 x 31, the model's has 32 x 32"),
        (changed(&|m| resize(&mut m[4], [3, 32])), "rank 3 and 2"),
        (changed(&|m| resize(&mut m[1], [63, 2])), "not whole heads"),
        (changed(&|m| m.iter_mut().for_each(|m| m.0 = m.0.replace("layers.1", "layers.2"))), "no such"),
        (changed(&|m| m[3].2[5] = f32::NAN), "not finite"),
    ] {
        assert!(error.contains(words), "{error}");
    }
    let more = read_peft(&config(3, 4.0, ""), &safetensors(&matrices(2, 1))).unwrap_err().to_string();
    assert!(more.contains("rank 2, adapter_config.json says 3"), "{more}");
}

#[test]
fn cut_and_changed_files_are_errors() {
    let matrices = matrices(2, 1);
    let (weights, file) = (safetensors(&matrices), gguf(&matrices, 4.0));
    let json = config(2, 4.0, "");
    for n in (0..weights.len()).step_by(97) {
        assert!(read_peft(&json, &weights[..n]).is_err(), "{n}");
    }
    for n in (0..file.len()).step_by(97) {
        assert!(read(AdapterFiles::Gguf(&file[..n])).is_err(), "{n}");
    }
    // A changed byte is an error or changes numbers; it never panics.
    for i in (0..1500).step_by(7) {
        let change = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes[i] = bytes[i].wrapping_add(1 + (i % 255) as u8);
            bytes
        };
        let _ = read_peft(&json, &change(&weights));
        let _ = read(AdapterFiles::Gguf(&change(&file)));
    }
    assert!(read_peft("[1]", &weights).is_err());
    assert!(read_peft(&json.replace("2", "0"), &weights).is_err());
}
