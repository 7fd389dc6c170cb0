//! One request after the other.

use super::*;
use crate::engine::Message;
use std::collections::HashMap;
use std::future::Future;
use std::task::{Context, Poll, Waker};

#[test]
fn the_likeliest_tokens_are_those_of_scores() {
    let (_, mut engine) = single();
    let told = answer(&mut engine, greedy("hello there", 20));
    assert_eq!((told.ids.len(), told.usage.completion_tokens), (19, 20));
    assert_eq!((told.reason, told.context_full), (FinishReason::Length, false));
    let mut ids = engine.tokenizer().encode("hello there", true).unwrap();
    let n_prompt = ids.len();
    assert_eq!(told.usage.prompt_tokens, n_prompt);
    ids.extend(&told.ids);
    let score = pollster::block_on(engine.score(&ids, false)).unwrap();
    assert_eq!(score.top[n_prompt - 1..], told.ids);
    // Different prompts give different texts, or tests of equal texts would say little.
    assert_ne!(told.text, answer(&mut engine, greedy("good bye", 20)).text);
}

#[test]
fn scores_in_chunks_and_one_by_one_are_equal() {
    let (device, mut engine) = single();
    device.0.depth.set(3);
    let ids: Vec<u32> = (0..75).map(|i| 3 + i * 7 % 50).collect();
    let chunks = pollster::block_on(engine.score(&ids, false)).unwrap();
    let single = pollster::block_on(engine.score(&ids, true)).unwrap();
    assert_eq!((chunks.logprobs.len(), chunks.top.len()), (74, 74));
    assert_eq!(chunks, single);
    assert!(chunks.logprobs.iter().all(|logprob| *logprob < 0.0));
    assert_eq!(pollster::block_on(engine.score(&[5], false)).unwrap(), Score::default());
    // A score leaves its tokens for prompts that begin alike, and ends a running answer.
    engine.start(greedy("abc", 9)).unwrap();
    let prompt = engine.tokenizer().encode("abc abc", true).unwrap();
    pollster::block_on(engine.score(&prompt, false)).unwrap();
    assert!(invalid(pollster::block_on(engine.advance())).contains("nothing is running"));
    let told = answer(&mut engine, greedy("abc abc", 9));
    assert_eq!(told.usage.cached_tokens, prompt.len() - 1);
}

#[test]
fn what_a_prompt_has_in_common_with_the_last_is_not_computed_again() {
    for depth in [1, 3] {
        let (device, mut engine) = single();
        device.0.depth.set(depth);
        let first = answer(&mut engine, greedy("one two three", 10));
        assert_eq!(first.usage.cached_tokens, 0);
        // The last token is always computed, for its logits.
        let again = answer(&mut engine, greedy("one two three", 10));
        assert_eq!(again.usage.cached_tokens, again.usage.prompt_tokens - 1);
        assert_eq!((&again.text, &again.ids), (&first.text, &first.ids));
        // All tokens of the answer have been computed but the last.
        let longer = format!("one two three{} and more", first.text);
        let ids = engine.tokenizer().encode(&longer, true).unwrap();
        let known = engine.tokenizer().encode("one two three", true).unwrap();
        let known = [known, first.ids.clone()].concat();
        let common = known.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        assert!(common > known.len() - 3, "{common} of {}", known.len());
        let steps = device.0.steps.borrow().len();
        let told = answer(&mut engine, greedy(&longer, 10));
        assert_eq!(told.usage.cached_tokens, common);
        assert_eq!(told.text, alone(&device, greedy(&longer, 10)).text);
        let rows: usize =
            device.0.steps.borrow()[steps..].iter().map(|(tokens, _)| tokens.len()).take(1).sum();
        assert_eq!(rows, ids.len() - common);
        // Another prompt has its first token in common alone.
        assert_eq!(answer(&mut engine, greedy("zebra", 10)).usage.cached_tokens, 1);
    }
}

