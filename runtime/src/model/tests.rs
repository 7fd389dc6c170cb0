//! Configurations and graphs from the headers of small files.

use super::family::FAMILIES;
use super::testing::{CONTEXT, TestModel, words};
use super::*;
use crate::gguf::Value;
use crate::graph::{Op, Rope, Source};

/// The message of an error, after a check of its kind.
fn inconsistent<T: std::fmt::Debug>(result: Result<T, ModelError>) -> String {
    match result {
        Err(ModelError::Inconsistent(message)) => message,
        other => panic!("not inconsistent: {other:?}"),
    }
}

fn unsupported<T: std::fmt::Debug>(result: Result<T, ModelError>) -> String {
    match result {
        Err(ModelError::Feature(message)) => message,
        other => panic!("supported: {other:?}"),
    }
}

fn count(graph: &Graph, is: impl Fn(&Op) -> bool) -> usize {
    graph.ops.iter().filter(|op| is(op)).count()
}

fn ropes(graph: &Graph) -> Vec<Rope> {
    let rope = |op: &Op| if let Op::Rope { rope, .. } = op { Some(*rope) } else { None };
    graph.ops.iter().filter_map(rope).collect()
}

#[test]
fn a_llama_has_the_ops_of_its_layers() {
    let model = TestModel::new();
    let config = model.config().unwrap();
    let layer = LayerConfig {
        n_heads: 4,
        n_kv_heads: 2,
        n_ff: 64,
        window: 0,
        rope_base: 1e4,
        rope_scaling: RopeScaling::NONE,
        has_rope: true,
    };
    assert_eq!(config.layers, [layer; 2]);
    assert_eq!((config.n_embd, config.head_dim, config.n_rot), (32, 16, 16));
    assert_eq!((config.n_vocab, config.context_length), (words().len(), CONTEXT));
    let graph = model.graph().unwrap();
    assert_eq!(count(&graph, |op| matches!(op, Op::MatMul { .. })), 2 * 7 + 1);
    assert_eq!(count(&graph, |op| matches!(op, Op::Norm { .. })), 2 * 2 + 1);
    assert_eq!(count(&graph, |op| matches!(op, Op::Bias { .. })), 0);
    assert_eq!(graph.caches.iter().map(|cache| cache.width()).collect::<Vec<_>>(), [64, 64]);
    assert_eq!(graph.n_vocab(), words().len());
    // Pairs of the llama family are neighbours; queries have 4 heads, keys 2.
    let heads: Vec<_> = ropes(&graph).iter().map(|rope| (rope.n_heads, rope.head_dim, rope.neox)).collect();
    assert_eq!(heads, [(4, 16, false), (2, 16, false)].repeat(2));
}

#[test]
fn every_family_has_a_name_of_its_own() {
    for (i, family) in FAMILIES.iter().enumerate() {
        assert!(check_architecture(family.name).is_ok());
        assert!(FAMILIES[..i].iter().all(|other| other.name != family.name));
    }
    let error = TestModel::new().with("general.architecture", "mamba").config().unwrap_err();
    assert!(matches!(error, ModelError::Architecture(_)));
    let message = error.to_string();
    assert!(message.contains("\"mamba\"") && message.contains("llama"), "{message}");
}

#[test]
fn the_embedding_is_the_output_where_the_file_has_none() {
    let logits_weight = |graph: &Graph| {
        let logits = graph.logits.unwrap();
        let weight = |op: &Op| match op {
            Op::MatMul { weight, out, .. } if *out == logits => Some(*weight),
            _ => None,
        };
        let weight = graph.ops.iter().find_map(weight).unwrap();
        graph.weight(weight).source.name().to_string()
    };
    let tied = TestModel::new();
    assert_eq!(logits_weight(&tied.graph().unwrap()), "token_embd.weight");
    let own = tied.with_tensor("output.weight", &[words().len() as u64, 32]);
    assert_eq!(logits_weight(&own.graph().unwrap()), "output.weight");
}

#[test]
fn every_shape_is_checked() {
    let model = TestModel::new();
    for (name, shape) in model.tensors.clone() {
        for n in [shape[0] - 1, shape[0] + 32] {
            let mut other = shape.clone();
            other[0] = n;
            let message = inconsistent(model.clone().with_tensor(&name, &other).graph());
            assert!(message.contains(&format!("{name} has shape {other:?}")), "{message}");
            assert!(message.contains(&shape[0].to_string()), "{message}");
        }
        if let [n_rows, n_cols] = shape[..] {
            let message = inconsistent(model.clone().with_tensor(&name, &[n_rows, 2 * n_cols]).graph());
            assert!(message.contains(&format!("{shape:?}")), "{message}");
        }
        let message = inconsistent(model.clone().without_tensor(&name).graph());
        assert!(message.contains(&name) && message.contains("missing"), "{message}");
    }
}

