//! Mixtures of experts: a router chooses some of many feed-forward layers for each row (arXiv 1701.06538,
//! 2401.04088). Some families have a shared expert beside them, which every row uses.

use super::blocks::Decoder;
use super::family::{Family, Ffn};
use super::keys::Keys;
use super::{ModelError, Tensors};
use crate::graph::{Experts, Gate, Graph, Op, Routing, Score, Source, ValueId};

/// Far above any published model; numbers of experts are exact as floats.
const MAX_EXPERTS: usize = 1024;

/// What files of a family with experts do not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mixture {
    /// Whether the weights of a row's experts are divided by their sum.
    pub is_normed: bool,
    /// Whether there is a shared expert, even if no key gives its size.
    pub has_shared: bool,
}

/// A mixture of experts in place of each feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertConfig {
    /// Experts of a layer.
    pub n_experts: usize,
    /// How rows choose theirs.
    pub routing: Routing,
    /// Floats between an expert's matrices.
    pub n_ff: usize,
    /// Floats between those of the shared expert; 0: there is none.
    pub n_shared: usize,
}

/// Reads the keys; none if the model has no experts. `n_ff` is the width of a plain feed-forward layer.
pub(super) fn experts(keys: &Keys, family: &Family, n_ff: usize) -> Result<Option<ExpertConfig>, ModelError> {
    if keys.u64("expert_count")?.unwrap_or(0) == 0 {
        return Ok(None);
    }
    let Some(mixture) = family.mixture else {
        return Err(ModelError::Feature(format!("a mixture of experts in the family {}", family.name)));
    };
    let (n_experts, n_used) = (keys.required("expert_count")?, keys.required("expert_used_count")?);
    if n_experts > MAX_EXPERTS {
        return Err(ModelError::Feature(format!("{n_experts} experts, more than {MAX_EXPERTS}")));
    }
    if n_used > n_experts {
        let message = format!("{} is {n_used}, but there are {n_experts}", keys.key("expert_used_count"));
        return Err(ModelError::Inconsistent(message));
    }
    let score = match keys.u64("expert_gating_func")? {
        None | Some(0..=1) => (Score::Softmax, mixture.is_normed),
        Some(2) => (Score::Sigmoid, mixture.is_normed),
        // The softmax of those in use.
        Some(3) => (Score::Softmax, true),
        Some(n) => {
            return Err(ModelError::Feature(format!("{} = {n}", keys.key("expert_gating_func"))));
        }
    };
    let is_normed = keys.bool("expert_weights_norm")?.unwrap_or(score.1);
    let scale = keys.f32("expert_weights_scale")?.filter(|scale| *scale != 0.0).unwrap_or(1.0);
    let shared = keys.u64("expert_shared_feed_forward_length")?.filter(|n| *n > 0);
    let n_shared = match shared {
        Some(_) => keys.required("expert_shared_feed_forward_length")?,
        None if mixture.has_shared => n_ff,
        None => 0,
    };
    Ok(Some(ExpertConfig {
        n_experts,
        routing: Routing { n_used, score: score.0, is_normed, scale },
        n_ff: keys.count("expert_feed_forward_length")?.unwrap_or(n_ff),
        n_shared,
    }))
}

