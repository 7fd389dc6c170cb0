//! What the program learns, beside PyTorch and PEFT: `tests/golden/lora/make_tiny.py` made the golden values.

#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod common;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

/// A command on the tiny llama model.
fn nomoat(command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_nomoat"));
    program.arg(command).arg(golden("tiny/llama.gguf")).args(["--device", "cpu"]);
    program
}

fn report(output: &Output) -> Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn training_follows_pytorch_and_peft() {
    let report = report(&nomoat("tune").arg("--golden").arg(golden("lora/tiny")).output().unwrap());
    println!("{report:#}");
    assert_eq!(report["steps"], serde_json::json!([12, 9]));
    for (key, most) in [
        ("grad_rel_error", 1e-4),
        ("sft_loss_max_dev", 1e-3),
        ("sft_loss_after_max_dev", 1e-3),
        ("dpo_loss_max_dev", 1e-3),
        ("dpo_margin_max_dev", 1e-3),
        ("dpo_reference_max_dev", 1e-3),
        ("adapter_mean_abs_dlogprob", 1e-3),
    ] {
        let found = report[key].as_f64().unwrap();
        assert!(found <= most, "{key}: {found}");
    }
    for key in ["sft_follows", "dpo_follows", "greedy_equal"] {
        assert_eq!(report[key], true, "{key}");
    }
}

/// Steps in another order are other steps.
#[test]
fn the_order_of_steps_is_that_of_the_golden_values() {
    let folder = tempfile::tempdir().unwrap();
    let from = golden("lora/tiny");
    for name in ["start.safetensors", "sft_step0_grads_clipped.safetensors"] {
        std::fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    let text = std::fs::read_to_string(from.join("lora_golden.json")).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let mut compare = |order: Value| {
        json["sft"]["order"] = order;
        std::fs::write(folder.path().join("lora_golden.json"), json.to_string()).unwrap();
        nomoat("tune").arg("--golden").arg(folder.path()).output().unwrap()
    };
    let turns = report(&compare("example s % 3 at step s".into()));
    assert!(turns["sft_loss_max_dev"].as_f64().unwrap() > 0.1, "{turns}");
    assert_eq!(turns["sft_follows"], false);
    for (order, words) in [
        ("at random".into(), "not known"),
        (serde_json::json!([0, 1, 2]), "12 losses"),
        (serde_json::json!([[3], [0], [0], [0], [0], [0], [0], [0], [0], [0], [0], [0]]), "3 examples"),
    ] {
        let error = String::from_utf8(compare(order).stderr).unwrap();
        assert!(error.contains(words), "{error}");
    }
}

/// Adapters that PEFT saved, and the same as GGUF, give PEFT's log-probabilities when a model answers with
/// them.
#[test]
fn adapters_answer_as_in_peft() {
    for file in ["sft_peft", "sft_lora.gguf"] {
        let adapter = golden("lora/tiny").join(file);
        let logprobs = golden("lora/tiny/adapter_logprobs.json");
        let output = nomoat("eval").arg("--golden").arg(logprobs).arg("--adapter").arg(adapter).output();
        let report = report(&output.unwrap());
        println!("{file} {report}");
        for how in ["prefill", "token_by_token"] {
            let means = report[how].as_object().unwrap();
            assert_eq!(means.keys().collect::<Vec<_>>(), ["0.0", "0.5", "1.0"]);
            // Keys and values are stored in 16 bits.
            let is_near = |mean: &Value| mean.as_f64().unwrap() < 2e-3;
            assert!(means.values().all(is_near), "{file} {how}: {report}");
        }
    }
}

/// A model with a chat template, and examples.
fn model_and_data(folder: &Path) -> [PathBuf; 2] {
    let words: &[&str] = &["<unk>", "<s>", "</s>", "a", "b", "c", "▁"];
    let (writer, sizes) = common::one_layer(words.len() as u64, 1, 64);
    let writer = writer
        .metadata("tokenizer.ggml.model", "llama")
        .metadata("tokenizer.ggml.tokens", words)
        .metadata("tokenizer.ggml.scores", vec![0.0_f32; words.len()])
        .metadata(
            "tokenizer.chat_template",
            "{% for message in messages %}{{ message.content + '</s>' }}{% endfor %}",
        );
    let model = folder.join("model.gguf");
    writer
        .write(std::fs::File::create(&model).unwrap(), |i, out| {
            (0..sizes[i]).try_for_each(|n| out.write_all(&((n as f32 + i as f32).sin() / 6.0).to_le_bytes()))
        })
        .unwrap();
    let data = folder.join("data.jsonl");
    let lines = ["ab", "ba", "ac", "ca", "bc"].map(|text| {
        let (prompt, completion) = text.split_at(1);
        format!("{}\n", serde_json::json!({ "prompt": prompt, "completion": completion }))
    });
    std::fs::write(&data, lines.concat()).unwrap();
    [model, data]
}

#[test]
fn tune_says_what_it_takes_and_what_it_learns() {
    let folder = tempfile::tempdir().unwrap();
    let [model, data] = model_and_data(folder.path());
    let adapter = folder.path().join("adapter.gguf");
    let tune = |args: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_nomoat"));
        program.arg("tune").arg(&model).arg("--data").arg(&data).arg("-o").arg(&adapter);
        let output = program.args(["--epochs", "20", "--rate", "1"]).args(args).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let lines = |text: &str, part: &str| text.lines().filter(|line| line.contains(part)).count();

    let (ended, said) = tune(&[]);
    assert!(ended && adapter.exists(), "{said}");
    assert!(said.contains("[5 examples, ") && said.contains(" MB beside the model]"), "{said}");
    assert_eq!(lines(&said, "step "), 100, "{said}");
    assert!(said.contains("step 100 of 100: loss "), "{said}");

    // Before the first step and after each epoch.
    let (ended, said) = tune(&["--validation", "0.4"]);
    assert!(ended && said.contains("[5 examples, 2 of them held out, "), "{said}");
    assert_eq!((lines(&said, "on what is held out"), lines(&said, "tokens/s")), (21, 60), "{said}");

    // At such a rate it soon gets worse.
    let (ended, said) = tune(&["--validation", "0.4", "--patience", "2"]);
    assert!(ended && lines(&said, "tokens/s") < 60, "{said}");

    let (ended, said) = tune(&["--patience", "2"]);
    assert!(!ended && said.contains("a share for validation"), "{said}");
}

/// The rows of `nomoat tune --estimate`, and what it says if it fails.
fn estimate(args: &[&str]) -> Result<Vec<Vec<String>>, String> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_nomoat"));
    let output = program.args(["tune", "--estimate"]).args(args).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect();
    Ok(text.lines().skip(2).map(cells).collect())
}

