//! The `nomoat` program from outside: what it prints, and how it ends.

#![allow(clippy::unwrap_used)]

use nomoat_runtime::gguf::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};

mod common;

fn nomoat() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nomoat"))
}

fn info(args: &[&str], path: &Path) -> Output {
    nomoat().arg("info").args(args).arg(path).output().unwrap()
}

/// Writes a model of one layer with a vocabulary of five words.
fn write_model(path: &Path) {
    write_model_with(path, &[]);
}

/// Writes the same model with these metadata entries, too.
fn write_model_with(path: &Path, metadata: &[(&str, Value)]) {
    let words: &[&str] = &["<unk>", "<s>", "</s>", "a", "▁"];
    let (writer, sizes) = common::one_layer(words.len() as u64, 1, 64);
    let writer = writer
        .metadata("tokenizer.ggml.model", "llama")
        .metadata("tokenizer.ggml.tokens", words)
        .metadata("tokenizer.ggml.scores", vec![0.0_f32; words.len()]);
    let writer = metadata.iter().fold(writer, |writer, (key, value)| writer.metadata(*key, value.clone()));
    let file = std::fs::File::create(path).unwrap();
    writer.write(file, |i, out| out.write_all(&vec![0; 4 * sizes[i] as usize])).unwrap();
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
fn info_tells_what_the_metadata_means() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let printed = |metadata: &[(&str, Value)]| {
        write_model_with(&path, metadata);
        String::from_utf8(info(&[], &path).stdout).unwrap()
    };
    let plain = printed(&[]);
    assert!(plain.contains("layers: 1 of 32 floats, 64 in the feed-forward layer\n"), "{plain}");
    assert!(plain.contains("heads: 1 of 32 floats, 1 for keys and values\n"), "{plain}");
    assert!(plain.contains("trained context: 64 tokens\n"), "{plain}");
    assert!(plain.contains("rotary embedding: 32 of 32 floats, base 10000\n"), "{plain}");
    let linear = printed(&[("llama.rope.scaling.factor", 4.0_f32.into())]);
    assert!(linear.contains("linear: context of 64 times 4,"), "{linear}");
    let yarn = printed(&[
        ("llama.rope.scaling.factor", 4.0_f32.into()),
        ("llama.rope.scaling.type", "yarn".into()),
        ("llama.rope.scaling.original_context_length", 16_u32.into()),
    ]);
    assert!(yarn.contains("YaRN: context of 16 times 4, magnitude 1.1386\n"), "{yarn}");
}

