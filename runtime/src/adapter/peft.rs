//! Adapters as PEFT saves them: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Reference: <https://huggingface.co/docs/peft/developer_guides/checkpoint>

use super::names::{Names, Rows, parts};
use super::{AdapterError, Base, LowRank, Matrix, Pairs};
use fancy_regex::Regex;
use safetensors::SafeTensors;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Settings that change nothing when an adapter is used, or are read here.
const KNOWN: [&str; 27] = [
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_rslora",
    "lora_ga_config",
];

/// Ways to initialise that leave the base model's weights as they are.
const INITIAL: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Reads an adapter for this model.
pub(super) fn read(config: &[u8], weights: &[u8], base: Base) -> Result<Vec<(LowRank, f32)>, AdapterError> {
    let names = Names::of(base.architecture).ok_or_else(|| {
        AdapterError::Unsupported(format!("PEFT's names of the architecture {}", base.architecture))
    })?;
    let config = Config::read(config, names.is_turned)?;
    let tensors = SafeTensors::deserialize(weights)
        .map_err(|error| AdapterError::Invalid(format!("adapter_model.safetensors: {error}")))?;
    let mut in_order = tensors.names();
    // The crate has them in no order.
    in_order.sort_unstable();
    let mut pairs = Pairs::default();
    let mut modules: HashMap<String, String> = HashMap::new();
    for name in in_order {
        let unsupported = || AdapterError::tensor(name);
        let path = name.strip_prefix("base_model.model.").unwrap_or(name);
        let half = [path.strip_suffix(".lora_A.weight"), path.strip_suffix(".lora_B.weight")];
        let (module, half) = match half {
            [Some(module), _] => (module, 0),
            [_, Some(module)] => (module, 1),
            _ => return Err(unsupported()),
        };
        let tensor = names.tensor(module).ok_or_else(unsupported)?;
        if modules.entry(tensor.clone()).or_insert_with(|| module.to_string()) != module {
            return Err(AdapterError::Invalid(format!("{name} is there twice")));
        }
        let found = tensors.tensor(name).map_err(|error| AdapterError::Invalid(error.to_string()))?;
        let shape: Vec<u64> = found.shape().iter().map(|n| *n as u64).collect();
        let mut matrix = Matrix::new(name, &format!("{:?}", found.dtype()), &shape, found.data())?;
        if let Some((layer, part)) = parts(&tensor).filter(|_| half == 1) {
            let rows = Rows::of(base.architecture, part, layer, base.graph);
            matrix = in_order_of(rows, matrix).ok_or_else(|| {
                AdapterError::Misfit(format!("{name}: its {} rows are not whole heads", shape[0]))
            })?;
        }
        pairs.push(&tensor, half, matrix)?;
    }
    pairs.finish(|tensor, rank| config.factor(modules.get(tensor).map_or("", String::as_str), rank))
}

/// A matrix whose rows are in the order of GGUF's, if it has as many as that takes.
fn in_order_of(rows: Rows, matrix: Matrix) -> Option<Matrix> {
    if rows == Rows::Same {
        return Some(matrix);
    }
    if !rows.fit(matrix.n_rows) {
        return None;
    }
    let mut ordered = Matrix { numbers: vec![0.0; matrix.numbers.len()], ..matrix };
    for (row, numbers) in matrix.numbers.chunks_exact(matrix.n_cols).enumerate() {
        ordered.numbers[rows.in_gguf(row) * matrix.n_cols..][..matrix.n_cols].copy_from_slice(numbers);
    }
    Some(ordered)
}

/// What is needed of `adapter_config.json`.
struct Config {
    rank: f64,
    alpha: f64,
    /// Whether factors are by the square root of the rank (arXiv 2312.03732).
    is_rs: bool,
    ranks: Vec<(Regex, f64)>,
    alphas: Vec<(Regex, f64)>,
}