#[test]
fn the_memory_of_training_is_printed_without_training() {
    let rows = estimate(&["--shape", "smollm2-135m"]).unwrap();
    // PEFT counts so many parameters for all projections at a rank of 8.
    let eight = rows.iter().find(|row| row[0] == "8").unwrap();
    assert_eq!(eight[1], "2442240");
    let mb = |cell: &String| cell.strip_suffix(" MB").unwrap().parse::<u64>().unwrap();
    // 16 bytes for each, and what the layers compute.
    assert!(eight[2..].iter().map(mb).is_sorted() && mb(&eight[2]) > 2_442_240 * 16 / 1_000_000, "{rows:?}");
    let larger = estimate(&["--shape", "llama-1b"]).unwrap();
    let all = |rows: &[Vec<String>]| rows.iter().flat_map(|row| row[2..].iter().map(mb)).collect::<Vec<_>>();
    assert!(all(&larger).iter().zip(all(&rows)).all(|(large, small)| *large > small), "{larger:?}");

    // Of a file only the header is read. Fewer projections learn less.
    let model = golden("tiny/llama.gguf");
    let learnt = |args: &[&str]| -> u64 {
        let args = [&[model.to_str().unwrap()], args].concat();
        estimate(&args).unwrap()[0][1].parse().unwrap()
    };
    assert!(learnt(&["--targets", "attn_q"]) < learnt(&[]));
    let error = estimate(&[golden("tiny/qwen3moe.gguf").to_str().unwrap()]).unwrap_err();
    assert!(error.contains("mixture of experts, which cannot be taught"), "{error}");
    assert!(estimate(&[]).unwrap_err().contains("MODEL"), "a model must be named");
}

/// PEFT's adapters for families whose modules have other names and rows another order: `make_families.py`
/// made them.
#[test]
fn adapters_of_other_families_answer_as_in_peft() {
    let families: Vec<_> = std::fs::read_dir(golden("lora/families")).unwrap().collect();
    assert_eq!(families.len(), 8);
    for family in families {
        let folder = family.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_nomoat"))
            .arg("eval")
            .arg(golden(&format!("tiny/{name}.gguf")))
            .arg("--golden")
            .arg(folder.join("adapter_logprobs.json"))
            .arg("--adapter")
            .arg(&folder)
            .args(["--device", "cpu"])
            .output();
        let report = report(&output.unwrap());
        println!("{name} {report}");
        // The adapters change them by 1 or so.
        assert!(report["adapter_mean_abs_dlogprob"].as_f64().unwrap() < 3e-3, "{name} {report}");
    }
}