#[test]
fn an_error_is_printed_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.gguf");
    let run = || {
        let args = ["-p", "a", "--raw", "--device", "cpu", "--threads", "1"];
        nomoat().arg("run").arg(&path).args(args).output().unwrap()
    };
    let told = |words: &str| {
        for output in [info(&[], &path), run()] {
            let message = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{message}");
            assert_eq!(message.matches(words).count(), 1, "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    };
    std::fs::write(&path, "GGML and more").unwrap();
    told("not a GGUF file");
    std::fs::write(&path, "<!doctype html>".repeat(10)).unwrap();
    told("not a model but a web page");
    std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n").unwrap();
    told("not a model but a Git LFS pointer");
    write_model_with(&path, &[("llama.attention.layer_norm_rms_epsilon", "1e-05".into())]);
    told("llama.attention.layer_norm_rms_epsilon is the string");
    write_model_with(&path, &[("llama.attention.clamp_kqv", 8.0_f32.into())]);
    told("llama.attention.clamp_kqv = 8");
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
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let run = ["run", "-p", "a", "--raw", "-n", "3", "--device", "cpu", "--threads", "1"];
    for args in [&["info"][..], &run] {
        let child = nomoat().args(args).arg(&path).stdout(closed()).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(!message.contains("panicked") && !message.contains("error"), "{message}");
        assert_ne!(output.status.code(), Some(101), "it panicked");
        assert_ne!(output.status.code(), Some(0), "it wrote to a closed pipe");
    }
}

#[test]
fn keys_and_values_may_be_in_fewer_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    write_model(&path);
    let run = |format: &str| {
        let args =
            ["-p", "a", "--raw", "-n", "1", "--device", "cpu", "--threads", "1", "--kv-format", format];
        nomoat().arg("run").arg(&path).args(args).output().unwrap()
    };
    for format in ["f16", "q8_0", "q4_0"] {
        let output = run(format);
        assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = run("q5_0");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && message.contains("f16, q8_0 or q4_0"), "{message}");
}

/// The prompt is the one that the engine gives the model: calls as its template takes them, and tools in a
/// text where it has no place for them.
#[test]
fn prompt_prints_what_the_model_gets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let prompt = |template: &str, args: &[&str]| {
        write_model_with(&path, &[("tokenizer.chat_template", template.into())]);
        nomoat().arg("prompt").arg(&path).args(args).output().unwrap()
    };
    let json = |template: &str, args: &[&str]| -> (String, Vec<u32>) {
        let output = prompt(template, &[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (value["prompt"].as_str().unwrap().into(), serde_json::from_value(value["ids"].clone()).unwrap())
    };
    let echo = "{% for m in messages %}{{ m.role }}:{{ m.content }} {% endfor %}";
    // SentencePiece begins a text with `<s>` and a space.
    let (text, ids) = json("{{ messages[0].content }}{{ ' ' if x }}{{ 'a' if x }}", &["-p", "a"]);
    assert_eq!((text.as_str(), &ids[..]), ("a", &[1, 4, 3][..]));
    let kwargs = ["-p", "a", "--kwargs", r#"{"x": true}"#];
    let (text, ids) = json("{{ messages[0].content }}{{ ' ' if x }}{{ 'a' if x }}", &kwargs);
    assert_eq!((text.as_str(), &ids[..]), ("a a", &[1, 4, 3, 4, 3][..]));
    let output = prompt(echo, &["-p", "a", "--kwargs", "3"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--kwargs"), "{output:?}");

    let talk = file(
        "talk.json",
        r#"[{"role": "user", "content": "Weather?"}, {"role": "assistant", "content": null, "tool_calls":
            [{"id": "1", "type": "function", "function": {"name": "now", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "Rain"}]"#,
    );
    let tools =
        file("tools.json", r#"[{"type": "function", "function": {"name": "now", "parameters": {}}}]"#);
    let (text, _) = json(echo, &["--messages", &talk, "--tools", &tools]);
    assert!(text.starts_with("system:You can call tools.") && text.contains("\"name\":\"now\""), "{text}");
    assert!(text.contains("assistant:<tool_call>") && text.contains("user:<tool_response>\nRain"), "{text}");
    let knows = "{% for tool in tools %}{{ tool.function.name }};{% endfor %}\
        {% for m in messages %}{{ m.content }}{% for call in m.tool_calls %}\
        <tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}\
        {% if m.role == 'tool' %}{{ m.name }}{% endif %};{% endfor %}";
    let (text, _) = json(knows, &["--messages", &talk, "--tools", &tools]);
    let call = r#"<tool_call>{"name": "now", "arguments": {"a": 1}}</tool_call>"#;
    assert_eq!(text, format!("now;Weather?;{call};Rainnow;"));
}

/// As those of transformers; a template that says what time it is must not say it for Greenwich.
#[test]
fn dates_in_prompts_are_local() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let template = "{{ strftime_now('%z') }}{{ messages[0].content }}";
    write_model_with(&path, &[("tokenizer.chat_template", template.into())]);
    for (zone, expected) in [("UTC0", "+0000a"), ("<+0545>-05:45", "+0545a")] {
        let args = ["prompt", "-p", "a"];
        let output = nomoat().args(args).arg(&path).env("TZ", zone).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with(expected), "{zone}: {text}");
    }
}

#[test]
fn a_draft_model_with_another_vocabulary_is_an_error_that_names_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let draft = folder.path().join("small.gguf");
    write_model(&draft);
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tiny/llama.gguf");
    let args = ["run", "--device", "cpu", "--prompt", "a", "--raw", "--draft"];
    let run = nomoat().args(args).args([draft, model]).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    let expected =
        "small.gguf: the draft model cannot guess for this model: its vocabulary has 5 tokens, not 64";
    assert!(!run.status.success() && said.contains(expected), "{said}");
}