impl Config {
    /// With `is_turned`, the architecture's matrices are stored as `[in, out]`.
    fn read(json: &[u8], is_turned: bool) -> Result<Self, AdapterError> {
        let invalid = |problem: String| AdapterError::Invalid(format!("adapter_config.json: {problem}"));
        let config: Map<String, Value> =
            serde_json::from_slice(json).map_err(|error| invalid(error.to_string()))?;
        let text = |key: &str| config.get(key).and_then(Value::as_str);
        if text("peft_type") != Some("LORA") {
            let found = text("peft_type").unwrap_or("missing");
            return Err(AdapterError::Unsupported(format!("peft_type {found}")));
        }
        for (key, value) in &config {
            let is_off = match value {
                Value::Null => true,
                Value::Bool(on) => !on,
                Value::Array(list) => list.is_empty(),
                Value::Object(map) => map.is_empty(),
                Value::String(text) => text.is_empty(),
                Value::Number(_) => false,
            };
            let allowed = match (key.as_str(), value) {
                _ if is_off => true,
                ("fan_in_fan_out", _) => is_turned,
                ("bias", _) => text(key) == Some("none"),
                ("task_type", _) => text(key) == Some("CAUSAL_LM"),
                ("init_lora_weights", Value::String(way)) => INITIAL.contains(&way.as_str()),
                _ => KNOWN.contains(&key.as_str()),
            };
            if !allowed {
                let what = value.as_str().map_or(String::new(), |text| format!(" {text:?}"));
                return Err(AdapterError::Unsupported(format!("{key}{what}")));
            }
        }
        let number = |key: &str| {
            let found = config.get(key).and_then(Value::as_f64).filter(|n| n.is_finite());
            found.ok_or_else(|| invalid(format!("{key} is not a number")))
        };
        Ok(Self {
            rank: number("r")?,
            alpha: number("lora_alpha")?,
            is_rs: config.get("use_rslora").and_then(Value::as_bool).unwrap_or(false),
            ranks: patterns(&config, "rank_pattern").map_err(invalid)?,
            alphas: patterns(&config, "alpha_pattern").map_err(invalid)?,
        })
    }

    /// The factor of a module's matrices, which have this rank.
    fn factor(&self, module: &str, rank: usize) -> Result<f32, AdapterError> {
        // A pattern that takes too long to match is an error of the file.
        let of = |patterns: &[(Regex, f64)], usual: f64| -> Result<f64, AdapterError> {
            for (pattern, number) in patterns {
                let is_match = pattern.is_match(module);
                if is_match.map_err(|error| AdapterError::Invalid(format!("adapter_config.json: {error}")))? {
                    return Ok(*number);
                }
            }
            Ok(usual)
        };
        let expected = of(&self.ranks, self.rank)?;
        if expected != rank as f64 {
            let message = format!("{module} has rank {rank}, adapter_config.json says {expected}");
            return Err(AdapterError::Invalid(message));
        }
        let by = if self.is_rs { expected.sqrt() } else { expected };
        Ok((of(&self.alphas, self.alpha)? / by) as f32)
    }
}

/// Patterns of module names, each with a number. A pattern matches the end of a name, from a dot on or whole.
fn patterns(config: &Map<String, Value>, key: &str) -> Result<Vec<(Regex, f64)>, String> {
    let Some(Value::Object(map)) = config.get(key) else { return Ok(Vec::new()) };
    let each = map.iter().map(|(pattern, number)| {
        let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$"));
        let regex = regex.map_err(|error| format!("{key} {pattern:?}: {error}"))?;
        let number = number.as_f64().ok_or_else(|| format!("{key} {pattern:?} is not a number"))?;
        Ok((regex, number))
    });
    each.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_permuted_head_by_head() {
        // Two heads of 4: pairs (0, 2) and (1, 3) become neighbours.
        let numbers = (0..8).map(|n| n as f32).collect();
        let found =
            in_order_of(Rows::Pairs { head_dim: 4 }, Matrix { n_rows: 8, n_cols: 1, numbers }).unwrap();
        assert_eq!(found.numbers, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn factors_follow_patterns() {
        let json = r#"{"peft_type": "LORA", "r": 8, "lora_alpha": 16, "use_rslora": RS,
            "rank_pattern": {"q_proj": 4, "layers\\.1\\.mlp\\..*": 2},
            "alpha_pattern": {"proj": 1, "q_proj": 3}}"#;
        let plain = Config::read(json.replace("RS", "false").as_bytes(), false).unwrap();
        let factor = |config: &Config, module: &str, rank| config.factor(module, rank).unwrap();
        assert_eq!(factor(&plain, "model.layers.0.self_attn.v_proj", 8), 2.0);
        assert_eq!(factor(&plain, "model.layers.0.self_attn.q_proj", 4), 0.75);
        assert_eq!(factor(&plain, "model.layers.1.mlp.up_proj", 2), 8.0);
        assert!(plain.factor("model.layers.11.mlp.up_proj", 2).is_err());
        let rs = Config::read(json.replace("RS", "true").as_bytes(), false).unwrap();
        assert_eq!(factor(&rs, "model.layers.0.self_attn.q_proj", 4), 1.5);
    }
}
