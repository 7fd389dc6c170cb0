//! The self-test's cases at many more shapes, with every kernel variant, and what only a whole executor shows.

use super::*;
use crate::gpu::executor::MAX_IN_FLIGHT;
use crate::gpu::{Options, Variants};
use crate::graph::{BIN, Choice, Feed, IN_PROMPT};
use bytemuck::Zeroable;
use std::sync::OnceLock;

/// The device of these tests. It is not taken for the software that it may be, which gets other kernels unless told.
fn device() -> Gpu {
    static DEVICE: OnceLock<Gpu> = OnceLock::new();
    let open = || {
        let mut gpu = pollster::block_on(Gpu::open(Options::default())).unwrap();
        gpu.pretend(|info| info.is_fallback = false);
        gpu
    };
    DEVICE.get_or_init(open).clone()
}

/// Choices of kernels that between them run every variant that the device can, with what they may be off by.
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

/// With kernels of these words.
fn check_with(words: &str, case: Case) {
    let mut gpu = device();
    gpu.set_variants(Variants::parse(words, gpu.info()).unwrap());
    let error = pollster::block_on(case.deviation(&gpu)).unwrap();
    assert!(error <= case.tolerance, "{} ({}): {error}", case.name, gpu.variants());
}

#[test]
fn device_passes() {
    for (gpu, _) in choices() {
        pollster::block_on(run(&gpu)).unwrap();
    }
}

/// One row, a few, and many.
#[test]
fn matmuls() {
    for (gpu, tolerance) in choices() {
        for format in Format::ALL {
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
                let error = pollster::block_on(case.deviation(&gpu)).unwrap();
                assert!(error <= tolerance, "{} ({}): {error}", case.name, gpu.variants());
            }
        }
    }
}

/// Prefill, then one row at a time.
#[test]
fn fused_layers() {
    let rope = |head_dim, n_rot, neox| Rope { n_heads: 4, head_dim, n_rot, neox };
    for (gpu, tolerance) in choices() {
        let is_int8 = gpu.variants().accuracy == Accuracy::Int8;
        for format in Format::ALL {
            for rope in [rope(16, 16, false), rope(16, 16, true), rope(24, 16, true)] {
                let mut case = layers(format, rope, &[11, 1, 1, 3, 1], 2);
                case.same_argmax = !is_int8;
                let error = pollster::block_on(case.deviation(&gpu)).unwrap();
                // Of activations in 8 bits, the deviation is what that rounding brings.
                let tolerance = if is_int8 { 0.2 } else { 10.0 * tolerance };
                assert!(error <= tolerance, "{} ({}): {error}", case.name, gpu.variants());
            }
        }
    }
}

#[test]
fn decoding_takes_few_dispatches() {
    let mut gpu = device();
    gpu.set_variants(Variants::parse("tile", gpu.info()).unwrap());
    let count = |n_layers, position| {
        let rope = Rope { n_heads: 4, head_dim: 16, n_rot: 16, neox: false };
        let mut case = layers(Format::Q4_1, rope, &[1], n_layers);
        case.max_pages = position / PAGE + 1;
        case.pages = (0..case.max_pages).collect();
        case.tokens[0].position = position;
        let weights = case.upload(&gpu).unwrap();
        let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
        let (tokens, outputs, pages) = (&case.tokens, &case.outputs, &case.pages);
        let step = Step { tokens, outputs, pages, max_pages: case.max_pages };
        pollster::block_on(executor.step(&step, Want::Best)).unwrap();
        executor.dispatches()
    };
    assert_eq!(count(3, 0) - count(2, 0), 5);
    assert_eq!(count(3, 5000) - count(2, 5000), 6);
}

/// Logits that lie in the middle of bins, so that rounding does not move a token from one to the next.
fn logits_in_bins(n_vocab: usize, temperature: f32) -> Vec<f32> {
    let mut random = Random(n_vocab as u64);
    let mut depths = (0..n_vocab).map(|_| (random.normal().abs() * 300.0).floor());
    let mut logits: Vec<f32> = depths.by_ref().map(|bin| 3.0 - (bin + 0.5) * BIN * temperature).collect();
    logits[n_vocab / 2] = 3.0;
    logits
}

