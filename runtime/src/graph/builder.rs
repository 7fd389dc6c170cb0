//! Builds graphs. There is one method per op, which adds the op and returns its output value.

use super::*;

/// A graph under construction. The caller must pass matching shapes; [`crate::model`] checks those of weights
/// against the file's tensors.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
}

impl Builder {
    /// The finished graph.
    pub fn finish(self) -> Graph {
        self.graph
    }

    /// An input: a value that no op writes.
    pub fn value(&mut self, domain: Domain, width: usize) -> ValueId {
        self.graph.values.push(Value { domain, width });
        ValueId(self.graph.values.len() - 1)
    }

    /// A matrix tensor `[n_rows, n_cols]`. The same name gives the same weight (tied embeddings).
    pub fn matrix(&mut self, tensor: impl Into<String>, n_rows: usize, n_cols: usize) -> WeightId {
        self.rows_of(tensor, 0, n_rows, n_cols)
    }

    /// `n_rows` rows of a matrix tensor of `n_cols` columns, starting at `first_row`.
    pub fn rows_of(
        &mut self,
        tensor: impl Into<String>,
        first_row: usize,
        n_rows: usize,
        n_cols: usize,
    ) -> WeightId {
        let source = Source::Tensor { name: tensor.into(), first_row };
        self.weight(Weight { source, is_vector: false, n_rows, n_cols, low_rank: None })
    }

    /// A matrix of the rows of several tensors, as many of each.
    pub fn joined(&mut self, tensors: Vec<String>, n_rows: usize, n_cols: usize) -> WeightId {
        let source = Source::Tensors(tensors);
        self.weight(Weight { source, is_vector: false, n_rows, n_cols, low_rank: None })
    }

    /// A vector tensor of `n` numbers.
    pub fn vector(&mut self, tensor: impl Into<String>, n: usize) -> WeightId {
        self.part_of_vector(tensor, 0, n)
    }

    /// `n` numbers of a vector tensor, starting at number `first`.
    pub fn part_of_vector(&mut self, tensor: impl Into<String>, first: usize, n: usize) -> WeightId {
        let source = Source::Tensor { name: tensor.into(), first_row: first };
        self.weight(Weight { source, is_vector: true, n_rows: 1, n_cols: n, low_rank: None })
    }

    /// A vector of constants. The same numbers give the same weight.
    pub fn constant(&mut self, numbers: Vec<f32>) -> WeightId {
        let n_cols = numbers.len();
        let source = Source::Constant(numbers);
        self.weight(Weight { source, is_vector: true, n_rows: 1, n_cols, low_rank: None })
    }

    fn weight(&mut self, weight: Weight) -> WeightId {
        let is_same = |w: &Weight| {
            (&w.source, w.n_rows, w.is_vector) == (&weight.source, weight.n_rows, weight.is_vector)
        };
        let known = self.graph.weights.iter().position(is_same);
        WeightId(known.unwrap_or_else(|| {
            self.graph.weights.push(weight);
            self.graph.weights.len() - 1
        }))
    }

    /// A layer of the KV pool with keys and values of so many floats.
    pub fn cache(&mut self, keys: usize, values: usize) -> CacheId {
        self.graph.caches.push(Cache { keys, values, format: KvFormat::F16 });
        CacheId(self.graph.caches.len() - 1)
    }

    fn like(&mut self, x: ValueId) -> ValueId {
        let Value { domain, width } = self.graph.value(x);
        self.value(domain, width)
    }

    /// Embedding lookup by token id, `[tokens, n_embd]`.
    pub fn embed(&mut self, weight: WeightId) -> ValueId {
        self.look_up(weight, Index::Id)
    }

    /// Learned position embedding, `[tokens, n_embd]`; the weight has a row for each position.
    pub fn embed_position(&mut self, weight: WeightId) -> ValueId {
        self.look_up(weight, Index::Position)
    }

    fn look_up(&mut self, weight: WeightId, by: Index) -> ValueId {
        let out = self.value(Domain::Tokens, self.graph.weight(weight).n_cols);
        self.graph.ops.push(Op::Embed { weight, by, out });
        out
    }

    /// A norm.
    pub fn norm(&mut self, x: ValueId, norm: Norm) -> ValueId {
        let out = self.like(x);
        self.graph.ops.push(Op::Norm { x, norm, out });
        out
    }

    /// Root mean square norm of each run of the weight's length, such as a row or a head.
    pub fn rms_norm(&mut self, x: ValueId, weight: WeightId, eps: f32) -> ValueId {
        let run = self.graph.weight(weight).n_cols;
        self.norm(x, Norm { kind: NormKind::Rms, run, weight: Some(weight), bias: None, eps })
    }

    /// `x · weightᵀ`, `[rows of x, n_rows of weight]`.
    pub fn matmul(&mut self, x: ValueId, weight: WeightId) -> ValueId {
        let out = self.value(self.graph.value(x).domain, self.graph.weight(weight).n_rows);
        self.graph.ops.push(Op::MatMul { x, weight, out });
        out
    }

