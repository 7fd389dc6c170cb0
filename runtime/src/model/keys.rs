//! The metadata keys of an architecture. What a key says and nothing reads, a model computes wrongly: so each
//! key must have been read, be known to change nothing, or have a neutral value.

use super::ModelError;
use crate::gguf::{Metadata, Value};
use std::cell::RefCell;
use std::collections::HashSet;

/// Far above any published model, and too small to overflow.
const MAX_DIMENSION: u64 = 1 << 20;

/// Keys that change no result.
const HARMLESS: &[&str] = &[
    "vocab_size",
    "tensor_data_layout",
    "pooling_type",
    "rope.scaling.finetuned",
    // Each model has norms of one kind, whose epsilon is read.
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
];

/// Keys that change no result in a family, because its tensors say the same.
const HARMLESS_IN: &[(&str, &str)] = &[("stablelm", "use_parallel_residual")];

/// Keys that change nothing in a model without experts.
const OF_EXPERTS: &[&str] =
    &["expert_", "experts_per_group", "leading_dense_block_count", "interleave_moe_", "moe_every_n_layers"];

/// Keys that change nothing in a model without sliding windows.
const OF_WINDOWS: &[&str] = &[
    "attention.sliding_window_pattern",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "rope.dimension_count_swa",
    "rope.freq_base_swa",
];

/// Factors, whose neutral value is also 1.
const FACTORS: &[&str] =
    &["logit_scale", "residual_scale", "embedding_scale", "attention.output_scale", "attention.value_scale"];

/// Flags whose neutral value is true.
const TRUE: &[&str] = &["attention.causal"];

/// Reads the keys `{architecture}.{name}` and remembers which were read.
pub(super) struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
    read: RefCell<HashSet<String>>,
}

impl<'a> Keys<'a> {
    /// For the architecture that the metadata names.
    pub fn new(metadata: &'a Metadata) -> Result<Self, ModelError> {
        let architecture = metadata.str("general.architecture")?;
        let architecture = architecture.ok_or_else(|| missing("general.architecture"))?;
        Ok(Self { metadata, architecture, read: RefCell::default() })
    }

