//! Cases of keys and values in blocks.

use super::{Attention, Builder, Case, Domain, Format, Rope, attention, attention_with_sinks};
use crate::graph::KvFormat;

/// The formats that have blocks.
pub const BLOCKS: [KvFormat; 2] = [KvFormat::Q8_0, KvFormat::Q4_0];

/// The case with keys and values in another format.
pub fn stored(mut case: Case, format: KvFormat) -> Case {
    case.graph.set_kv_format(format).unwrap();
    case.name += &format!(", in {}", format.name());
    case
}

/// Attention over cells with even and odd numbers of blocks, and every setting.
pub fn attentions() -> Vec<Case> {
    let new = Attention::new;
    let shapes = [
        (new(1, 1, 32), 1),
        (new(1, 1, 32), 70),
        (Attention { alibi: Some(8.0), value_dim: 64, ..new(3, 1, 32) }, 70),
        (new(9, 3, 64), 65),
        (Attention { window: 40, ..new(4, 4, 128) }, 130),
        (Attention { soft_cap: Some(1.5), ..new(4, 2, 96) }, 7),
        (Attention { value_dim: 32, ..new(2, 1, 256) }, 33),
    ];
    let sinks = Attention { window: 5, value_dim: 96, ..new(2, 2, 64) };
    let case = |format| {
        let cases = shapes.into_iter().map(|(shape, n_tokens)| attention(shape, n_tokens));
        let all = cases.chain([attention_with_sinks(sinks, 35)]);
        all.map(move |case| stored(case, format)).collect::<Vec<Case>>()
    };
    BLOCKS.into_iter().flat_map(case).collect()
}

/// Queries, keys and values that are projected, rotated and written in one group, with results that floats
/// hold exactly: each row of a weight has one number, a power of two, and nothing is turned. So quants are
/// the same, however the sums are computed.
pub fn exact_heads(format: KvFormat, steps: &[usize]) -> Case {
    let (n_embd, n_heads, head_dim) = (64, 4, 96);
    let mut g = Builder::default();
    let x = g.value(Domain::Tokens, n_embd);
    let n_rot = 32;
    let turns = g.constant(vec![0.0; n_rot / 2]);
    let factors = g.constant(vec![1.0; n_rot / 2]);
    let rope = Rope { n_heads, head_dim, n_rot, neox: true, turns, factors, magnitude: 1.0 };
    // Three blocks in a head of one key head: cells have odd numbers of blocks of keys and of values.
    let [q, k, v] = [("F32:q", n_heads), ("F32:k", 1), ("F32:v", 1)].map(|(name, n_heads)| {
        let weight = g.matrix(name, n_heads * head_dim, n_embd);
        g.matmul(x, weight)
    });
    let q = g.rope(q, rope);
    let k = g.rope(k, Rope { n_heads: 1, ..rope });
    let cache = g.cache(head_dim, head_dim);
    g.attention(q, k, v, cache, Attention::new(n_heads, 1, head_dim));
    let n_tokens: usize = steps.iter().sum();
    let mut case = Case::new(format!("exact heads {steps:?}"), g.finish(), n_tokens as u32, 1e-3);
    case.steps = steps.to_vec();
    for (weight, (of, bytes)) in case.graph.weights.iter().zip(&mut case.weights) {
        if weight.n_cols == n_embd {
            assert_eq!(*of, Format::F32);
            let mut numbers = vec![0.0_f32; weight.n_rows * n_embd];
            for (row, numbers) in numbers.chunks_exact_mut(n_embd).enumerate() {
                numbers[(row * 29 + weight.n_rows) % n_embd] = [0.5, -1.0, 2.0][row % 3];
            }
            *bytes = bytemuck::cast_slice(&numbers).to_vec();
        }
    }
    stored(case, format)
}
