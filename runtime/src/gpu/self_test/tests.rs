//! The self-test's cases with many more shapes and every kernel variant, and tests of a whole executor.

mod choices;
mod experts;
mod low_rank;

use super::*;
use crate::adapter::{beside, beside_rows};
use crate::gpu::executor::MAX_IN_FLIGHT;
use crate::gpu::{Options, Variants};
use crate::graph::testing::cases::{self, kv};
use crate::graph::testing::{HeadNorms, Random, distance};
use crate::graph::{
    BIN, Builder, Choice, Domain, IN_PROMPT, KvFormat, Op, Output, PAGE, Token, WeightId, allows,
};
use bytemuck::Zeroable;
use std::sync::OnceLock;

/// The device of these tests. It reports to be hardware even if it is software, which has other defaults.
fn device() -> Gpu {
    static DEVICE: OnceLock<Gpu> = OnceLock::new();
    let open = || {
        let mut gpu = pollster::block_on(Gpu::open(Options::default())).unwrap();
        gpu.pretend(|info| info.is_fallback = false);
        gpu
    };
    DEVICE.get_or_init(open).clone()
}

/// Choices of kernels that together cover every variant that the device supports, with tolerances.
fn choices() -> Vec<(Gpu, f32)> {
    let gpu = device();
    let mut words = vec![
        ("exact,one,few,f32", 1e-4),
        ("exact,shared:32,tile,f32", 1e-4),
        ("exact,shared:4,few,f32", 1e-4),
        ("int8,one,few,f32", 1e-4),
        ("int8,shared:16,tile,f32", 1e-4),
    ];
    if gpu.info().f16 {
        // Staging as f16 rounds weights and activations to 11 bits.
        words.push(("exact,shared:64,tile,f16", 4e-3));
    }
    if gpu.info().subgroup_size > 0 {
        words.extend([("exact,subgroup,tile,f32", 1e-4), ("int8,subgroup:4,few,f32", 1e-4)]);
    }
    words
        .into_iter()
        .map(|(words, tolerance)| {
            let mut gpu = gpu.clone();
            gpu.set_variants(Variants::parse(words, gpu.info()).unwrap());
            (gpu, tolerance)
        })
        .collect()
}

fn check(case: Case) {
    check_with("", case);
}

/// Checks a case with these kernels.
fn check_with(words: &str, case: Case) {
    let mut gpu = device();
    gpu.set_variants(Variants::parse(words, gpu.info()).unwrap());
    let error = pollster::block_on(deviation(&case, &gpu)).unwrap();
    assert!(error <= case.tolerance, "{} ({}): {error}", case.name, gpu.variants());
}

#[test]
fn device_passes() {
    for (gpu, _) in choices() {
        pollster::block_on(run(&gpu)).unwrap();
    }
}

/// Formats whose layouts have blocks of a kind of their own. They run with all kernels; the others with those
/// that read a layout in different ways.
const MAIN: [Format; 5] = [Format::F32, Format::F16, Format::Q4_0, Format::Q4_1, Format::Q8_0];

/// Steps of one row, of a few, and of many.
#[test]
fn matmuls() {
    for (gpu, tolerance) in choices() {
        for format in MAIN {
            for (rows, cols, tokens) in [
                (1, 32, 1),
                (63, 96, 1),
                (65, 544, 1),
                (130, 1024, 1),
                (63, 96, 2),
                (130, 544, 8),
                (1, 32, 9),
                (65, 544, 31),
                (130, 96, 70),
            ] {
                let case = matmul(format, rows, cols, tokens);
                let error = pollster::block_on(deviation(&case, &gpu)).unwrap();
                assert!(error <= tolerance, "{} ({}): {error}", case.name, gpu.variants());
            }
        }
    }
}

#[test]
fn matmuls_of_every_format() {
    for words in ["exact,shared:4,tile,f32", "int8,shared:4,tile,f32"] {
        let mut gpu = device();
        gpu.set_variants(Variants::parse(words, gpu.info()).unwrap());
        let is_int8 = gpu.variants().accuracy == Accuracy::Int8;
        let others = Format::ALL.into_iter().filter(|format| !MAIN.contains(format));
        // Only layouts that can be unpacked to bytes have kernels for 8 bits.
        use Format::*;
        let packed = [Q4_K, IQ4_NL, IQ4_XS, MXFP4, TQ1_0, TQ2_0];
        for format in others.filter(|format| !is_int8 || packed.contains(format)) {
            for (rows, blocks, tokens) in [(65, 3, 1), (67, 1, 5), (70, 2, 37)] {
                let case = matmul(format, rows, blocks * format.block_len(), tokens);
                let error = pollster::block_on(deviation(&case, &gpu)).unwrap();
                assert!(error <= 1e-4, "{} ({words}): {error}", case.name);
            }
        }
    }
}

