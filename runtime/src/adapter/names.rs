//! Where Hugging Face's layout and GGUF differ: names of projections, and the order of their rows.
//!
//! Reference: `gguf/tensor_mapping.py` and `conversion/` of llama.cpp.

use crate::graph::{Attention, Graph, Op};

/// What the modules of some architectures are called at Hugging Face.
#[derive(Debug)]
pub(crate) struct Names {
    architectures: &'static [&'static str],
    /// The list of layers.
    layers: &'static str,
    /// Modules of a layer, and their tensors in GGUF.
    modules: &'static [(&'static str, &'static str)],
    /// The module that gives logits, by all its names.
    heads: &'static [&'static str],
    /// Whether matrices are stored as `[in, out]`. LoRA's are not, but PEFT's settings say it.
    pub is_turned: bool,
}

/// The order of a tensor's rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rows {
    /// As at Hugging Face.
    Same,
    /// In each head, the rows of pair i are at 2i and 2i + 1 instead of i and i + half.
    Pairs { head_dim: usize },
    /// All heads of queries, then those of keys, then those of values. At Hugging Face each head of keys and
    /// values follows the heads of queries that use it.
    Groups { n_heads: usize, n_kv_heads: usize, head_dim: usize },
}

/// A module of several projections with this name is gate and up.
pub(crate) const GATE_UP: &str = "mlp.gate_up_proj";

const LLAMA: Names = Names {
    architectures: &[
        "llama",
        "mistral3",
        "smollm3",
        "granite",
        "granitemoe",
        "minicpm",
        "ernie4_5",
        "qwen2",
        "qwen3",
        "qwen2moe",
        "qwen3moe",
        "olmoe",
        "gpt-oss",
        "hunyuan-dense",
        "seed_oss",
        "olmo2",
        "exaone4",
        "gemma",
        "gemma2",
        "gemma3",
        "stablelm",
        "command-r",
    ],
    layers: "model.layers",
    modules: &[
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ],
    heads: &["lm_head"],
    is_turned: false,
};