#[test]
fn long_prompts_are_computed_in_pieces() {
    let (device, mut engine) = single();
    device.0.max_rows.set(16);
    let prompt: String = "the quick brown fox jumps over the lazy dog".into();
    let mut pieces = self::engine(&device, &TestModel::new(), 1);
    let n = pieces.start(greedy(&prompt, 5)).unwrap().prompt_tokens;
    let mut done = Vec::new();
    while let Progress::Prefill { done: now, total } = pollster::block_on(pieces.advance()).unwrap().progress
    {
        assert_eq!(total, n);
        done.push(now);
    }
    assert!(n > 32, "{n}");
    pieces.cancel_all();
    assert_eq!(done, (16..n).step_by(16).collect::<Vec<_>>());
    assert_eq!(answer(&mut pieces, greedy(&prompt, 5)).text, answer(&mut engine, greedy(&prompt, 5)).text);
}

#[test]
fn stop_strings_end_answers_before_them() {
    for depth in [1, 4] {
        let (device, mut engine) = single();
        device.0.depth.set(depth);
        let text = answer(&mut engine, seeded("once upon", 30, 5)).text;
        let stop = &text[8..11];
        let at = text.find(stop).unwrap();
        let request = Request { stop: vec!["QQ".into(), stop.into()], ..seeded("once upon", 30, 5) };
        let told = answer(&mut engine, request);
        assert_eq!((told.text.as_str(), told.reason), (&text[..at], FinishReason::Stop));
        assert!(told.usage.completion_tokens < 30);
        // The next answer is not disturbed by the steps that were under way.
        assert_eq!(answer(&mut engine, seeded("once upon", 30, 5)).text, text);
    }
}

#[test]
fn text_that_may_begin_a_stop_string_is_given_at_the_end() {
    let (_, mut engine) = single();
    let text = answer(&mut engine, greedy("end", 12)).text;
    let stop = format!("{}!", &text[text.len() - 2..]);
    let told = answer(&mut engine, Request { stop: vec![stop], ..greedy("end", 12) });
    assert_eq!((told.text, told.reason), (text, FinishReason::Length));
}

#[test]
fn stop_tokens_end_answers() {
    let (_, mut engine) = single();
    let mut request = greedy("stop", 30);
    request.sampling.logit_bias = HashMap::from([(2, 1000.0)]);
    let told = answer(&mut engine, request);
    assert_eq!((told.text.as_str(), told.reason, told.usage.completion_tokens), ("", FinishReason::Stop, 1));
}

#[test]
fn answers_end_at_max_tokens() {
    for depth in [1, 4] {
        let (device, mut engine) = single();
        device.0.depth.set(depth);
        let long = answer(&mut engine, seeded("count", 20, 9));
        for n in [1, 2, 7] {
            let steps = device.0.steps.borrow().len();
            let told = answer(&mut engine, seeded("count", n, 9));
            assert_eq!(told.usage.completion_tokens, n);
            assert_eq!(told.ids, long.ids[..n - 1]);
            assert!(long.text.starts_with(&told.text));
            // Steps beyond the limit are not begun.
            assert_eq!(device.0.steps.borrow().len() - steps, n);
        }
    }
}

#[test]
fn answers_end_when_the_context_is_full() {
    for depth in [1, 3] {
        let (device, mut engine) = single();
        device.0.depth.set(depth);
        let mut request = Request { max_tokens: None, ..seeded("fill it up", 1, 3) };
        // The token that ends an answer is never chosen.
        request.sampling.logit_bias = HashMap::from([(2, -1000.0)]);
        let mut told = answer(&mut engine, request.clone());
        assert_eq!((told.reason, told.context_full), (FinishReason::Length, true));
        // Every position has a token, and the last one chose another.
        assert_eq!(told.usage.total_tokens, CONTEXT + 1);
        told.usage.cached_tokens = told.usage.prompt_tokens - 1;
        assert_eq!(answer(&mut engine, request), told);
        // A prompt that fills the context gets one token.
        let tokens = engine.tokenizer().encode("a", true).unwrap().len();
        let full = answer(&mut engine, greedy(&"a".repeat(CONTEXT - tokens + 1), 5));
        assert_eq!((full.usage.prompt_tokens, full.usage.completion_tokens), (CONTEXT, 1));
        assert!(full.context_full);
    }
}