/// Kernels with the most buffers, and a grid beside them.
#[test]
fn groups_of_grids() {
    let shape = Layers { finer: Format::IQ3_XXS, biases: true, ..Layers::of(Format::IQ1_M) };
    check_with("shared:4,tile,f32", layers(shape, &[9, 1]));
}

/// Rows of floats of any length; more than one op uses the same ones.
#[test]
fn rows_of_any_length() {
    for case in cases::odd_products() {
        check_with("shared:4,tile,f32", case.clone());
        check_with("one,few", case);
    }
}

/// A device with a binding limit so low that matrices are cut into pieces.
fn device_of_pieces(words: &str) -> Gpu {
    let mut gpu = device();
    gpu.set_variants(Variants::parse(words, gpu.info()).unwrap());
    gpu.pretend(|info| info.max_binding_size = 2300);
    gpu
}

/// Prefill, then steps of few rows, which run in groups, with every part of a tail.
#[test]
fn groups_of_ops() {
    let rope = |head_dim, n_rot, neox| RopeShape { n_heads: 4, head_dim, n_rot, neox };
    let plain = |format| Layers { n_layers: 2, ..Layers::of(format) };
    let q4_1 = plain(Format::Q4_1);
    let shapes = [
        Layers { rope: rope(16, 16, true), biases: true, ..q4_1 },
        Layers { rope: rope(24, 16, true), window: 5, ..q4_1 },
        Layers { head_norms: HeadNorms::Heads, biases: true, ..q4_1 },
        Layers { finer: Format::Q6_K, ..plain(Format::Q4_K) },
    ];
    for (gpu, tolerance) in choices() {
        let is_int8 = gpu.variants().accuracy == Accuracy::Int8;
        for shape in MAIN.into_iter().map(plain).chain(shapes) {
            let mut case = layers(shape, &[11, 1, 1, 3, 1, 8]);
            case.same_choice = !is_int8;
            let error = pollster::block_on(deviation(&case, &gpu)).unwrap();
            // Rounding activations to 8 bits causes a larger error.
            let tolerance = if is_int8 { 0.2 } else { 10.0 * tolerance };
            assert!(error <= tolerance, "{} ({}): {error}", case.name, gpu.variants());
        }
    }
}

/// Groups that end in another kernel, which is the same for all variants.
#[test]
fn groups_with_an_end() {
    let rope = |head_dim, n_rot, neox| RopeShape { n_heads: 4, head_dim, n_rot, neox };
    for shape in [
        Layers {
            head_norms: HeadNorms::Heads,
            post_norms: true,
            rope: rope(16, 8, true),
            ..Layers::of(Format::Q4_1)
        },
        Layers {
            head_norms: HeadNorms::Heads,
            biases: true,
            rope: rope(24, 6, false),
            ..Layers::of(Format::F32)
        },
        Layers { rope: rope(18, 6, true), ..Layers::of(Format::F16) },
        Layers { head_norms: HeadNorms::Turned, rope: rope(16, 8, true), ..Layers::of(Format::Q4_1) },
        Layers { head_norms: HeadNorms::Rows, rope: rope(16, 16, false), ..Layers::of(Format::Q4_1) },
        Layers { head_norms: HeadNorms::Layer, rope: rope(16, 16, true), ..Layers::of(Format::Q8_0) },
        Layers { clamp: Some(0.4), biases: true, ..Layers::of(Format::Q4_1) },
        Layers { clamp: Some(0.4), rope: rope(16, 0, true), ..Layers::of(Format::Q8_0) },
    ] {
        check_with("shared:4,tile,f32", layers(shape, &[11, 1, 3]));
    }
}

