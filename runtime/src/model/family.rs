//! The table of families.

use super::blocks::Decoder;
use super::experts::Mixture;
use super::traits::{self, Sizes, Traits};
use super::{ModelError, gemma2, llama, olmo2, parallel};
use crate::graph::{Activation, Gate, NormKind};
use crate::model::keys::Keys;

/// A family of models: what its files do not say.
pub(super) struct Family {
    /// The value of `general.architecture`.
    pub name: &'static str,
    /// The kind of its norms.
    pub norm: NormKind,
    /// How it tells positions apart.
    pub positions: Positions,
    /// The layers without rotary embedding.
    pub without_rope: WithoutRope,
    /// Whether queries and keys are normed after the rotary embedding instead of before.
    pub norms_after_rope: bool,
    /// The layers with sliding windows.
    pub windows: Windows,
    /// The feed-forward layer.
    pub ffn: Ffn,
    /// The experts in its place, where files of the family can have them.
    pub mixture: Option<Mixture>,
    /// The tensor of the norm before the feed-forward layer.
    pub ffn_norm: &'static str,
    /// Reads the metadata that only some families have.
    pub traits: fn(&Keys, &Sizes) -> Result<Traits, ModelError>,
    /// Adds the family's ops, from the embedding to the logits.
    pub build: fn(&mut Decoder),
}

/// How a family tells positions apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Positions {
    /// Rotary embedding of pairs (2i, 2i+1).
    Neighbours,
    /// Rotary embedding of pairs (i, i + n_rot/2).
    Halves,
    /// Each position has an embedding.
    Learned,
    /// ALiBi, or embeddings where the file has them.
    Alibi,
}

/// The layers of a family with rotary embedding that do without it.
#[derive(Clone, Copy, Debug)]
pub(super) enum WithoutRope {
    /// None.
    None,
    /// Every nth.
    Every(usize),
    /// Those without a window, in a model in which some have one.
    WithoutWindow,
}

/// A feed-forward layer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ffn {
    /// `down(f(gate(x)) * up(x))`, or what else a gate does.
    Gated(Gate),
    /// `down(f(up(x)))`.
    Plain(Activation),
}

/// A gate without a limit.
const fn gated(f: Activation) -> Ffn {
    Ffn::Gated(Gate { f, limit: None })
}

/// The layers that have a sliding window where the metadata has one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Windows {
    /// The family is not known to have windows: a file that has one does not run.
    Unknown,
    /// All.
    All,
    /// Some. These may have a rotary base of their own.
    Some {
        /// All but every nth, unless the metadata has another pattern.
        all_but: u32,
        /// The window, where the metadata has none; 0: none.
        default: u64,
        /// The rotary base, where the metadata has none; without it, that of the other layers.
        base: Option<f64>,
        /// Whether they have the scaling of the other layers, instead of none.
        scaled: bool,
    },
}

const LLAMA: Family = Family {
    name: "llama",
    norm: NormKind::Rms,
    positions: Positions::Neighbours,
    without_rope: WithoutRope::None,
    norms_after_rope: false,
    windows: Windows::Unknown,
    ffn: gated(Activation::Silu),
    mixture: None,
    ffn_norm: "ffn_norm",
    traits: traits::none,
    build: llama::build,
};

const QWEN: Family = Family { positions: Positions::Halves, ..LLAMA };

/// Weights of a row's experts add up to 1.
const NORMED: Mixture = Mixture { is_normed: true, has_shared: false };

const GEMMA: Family = Family { ffn: gated(Activation::Gelu), traits: traits::gemma, ..QWEN };

const GPT2: Family = Family {
    norm: NormKind::Layer,
    positions: Positions::Learned,
    ffn: Ffn::Plain(Activation::Gelu),
    ..LLAMA
};

