//! Adapters on the command line.

use anyhow::{Context, Result};
use nomoat_runtime::adapter::AdapterFiles;
use nomoat_runtime::engine::{AdapterUse, Device, Engine};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The adapters of a command.
#[derive(clap::Args)]
pub struct Adapters {
    /// LoRA adapter: a GGUF file or a folder that PEFT saved; after `=` its strength [default: 1]. Several
    /// are added up.
    #[arg(long = "adapter", value_name = "PATH[=SCALE]")]
    paths: Vec<String>,
}

impl Adapters {
    /// Loads them.
    pub fn load<D: Device>(&self, engine: &mut Engine<D>) -> Result<Vec<AdapterUse>> {
        let mut uses = Vec::new();
        for (i, argument) in self.paths.iter().enumerate() {
            let scaled =
                argument.rsplit_once('=').and_then(|(path, scale)| Some((path, scale.parse().ok()?)));
            let (path, scale) = scaled.unwrap_or((argument, 1.0));
            let name = format!("adapter {}", i + 1);
            let info = load(engine, &name, Path::new(path)).with_context(|| path.to_string())?;
            eprintln!("[{path}: rank {}, {} parameters, strength {scale}]", info.rank, info.parameters);
            uses.push(AdapterUse { name, scale });
        }
        Ok(uses)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

fn load<D: Device>(
    engine: &mut Engine<D>,
    name: &str,
    path: &Path,
) -> Result<nomoat_runtime::adapter::AdapterInfo> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    if !path.is_dir() {
        return Ok(engine.load_adapter(name, AdapterFiles::Gguf(&read(path)?))?);
    }
    let config = read(&path.join("adapter_config.json"))?;
    let weights = read(&path.join("adapter_model.safetensors"))?;
    Ok(engine.load_adapter(name, AdapterFiles::Peft { config: &config, weights: &weights })?)
}

/// A text with what another implementation computes with adapters, in a golden file.
#[derive(Deserialize)]
struct Entry {
    ids: Vec<u32>,
    /// `logprobs_scale_S`: the log-probability of each next token where all adapters have the strength S.
    #[serde(flatten)]
    logprobs: BTreeMap<String, Vec<f64>>,
}

/// Compares log-probabilities with a golden file's; prints the mean absolute difference for each strength, in
/// prefill and token by token.
pub async fn eval<D: Device>(engine: &mut Engine<D>, golden: &Path, uses: &[AdapterUse]) -> Result<()> {
    let text =
        std::fs::read_to_string(golden).with_context(|| format!("cannot read {}", golden.display()))?;
    let entries: Vec<Entry> = serde_json::from_str(&text)
        .with_context(|| format!("{} has no log-probabilities with adapters", golden.display()))?;
    let mut off: BTreeMap<&str, [Vec<f64>; 2]> = BTreeMap::new();
    for entry in &entries {
        for (key, expected) in &entry.logprobs {
            let strength = key.strip_prefix("logprobs_scale_").unwrap_or(key);
            let factor: f32 = strength.parse().with_context(|| format!("{key} names no strength"))?;
            let scaled: Vec<AdapterUse> =
                uses.iter().map(|one| AdapterUse { scale: one.scale * factor, ..one.clone() }).collect();
            for one_by_one in [false, true] {
                let found = engine.score_with(&entry.ids, one_by_one, &scaled).await?.logprobs;
                anyhow::ensure!(found.len() == expected.len(), "{key} has {} numbers", expected.len());
                let all = &mut off.entry(strength).or_default()[usize::from(one_by_one)];
                all.extend(found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).abs()));
            }
        }
    }
    let mean = |all: &Vec<f64>| all.iter().sum::<f64>() / all.len().max(1) as f64;
    let means: BTreeMap<&str, [f64; 2]> =
        off.iter().map(|(s, both)| (*s, [mean(&both[0]), mean(&both[1])])).collect();
    let worst = means.values().flatten().fold(0.0, |worst: f64, one| worst.max(*one));
    let report = serde_json::json!({
        "adapter_mean_abs_dlogprob": worst,
        "prefill": means.iter().map(|(s, both)| (*s, both[0])).collect::<BTreeMap<_, _>>(),
        "token_by_token": means.iter().map(|(s, both)| (*s, both[1])).collect::<BTreeMap<_, _>>(),
        "entries": entries.len(),
    });
    println!("{report:#}");
    Ok(())
}