/// Every kind of group, with weights that are cut into pieces.
#[test]
fn groups_with_weights_in_pieces() {
    for words in ["exact,shared,tile,f32", "exact,one,few", "int8,one,few"] {
        let gpu = device_of_pieces(words);
        let is_int8 = gpu.variants().accuracy == Accuracy::Int8;
        for (format, biases) in [(Format::F32, false), (Format::Q4_0, false), (Format::Q8_0, true)] {
            let mut case = layers(Layers { biases, ..Layers::of(format) }, &[9, 1, 2]);
            case.same_choice = !is_int8;
            let weights = upload(&case, &gpu).unwrap();
            let matrices = (0..case.graph.weights.len()).map(|i| weights.pieces(WeightId(i)).len());
            assert!(matrices.max() > Some(1), "{format:?} is not cut");
            let error = pollster::block_on(deviation(&case, &gpu)).unwrap();
            let tolerance = if is_int8 { 0.2 } else { 1e-3 };
            assert!(error <= tolerance, "{} ({words}): {error}", case.name);
            let case = beside(case, 1.0, low_rank::ranks);
            let error = pollster::block_on(deviation(&case, &gpu)).unwrap();
            assert!(error <= tolerance, "{} ({words}): {error}", case.name);
        }
    }
}

/// The dispatches that one more layer adds to a step of `rows` rows at this position.
fn dispatches_per_layer(shape: Layers, rows: u32, position: u32) -> usize {
    dispatches_of(rows, position, |n_layers| layers(Layers { n_layers, ..shape }, &[rows as usize]))
}

fn dispatches_in(format: KvFormat, shape: Layers, rows: u32, position: u32) -> usize {
    let build = |n_layers| kv::stored(layers(Layers { n_layers, ..shape }, &[rows as usize]), format);
    dispatches_of(rows, position, build)
}

fn dispatches_of(rows: u32, position: u32, build: impl Fn(usize) -> Case) -> usize {
    let mut gpu = device();
    gpu.set_variants(Variants::parse("tile", gpu.info()).unwrap());
    let count = |n_layers| {
        let mut case = build(n_layers);
        case.max_pages = (position + rows) / PAGE + 1;
        case.pages = (0..case.max_pages).collect();
        for (token, i) in case.tokens.iter_mut().zip(0..) {
            (token.position, token.cell) = (position + i, position + i);
        }
        let weights = upload(&case, &gpu).unwrap();
        let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
        pollster::block_on(executor.step(&case.step())).unwrap();
        executor.dispatches()
    };
    count(3) - count(2)
}

#[test]
fn decoding_takes_few_dispatches() {
    let llama = Layers::of(Format::Q4_1);
    for rows in [1, 4, 8] {
        assert_eq!(dispatches_per_layer(llama, rows, 0), 5, "{rows} rows");
        assert_eq!(dispatches_per_layer(Layers { biases: true, ..llama }, rows, 0), 5, "biases, {rows} rows");
    }
    assert_eq!(dispatches_per_layer(llama, 1, 5000), 6);
    // A workgroup of a projection has no whole blocks of keys and values.
    let large = Layers { rope: RopeShape { n_heads: 4, head_dim: 32, n_rot: 32, neox: false }, ..llama };
    assert_eq!(dispatches_in(KvFormat::Q8_0, large, 1, 0), 6);
    assert_eq!(dispatches_in(KvFormat::Q4_0, large, 8, 0), 6);
    // Values are not in the buffer of queries and keys.
    let mixed = Layers { finer: Format::Q6_K, ..Layers::of(Format::Q4_K) };
    assert_eq!(dispatches_per_layer(mixed, 1, 0), 6);
    // Heads have a dispatch after the projection, and so has a norm before the residual.
    for head_norms in [HeadNorms::Heads, HeadNorms::Turned, HeadNorms::Rows, HeadNorms::Layer] {
        let shape = Layers { head_norms, ..llama };
        assert_eq!(dispatches_per_layer(shape, 1, 0), 6, "{head_norms:?}");
        assert_eq!(dispatches_per_layer(Layers { post_norms: true, ..shape }, 1, 0), 7, "{head_norms:?}");
    }
    assert_eq!(dispatches_per_layer(Layers { clamp: Some(0.4), ..llama }, 1, 0), 6);
    let odd = RopeShape { n_heads: 4, head_dim: 24, n_rot: 6, neox: true };
    assert_eq!(dispatches_per_layer(Layers { rope: odd, ..Layers::of(Format::F16) }, 1, 0), 6);
}

