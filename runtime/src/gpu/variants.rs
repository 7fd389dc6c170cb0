//! The kernel variants that a device runs.

use super::GpuInfo;
use serde::Serialize;
use std::fmt;

/// The precision of projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accuracy {
    /// Activations are floats.
    Exact,
    /// With 4-bit weights, activations are quantised to 8 bits in blocks of 32, so that kernels can use
    /// integer dot products. Other weights run as with `Exact`.
    Int8,
}

/// How the threads that share a row of weights add up their sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Lanes {
    /// Threads share no rows: each computes whole rows.
    One,
    /// In workgroup memory.
    Shared,
    /// By subgroup operations.
    Subgroup,
}

impl From<Lanes> for nomoat_shaders::Lanes {
    fn from(lanes: Lanes) -> Self {
        match lanes {
            Lanes::One => Self::One,
            Lanes::Shared => Self::Shared,
            Lanes::Subgroup => Self::Subgroup,
        }
    }
}

/// The most steps in flight at once. More would not hide more latency.
pub(super) const MAX_STEPS: u32 = 4;

/// The words of [`Variants`], for error messages.
const WORDS: &str = "exact, int8, one, shared, subgroup, few, tile, f32, f16 and steps:N";

/// The kernels to run, and how steps are scheduled. Its text is words separated by commas: `exact` or `int8`;
/// `one`, `shared` or `subgroup`, the last two optionally with `:LANES`; `few` or `tile`; `f32` or `f16`;
/// `steps:N`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Variants {
    /// The precision of projections.
    pub accuracy: Accuracy,
    /// How threads share rows in matrix-vector kernels.
    pub lanes: Lanes,
    /// Threads that share a row: a power of two, at most 64. Short rows use fewer.
    pub n_lanes: u32,
    /// Whether prefill stages tiles in workgroup memory. Otherwise, kernels compute a few rows at a time
    /// without barriers, which is faster on software adapters.
    pub tile: bool,
    /// Whether tiles are staged as f16.
    pub f16: bool,
    /// The most steps of an answer in flight at once, from 1 to 4.
    pub steps: u32,
}

impl Variants {
    /// The defaults for a device, before anything is measured.
    pub fn usual(info: &GpuInfo) -> Self {
        let lanes = match (info.is_fallback, info.subgroup_size) {
            (true, _) => Lanes::One,
            (false, 8..) => Lanes::Subgroup,
            (false, _) => Lanes::Shared,
        };
        let n_lanes = if lanes == Lanes::Subgroup { info.subgroup_size.min(32) } else { 32 };
        // On a software adapter, steps in flight hide no latency, and those after an answer's end waste time.
        let steps = if info.is_fallback { 1 } else { MAX_STEPS };
        Self { accuracy: Accuracy::Exact, lanes, n_lanes, tile: !info.is_fallback, f16: info.f16, steps }
    }

    /// The defaults, changed by these words. The error says which word is invalid and which ones are
    /// possible.
    pub fn parse(words: &str, info: &GpuInfo) -> Result<Self, String> {
        let mut all = Self::usual(info);
        for word in words.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (name, number) = word.split_once(':').map_or((word, None), |(name, n)| (name, Some(n)));
            match name {
                "exact" => all.accuracy = Accuracy::Exact,
                "int8" if info.packed_dot => all.accuracy = Accuracy::Int8,
                "int8" => return Err("int8: the device has no packed integer dot product; use exact".into()),
                "one" => all.lanes = Lanes::One,
                "shared" => (all.lanes, all.n_lanes) = (Lanes::Shared, 32),
                "subgroup" if info.subgroup_size > 0 => {
                    (all.lanes, all.n_lanes) = (Lanes::Subgroup, info.subgroup_size.min(32));
                }
                "subgroup" => return Err("subgroup: the device has no subgroups; use shared".into()),
                "few" => all.tile = false,
                "tile" => all.tile = true,
                "f32" => all.f16 = false,
                "f16" if info.f16 => all.f16 = true,
                "steps" => {}
                "f16" => return Err("f16: the device has no f16 arithmetic; use f32".into()),
                _ => return Err(format!("{name}: unknown word; use {WORDS}")),
            }
            match (name, number.map(|n| n.parse().unwrap_or(0))) {
                ("steps", Some(n @ 1..=MAX_STEPS)) => all.steps = n,
                ("steps", _) => return Err(format!("{word}: use steps:1 to steps:{MAX_STEPS}")),
                ("shared" | "subgroup", Some(n)) => {
                    let most = if all.lanes == Lanes::Subgroup { info.subgroup_size.min(64) } else { 64 };
                    if !u32::is_power_of_two(n) || n > most {
                        return Err(format!("{word}: the number must be a power of two, at most {most}"));
                    }
                    all.n_lanes = n;
                }
                (_, Some(_)) => return Err(format!("{word}: {name} takes no number; use {name}")),
                (_, None) => {}
            }
        }
        Ok(all)
    }
}

impl fmt::Display for Variants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accuracy = if self.accuracy == Accuracy::Int8 { "int8" } else { "exact" };
        let prefill = if self.tile { "tile" } else { "few" };
        let float = if self.f16 { "f16" } else { "f32" };
        let lanes = match self.lanes {
            Lanes::One => "one".into(),
            Lanes::Shared => format!("shared:{}", self.n_lanes),
            Lanes::Subgroup => format!("subgroup:{}", self.n_lanes),
        };
        write!(f, "{accuracy},{lanes},{prefill},{float},steps:{}", self.steps)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn info() -> GpuInfo {
        GpuInfo {
            name: "a GPU".into(),
            kernels: String::new(),
            backend: "vulkan".into(),
            driver: String::new(),
            is_fallback: false,
            f16: false,
            subgroup_size: 16,
            packed_dot: true,
            max_buffer_size: 1 << 28,
            max_binding_size: 1 << 27,
        }
    }

    #[test]
    fn words_change_the_defaults_and_are_parsed_back() {
        let usual = Variants::usual(&info());
        assert_eq!(usual.to_string(), "exact,subgroup:16,tile,f32,steps:4");
        for words in [
            "int8,shared:8,few,f32,steps:1",
            "exact,one,tile,f32,steps:4",
            "exact,subgroup:4,tile,f32,steps:2",
        ] {
            assert_eq!(Variants::parse(words, &info()).unwrap().to_string(), words);
        }
        assert_eq!(Variants::parse("", &info()).unwrap(), usual);
    }

    #[test]
    fn words_that_a_device_does_not_support_are_errors() {
        for words in ["f16", "quick", "subgroup:32", "shared:3", "shared:0", "steps", "steps:5", "tile:2"] {
            assert!(Variants::parse(words, &info()).is_err(), "{words}");
        }
        let old = GpuInfo { subgroup_size: 0, packed_dot: false, ..info() };
        assert_eq!(Variants::usual(&old).lanes, Lanes::Shared);
        assert!(Variants::parse("subgroup", &old).is_err());
        assert!(Variants::parse("int8", &old).is_err());
    }
}