impl Decoder<'_> {
    /// The mixture of experts of the rows `h`, `[tokens, n_embd]`.
    pub fn mixture(&mut self, h: ValueId, layer: usize, experts: ExpertConfig) -> ValueId {
        let ExpertConfig { n_experts, routing, n_ff, n_shared } = experts;
        let n_embd = self.c.n_embd;
        let name = |part: &str| format!("blk.{layer}.ffn_{part}");
        let gate = match self.family.ffn {
            Ffn::Gated(gate) => gate,
            Ffn::Plain(f) => f.into(),
        };
        let logits = self.project(h, &name("gate_inp"), n_experts, n_embd);
        let route = self.g.route(logits, routing);
        let shape = [n_experts, n_ff, n_embd];
        let [gates, ups] = ["gate_exps", "up_exps"].map(|part| self.by_experts(h, route, &name(part), shape));
        let f = self.g.gated(gates, ups, gate); // [tokens, n_used * n_ff]
        let y = self.by_experts(f, route, &name("down_exps"), [n_experts, n_embd, n_ff]);
        let sum = self.g.expert_sum(y, route);
        if n_shared == 0 {
            return sum;
        }
        let shared = self.shared(h, layer, n_shared, gate);
        self.g.add(sum, shared)
    }

    /// Projections of `x` by the experts of the route, with the tensors `{name}.weight` and, where the file
    /// has it, `{name}.bias`. Files of Mixtral from before April 2024 have a tensor for each expert, such as
    /// `blk.0.ffn_gate.7.weight` in place of `blk.0.ffn_gate_exps.weight`.
    fn by_experts(
        &mut self,
        x: ValueId,
        route: ValueId,
        name: &str,
        [n_experts, n_rows, n_cols]: [usize; 3],
    ) -> ValueId {
        let (merged, stem) = (format!("{name}.weight"), name.trim_end_matches("_exps"));
        let apart: Vec<String> = (0..n_experts).map(|expert| format!("{stem}.{expert}.weight")).collect();
        let weight = match !self.has(&merged) && apart.iter().any(|name| self.has(name)) {
            true => self.g.joined(apart, n_experts * n_rows, n_cols),
            false => self.g.matrix(merged, n_experts * n_rows, n_cols),
        };
        let bias = format!("{name}.bias");
        let bias = self.has(&bias).then(|| self.g.vector(bias, n_experts * n_rows));
        self.g.experts(Experts { x, route, n_experts, weight, bias })
    }

    /// The shared expert. Some have a gate for each row: a number, as a router gives it to its only expert.
    fn shared(&mut self, h: ValueId, layer: usize, n_ff: usize, gate: Gate) -> ValueId {
        let n_embd = self.c.n_embd;
        let name = |part: &str| format!("blk.{layer}.ffn_{part}");
        let [gates, ups] = ["gate_shexp", "up_shexp"].map(|part| self.project(h, &name(part), n_ff, n_embd));
        let f = self.g.gated(gates, ups, gate);
        let y = self.project(f, &name("down_shexp"), n_embd, n_ff);
        if !self.has(&format!("{}.weight", name("gate_inp_shexp"))) {
            return y;
        }
        let logit = self.project(h, &name("gate_inp_shexp"), 1, n_embd);
        let routing = Routing { n_used: 1, score: Score::Sigmoid, is_normed: false, scale: 1.0 };
        let route = self.g.route(logit, routing);
        self.g.expert_sum(y, route)
    }
}

/// Checks that the tensors of experts have a matrix for each expert, in this order of dimensions.
pub(super) fn check_shapes(graph: &Graph, tensors: &Tensors) -> Result<(), ModelError> {
    for op in &graph.ops {
        let Op::Experts { experts, .. } = op else { continue };
        let weight = graph.weight(experts.weight);
        let Source::Tensor { name, .. } = &weight.source else { continue };
        let n_experts = experts.n_experts;
        let expected = [n_experts, weight.n_rows / n_experts, weight.n_cols].map(|n| n as u64);
        match tensors.get(name) {
            Some(tensor) if tensor.shape != expected => {
                let found = &tensor.shape;
                let message =
                    format!("tensor {name} has shape {found:?} but the metadata asks for {expected:?}");
                return Err(ModelError::Inconsistent(message));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::testing::TestModel;
    use crate::gguf::Value;

    /// Four experts, two for each row.
    fn mixture(shape: &[u64]) -> TestModel {
        let mut model =
            TestModel::new().with("llama.expert_count", 4_u32).with("llama.expert_used_count", 2_u32);
        for layer in 0..2 {
            for part in ["gate", "up", "down"] {
                model = model.without_tensor(&format!("blk.{layer}.ffn_{part}.weight"));
            }
            model = model
                .with_tensor(&format!("blk.{layer}.ffn_gate_inp.weight"), &[4, 32])
                .with_tensor(&format!("blk.{layer}.ffn_gate_exps.weight"), shape)
                .with_tensor(&format!("blk.{layer}.ffn_up_exps.weight"), &[4, 64, 32])
                .with_tensor(&format!("blk.{layer}.ffn_down_exps.weight"), &[4, 32, 64]);
        }
        model
    }

    #[test]
    fn tensors_have_a_matrix_for_each_expert() {
        assert!(mixture(&[4, 64, 32]).graph().is_ok());
        for shape in [&[64, 4, 32][..], &[256, 32], &[3, 64, 32], &[8, 64, 32]] {
            let error = mixture(shape).graph().unwrap_err().to_string();
            assert!(error.contains("ffn_gate_exps.weight has shape"), "{error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_key() {
        let refused = |key: &str, value: Value| {
            let error = mixture(&[4, 64, 32]).with(key, value).graph().unwrap_err().to_string();
            assert!(error.contains(key.trim_start_matches("llama.")), "{error}");
        };
        refused("llama.expert_used_count", 5_u32.into());
        refused("llama.expert_used_count", 0_u32.into());
        refused("llama.expert_gating_func", 9_u32.into());
        refused("llama.expert_group_count", 2_u32.into());
        refused("llama.expert_weights_norm", 2_u32.into());
        let error =
            mixture(&[4, 64, 32]).with("llama.expert_count", 2000_u32).graph().unwrap_err().to_string();
        assert!(error.contains("2000 experts"), "{error}");
        let error = mixture(&[4, 64, 32]).without("llama.expert_used_count").graph().unwrap_err().to_string();
        assert!(error.contains("expert_used_count is missing"), "{error}");
    }
}