/// What a model leaves out, it computes wrongly.
#[test]
fn a_tensor_that_nothing_uses_is_an_error() {
    for name in ["blk.0.attn_gate.weight", "blk.2.attn_q.weight", "blk.0.ffn_up_shexp.weight"] {
        let message = unsupported(TestModel::new().with_tensor(name, &[64, 32]).graph());
        assert!(message.contains(name), "{message}");
    }
}

/// Files of NVFP4 weights have one beside each matrix; without it, products are wrong.
#[test]
fn a_scale_of_a_tensor_is_refused_as_what_it_is() {
    for name in ["blk.0.attn_q.scale", "blk.1.ffn_down.input_scale", "output.scale"] {
        let message = unsupported(TestModel::new().with_tensor(name, &[1]).graph());
        assert!(message.contains(name) && message.contains("a scale of a whole tensor"), "{message}");
    }
}

#[test]
fn a_tensor_in_two_files_is_an_error() {
    let header = TestModel::new().header();
    assert!(inconsistent(Tensors::of(&[header.clone(), header]).map(|_| ())).contains("occurs twice"));
}

#[test]
fn biases_and_norms_of_heads_are_used_where_the_file_has_them() {
    let model = TestModel::new()
        .with_tensor("blk.0.attn_q.bias", &[64])
        .with_tensor("blk.1.attn_k_norm.weight", &[16]);
    let graph = model.graph().unwrap();
    assert_eq!(count(&graph, |op| matches!(op, Op::Bias { .. })), 1);
    assert_eq!(count(&graph, |op| matches!(op, Op::Norm { .. })), 2 * 2 + 1 + 1);
    // The norm comes before the rotary embedding of the same keys.
    let norm = graph.ops.iter().find_map(|op| match op {
        Op::Norm { norm, out, .. } if norm.run == 16 => Some(*out),
        _ => None,
    });
    assert!(graph.ops.iter().any(|op| matches!(op, Op::Rope { x, .. } if Some(*x) == norm)));
    let message = inconsistent(TestModel::new().with_tensor("blk.0.attn_q.bias", &[32]).graph());
    assert!(message.contains("attn_q.bias"), "{message}");
}

#[test]
fn layers_may_differ() {
    let model = TestModel::new().with_tensor("blk.1.ffn_gate.weight", &[96, 32]);
    let model =
        model.with_tensor("blk.1.ffn_up.weight", &[96, 32]).with_tensor("blk.1.ffn_down.weight", &[32, 96]);
    let mut config = model.config().unwrap();
    config.layers[1].n_ff = 96;
    config.layers[1].window = 8;
    let graph = build(&config, &Tensors::of(&[model.header()]).unwrap()).unwrap();
    let windows: Vec<u32> = graph
        .ops
        .iter()
        .filter_map(|op| if let Op::Attention { shape, .. } = op { Some(shape.window) } else { None })
        .collect();
    assert_eq!(windows, [0, 8]);
}

#[test]
fn frequencies_and_their_divisors() {
    // base^(−2i/n) / 2π: the first pair turns by one radian a position, the fifth of eight by 1/100.
    let turns = TestModel::new().config().unwrap().rope_turns(0);
    assert_eq!(turns.len(), 8);
    assert!((turns[0] * std::f32::consts::TAU - 1.0).abs() < 1e-6);
    assert!((turns[4] * std::f32::consts::TAU - 0.01).abs() < 1e-8);
    let scaled = TestModel::new()
        .with("llama.rope.scaling.type", "linear")
        .with("llama.rope.scaling.factor", 4.0_f32)
        .with("llama.rope.freq_base", 1e6_f32);
    let turns = scaled.config().unwrap().rope_turns(0);
    assert!((turns[4] * std::f32::consts::TAU - 0.25e-3).abs() < 1e-9);

    let graph = TestModel::new().with_tensor("rope_freqs.weight", &[8]).graph().unwrap();
    for rope in ropes(&graph) {
        assert_eq!(graph.weight(rope.factors).source.name(), "rope_freqs.weight");
    }
    let partial = TestModel::new().with("llama.rope.dimension_count", 8_u32).graph().unwrap();
    assert!(ropes(&partial).iter().all(|rope| (rope.n_rot, rope.head_dim) == (8, 16)));
}

