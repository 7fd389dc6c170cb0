//! How likely tokens are, beside answers.

use super::*;
use std::collections::HashMap;

/// What an answer tells about its prompt, and about its tokens.
fn told<D: Device>(engine: &mut Engine<D>, request: Request) -> (Vec<TokenLogprob>, Vec<TokenLogprob>, Told) {
    engine.start(request).unwrap();
    let (mut prompt, mut tokens, mut telling) = (Vec::new(), Vec::new(), Telling::default());
    loop {
        let progress = pollster::block_on(engine.advance()).unwrap().progress;
        match &progress {
            Progress::Prefill { .. } => assert!(tokens.is_empty()),
            Progress::Prompt { logprobs } => prompt.extend(logprobs.clone()),
            Progress::Embedding { .. } => panic!("no answer"),
            Progress::Token { logprob, .. } | Progress::End { logprob, .. } => tokens.extend(logprob.clone()),
        }
        if let Some(told) = telling.push(progress) {
            return (prompt, tokens, told);
        }
    }
}

fn with_top(top: usize, request: Request) -> Request {
    Request { top_logprobs: Some(top), ..request }
}

/// Log-probabilities of the last tokens of a text, found in another way.
fn scored(engine: &mut Engine<TestDevice>, ids: &[u32], n: usize) -> Vec<f32> {
    let score = pollster::block_on(engine.score(ids, false)).unwrap();
    score.logprobs[score.logprobs.len() - n..].to_vec()
}

fn assert_close(found: &[TokenLogprob], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found.logprob.unwrap() - expected).abs() < 1e-4, "{found:?}, not {expected}");
    }
}

#[test]
fn tokens_of_an_answer_have_the_models_own_probabilities() {
    for depth in [1, 3] {
        let (device, mut engine) = single();
        device.0.depth.set(depth);
        // Neither the temperature nor a bias changes what is told, only what is chosen.
        let mut request = seeded("hello there", 20, 4);
        request.sampling.temperature = 2.0;
        request.sampling.logit_bias = HashMap::from([(2, -1000.0), (9, 3.0)]);
        let plain = answer(&mut engine, request.clone());
        let (prompt, tokens, same) = told(&mut engine, with_top(3, request));
        assert_eq!((&same.ids, same.text.as_str()), (&plain.ids, plain.text.as_str()));
        assert!(prompt.is_empty());
        let text: Vec<u8> = tokens.iter().flat_map(|token| token.token.bytes.clone()).collect();
        assert_eq!(String::from_utf8_lossy(&text), plain.text);
        let ids = [engine.tokenizer().encode("hello there", true).unwrap(), plain.ids].concat();
        assert_close(&tokens[..19], &scored(&mut engine, &ids, 19));
        assert!(tokens.iter().any(|token| token.logprob != Some(token.top_logprobs[0].logprob)));
    }
}

#[test]
fn the_likeliest_come_first() {
    let (_, mut engine) = single();
    let (_, tokens, _) = told(&mut engine, with_top(20, greedy("abc", 8)));
    assert_eq!(tokens.len(), 8);
    for token in tokens {
        let top = &token.top_logprobs;
        assert_eq!(top.len(), 20);
        assert!(top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        assert_eq!((&top[0].token, Some(top[0].logprob)), (&token.token, token.logprob));
        assert!(top.iter().map(|token| token.logprob.exp()).sum::<f32>() < 1.0);
    }
    assert!(told(&mut engine, with_top(0, greedy("abc", 3))).1.iter().all(|t| t.top_logprobs.is_empty()));
    assert!(told(&mut engine, greedy("abc", 3)).1.is_empty());
    assert!(invalid(engine.start(with_top(21, greedy("abc", 3)))).contains("`top_logprobs`"));
}

#[test]
fn the_token_that_ends_a_turn_is_not_told() {
    let (_, mut engine) = single();
    let mut request = with_top(1, greedy("stop", 30));
    request.sampling.logit_bias = HashMap::from([(2, 1000.0)]);
    let (_, tokens, told) = told(&mut engine, request);
    assert_eq!((tokens.len(), told.reason), (0, FinishReason::Stop));
}

/// Also where a prompt is longer than a step, and where it is known already.
#[test]
fn the_prompts_tokens_are_scored() {
    let device = TestDevice::default();
    device.0.max_rows.set(16);
    let mut engine = engine(&device, &TestModel::new(), 2);
    let text = "the quick brown fox jumps over the lazy dog";
    let ids = engine.tokenizer().encode(text, true).unwrap();
    let request = || Request { prompt_logprobs: true, ..with_top(2, greedy(text, 3)) };
    for _ in 0..2 {
        let (prompt, tokens, _) = told(&mut engine, request());
        assert_eq!((prompt.len(), tokens.len()), (ids.len(), 3));
        assert_eq!((prompt[0].logprob, prompt[0].top_logprobs.len()), (None, 0));
        assert_close(&prompt[1..], &scored(&mut engine, &ids, ids.len() - 1));
        assert!(prompt[1..].iter().all(|token| token.top_logprobs.len() == 2));
    }
    // Beside another answer, whose text does not change.
    let alone = answer(&mut engine, greedy("another", 30));
    let other = engine.start(greedy("another", 30)).unwrap().sequence;
    let mut telling = Telling::default();
    engine.start(request()).unwrap();
    let mut prompt = Vec::new();
    while let Ok(event) = pollster::block_on(engine.advance()) {
        match event.progress {
            Progress::Prompt { logprobs } => prompt = logprobs,
            progress if event.sequence == other => {
                if let Some(told) = telling.push(progress) {
                    assert_eq!(told.text, alone.text);
                }
            }
            _ => {}
        }
    }
    assert_close(&prompt[1..], &scored(&mut engine, &ids, ids.len() - 1));
    let (prompt, _, _) = told(&mut engine, Request { prompt_logprobs: true, ..greedy("", 1) });
    assert_eq!(prompt.len(), engine.tokenizer().encode("", true).unwrap().len());
}
