//! How layers turn positions: the rotary frequencies of a layer, and their scalings for long contexts.

use super::ModelError;
use super::config::MAX_CONTEXT;
use super::keys::Keys;
use std::f64::consts::TAU;

/// A scaling of rotary embeddings for contexts longer than the model was first trained for. Linear scaling
/// (arXiv 2306.15595) multiplies positions by [`Self::scale`]; YaRN (arXiv 2309.00071) does so only to pairs
/// that turn slowly. Llama 3's and long rope's divisors are tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RopeScaling {
    /// Factor on positions.
    pub scale: f64,
    /// Which pairs keep their positions.
    pub ramp: Option<Ramp>,
    /// Factor on the rotated floats.
    pub magnitude: f64,
}

/// YaRN's ramp from pairs that turn often in the first context, which keep their positions, to those that
/// turn seldom, whose positions are scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// How much of the ramp is used: 1 is YaRN, 0 linear scaling.
    pub mix: f64,
    /// Turns in the first context above which a pair keeps its positions.
    pub fast: f64,
    /// Turns below which they are scaled in full.
    pub slow: f64,
    /// Positions of the first context.
    pub context: f64,
}

impl RopeScaling {
    /// No scaling.
    pub const NONE: Self = Self { scale: 1.0, ramp: None, magnitude: 1.0 };

    /// Turns (of 2π) per position of each pair, `[n_rot / 2]`. Without scaling these are
    /// base^(−2i/n_rot) / 2π (arXiv 2104.09864, section 3.2.2).
    pub fn turns(&self, base: f64, n_rot: usize) -> Vec<f32> {
        let keeps = |pair: usize| self.ramp.map_or(0.0, |ramp| ramp.keeps(pair, base, n_rot));
        (0..n_rot / 2)
            .map(|i| {
                let frequency = base.powf(-2.0 * i as f64 / n_rot as f64);
                let kept = keeps(i);
                (frequency * (self.scale * (1.0 - kept) + kept) / TAU) as f32
            })
            .collect()
    }
}

impl Ramp {
    /// How much of a pair's positions is kept, from 0 to 1. The ramp's ends are whole pairs, as in the
    /// paper's code.
    fn keeps(&self, pair: usize, base: f64, n_rot: usize) -> f64 {
        // The pair that turns so often in the first context.
        let pair_of = |turns: f64| n_rot as f64 * (self.context / (turns * TAU)).ln() / (2.0 * base.ln());
        let low = pair_of(self.fast).floor().max(0.0);
        let high = pair_of(self.slow).ceil().min(n_rot as f64 - 1.0);
        let along = (pair as f64 - low) / (high - low).max(0.001);
        self.mix * (1.0 - along.clamp(0.0, 1.0))
    }
}

/// What the keys say of scaling.
pub(super) struct Scalings {
    /// The scaling of layers.
    pub scaling: RopeScaling,
    /// Positions of the first context.
    pub original_context: usize,
    /// Whether frequencies are divided by one of two tensors, for contexts up to the first and for longer
    /// ones.
    pub is_long_rope: bool,
}