#[test]
fn metadata_out_of_range_is_an_error() {
    let numbers = [
        "llama.embedding_length",
        "llama.block_count",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.context_length",
        "llama.attention.layer_norm_rms_epsilon",
    ];
    for key in numbers {
        assert!(inconsistent(TestModel::new().without(key).config()).contains(key));
    }
    for key in &numbers[..5] {
        for value in [Value::U32(0), Value::F32(0.5), Value::String("4".into()), Value::I32(-1)] {
            assert!(inconsistent(TestModel::new().with(key, value).config()).contains(key));
        }
    }
    let with = |key: &str, value: Value| TestModel::new().with(key, value).config();
    for key in &numbers[..4] {
        assert!(inconsistent(with(key, Value::U64(1 << 40))).contains(key));
    }
    assert!(inconsistent(with("llama.block_count", 2000_u32.into())).contains("block_count is 2000"));
    assert!(
        inconsistent(with("llama.attention.head_count_kv", 3_u32.into()))
            .contains("not a multiple of 3 key/value heads")
    );
    assert!(inconsistent(with("llama.rope.dimension_count", 18_u32.into())).contains("rope.dimension_count"));
    assert!(inconsistent(with("llama.rope.freq_base", f32::NAN.into())).contains("freq_base"));
    assert!(
        inconsistent(with("llama.attention.layer_norm_rms_epsilon", (-1.0_f32).into())).contains("epsilon")
    );
    let no_factor = with("llama.rope.scaling.type", "linear".into());
    assert!(inconsistent(no_factor).contains("factor"));
    let config = Config::from_metadata(&TestModel::new().header().metadata, 0);
    assert!(inconsistent(config).contains("vocabulary"));
}

#[test]
fn what_is_not_supported_is_said() {
    let with = |key: &str, value: Value| unsupported(TestModel::new().with(key, value).config());
    assert!(with("llama.attention.value_length", 32_u32.into()).contains("lengths"));
    assert!(with("llama.attention.sliding_window", 48_u32.into()).contains("sliding"));
    assert!(with("llama.rope.scaling.type", "dynamic".into()).contains("dynamic"));
    assert!(with("llama.attention.key_length", 1024_u32.into()).contains("1024"));
}

/// Rows of floats have any length.
#[test]
fn widths_need_not_be_whole_blocks() {
    let mut model = TestModel::new().with("llama.feed_forward_length", 41_u32);
    for layer in 0..2 {
        for (part, shape) in [("gate", [41, 32]), ("up", [41, 32]), ("down", [32, 41])] {
            model = model.with_tensor(&format!("blk.{layer}.ffn_{part}.weight"), &shape);
        }
    }
    assert!(model.graph().is_ok());
}

/// A small model of another family; its tensors are those of a llama.
fn of_family(name: &str) -> TestModel {
    let mut model = TestModel::new().with("general.architecture", name);
    for (key, _) in &mut model.metadata {
        *key = key.replace("llama.", &format!("{name}."));
    }
    model.with(&format!("{name}.block_count"), 8_u32)
}

fn windows(model: TestModel) -> Vec<u32> {
    model.config().unwrap().layers.iter().map(|layer| layer.window).collect()
}

#[test]
fn windows_follow_the_pattern_of_the_family_or_the_file() {
    const WINDOW: &str = "olmo2.attention.sliding_window";
    const PATTERN: &str = "olmo2.attention.sliding_window_pattern";
    let model = || of_family("olmo2").with(WINDOW, 16_u32);
    assert_eq!(windows(of_family("olmo2")), [0; 8]);
    assert_eq!(windows(model()), [16, 16, 16, 0, 16, 16, 16, 0]);
    assert_eq!(windows(model().with(PATTERN, 3_u32)), [16, 16, 0, 16, 16, 0, 16, 16]);
    assert_eq!(windows(model().with(PATTERN, 1_u32)), [0; 8]);
    assert_eq!(windows(model().with(PATTERN, 0_u32)), [16; 8]);
    let flags = [false, true, false, false, true, true, false, true];
    assert_eq!(windows(model().with(PATTERN, flags.to_vec())), flags.map(|flag| 16 * u32::from(flag)));
    for pattern in [Value::from(vec![true; 7]), "all".into(), 1.5_f32.into()] {
        assert!(inconsistent(model().with(PATTERN, pattern).config()).contains(PATTERN));
    }
    assert_eq!(windows(of_family("phi3").with("phi3.attention.sliding_window", 47_u32)), [47; 8]);
    for name in ["llama", "olmo2"] {
        let key = format!("{name}.attention.sliding_window");
        assert_eq!(windows(of_family(name).with(&key, 0_u32)), [0; 8]);
        assert!(inconsistent(of_family(name).with(&key, "8").config()).contains(&key));
        assert!(inconsistent(of_family(name).with(&key, -1).config()).contains(&key));
        assert_eq!(windows(of_family(name).with(&key, u64::MAX)), [0; 8]);
        assert_eq!(windows(of_family(name).with(&key, CONTEXT as u32)), [0; 8]);
    }
}