/// The device chooses the tokens that the reference chooses.
#[test]
fn choices_by_chance() {
    let gpu = device();
    let plain = Choice { temperature: 1.0, top_p: 1.0, repetition_penalty: 1.0, ..Choice::zeroed() };
    let choices = [
        plain,
        Choice { temperature: 0.5, seed: [9, 4], ..plain },
        Choice { top_k: 40, ..plain },
        Choice { top_k: 40, top_p: 0.7, ..plain },
        Choice { temperature: 2.0, top_p: 0.9, min_p: 0.01, ..plain },
        Choice { min_p: 0.2, ..plain },
        Choice { temperature: 0.0, presence_penalty: 0.5, adjusts: 1, ..plain },
        Choice { repetition_penalty: 1.3, frequency_penalty: 0.2, adjusts: 1, ..plain },
    ];
    for n_vocab in [4, 2049, 49_152] {
        let case = argmax(n_vocab, 1);
        let weights = case.upload(&gpu).unwrap();
        let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
        for choice in choices {
            let temperature = if choice.temperature > 0.0 { choice.temperature } else { 1.0 };
            let logits = logits_in_bins(n_vocab, temperature);
            let mut seen: Vec<u32> = (0..n_vocab).map(|i| if i % 3 == 0 { IN_PROMPT } else { 0 }).collect();
            let bias: Vec<f32> = (0..n_vocab).map(|i| if i % 7 == 0 { 0.25 } else { 0.0 }).collect();
            executor.adjust(&seen, &bias);
            let mut chosen = Vec::new();
            for counter in 0..12 {
                let choice = Choice { counter, ..choice };
                executor.write_value(case.inputs[0].0, &logits);
                pollster::block_on(executor.step(&case.step(), Want::Choice(choice))).unwrap();
                let expected = choice.choose(&mut logits.clone(), &seen, &bias);
                assert_eq!(executor.best[0].id, expected, "{choice:?} of {n_vocab}");
                seen[expected as usize] += 1;
                chosen.push(expected);
            }
            chosen.sort_unstable();
            chosen.dedup();
            assert!(n_vocab < 100 || chosen.len() > 1, "{choice:?} of {n_vocab} is always the same");
        }
    }
}

/// A step that is fed by the one before gives what it gives when the host feeds it.
#[test]
fn the_chosen_token_feeds_the_next_step() {
    let gpu = device();
    let mut g = Builder::default();
    let words = g.matrix("F32", 40, 32);
    let x = g.embed(words);
    let x = g.select_rows(x);
    let output = g.matrix("F32:output", 40, 32);
    let logits = g.matmul(x, output);
    let best = g.argmax(logits);
    g.results(logits, best);
    let case = Case::new("feed".into(), g.finish(), 1, 0.0);
    let weights = case.upload(&gpu).unwrap();
    let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
    let step = |id: u32| [Token { id, position: 0, sequence: 0, cell: 0 }];
    let run = async {
        let mut by_host = vec![7];
        for i in 0..9 {
            let (tokens, outputs) = (step(by_host[i]), [Output { row: 0, target: 0 }]);
            let step = Step { tokens: &tokens, outputs: &outputs, pages: &case.pages, max_pages: 1 };
            executor.step(&step, Want::Best).await?;
            by_host.push(executor.best[0].id);
        }
        let mut by_device = vec![7];
        for i in 0..9 {
            // The id is not to be used but in the first step.
            let (tokens, outputs) = (step(if i == 0 { 7 } else { 0 }), [Output { row: 0, target: 0 }]);
            let step = Step { tokens: &tokens, outputs: &outputs, pages: &case.pages, max_pages: 1 };
            let feed = if i == 0 { Feed::Host } else { Feed::Previous };
            if executor.in_flight() == MAX_IN_FLIGHT {
                executor.result().await?;
                by_device.push(executor.best[0].id);
            }
            executor.submit(&step, Want::Best, feed)?;
        }
        while executor.in_flight() > 0 {
            executor.result().await?;
            by_device.push(executor.best[0].id);
        }
        Ok::<_, GpuError>((by_host, by_device))
    };
    let (by_host, by_device) = pollster::block_on(run).unwrap();
    assert_eq!(by_host, by_device);
    assert!(by_host.windows(2).any(|pair| pair[0] != pair[1]), "{by_host:?}");
}

