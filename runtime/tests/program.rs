//! The `nomoat` program from outside: what it prints, and how it ends.

#![allow(clippy::unwrap_used)]

use nomoat_runtime::gguf::{TensorType, Writer};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn nomoat() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nomoat"))
}

fn info(args: &[&str], path: &Path) -> Output {
    nomoat().arg("info").args(args).arg(path).output().unwrap()
}

/// Writes a model of one layer with a vocabulary of five words.
fn write_model(path: &Path) {
    let words: &[&str] = &["<unk>", "<s>", "</s>", "a", "▁"];
    let writer = Writer::new()
        .metadata("general.architecture", "llama")
        .metadata("llama.context_length", 64_u32)
        .metadata("llama.embedding_length", 32_u32)
        .metadata("llama.block_count", 1_u32)
        .metadata("llama.feed_forward_length", 64_u32)
        .metadata("llama.attention.head_count", 1_u32)
        .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32)
        .metadata("tokenizer.ggml.model", "llama")
        .metadata("tokenizer.ggml.tokens", words)
        .metadata("tokenizer.ggml.scores", vec![0.0_f32; words.len()]);
    let tensors: [(&str, &[u64]); 11] = [
        ("token_embd", &[5, 32]),
        ("blk.0.attn_norm", &[32]),
        ("blk.0.attn_q", &[32, 32]),
        ("blk.0.attn_k", &[32, 32]),
        ("blk.0.attn_v", &[32, 32]),
        ("blk.0.attn_output", &[32, 32]),
        ("blk.0.ffn_norm", &[32]),
        ("blk.0.ffn_gate", &[64, 32]),
        ("blk.0.ffn_up", &[64, 32]),
        ("blk.0.ffn_down", &[32, 64]),
        ("output_norm", &[32]),
    ];
    let writer = tensors.iter().fold(writer, |writer, (name, shape)| {
        writer.tensor(format!("{name}.weight"), shape, TensorType::F32)
    });
    let file = std::fs::File::create(path).unwrap();
    let bytes = |i: usize| 4 * tensors[i].1.iter().product::<u64>() as usize;
    writer.write(file, |i, out| out.write_all(&vec![0; bytes(i)])).unwrap();
}

#[test]
fn info_lists_tensors_only_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path);
    let printed = |args: &[&str]| String::from_utf8(info(args, &path).stdout).unwrap();
    let short = printed(&[]);
    assert!(short.contains("11 tensors (11 F32)"), "{short}");
    assert!(short.contains("general.architecture") && !short.contains("blk.0.ffn_up.weight"), "{short}");
    assert!(short.contains("memory on the device"), "{short}");
    assert!(printed(&["--tensors"]).contains("blk.0.ffn_up.weight"));
}

#[test]
fn an_error_is_printed_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.gguf");
    std::fs::write(&path, "<!doctype html>".repeat(10)).unwrap();
    let output = info(&[], &path);
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(message.matches("not a GGUF file").count(), 1, "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    let message = String::from_utf8(info(&[], &folder.path().join("none.gguf")).stderr).unwrap();
    assert!(message.starts_with("error: cannot open ") && message.contains("none.gguf"), "{message}");
}

#[test]
fn kernels_that_no_device_has_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path);
    let run = |kernels: &str| {
        let args = ["-p", "a", "--raw", "-n", "1", "--device", "cpu", "--threads", "1", "--kernels", kernels];
        nomoat().arg("run").arg(&path).args(args).output().unwrap()
    };
    let output = run("exact");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let output = run("exact,tile");
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(message.contains("tile") && message.contains("exact or int8"), "{message}");
}

/// As in `nomoat info MODEL | head -1`.
#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = nomoat().arg("info").arg(&path).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_ne!(output.status.code(), Some(101), "it panicked");
}