/// Attention over the step's own rows has no GPU kernel yet.
#[test]
fn attention_without_a_cache_is_an_error() {
    let mut g = Builder::default();
    let [q, k, v] = [(); 3].map(|()| g.value(Domain::Tokens, 16));
    let shape = Attention::new(2, 2, 8);
    g.attention_without_cache(q, k, v, shape);
    let case = Case::new("attention without a cache", g.finish(), 3, 1e-3);
    let result = pollster::block_on(deviation(&case, &device()));
    assert!(matches!(result, Err(GpuError::Unsupported(_))), "{result:?}");
}

#[test]
fn steps_that_do_not_fit_are_errors() {
    let gpu = device();
    let case = layers(Layers::of(Format::F32), &[2]);
    let weights = upload(&case, &gpu).unwrap();
    let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
    let mut tokens = case.tokens.clone();
    tokens[1].cell = 32;
    let mut refused = |step: Step| executor.submit(&step).unwrap_err().to_string();
    let error = refused(Step { tokens: &tokens, ..case.step() });
    assert_eq!(error, "row 1 writes to cell 32, but the KV pool has 32 cells; number cells from 0");
    let outputs = [Output::likeliest(2, 0)];
    let error = refused(Step { outputs: &outputs, ..case.step() });
    assert_eq!(error, "output 0 is for row 2, but the step has 2 rows; number rows from 0");
    let error = refused(Step { pages: &[1], ..case.step() });
    assert_eq!(error, "the page table has page 1, but the KV pool has 1 pages; number pages from 0");
}

#[test]
fn weights_in_pieces() {
    let mut gpu = device();
    for format in Format::ALL {
        // Three pieces; the last one is shorter.
        let width = usize::next_multiple_of(96, format.block_len());
        let limit = (52 * width / format.block_len() * format.block_bytes()) as u64;
        gpu.pretend(|info| info.max_binding_size = limit + 512);
        let tokens: &[u32] = if MAIN.contains(&format) { &[1, 3, 9] } else { &[1] };
        for tokens in tokens.iter().copied() {
            let case = matmul(format, 131, width, tokens);
            let error = pollster::block_on(deviation(&case, &gpu)).unwrap();
            assert!(error <= case.tolerance, "{}: {error}", case.name);
        }
        let error = pollster::block_on(deviation(&embed(format, 131, width, 31), &gpu)).unwrap();
        assert!(error <= 1e-4, "embed {format:?}: {error}");
    }
}

fn embed(format: Format, n_vocab: usize, width: usize, n_tokens: u32) -> Case {
    let mut g = Builder::default();
    let w = g.matrix(format.name(), n_vocab, width);
    g.embed(w);
    Case::new(format!("embed {}", format.name()), g.finish(), n_tokens, 1e-4)
}

#[test]
fn embeddings() {
    for format in Format::ALL {
        check(embed(format, 131, format.block_len(), 1));
        check(embed(format, 131, usize::next_multiple_of(576, format.block_len()), 40));
    }
}

/// The kernels that depend on a device's variants are those of attention.
#[test]
fn ops() {
    for case in cases::ops() {
        let has_attention = case.graph.ops.iter().any(|op| matches!(op, Op::Attention { .. }));
        if has_attention {
            check_with("few", case.clone());
        }
        check_with("tile", case);
    }
}

#[test]
fn position_embeddings() {
    let mut g = Builder::default();
    let weight = g.matrix("F16", 131, 96);
    g.embed_position(weight);
    let mut case = Case::new("position embeddings", g.finish(), 9, 1e-4);
    case.tokens.iter_mut().for_each(|token| token.position = token.position * 29 % 131);
    check(case);
}

/// One row whose context is split between workgroups.
#[test]
fn attention_is_split_and_merged() {
    for (window, n_tokens) in [(0, 257), (0, 700), (300, 700)] {
        let shape = Attention { window, scale: 0.2, ..Attention::new(6, 2, 40) };
        for mut case in [attention(shape, n_tokens), cases::attention_with_sinks(shape, n_tokens)] {
            case.steps = vec![n_tokens as usize - 2, 1, 1];
            check_with("tile", case);
        }
    }
}

