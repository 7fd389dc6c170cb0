//! `cargo xtask bench gpu`: builds and runs `nomoat bench gpu`, which measures and prints everything, and
//! llama.cpp for comparison.

use crate::report::{command, machine, replace_section, table};
use crate::tools::{self, once, output_of, root, run as execute, target};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use std::path::Path;

/// What to measure; `nomoat bench gpu --help` says more.
#[derive(Args)]
pub struct Options {
    /// The model whose dimensions are used: smollm2-135m, llama-1b or llama-8b.
    #[arg(long, default_value = "smollm2-135m")]
    shape: String,
    /// Format of its matrices: q4_0, q4_1, q8_0 or f16.
    #[arg(long, default_value = "q4_0")]
    format: String,
    /// Measure less, and do not write docs/benchmarks.md.
    #[arg(long)]
    quick: bool,
    /// Kernels to run, such as `int8`.
    #[arg(long, env = "NOMOAT_KERNELS")]
    kernels: Option<String>,
    /// Another program to measure on the same GPU, on a file with the same shape.
    #[arg(long, value_enum)]
    peer: Option<Peer>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    /// llama.cpp's Vulkan backend, through node-llama-cpp; on Linux, x86-64.
    #[value(name = "llama.cpp")]
    LlamaCpp,
}

/// Builds, measures, prints and writes the results.
pub fn run(options: &Options) -> Result<()> {
    let (nomoat, folder) = (tools::nomoat()?, target().join("bench"));
    std::fs::create_dir_all(&folder)?;
    let json = folder.join("gpu.json");
    let json = json.to_string_lossy();
    let bench = ["bench", "gpu", "--shape", &options.shape, "--format", &options.format];
    let mut args = [bench.as_slice(), &["--json", json.as_ref()]].concat();
    if options.quick {
        args.push("--quick");
    }
    if let Some(kernels) = &options.kernels {
        args.extend(["--kernels", kernels]);
    }
    let measured = output_of(&nomoat, &args)?;
    let mut section =
        format!("## On the GPU, natively\n\n`{}`. {}.\n\n{}\n", command(), machine(), measured.trim());
    if let Some(Peer::LlamaCpp) = options.peer {
        let model = folder.join(format!("{}-{}.gguf", options.shape, options.format));
        let path = model.to_string_lossy();
        execute(&nomoat, &[bench.as_slice(), &["--write-model", path.as_ref()]].concat())?;
        let result = llama_cpp(&model);
        std::fs::remove_file(&model)?;
        section += &format!("\n{}", result?);
    }
    println!("{section}\nAll measurements: {json}");
    if options.quick { Ok(()) } else { replace_section("bench gpu", &section) }
}

/// The output of `tests/bench/llama.cpp/measure.mjs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    version: String,
    backend: String,
    devices: Vec<String>,
    prefill: Speed,
    decode: Speed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Speed {
    tokens: u32,
    tokens_per_second: f64,
}

fn llama_cpp(model: &Path) -> Result<String> {
    ensure!(cfg!(all(target_os = "linux", target_arch = "x86_64")), "--peer llama.cpp needs Linux on x86-64");
    let bench = root().join("tests/bench/llama.cpp");
    let folder = bench.to_string_lossy();
    once("bench-llama.cpp", &[bench.join("package-lock.json")], &[&bench.join("node_modules")], || {
        // The optional packages are builds for other devices. Some are not published, so `npm ci` would fail.
        let flags = ["--no-save", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"];
        execute("npm", &[["install", "--prefix", folder.as_ref()].as_slice(), &flags].concat())
    })?;
    let script = bench.join("measure.mjs");
    let printed = output_of("node", &[script.to_string_lossy().as_ref(), model.to_string_lossy().as_ref()])?;
    let measured: Measured = serde_json::from_str(&printed).context("what llama.cpp's script prints")?;
    let row = |name: &str, speed: &Speed| {
        vec![name.into(), speed.tokens.to_string(), format!("{:.1}", speed.tokens_per_second)]
    };
    Ok(format!(
        "### llama.cpp, for comparison\n\n\
         node-llama-cpp {}, backend {}, {}, on a file with the same shape and format. The fastest of up to \
         three rounds counts.\n\n{}",
        measured.version,
        measured.backend,
        measured.devices.join(", "),
        table(
            &["run", "tokens", "tokens/s"],
            &[row("pp512", &measured.prefill), row("tg128 at 0", &measured.decode)]
        )
    ))
}