const ALL: [Names; 10] = [
    LLAMA,
    Names {
        architectures: &["phi3"],
        modules: &[
            ("self_attn.qkv_proj", "attn_qkv"),
            ("self_attn.o_proj", "attn_output"),
            (GATE_UP, "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ],
        ..LLAMA
    },
    Names {
        architectures: &["glm4"],
        modules: &[
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            (GATE_UP, "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ],
        ..LLAMA
    },
    Names {
        architectures: &["phi2"],
        modules: &[
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.dense", "attn_output"),
            ("mlp.fc1", "ffn_up"),
            ("mlp.fc2", "ffn_down"),
        ],
        ..LLAMA
    },
    Names {
        architectures: &["starcoder2"],
        modules: &[
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("mlp.c_fc", "ffn_up"),
            ("mlp.c_proj", "ffn_down"),
        ],
        ..LLAMA
    },
    Names {
        architectures: &["gptj"],
        layers: "transformer.h",
        modules: &[
            ("attn.q_proj", "attn_q"),
            ("attn.k_proj", "attn_k"),
            ("attn.v_proj", "attn_v"),
            ("attn.out_proj", "attn_output"),
            ("mlp.fc_in", "ffn_up"),
            ("mlp.fc_out", "ffn_down"),
        ],
        ..LLAMA
    },
    Names {
        architectures: &["gptneox"],
        layers: "gpt_neox.layers",
        modules: &[
            ("attention.query_key_value", "attn_qkv"),
            ("attention.dense", "attn_output"),
            ("mlp.dense_h_to_4h", "ffn_up"),
            ("mlp.dense_4h_to_h", "ffn_down"),
        ],
        // Before version 5 of transformers and since.
        heads: &["embed_out", "lm_head"],
        ..LLAMA
    },
    Names {
        architectures: &["falcon"],
        layers: "transformer.h",
        modules: &[
            ("self_attention.query_key_value", "attn_qkv"),
            ("self_attention.dense", "attn_output"),
            ("mlp.dense_h_to_4h", "ffn_up"),
            ("mlp.dense_4h_to_h", "ffn_down"),
        ],
        ..LLAMA
    },
    Names {
        architectures: &["gpt2"],
        layers: "transformer.h",
        modules: &[
            ("attn.c_attn", "attn_qkv"),
            ("attn.c_proj", "attn_output"),
            ("mlp.c_fc", "ffn_up"),
            ("mlp.c_proj", "ffn_down"),
        ],
        is_turned: true,
        ..LLAMA
    },
    Names {
        architectures: &["mpt"],
        layers: "transformer.blocks",
        modules: &[
            ("attn.Wqkv", "attn_qkv"),
            ("attn.out_proj", "attn_output"),
            ("ffn.up_proj", "ffn_up"),
            ("ffn.down_proj", "ffn_down"),
        ],
        ..LLAMA
    },
];

/// Architectures whose queries and keys have [`Rows::Pairs`] in GGUF.
const PAIRS: [&str; 6] = ["llama", "mistral3", "smollm3", "granite", "granitemoe", "minicpm"];

/// Architectures whose joined queries, keys and values have [`Rows::Groups`] in GGUF.
const GROUPS: [&str; 2] = ["falcon", "gptneox"];

/// The layer and the short name of a tensor: 3 and `attn_q` for `blk.3.attn_q.weight`; none for others.
pub(crate) fn parts(name: &str) -> Option<(usize, &str)> {
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    Some((layer.parse().ok()?, rest.split('.').next()?))
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

impl Names {
    /// Those of an architecture, if they are known.
    pub fn of(architecture: &str) -> Option<&'static Self> {
        ALL.iter().find(|names| names.architectures.contains(&architecture))
    }

    /// The tensor of a module, such as `model.layers.3.mlp.up_proj`.
    pub fn tensor(&self, module: &str) -> Option<String> {
        if self.heads.contains(&module) {
            return Some("output.weight".into());
        }
        let rest = module.strip_prefix(self.layers)?.strip_prefix('.')?;
        let (layer, part) = rest.split_once('.')?;
        let layer: u32 = layer.parse().ok()?;
        let (_, tensor) = self.modules.iter().find(|(name, _)| *name == part)?;
        Some(format!("blk.{layer}.{tensor}.weight"))
    }

    /// The module in a layer whose tensor is `tensor`, such as `attn_q`.
    pub fn part(&self, tensor: &str) -> Option<&'static str> {
        self.modules.iter().find(|(_, known)| *known == tensor).map(|(part, _)| *part)
    }

    /// The module of a layer.
    pub fn module(&self, layer: usize, part: &str) -> String {
        format!("{}.{layer}.{part}", self.layers)
    }

    /// What `target_modules` of PEFT's settings call a module: its last name, unless others have it, too.
    pub fn target(&self, part: &'static str) -> &'static str {
        let same = self.modules.iter().filter(|(other, _)| last(other) == last(part)).count();
        if same == 1 { last(part) } else { part }
    }

    /// The tensor, such as `attn_q`, of a module that `target_modules` names.
    pub fn tensor_of_target(&self, target: &str) -> Option<&'static str> {
        self.modules.iter().find(|(part, _)| self.target(part) == target).map(|(_, tensor)| *tensor)
    }
}

impl Rows {
    /// The order of the rows of a tensor, such as `attn_q` of layer 3.
    pub fn of(architecture: &str, tensor: &str, layer: usize, graph: &Graph) -> Self {
        let mut attentions = graph.ops.iter().filter_map(|op| match op {
            Op::Attention { shape, .. } => Some(shape),
            _ => None,
        });
        match (attentions.nth(layer), tensor) {
            (Some(Attention { head_dim, .. }), "attn_q" | "attn_k") if PAIRS.contains(&architecture) => {
                Self::Pairs { head_dim: *head_dim }
            }
            (Some(&Attention { n_heads, n_kv_heads, head_dim, .. }), "attn_qkv")
                if GROUPS.contains(&architecture) =>
            {
                Self::Groups { n_heads, n_kv_heads, head_dim }
            }
            _ => Self::Same,
        }
    }

    /// Whether a tensor with so many rows can have this order.
    pub fn fit(self, n_rows: usize) -> bool {
        match self {
            Self::Same => true,
            Self::Pairs { head_dim } => head_dim.is_multiple_of(2) && n_rows.is_multiple_of(head_dim),
            Self::Groups { n_heads, n_kv_heads, head_dim } => {
                n_heads.is_multiple_of(n_kv_heads) && n_rows == (n_heads + 2 * n_kv_heads) * head_dim
            }
        }
    }

    /// Where a row of Hugging Face's is in GGUF. The tensor must [fit](Self::fit).
    pub fn in_gguf(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Pairs { head_dim } => {
                let (head, in_head) = (row / head_dim, row % head_dim);
                let (half, pair) = (in_head / (head_dim / 2), in_head % (head_dim / 2));
                head * head_dim + 2 * pair + half
            }
            Self::Groups { n_heads, n_kv_heads, head_dim } => {
                let (head, in_head) = (row / head_dim, row % head_dim);
                let n_queries = n_heads / n_kv_heads;
                let (group, in_group) = (head / (n_queries + 2), head % (n_queries + 2));
                let head = match in_group.checked_sub(n_queries) {
                    None => group * n_queries + in_group,
                    Some(0) => n_heads + group,
                    Some(_) => n_heads + n_kv_heads + group,
                };
                head * head_dim + in_head
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::model::golden::{Tiny, models};

    /// numpy's `arange(16).reshape(2, 2, 4).swapaxes(1, 2).reshape(16)`: GGUF's row i is this row of Hugging
    /// Face's.
    #[test]
    fn rows_of_pairs_go_where_the_converter_puts_them() {
        let converted = [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15];
        let rows = Rows::Pairs { head_dim: 8 };
        assert!(rows.fit(16) && !rows.fit(12));
        for (gguf, row) in converted.into_iter().enumerate() {
            assert_eq!(rows.in_gguf(row), gguf);
            assert_eq!(Rows::Same.in_gguf(row), row);
        }
    }

    /// numpy's `x = arange(16).reshape(2, 4, 2)` and `concatenate((x[:, :-2], x[:, -2], x[:, -1]))`, each
    /// flat: 4 heads of queries, 2 of keys and values, of 2 rows. Then `arange(12).reshape(2, 3, 2)`, as
    /// GPT-NeoX has them.
    #[test]
    fn rows_of_groups_go_where_the_converter_puts_them() {
        for (n_heads, converted) in [
            (4, vec![0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15]),
            (2, vec![0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]),
        ] {
            let rows = Rows::Groups { n_heads, n_kv_heads: 2, head_dim: 2 };
            assert!(rows.fit(converted.len()) && !rows.fit(converted.len() + 2));
            for (gguf, row) in converted.into_iter().enumerate() {
                assert_eq!(rows.in_gguf(row), gguf);
            }
        }
    }

    #[test]
    fn modules_have_tensors() {
        let name = |architecture, module| Names::of(architecture).unwrap().tensor(module);
        for (architecture, module, tensor) in [
            ("llama", "model.layers.12.self_attn.o_proj", "blk.12.attn_output.weight"),
            ("llama", "lm_head", "output.weight"),
            ("phi3", "model.layers.0.self_attn.qkv_proj", "blk.0.attn_qkv.weight"),
            ("glm4", "model.layers.1.mlp.gate_up_proj", "blk.1.ffn_up.weight"),
            ("phi2", "model.layers.1.mlp.fc2", "blk.1.ffn_down.weight"),
            ("starcoder2", "model.layers.1.mlp.c_fc", "blk.1.ffn_up.weight"),
            ("gptj", "transformer.h.1.attn.out_proj", "blk.1.attn_output.weight"),
            ("gptneox", "gpt_neox.layers.1.attention.query_key_value", "blk.1.attn_qkv.weight"),
            ("gptneox", "embed_out", "output.weight"),
            ("falcon", "transformer.h.1.mlp.dense_4h_to_h", "blk.1.ffn_down.weight"),
            ("gpt2", "transformer.h.1.attn.c_proj", "blk.1.attn_output.weight"),
            ("mpt", "transformer.blocks.1.ffn.up_proj", "blk.1.ffn_up.weight"),
        ] {
            assert_eq!(name(architecture, module).as_deref(), Some(tensor));
        }
        for other in ["model.layers.x.mlp.up_proj", "model.layers.1.mlp.experts.0", "model.embed_tokens"] {
            assert_eq!(name("llama", other), None, "{other}");
        }
        // Another family's names.
        for (architecture, other) in [
            ("glm4", "model.layers.1.mlp.up_proj"),
            ("phi2", "model.layers.1.self_attn.o_proj"),
            ("gptj", "model.layers.1.self_attn.q_proj"),
            ("llama", "model.layers.1.mlp.gate_up_proj"),
        ] {
            assert_eq!(name(architecture, other), None, "{architecture} {other}");
        }
        assert!(Names::of("unheard-of").is_none());
    }

    /// A short name must not stand for two modules.
    #[test]
    fn targets_are_unambiguous() {
        let names = Names::of("gpt2").unwrap();
        assert_eq!(names.target("attn.c_proj"), "attn.c_proj");
        assert_eq!(names.target("mlp.c_fc"), "c_fc");
        assert_eq!(names.tensor_of_target("mlp.c_proj"), Some("ffn_down"));
        assert_eq!(names.tensor_of_target("c_proj"), None);
    }

    /// Every family that runs has names.
    #[test]
    fn every_family_has_names() {
        for name in models() {
            let architecture = Tiny::new(&name).config.architecture;
            assert!(Names::of(&architecture).is_some(), "{architecture}");
        }
    }
}