/// Reads the keys `rope.scal*`, old ones included. A factor without a type is linear.
pub(super) fn scalings(keys: &Keys, context_length: usize) -> Result<Scalings, ModelError> {
    let key = |name: &str| keys.key(&format!("rope.scaling.{name}"));
    let number = |name: &str| keys.f32(&format!("rope.scaling.{name}")).map(|x| x.map(f64::from));
    let kind = keys.str("rope.scaling.type")?.unwrap_or("linear");
    let is_yarn = match kind {
        "none" | "linear" | "longrope" | "su" => false,
        "yarn" => true,
        other => return Err(ModelError::Feature(format!("rope scaling of type \"{other}\""))),
    };
    let (new, old) = (number("factor")?, keys.f32("rope.scale_linear")?.map(f64::from));
    if let (Some(new), Some(old)) = (new, old)
        && new != old
    {
        let (new_key, old_key) = (key("factor"), keys.key("rope.scale_linear"));
        return Err(ModelError::Inconsistent(format!("{new_key} is {new}, but {old_key} is {old}")));
    }
    let factor = match new.or(old) {
        _ if kind == "none" => 1.0,
        None if keys.has("rope.scaling.type") && (is_yarn || kind == "linear") => {
            return Err(ModelError::Inconsistent(format!("{kind} rope scaling needs {}", key("factor"))));
        }
        // Files say 0 where there is none.
        None | Some(0.0) => 1.0,
        Some(factor) if factor > 0.0 => factor,
        Some(factor) => {
            return Err(ModelError::Inconsistent(format!("{} is {factor}, not positive", key("factor"))));
        }
    };
    let original_context = keys.u64("rope.scaling.original_context_length")?.filter(|n| *n > 0);
    let original_context = original_context.map_or(context_length, |n| n.min(MAX_CONTEXT) as usize);
    let (fast, slow) = (number("yarn_beta_fast")?.unwrap_or(32.0), number("yarn_beta_slow")?.unwrap_or(1.0));
    if !(slow > 0.0 && fast > slow) {
        let (fast_key, slow_key) = (key("yarn_beta_fast"), key("yarn_beta_slow"));
        return Err(ModelError::Inconsistent(format!("{fast_key} is {fast} and {slow_key} {slow}")));
    }
    let mix = number("yarn_ext_factor")?.unwrap_or(f64::from(u8::from(is_yarn)));
    let ramp = (mix != 0.0).then_some(Ramp { mix, fast, slow, context: original_context as f64 });
    let of_all = number("yarn_log_multiplier")?.unwrap_or(0.0);
    let of_yarn = number("yarn_attn_factor")?.unwrap_or(1.0);
    let magnitude = match ramp {
        None => of_yarn,
        // Converters write two settings of other programs into this key, which mean different things.
        Some(_) if of_yarn != 1.0 => {
            let message = format!("the metadata key {} = {of_yarn}", key("yarn_attn_factor"));
            return Err(ModelError::Feature(message));
        }
        Some(_) => growth(factor, 1.0) / if of_all == 0.0 { 1.0 } else { growth(factor, of_all) },
    };
    let magnitude = magnitude * number("attn_factor")?.unwrap_or(1.0);
    if !(magnitude.is_finite() && magnitude > 0.0) {
        return Err(ModelError::Inconsistent(format!(
            "{} makes a factor of {magnitude}",
            key("attn_factor")
        )));
    }
    Ok(Scalings {
        scaling: RopeScaling { scale: 1.0 / factor, ramp, magnitude },
        original_context,
        is_long_rope: matches!(kind, "longrope" | "su"),
    })
}