/// Where only some layers have a window, they turn by other angles than the rest.
#[test]
fn layers_with_windows_have_rotary_frequencies_of_their_own() {
    let model = of_family("olmo2")
        .with("olmo2.attention.sliding_window", 16_u32)
        .with("olmo2.rope.freq_base", 5e5_f32)
        .with("olmo2.rope.scaling.type", "linear")
        .with("olmo2.rope.scaling.factor", 4.0_f32);
    let rope = |model: &TestModel, layer: usize| {
        let LayerConfig { rope_base, rope_scaling, .. } = model.config().unwrap().layers[layer];
        (rope_base, rope_scaling.scale)
    };
    assert_eq!((rope(&model, 0), rope(&model, 3)), ((5e5, 1.0), (5e5, 0.25)));
    let model = model.with("olmo2.rope.freq_base_swa", 1e4_f32);
    assert_eq!((rope(&model, 0), rope(&model, 3)), ((1e4, 1.0), (5e5, 0.25)));
    let infinite = model.with("olmo2.rope.freq_base_swa", f32::INFINITY);
    assert!(inconsistent(infinite.config()).contains("base"));
}

#[test]
fn gemma_3_turns_layers_with_windows_by_the_usual_base() {
    let model = of_family("gemma3")
        .with("gemma3.attention.sliding_window", 16_u32)
        .with("gemma3.rope.freq_base", 1e6_f32);
    let bases: Vec<f64> = model.config().unwrap().layers.iter().map(|layer| layer.rope_base).collect();
    assert_eq!(bases, [1e4, 1e4, 1e4, 1e4, 1e4, 1e6, 1e4, 1e4]);
}

#[test]
fn some_layers_do_without_rotary_embedding() {
    let has_rope = |model: TestModel| -> Vec<bool> {
        model.config().unwrap().layers.iter().map(|layer| layer.has_rope).collect()
    };
    let all_but_fourth = [true, true, true, false, true, true, true, false];
    assert_eq!(has_rope(of_family("llama")), [true; 8]);
    assert_eq!(has_rope(of_family("smollm3")), all_but_fourth);
    let exaone = |window: u32| of_family("exaone4").with("exaone4.attention.sliding_window", window);
    assert_eq!(has_rope(exaone(0)), [true; 8]);
    for window in [16, CONTEXT as u32] {
        assert_eq!(has_rope(exaone(window)), all_but_fourth);
    }
}

/// Parts of a tensor are weights of their own; what no weight uses is an error.
#[test]
fn fused_tensors_are_used_whole() {
    let fused = || {
        let mut model = TestModel::new();
        model.tensors.retain(|(name, _)| {
            !["attn_q", "attn_k", "attn_v", "ffn_gate", "ffn_up"].iter().any(|part| name.contains(part))
        });
        for layer in 0..2 {
            model = model
                .with_tensor(&format!("blk.{layer}.attn_qkv.weight"), &[128, 32])
                .with_tensor(&format!("blk.{layer}.ffn_up.weight"), &[128, 32]);
        }
        model
    };
    let graph = fused().graph().unwrap();
    let rows: Vec<(usize, usize)> = graph
        .weights
        .iter()
        .filter_map(|weight| match &weight.source {
            Source::Tensor { name, first_row }
                if name == "blk.0.attn_qkv.weight" || name == "blk.0.ffn_up.weight" =>
            {
                Some((*first_row, weight.n_rows))
            }
            _ => None,
        })
        .collect();
    assert_eq!(rows, [(0, 64), (64, 32), (96, 32), (0, 64), (64, 64)]);
    let long = fused().with_tensor("blk.1.attn_qkv.weight", &[160, 32]);
    assert!(long.graph().unwrap_err().to_string().contains("blk.1.attn_qkv.weight"));
    let short = fused().with_tensor("blk.1.attn_qkv.weight", &[96, 32]);
    assert!(inconsistent(short.graph()).contains("blk.1.attn_qkv.weight"));
    let biased = |n| fused().with_tensor("blk.1.attn_qkv.bias", &[n]).graph();
    let parts: Vec<(usize, usize)> = biased(128)
        .unwrap()
        .weights
        .iter()
        .filter_map(|weight| match &weight.source {
            Source::Tensor { name, first_row } if name == "blk.1.attn_qkv.bias" => {
                Some((*first_row, weight.n_cols))
            }
            _ => None,
        })
        .collect();
    assert_eq!(parts, [(0, 64), (64, 32), (96, 32)]);
    for n in [127, 160] {
        assert!(inconsistent(biased(n)).contains("blk.1.attn_qkv.bias"));
    }
    let both = fused().with_tensor("blk.1.attn_q.weight", &[64, 32]);
    assert!(unsupported(both.graph()).contains("blk.1.attn_q.weight"));
    let missing = fused().with_tensor("blk.1.ffn_up.weight", &[64, 32]);
    assert!(inconsistent(missing.graph()).contains("blk.1.ffn_gate.weight is missing"));
}