#[test]
fn seeds_repeat() {
    let (device, mut engine) = single();
    device.0.depth.set(3);
    let first = answer(&mut engine, seeded("tell me", 30, 1)).ids;
    assert_eq!(answer(&mut engine, seeded("tell me", 30, 1)).ids, first);
    assert_ne!(answer(&mut engine, seeded("tell me", 30, 2)).ids, first);
    let unseeded = || Request { sampling: Sampling::default(), ..greedy("tell me", 30) };
    assert_ne!(answer(&mut engine, unseeded()).ids, answer(&mut engine, unseeded()).ids);
}

/// The device counts the tokens that it chooses, also while their results are not known to the host.
#[test]
fn penalties_count_the_answers_own_tokens() {
    for depth in [1, 4] {
        let (device, mut engine) = single();
        device.0.depth.set(depth);
        let mut request = greedy("say", 20);
        request.sampling.presence_penalty = 100.0;
        let told = answer(&mut engine, request);
        let mut ids = told.ids.clone();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 19, "{:?}", told.ids);
    }
}

#[test]
fn an_interrupted_answer_continues() {
    let (device, mut engine) = single();
    device.0.depth.set(3);
    let mut penalised = seeded("please go on", 24, 4);
    penalised.sampling.frequency_penalty = 1.5;
    for request in [greedy("please go on", 24), seeded("please go on", 24, 4), penalised] {
        let whole = answer(&mut engine, request.clone());
        for n in [1, 10] {
            let mut fresh = self::engine(&device, &TestModel::new(), 1);
            let continued = Request { continue_ids: whole.ids[..n].to_vec(), ..request.clone() };
            let told = answer(&mut fresh, continued);
            assert_eq!(told.ids, whole.ids[n..]);
            assert!(whole.text.ends_with(&told.text));
            assert_eq!(told.usage.completion_tokens, 24);
            assert_eq!(told.usage.prompt_tokens, whole.usage.prompt_tokens);
        }
    }
}

#[test]
fn messages_go_through_the_template() {
    let (_, mut engine) = single();
    let message = Message::new("user", "hello");
    let request = Request { messages: Some(vec![message]), prompt: None, ..greedy("", 8) };
    let chat = answer(&mut engine, request);
    // The same prompt as a text. Its answer keeps the space that an answer of its own begins with.
    let raw = answer(&mut engine, greedy("<s>hello</s>", 8));
    assert_eq!(chat.usage.prompt_tokens, raw.usage.prompt_tokens);
    assert_eq!(chat.ids, raw.ids);
    assert_eq!(chat.text, raw.text.strip_prefix(' ').unwrap_or(&raw.text));
}

#[test]
fn requests_that_cannot_be_answered() {
    let (device, mut engine) = single();
    let mut start = |request: Request| engine.start(request);
    assert!(invalid(start(Request { prompt: None, ..greedy("", 1) })).contains("messages or a prompt"));
    let both = Request { messages: Some(vec![]), ..greedy("a", 1) };
    assert!(invalid(start(both)).contains("messages or a prompt"));
    assert!(invalid(start(greedy("a", 0))).contains("max_tokens"));
    let unknown = Request { continue_ids: vec![5, 9999], ..greedy("a", 1) };
    assert!(invalid(start(unknown)).contains("9999"));
    let mut hot = greedy("a", 1);
    hot.sampling.temperature = f32::INFINITY;
    assert!(invalid(start(hot)).contains("temperature"));
    let error = start(greedy(&"ab".repeat(CONTEXT), 1)).unwrap_err();
    let limit = CONTEXT;
    assert!(matches!(error, Error::ContextLength { needed, limit: l } if needed > limit && l == limit));
    assert_eq!(error.code(), "context_length_exceeded");
    let continued = Request { continue_ids: vec![5; CONTEXT], ..greedy("a", 1) };
    assert!(matches!(start(continued), Err(Error::ContextLength { .. })));
    assert!(invalid(pollster::block_on(engine.advance())).contains("nothing is running"));
    assert!(invalid(pollster::block_on(engine.score(&[5, 9999], false))).contains("9999"));
    let long = pollster::block_on(engine.score(&[5; CONTEXT + 1], true));
    assert!(matches!(long, Err(Error::ContextLength { .. })));

    let plain =
        TestModel::new().with("tokenizer.ggml.add_bos_token", false).without("tokenizer.chat_template");
    let mut engine = self::engine(&device, &plain, 1);
    assert!(invalid(engine.start(greedy("", 1))).contains("the prompt is empty"));
    let messages = Request { messages: Some(vec![]), prompt: None, ..greedy("", 1) };
    assert!(invalid(engine.start(messages)).contains("base model"));
    assert!(invalid(pollster::block_on(engine.score(&[9999], false))).contains("9999"));
}