#[test]
fn weights_in_parts() {
    let mut gpu = device();
    for format in Format::ALL {
        // Three parts, of which the last is short.
        let limit = (50 * 96 / BLOCK * format.block_bytes()) as u64;
        gpu.pretend(|info| info.max_binding_size = limit + 512);
        for tokens in [1, 3, 9] {
            let case = matmul(format, 131, 96, tokens);
            let error = pollster::block_on(case.deviation(&gpu)).unwrap();
            assert!(error <= case.tolerance, "{}: {error}", case.name);
        }
        let error = pollster::block_on(embed(format, 131, 96, 31).deviation(&gpu)).unwrap();
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
        check(embed(format, 131, 32, 1));
        check(embed(format, 131, 576, 40));
    }
}

#[test]
fn norms_and_elementwise() {
    for (width, tokens) in [(4, 1), (96, 5), (576, 3), (260, 33)] {
        check(rms_norm(width, tokens));
        let mut g = Builder::default();
        let (a, b) = (g.value(Rows::Tokens, width), g.value(Rows::Tokens, width));
        g.swiglu(a, b);
        g.add(a, b);
        check(Case::new(format!("swiglu and add {width}"), g.finish(), tokens, 1e-4));
    }
}

#[test]
fn swiglu_at_the_extremes() {
    let mut g = Builder::default();
    let (gate, up) = (g.value(Rows::Tokens, 8), g.value(Rows::Tokens, 8));
    g.swiglu(gate, up);
    let mut case = Case::new("swiglu extremes".into(), g.finish(), 1, 1e-4);
    case.inputs[0].1 = vec![-1e4, -100.0, -20.0, 0.0, 20.0, 100.0, 1e4, -0.0];
    case.inputs[1].1 = vec![1.0; 8];
    check(case);
}

#[test]
fn ropes() {
    for (head_dim, n_rot, neox) in
        [(64, 64, false), (64, 64, true), (80, 32, false), (80, 32, true), (2, 2, false)]
    {
        check(rope(Rope { n_heads: 3, head_dim, n_rot, neox }, 9));
    }
}

#[test]
fn attentions() {
    let shape = |n_heads, n_kv_heads, head_dim, window| Attention {
        n_heads,
        n_kv_heads,
        head_dim,
        scale: 1.0 / (head_dim as f32).sqrt(),
        window,
    };
    for (shape, tokens) in [
        (shape(1, 1, 8, 0), 1),
        (shape(9, 3, 64, 0), 65),
        (shape(4, 4, 128, 0), 130),
        (shape(2, 1, 256, 0), 33),
        (shape(4, 2, 80, 40), 129),
        (shape(12, 1, 16, 0), 7),
    ] {
        check_with("tile", attention(shape, tokens));
        check_with("few", attention(shape, tokens));
    }
}

/// One row whose context is shared between workgroups.
#[test]
fn attention_is_split_and_merged() {
    for (window, n_tokens) in [(0, 257), (0, 700), (300, 700)] {
        let shape = Attention { n_heads: 6, n_kv_heads: 2, head_dim: 40, scale: 0.2, window };
        let mut case = attention(shape, n_tokens);
        case.steps = vec![n_tokens as usize - 2, 1, 1];
        check_with("tile", case);
    }
}

/// Rows of two sequences in one step see only their own.
#[test]
fn attention_keeps_sequences_apart() {
    let shape = Attention { n_heads: 2, n_kv_heads: 1, head_dim: 32, scale: 0.2, window: 0 };
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
fn argmaxes() {
    for (n_vocab, tokens) in [(4, 1), (1000, 3), (5000, 140), (49_152, 2)] {
        check(argmax(n_vocab, tokens));
    }
    let mut tie = argmax(1024, 1);
    tie.inputs[0].1 = vec![0.5; 1024];
    check(tie);
}

/// The self-test must be able to fail.
#[test]
fn a_wrong_result_is_refused() {
    assert_eq!(distance(&[1.0, f32::NAN], &[1.0, 1.0], false), f32::INFINITY);
    assert!(distance(&[1.0, 1.02], &[1.0, 1.0], false) > 0.01);
    assert!(distance(&[f32::from_bits(3), 1.0, 1.0, 1.0], &[f32::from_bits(2), 1.0, 1.0, 1.0], true) > 1.0);
}