    /// `x + bias`.
    pub fn bias(&mut self, x: ValueId, bias: WeightId) -> ValueId {
        let out = self.like(x);
        self.graph.ops.push(Op::Bias { x, bias, out });
        out
    }

    /// Rotary embedding.
    pub fn rope(&mut self, x: ValueId, rope: Rope) -> ValueId {
        let out = self.like(x);
        self.graph.ops.push(Op::Rope { x, rope, out });
        out
    }

    /// Writes `k` and `v` to a cache, then computes attention of `q` over the cache.
    pub fn attention(
        &mut self,
        q: ValueId,
        k: ValueId,
        v: ValueId,
        cache: CacheId,
        shape: Attention,
    ) -> ValueId {
        self.graph.ops.push(Op::KvWrite { x: k, cache, half: Half::Keys });
        self.graph.ops.push(Op::KvWrite { x: v, cache, half: Half::Values });
        self.attend(q, k, v, Some(cache), shape)
    }

    /// Attention of `q` over the step's own keys and values.
    pub fn attention_without_cache(
        &mut self,
        q: ValueId,
        k: ValueId,
        v: ValueId,
        shape: Attention,
    ) -> ValueId {
        self.attend(q, k, v, None, shape)
    }

    fn attend(
        &mut self,
        q: ValueId,
        k: ValueId,
        v: ValueId,
        cache: Option<CacheId>,
        shape: Attention,
    ) -> ValueId {
        let out = self.value(self.graph.value(q).domain, shape.n_heads * shape.value_dim);
        self.graph.ops.push(Op::Attention { q, k, v, cache, shape, out });
        out
    }

    /// `f(x)`.
    pub fn activate(&mut self, x: ValueId, f: Activation) -> ValueId {
        self.unary(x, Unary::Activation(f))
    }

    /// `factor * x`.
    pub fn scale(&mut self, x: ValueId, factor: f32) -> ValueId {
        self.unary(x, Unary::Scale(factor))
    }

    /// `cap * tanh(x / cap)`.
    pub fn soft_cap(&mut self, x: ValueId, cap: f32) -> ValueId {
        self.unary(x, Unary::SoftCap(cap))
    }

    /// x within `-limit` and `limit`.
    pub fn clamp(&mut self, x: ValueId, limit: f32) -> ValueId {
        self.unary(x, Unary::Clamp(limit))
    }

    /// A function of each number.
    pub fn unary(&mut self, x: ValueId, f: Unary) -> ValueId {
        let out = self.like(x);
        self.graph.ops.push(Op::Unary { x, f, out });
        out
    }

    /// A gate and its partner; see [`Gate`].
    pub fn gated(&mut self, gate: ValueId, up: ValueId, f: impl Into<Gate>) -> ValueId {
        let out = self.like(gate);
        self.graph.ops.push(Op::Gated { gate, up, f: f.into(), out });
        out
    }

    /// `a + b`.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let out = self.like(a);
        self.graph.ops.push(Op::Add { a, b, out });
        out
    }

    /// `a * b`.
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let out = self.like(a);
        self.graph.ops.push(Op::Mul { a, b, out });
        out
    }

    /// The experts of each row, `[rows, 2 * n_used]`, from the logits of all experts.
    pub fn route(&mut self, logits: ValueId, routing: Routing) -> ValueId {
        let out = self.value(self.graph.value(logits).domain, 2 * routing.n_used);
        self.graph.ops.push(Op::Route { logits, routing, out });
        out
    }

    /// Projections by the experts of each row, `[rows, n_used * rows of an expert]`.
    pub fn experts(&mut self, experts: Experts) -> ValueId {
        let n_used = self.graph.n_used(experts.route);
        let n_rows = self.graph.weight(experts.weight).n_rows / experts.n_experts;
        let out = self.value(self.graph.value(experts.x).domain, n_used * n_rows);
        self.graph.ops.push(Op::Experts { experts, out });
        out
    }

    /// The weighted sum of what each row's experts gave, `[rows, width / n_used]`.
    pub fn expert_sum(&mut self, x: ValueId, route: ValueId) -> ValueId {
        let Value { domain, width } = self.graph.value(x);
        let out = self.value(domain, width / self.graph.n_used(route));
        self.graph.ops.push(Op::ExpertSum { x, route, out });
        out
    }

    /// The rows of `x` whose logits are wanted.
    pub fn select_rows(&mut self, x: ValueId) -> ValueId {
        let out = self.value(Domain::Outputs, self.graph.value(x).width);
        self.graph.ops.push(Op::SelectRows { x, out });
        out
    }

    /// Sets what the logits are computed from, `[outputs, n_embd]`.
    pub fn hidden(&mut self, hidden: ValueId) {
        self.graph.hidden = Some(hidden);
    }

    /// Sets the logits of a language model, `[outputs, n_vocab]`.
    pub fn logits(&mut self, logits: ValueId) {
        self.graph.logits = Some(logits);
    }
}