/// Every family that runs, a row each. What a row can say of a family, it need not write a builder for.
///
/// phi3: llama.cpp ignores the window that files have; the published model applies it in all layers.
/// gptneox, falcon, mpt: llama.cpp approximates GELU by tanh, the published models do not.
#[rustfmt::skip]
pub(super) const FAMILIES: &[Family] = &[
    Family { mixture: Some(NORMED), ..LLAMA },
    Family { name: "mistral3", traits: traits::mistral3, ..LLAMA },
    Family { name: "smollm3", without_rope: WithoutRope::Every(4), ..LLAMA },
    Family { name: "granite", traits: traits::granite, ..LLAMA },
    Family { name: "granitemoe", traits: traits::granite, mixture: Some(NORMED), ..LLAMA },
    Family { name: "minicpm", traits: traits::minicpm, ..LLAMA },
    Family { name: "ernie4_5", ..LLAMA },
    Family { name: "qwen2", ..QWEN },
    Family { name: "qwen3", ..QWEN },
    Family { name: "qwen2moe", mixture: Some(Mixture { is_normed: false, has_shared: true }), ..QWEN },
    Family { name: "qwen3moe", mixture: Some(NORMED), ..QWEN },
    Family { name: "olmoe", mixture: Some(Mixture { is_normed: false, has_shared: false }), ..QWEN },
    Family { name: "gpt-oss", windows: Windows::Some { all_but: 2, default: 0, base: None, scaled: true },
             ffn: Ffn::Gated(Gate { f: Activation::GeluQuick, limit: Some(7.0) }),
             ffn_norm: "post_attention_norm", mixture: Some(NORMED), ..QWEN },
    Family { name: "phi3", windows: Windows::All, ..QWEN },
    Family { name: "hunyuan-dense", norms_after_rope: true, ..QWEN },
    Family { name: "seed_oss", ffn_norm: "post_attention_norm", ..QWEN },
    Family { name: "olmo2", windows: Windows::Some { all_but: 4, default: 0, base: None, scaled: false },
             build: olmo2::build, ..QWEN },
    Family { name: "exaone4", windows: Windows::Some { all_but: 4, default: 0, base: None, scaled: false },
             build: olmo2::build, without_rope: WithoutRope::WithoutWindow, ..QWEN },
    Family { name: "glm4", build: gemma2::build, ..LLAMA },
    Family { name: "gemma", ..GEMMA },
    Family { name: "gemma2", windows: Windows::Some { all_but: 2, default: 4096, base: None, scaled: false },
             traits: traits::gemma2, build: gemma2::build, ..GEMMA },
    Family { name: "gemma3",
             windows: Windows::Some { all_but: 6, default: 0, base: Some(10_000.0), scaled: false },
             traits: traits::gemma3, build: gemma2::build, ..GEMMA },
    Family { name: "gpt2", ..GPT2 },
    Family { name: "mpt", positions: Positions::Alibi, ffn: Ffn::Plain(Activation::GeluErf),
             traits: traits::mpt, ..GPT2 },
    Family { name: "starcoder2", positions: Positions::Halves, ..GPT2 },
    Family { name: "stablelm", norm: NormKind::Layer, traits: traits::stablelm, build: parallel::stablelm,
             ..QWEN },
    Family { name: "command-r", norm: NormKind::Layer, traits: traits::command_r,
             build: parallel::phi2, ..LLAMA },
    Family { name: "gptneox", positions: Positions::Halves, ffn: Ffn::Plain(Activation::GeluErf),
             traits: traits::gptneox, build: parallel::gptneox, ..GPT2 },
    Family { name: "falcon", positions: Positions::Halves, ffn: Ffn::Plain(Activation::GeluErf),
             build: parallel::falcon, ..GPT2 },
    Family { name: "phi2", positions: Positions::Halves, build: parallel::phi2, ..GPT2 },
    Family { name: "gptj", positions: Positions::Neighbours, build: parallel::phi2, ..GPT2 },
];

/// The names of all families, for messages.
pub(super) fn families() -> String {
    FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>().join(", ")
}

/// The family of an architecture.
pub(super) fn family(architecture: &str) -> Result<&'static Family, ModelError> {
    let known = FAMILIES.iter().find(|family| family.name == architecture);
    known.ok_or_else(|| ModelError::Architecture(architecture.to_string()))
}