/// How much longer YaRN makes queries and keys of contexts that are longer by a factor (section 3.4).
fn growth(factor: f64, multiplier: f64) -> f64 {
    if factor <= 1.0 { 1.0 } else { 1.0 + 0.1 * multiplier * factor.ln() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::TestModel;
    use super::*;

    const TYPE: &str = "llama.rope.scaling.type";
    const FACTOR: &str = "llama.rope.scaling.factor";
    const OLD_FACTOR: &str = "llama.rope.scale_linear";

    fn scaling(model: &TestModel) -> RopeScaling {
        model.config().unwrap().layers[0].rope_scaling
    }

    fn refused(model: &TestModel, words: &str) {
        let message = model.config().unwrap_err().to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }

    #[test]
    fn a_factor_is_linear_whatever_key_it_has() {
        let linear = RopeScaling { scale: 0.25, ..RopeScaling::NONE };
        let model = TestModel::new;
        assert_eq!(scaling(&model()), RopeScaling::NONE);
        assert_eq!(scaling(&model().with(FACTOR, 4.0_f32).with(TYPE, "linear")), linear);
        assert_eq!(scaling(&model().with(FACTOR, 4.0_f32)), linear);
        assert_eq!(scaling(&model().with(FACTOR, 4_u32)), linear);
        assert_eq!(scaling(&model().with(OLD_FACTOR, 4.0_f32)), linear);
        assert_eq!(scaling(&model().with(OLD_FACTOR, 4.0_f32).with(FACTOR, 4.0_f32)), linear);
        assert_eq!(scaling(&model().with(FACTOR, 4.0_f32).with(TYPE, "none")), RopeScaling::NONE);
        assert_eq!(scaling(&model().with(FACTOR, 0.0_f32)), RopeScaling::NONE);
        refused(&model().with(OLD_FACTOR, 4.0_f32).with(FACTOR, 2.0_f32), OLD_FACTOR);
        refused(&model().with(FACTOR, -4.0_f32), FACTOR);
        refused(&model().with(FACTOR, f32::NAN), FACTOR);
        refused(&model().with(FACTOR, "4"), FACTOR);
        refused(&model().with(TYPE, "linear"), FACTOR);
        refused(&model().with(TYPE, "yarn"), FACTOR);
        refused(&model().with(TYPE, 1_u32), TYPE);
    }

    /// The numbers are those of transformers' `_compute_yarn_parameters` for heads of 16 floats, base 10000,
    /// factor 4 and 64 positions at first; written again in numpy.
    #[test]
    fn yarn_scales_pairs_that_turn_slowly() {
        let model = TestModel::new()
            .with(TYPE, "yarn")
            .with(FACTOR, 4.0_f32)
            .with("llama.rope.scaling.original_context_length", 64_u32);
        let config = model.config().unwrap();
        let expected = [
            1.0,
            2.371_708_245_126e-1,
            5e-2,
            7.905_694_150_421e-3,
            2.5e-3,
            7.905_694_150_421e-4,
            2.5e-4,
            7.905_694_150_421e-5,
        ];
        for (turns, expected) in config.rope_turns(0).iter().zip(expected) {
            assert!((f64::from(*turns) * TAU / expected - 1.0).abs() < 1e-6, "{turns} {expected}");
        }
        assert!((scaling(&model).magnitude - 1.138_629_436_111_989).abs() < 1e-12);
        let magnitude = |key: &str, x: f32| scaling(&model.clone().with(key, x)).magnitude;
        // A multiplier of 1 for all cancels YaRN's own.
        assert!((magnitude("llama.rope.scaling.yarn_log_multiplier", 1.0) - 1.0).abs() < 1e-12);
        assert!((magnitude("llama.rope.scaling.attn_factor", 0.5) - 0.569_314_718_055_994_5).abs() < 1e-9);
        // Without extrapolation it is linear.
        let linear = model.clone().with("llama.rope.scaling.yarn_ext_factor", 0.0_f32);
        assert_eq!(scaling(&linear), RopeScaling { scale: 0.25, ..RopeScaling::NONE });
        refused(
            &model.clone().with("llama.rope.scaling.yarn_attn_factor", 0.5_f32),
            "yarn_attn_factor = 0.5",
        );
        refused(&model.clone().with("llama.rope.scaling.yarn_beta_fast", 0.5_f32), "yarn_beta_fast");
        refused(&model.clone().with("llama.rope.freq_base", 1.0_f32), "freq_base");
    }

    #[test]
    fn long_rope_divides_by_the_tensor_for_the_context() {
        use super::super::blocks::{LONG_FACTORS, SHORT_FACTORS};
        use super::super::{Tensors, build};
        use crate::graph::Op;
        let model = TestModel::new()
            .with(TYPE, "longrope")
            .with("llama.rope.scaling.original_context_length", 64_u32)
            .with("llama.rope.scaling.attn_factor", 1.25_f32)
            .with_tensor(SHORT_FACTORS, &[8])
            .with_tensor(LONG_FACTORS, &[8]);
        let used = |positions: usize| {
            let mut config = model.config().unwrap();
            config.positions = positions;
            let graph = build(&config, &Tensors::of(&[model.header()]).unwrap()).unwrap();
            let rope = graph
                .ops
                .iter()
                .find_map(|op| if let Op::Rope { rope, .. } = op { Some(*rope) } else { None });
            let rope = rope.unwrap();
            (graph.weight(rope.factors).source.name().to_string(), rope.magnitude)
        };
        assert_eq!(used(64), (SHORT_FACTORS.to_string(), 1.25));
        assert_eq!(used(65), (LONG_FACTORS.to_string(), 1.25));
        let without = model.clone().without_tensor(LONG_FACTORS).graph().unwrap_err().to_string();
        assert!(without.contains(LONG_FACTORS) && without.contains("missing"), "{without}");
        // Without long rope, nothing uses them.
        let both = TestModel::new().with_tensor("rope_freqs.weight", &[8]).with_tensor(LONG_FACTORS, &[8]);
        assert!(both.graph().unwrap_err().to_string().contains(LONG_FACTORS));
    }
}