/// Rows of two sequences in one step attend only to their own sequence.
#[test]
fn attention_keeps_sequences_apart() {
    let shape = Attention::new(2, 1, 32);
    let mut case = attention(shape, 40);
    case.pages = vec![2, 0, 1, 3];
    case.max_pages = 2;
    for (i, token) in case.tokens.iter_mut().enumerate() {
        (token.sequence, token.position) = (i as u32 % 2, i as u32 / 2);
        token.cell = case.pages[(token.sequence * 2) as usize] * PAGE + token.position;
    }
    check_with("few", case.clone());
    check_with("tile", case);
}

#[test]
fn pages_are_copied() {
    for (words, format) in ["few", "tile"].into_iter().flat_map(|words| KvFormat::ALL.map(|f| (words, f))) {
        let case = cases::copied_pages(format);
        let mut gpu = device();
        gpu.set_variants(Variants::parse(words, gpu.info()).unwrap());
        let weights = upload(&case, &gpu).unwrap();
        let mut executor = Executor::with(&gpu, &case.graph, &weights, case.capacity(), true).unwrap();
        let error = cases::copied_pages_deviation(&case, &mut executor, Executor::copy_page);
        let error = pollster::block_on(error).unwrap();
        assert!(error <= case.tolerance, "{} ({words}): {error}", case.name);
    }
}

/// Keys and values in blocks, where quants do not depend on how sums are computed.
#[test]
fn keys_and_values_in_blocks() {
    let mut cases = kv::attentions();
    for format in kv::BLOCKS {
        cases.extend([&[1][..], &[8], &[40, 1, 3]].map(|steps| kv::exact_heads(format, steps)));
        let mut two = kv::stored(attention(Attention::new(2, 1, 32), 80), format);
        cases::in_two_sequences(&mut two);
        cases.push(two);
        // One row whose context is split between workgroups.
        for (window, n_tokens) in [(0, 257), (300, 700)] {
            let shape = Attention { window, scale: 0.2, ..Attention::new(6, 2, 32) };
            let mut split = kv::stored(attention(shape, n_tokens), format);
            split.steps = vec![n_tokens as usize - 2, 1, 1];
            cases.push(split);
        }
    }
    for case in cases {
        check_with("few", case.clone());
        check_with("tile,f32", case);
    }
}

/// Groups that end in the kernel that makes blocks. A sum that is computed otherwise may fall to the next
/// quant: that is 1/127 or 1/8 of the greatest number of its block, which is about three times the root mean
/// square.
#[test]
fn groups_that_write_blocks() {
    let rope = |n_rot, neox| RopeShape { n_heads: 4, head_dim: 64, n_rot, neox };
    let plain = |format| Layers { rope: rope(64, false), ..Layers::of(format) };
    for shape in [
        Layers { biases: true, n_layers: 2, ..plain(Format::Q4_1) },
        Layers { rope: rope(48, true), window: 5, ..plain(Format::F32) },
        Layers { head_norms: HeadNorms::Heads, biases: true, ..plain(Format::Q8_0) },
        Layers { head_norms: HeadNorms::Turned, ..plain(Format::Q8_0) },
        Layers { head_norms: HeadNorms::Rows, ..plain(Format::Q8_0) },
        Layers { head_norms: HeadNorms::Layer, ..plain(Format::Q8_0) },
        Layers { clamp: Some(0.4), rope: rope(0, true), ..plain(Format::Q8_0) },
        Layers { finer: Format::Q6_K, ..plain(Format::Q4_K) },
    ] {
        for (format, tolerance) in [(KvFormat::Q8_0, 3.0 / 127.0), (KvFormat::Q4_0, 3.0 / 8.0)] {
            let mut case = kv::stored(layers(shape, &[11, 1, 3]), format);
            (case.tolerance, case.same_choice) = (tolerance, false);
            check_with("shared:4,tile,f32", case);
        }
    }
}

#[test]
fn likeliest_tokens() {
    for (n_vocab, tokens) in [(4, 1), (1000, 3), (5000, 140), (49_152, 2)] {
        check(likeliest(n_vocab, tokens));
    }
    let mut tie = likeliest(1024, 1);
    tie.inputs[0].1 = vec![0.5; 1024];
    check(tie);
}

/// The self-test must be able to fail.
#[test]
fn a_wrong_result_is_found() {
    assert_eq!(distance(&[1.0, f32::NAN], &[1.0, 1.0]), f32::INFINITY);
    assert!(distance(&[1.0, 1.02], &[1.0, 1.0]) > 0.01);
}