    /// The value of `general.architecture`.
    pub fn architecture(&self) -> &'a str {
        self.architecture
    }

    /// The whole key, which counts as read from now on.
    pub fn key(&self, name: &str) -> String {
        self.read.borrow_mut().insert(name.to_string());
        format!("{}.{name}", self.architecture)
    }

    /// Whether the file has the key.
    pub fn has(&self, name: &str) -> bool {
        self.metadata.get(&self.key(name)).is_some()
    }

    /// A text.
    pub fn str(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        Ok(self.metadata.str(&self.key(name))?)
    }

    /// A finite number.
    pub fn f32(&self, name: &str) -> Result<Option<f32>, ModelError> {
        let key = self.key(name);
        match self.metadata.f32(&key)? {
            Some(x) if !x.is_finite() => Err(ModelError::Inconsistent(format!("{key} is {x}"))),
            x => Ok(x),
        }
    }

    /// A flag.
    pub fn bool(&self, name: &str) -> Result<Option<bool>, ModelError> {
        Ok(self.metadata.bool(&self.key(name))?)
    }

    /// An integer.
    pub fn u64(&self, name: &str) -> Result<Option<u64>, ModelError> {
        Ok(self.metadata.u64(&self.key(name))?)
    }

    /// A dimension: from 1 to [`MAX_DIMENSION`].
    pub fn count(&self, name: &str) -> Result<Option<usize>, ModelError> {
        self.u64(name)?.map(|n| self.dimension(name, n)).transpose()
    }

    /// A dimension that the file must have.
    pub fn required(&self, name: &str) -> Result<usize, ModelError> {
        self.count(name)?.ok_or_else(|| missing(&self.key(name)))
    }

    /// A dimension of each of `n_layers` layers: one number for all, or a list.
    pub fn per_layer(&self, name: &str, n_layers: usize) -> Result<Option<Vec<usize>>, ModelError> {
        let key = self.key(name);
        let numbers = match (self.metadata.u64s(&key)?, self.metadata.u64(&key)) {
            (None, _) => return Ok(None),
            (Some(list), _) if list.len() == n_layers => list,
            (_, Ok(Some(n))) => vec![n; n_layers],
            (Some(list), _) => {
                let n = list.len();
                let message = format!("{key} is a list of {n} numbers, but there are {n_layers} layers");
                return Err(ModelError::Inconsistent(message));
            }
        };
        numbers.into_iter().map(|n| self.dimension(name, n)).collect::<Result<_, _>>().map(Some)
    }

    /// Whether each layer has a property: a flag for each, or a period.
    pub fn pattern(&self, name: &str, n_layers: usize) -> Result<Option<Pattern>, ModelError> {
        let key = self.key(name);
        match (self.metadata.get(&key), self.metadata.bools(&key), self.metadata.u32(&key)) {
            (None, ..) => Ok(None),
            (_, Ok(Some(flags)), _) if flags.len() == n_layers && self.is_list(&key) => {
                Ok(Some(Pattern::Flags(flags)))
            }
            (_, _, Ok(Some(period))) => Ok(Some(Pattern::Period(period))),
            _ => Err(ModelError::Inconsistent(format!(
                "{key} is neither a period nor a flag for each of {n_layers} layers"
            ))),
        }
    }

    fn is_list(&self, key: &str) -> bool {
        matches!(self.metadata.get(key), Some(Value::Array(_)))
    }

    fn dimension(&self, name: &str, n: u64) -> Result<usize, ModelError> {
        if n == 0 || n > MAX_DIMENSION {
            let key = self.key(name);
            let message = format!("{key} is {n}, but must be a number from 1 to {MAX_DIMENSION}");
            return Err(ModelError::Inconsistent(message));
        }
        Ok(n as usize)
    }

    /// An error for a key that nothing has read and that may change the result.
    pub fn check_unread(&self) -> Result<(), ModelError> {
        let has = |name: &str| {
            let key = format!("{}.{name}", self.architecture);
            self.metadata.get(&key).is_some() && !self.is_neutral(&key, name)
        };
        let (has_experts, has_windows) = (has("expert_count"), has("attention.sliding_window"));
        let prefix = format!("{}.", self.architecture);
        let read = self.read.borrow();
        for (key, value) in self.metadata.iter() {
            let Some(name) = key.strip_prefix(&prefix) else { continue };
            let begins = |names: &[&str]| names.iter().any(|known| name.starts_with(known));
            let is_harmless = read.contains(name)
                || HARMLESS.contains(&name)
                || HARMLESS_IN.contains(&(self.architecture, name))
                || name.ends_with("_token_id")
                || begins(OF_EXPERTS) && !has_experts
                || begins(OF_WINDOWS) && !has_windows;
            if !is_harmless && !self.is_neutral(key, name) {
                return Err(ModelError::Feature(format!("the metadata key {key} = {}", value.summary())));
            }
        }
        Ok(())
    }

    /// Whether the key's value is one that switches off what the key is about.
    fn is_neutral(&self, key: &str, name: &str) -> bool {
        match self.metadata.get(key) {
            None => true,
            Some(Value::String(text)) => text.is_empty() || text == "none",
            Some(Value::Array(list)) if list.is_empty() => true,
            Some(_) => match (self.metadata.f32(key), self.metadata.bools(key)) {
                (Ok(Some(x)), _) => x == 0.0 || x == 1.0 && FACTORS.contains(&name),
                (_, Ok(Some(flags))) => flags.iter().all(|flag| *flag == TRUE.contains(&name)),
                _ => false,
            },
        }
    }
}

/// Which layers have a property.
pub(super) enum Pattern {
    /// A flag for each layer.
    Flags(Vec<bool>),
    /// Every nth layer.
    Period(u32),
}

