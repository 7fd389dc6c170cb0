//! Tokens that the device chooses.

use super::*;

/// Logits in the middle of bins, so that rounding does not move a token to another bin.
fn logits_in_bins(n_vocab: usize) -> Vec<f32> {
    let mut random = Random(n_vocab as u64);
    let mut depths = (0..n_vocab).map(|_| (random.normal().abs() * 300.0).floor());
    let mut logits: Vec<f32> = depths.by_ref().map(|bin| 3.0 - (bin + 0.5) * BIN).collect();
    logits[n_vocab / 2] = 3.0;
    logits
}

/// The device chooses the same tokens as the reference, for several outputs at once, each with its slot.
#[test]
fn choices_by_slot() {
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
        Choice { masked: 1, ..plain },
        Choice { masked: 1, top_k: 40, temperature: 0.7, ..plain },
        Choice { masked: 1, temperature: 0.0, ..plain },
        Choice { masked: 1, min_p: 0.2, repetition_penalty: 1.3, adjusts: 1, ..plain },
    ];
    for n_vocab in [4, 2049, 49_152] {
        for together in [1, 4] {
            for choices in choices.chunks(together) {
                check_choices(&gpu, n_vocab, choices);
            }
        }
    }
}

/// A mask that allows one token, a tenth of all without the likeliest, or half of them.
fn random_mask(random: &mut Random, n_vocab: usize, counter: u32) -> Vec<u32> {
    let one = random.bits() as usize % n_vocab;
    let mut mask = vec![0; n_vocab.div_ceil(32)];
    let is_allowed = |id: usize, bits: u64| match counter % 3 {
        0 => id == one,
        1 => id == one || (bits.is_multiple_of(10) && id != n_vocab / 2),
        _ => id == one || bits.is_multiple_of(2),
    };
    for id in (0..n_vocab).filter(|id| is_allowed(*id, random.bits() >> 20)) {
        mask[id / 32] |= 1 << (id % 32);
    }
    mask
}

/// One output per choice, and one more without a choice.
fn check_choices(gpu: &Gpu, n_vocab: usize, choices: &[Choice]) {
    let n = choices.len();
    let mut case = likeliest(n_vocab, n as u32 + 1);
    case.pages = vec![0; n + 1];
    case.max_pages = 1;
    // Slots have other numbers than outputs.
    case.outputs = (0..=n as u32)
        .map(|row| match (row as usize) < n {
            true => Output { row, target: 0, slot: n as u32 - row, by_choice: 1 },
            false => Output { row, target: 0, slot: 0, by_choice: 0 },
        })
        .collect();
    let weights = upload(&case, gpu).unwrap();
    let mut executor = Executor::new(gpu, &case.graph, &weights, case.capacity()).unwrap();
    let logits = vec![logits_in_bins(n_vocab); n + 1];
    let first_seen: Vec<u32> = (0..n_vocab).map(|i| if i % 3 == 0 { IN_PROMPT } else { 0 }).collect();
    let bias: Vec<f32> = (0..n_vocab).map(|i| if i % 7 == 0 { 0.25 } else { 0.0 }).collect();
    let mut seen = vec![first_seen; n];
    for (output, seen) in case.outputs.iter().zip(&seen) {
        executor.set_slot(output.slot, seen, &bias);
    }
    let mut chosen = vec![Vec::new(); n];
    let mut random = Random(n_vocab as u64 + 1);
    for counter in 0..12 {
        let masks: Vec<Vec<u32>> = (0..n).map(|_| random_mask(&mut random, n_vocab, counter)).collect();
        let now: Vec<Choice> = choices.iter().map(|choice| Choice { counter, ..*choice }).collect();
        let rows: Vec<f32> = logits.iter().flatten().copied().collect();
        executor.write_value(case.inputs[0].0, &rows);
        let step = Step { choices: &now, ..case.step() };
        // Masks may come after a step has begun.
        if counter % 2 == 1 {
            executor.begin(&step).unwrap();
        }
        for (output, mask) in case.outputs.iter().zip(&masks) {
            executor.set_mask(output.slot, mask);
        }
        pollster::block_on(executor.step(&step)).unwrap();
        for i in 0..n {
            let expected = now[i].choose(&mut logits[i].clone(), &seen[i], &bias, &masks[i]);
            assert_eq!(executor.chosen[i].id, expected, "{:?} of {n_vocab}, {n} together", now[i]);
            assert!(now[i].masked == 0 || allows(&masks[i], expected as usize));
            seen[i][expected as usize] += 1;
            chosen[i].push(expected);
        }
        assert_eq!(executor.chosen[n].id as usize, n_vocab / 2);
        assert_eq!(executor.chosen[n].logit, 3.0);
    }
    for (mut chosen, choice) in chosen.into_iter().zip(choices) {
        chosen.sort_unstable();
        chosen.dedup();
        assert!(n_vocab < 100 || chosen.len() > 1, "{choice:?} of {n_vocab} is always the same");
    }
}

/// A step that reads its tokens from slots gives the same result as with tokens from the host.
#[test]
fn chosen_tokens_feed_the_next_step() {
    let gpu = device();
    let mut g = Builder::default();
    let words = g.matrix("F32", 40, 32);
    let x = g.embed(words);
    let x = g.select_rows(x);
    let output = g.matrix("F32:output", 40, 32);
    let logits = g.matmul(x, output);
    g.logits(logits);
    let mut case = Case::new("feed", g.finish(), 2, 0.0);
    (case.pages, case.max_pages) = (vec![0, 0], 1);
    case.outputs = [0, 1].map(|row| Output { slot: 1 - row, ..Output::likeliest(row, 0) }).to_vec();
    let weights = upload(&case, &gpu).unwrap();
    let mut executor = Executor::new(&gpu, &case.graph, &weights, case.capacity()).unwrap();
    let outputs = case.outputs.clone();
    let rows = |ids: [u32; 2]| ids.map(|id| Token { id, ..Token::default() });
    let run = async {
        let mut by_host = vec![[7, 11]];
        for i in 0..9 {
            let tokens = rows(by_host[i]);
            executor.step(&Step { tokens: &tokens, outputs: &outputs, ..case.step() }).await?;
            by_host.push([executor.chosen[0].id, executor.chosen[1].id]);
        }
        let mut by_device = vec![[7, 11]];
        for i in 0..9 {
            let tokens = rows(if i == 0 { [7, 11] } else { [1, 0].map(|slot| Token::FROM_SLOT | slot) });
            if executor.in_flight() == MAX_IN_FLIGHT {
                executor.result().await?;
                by_device.push([executor.chosen[0].id, executor.chosen[1].id]);
            }
            executor.submit(&Step { tokens: &tokens, outputs: &outputs, ..case.step() })?;
        }
        while executor.in_flight() > 0 {
            executor.result().await?;
            by_device.push([executor.chosen[0].id, executor.chosen[1].id]);
        }
        Ok::<_, GpuError>((by_host, by_device))
    };
    let (by_host, by_device) = pollster::block_on(run).unwrap();
    assert_eq!(by_host, by_device);
    assert!(by_host.windows(2).any(|pair| pair[0] != pair[1]), "{by_host:?}");
}