#[test]
fn a_cancelled_answer_leaves_nothing_behind() {
    for depth in [1, 4] {
        let (device, mut engine) = single();
        device.0.depth.set(depth);
        let expected = alone(&device, seeded("the next one", 12, 8));
        for events in [0, 1, 5] {
            let started = engine.start(seeded("the first one", 30, 7)).unwrap();
            for _ in 0..events {
                pollster::block_on(engine.advance()).unwrap();
            }
            engine.cancel(started.sequence);
            assert!(invalid(pollster::block_on(engine.advance())).contains("nothing is running"));
            let told = answer(&mut engine, seeded("the next one", 12, 8));
            assert_eq!((told.text, told.ids), (expected.text.clone(), expected.ids.clone()));
        }
    }
}

/// Polls a future once and drops it while it is pending.
fn drop_pending<T>(future: impl Future<Output = T>) {
    let mut future = Box::pin(future);
    let poll = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(poll, Poll::Pending));
}

#[test]
fn a_dropped_future_loses_nothing() {
    for depth in [1, 3] {
        for events in [0, 1, 4] {
            let (device, mut engine) = single();
            device.0.depth.set(depth);
            let request = || seeded("drop me here", 16, 2);
            let expected = alone(&device, request());
            engine.start(request()).unwrap();
            let mut telling = Telling::default();
            for _ in 0..events {
                telling.push(pollster::block_on(engine.advance()).unwrap().progress);
            }
            for _ in 0..3 {
                device.0.pending.set(1);
                drop_pending(engine.advance());
            }
            // The answer goes on as if nothing had happened.
            let told = finish(&mut engine);
            assert_eq!(telling.text.clone() + &told.text, expected.text);
            assert_eq!([telling.ids, told.ids].concat(), expected.ids);

            // Or another one follows.
            engine.start(greedy("something else", 16)).unwrap();
            device.0.pending.set(1);
            drop_pending(engine.advance());
            engine.cancel_all();
            let told = answer(&mut engine, request());
            assert_eq!((told.text, told.ids), (expected.text, expected.ids));
        }
    }
}

#[test]
fn a_dropped_score_loses_nothing() {
    let (device, mut engine) = single();
    let ids: Vec<u32> = (0..70).map(|i| 4 + i % 40).collect();
    let expected = pollster::block_on(engine.score(&ids, false)).unwrap();
    device.0.pending.set(1);
    drop_pending(engine.score(&ids, false));
    assert_eq!(pollster::block_on(engine.score(&ids, false)).unwrap(), expected);
    device.0.pending.set(1);
    drop_pending(engine.score(&ids, true));
    let told = answer(&mut engine, seeded("after a score", 12, 3));
    assert_eq!(told.text, alone(&device, seeded("after a score", 12, 3)).text);
}

#[test]
fn an_error_of_the_device_ends_the_answer() {
    for depth in [1, 3] {
        let (device, mut engine) = single();
        device.0.depth.set(depth);
        let expected = alone(&device, seeded("try again", 12, 6)).text;
        for fails in [&device.0.fails_to_begin, &device.0.fails_to_end] {
            for events in [0, 4] {
                engine.start(seeded("this will fail", 20, 6)).unwrap();
                for _ in 0..events {
                    pollster::block_on(engine.advance()).unwrap();
                }
                fails.set(true);
                assert!(invalid(pollster::block_on(engine.advance())).contains("broken"));
                assert!(invalid(pollster::block_on(engine.advance())).contains("nothing is running"));
                assert_eq!(answer(&mut engine, seeded("try again", 12, 6)).text, expected);
            }
            fails.set(true);
            assert!(invalid(pollster::block_on(engine.score(&[5; 40], false))).contains("broken"));
            assert_eq!(answer(&mut engine, seeded("try again", 12, 6)).text, expected);
        }
    }
}