pub(super) fn missing(key: &str) -> ModelError {
    ModelError::Inconsistent(format!("the metadata key {key} is missing"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::TestModel;
    use super::*;
    use crate::gguf::Array;

    fn refused(key: &str, value: impl Into<Value>) -> String {
        TestModel::new().with(key, value).config().unwrap_err().to_string()
    }

    #[test]
    fn a_key_that_nothing_reads_is_an_error_unless_it_changes_nothing() {
        let message = refused("llama.attention.clamp_kqv", 8.0_f32);
        assert!(message.contains("the metadata key llama.attention.clamp_kqv = 8"), "{message}");
        for (key, value) in [
            ("llama.logit_scale", Value::F32(0.5)),
            ("llama.final_logit_softcapping", Value::F32(1.0)),
            ("llama.use_parallel_residual", Value::Bool(true)),
            ("llama.attention.causal", Value::Bool(false)),
            ("llama.hidden_activation", Value::String("relu".into())),
            ("llama.a_new_key", Value::Array(Array::U32(vec![0, 1]))),
        ] {
            assert!(refused(key, value).contains(key));
        }
        for (key, value) in [
            ("llama.vocab_size", Value::U32(57)),
            ("llama.tensor_data_layout", Value::String("Meta AI original pth".into())),
            ("llama.logit_scale", Value::F32(1.0)),
            ("llama.final_logit_softcapping", Value::F32(0.0)),
            ("llama.use_parallel_residual", Value::Bool(false)),
            ("llama.attention.causal", Value::Bool(true)),
            ("llama.a_new_key", Value::Array(Array::U32(vec![0, 0]))),
            ("llama.another", Value::Array(Array::Strings(vec![]))),
            ("llama.expert_used_count", Value::U32(2)),
            ("llama.attention.sliding_window_pattern", Value::U32(4)),
            ("llama.bos_token_id", Value::U32(1)),
            // Another architecture's.
            ("gemma2.final_logit_softcapping", Value::F32(30.0)),
        ] {
            assert!(TestModel::new().with(key, value).config().is_ok(), "{key}");
        }
    }

    /// Keys that converters write for families that run, beside those that give sizes.
    #[test]
    fn keys_that_converters_write_are_known() {
        let keys: [(&str, &[(&str, Value)]); 8] = [
            ("stablelm", &[("use_parallel_residual", true.into())]),
            ("falcon", &[("tensor_data_layout", "jploski".into())]),
            ("granite", &[("rope.scaling.finetuned", false.into()), ("logit_scale", 8.0_f32.into())]),
            ("mpt", &[("attention.max_alibi_bias", 8.0_f32.into()), ("attention.clamp_kqv", 8.0_f32.into())]),
            (
                "gemma3",
                &[("attention.sliding_window", 32_u32.into()), ("rope.freq_base_swa", 1e4_f32.into())],
            ),
            ("command-r", &[("logit_scale", 0.0625_f32.into()), ("rope.scaling.type", "none".into())]),
            ("ernie4_5", &[("expert_feed_forward_length", 64_u32.into()), ("vocab_size", 57_u32.into())]),
            (
                "mistral3",
                &[
                    ("rope.scaling.original_context_length", 64_u32.into()),
                    ("attention.temperature_length", 64_u32.into()),
                    ("attention.temperature_scale", 0.1_f32.into()),
                ],
            ),
        ];
        for (family, pairs) in keys {
            let mut model = TestModel::new().with("general.architecture", family);
            model = model.with("llama.attention.layer_norm_epsilon", 1e-5_f32);
            for (key, value) in pairs {
                model = model.with(&format!("llama.{key}"), value.clone());
            }
            for (key, _) in &mut model.metadata {
                *key = key.replace("llama.", &format!("{family}."));
            }
            assert!(model.config().is_ok(), "{family}: {}", model.config().unwrap_err());
        }
    }

    #[test]
    fn layers_may_have_a_list_of_numbers() {
        const KEY: &str = "llama.attention.head_count_kv";
        let heads = |value: Value| {
            let config = TestModel::new().with(KEY, value).config().unwrap();
            config.layers.iter().map(|layer| layer.n_kv_heads).collect::<Vec<_>>()
        };
        assert_eq!(heads(Array::I32(vec![2, 4]).into()), [2, 4]);
        assert_eq!(heads(Array::U64(vec![2, 2]).into()), [2, 2]);
        assert_eq!(heads(Array::U32(vec![2]).into()), [2, 2]);
        assert_eq!(heads(Array::U32(vec![2, 2, 2]).into()), [2, 2]);
        assert_eq!(heads(Value::F64(2.0)), [2, 2]);
        let message = refused(KEY, Array::U32(vec![2, 4, 2]));
        assert!(
            message.contains(KEY) && message.contains("3 numbers") && message.contains("2 layers"),
            "{message}"
        );
        assert!(refused(KEY, Array::U32(vec![2, 0])).contains(KEY));
        assert!(refused(KEY, vec!["2".to_string(); 2]).contains("head_count_kv is a list of 2 strings"));
    }

    #[test]
    fn unusual_values_are_not_corrupt() {
        let config = |key: &str, value: Value| TestModel::new().with(key, value).config().unwrap();
        let context = |n: u64| config("llama.context_length", n.into()).context_length;
        assert_eq!((context(4_194_304), context(10_485_760)), (4_194_304, 10_485_760));
        assert_eq!(context(u64::MAX), 1 << 30);
        let base = config("llama.rope.freq_base", 1_000_000_u32.into()).layers[0].rope_base;
        assert_eq!(base, 1e6);
        assert_eq!(config("llama.attention.sliding_window", 0_u32.into()).layers[0].window, 0);
        let message = refused("llama.attention.layer_norm_rms_epsilon", "1e-05");
        assert!(message.contains("layer_norm_rms_epsilon is the string \"1e-05\""), "{message}");
    }
}
