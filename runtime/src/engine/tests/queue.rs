//! More requests than run at once: they wait for their turn.

use super::*;
use crate::graph::PAGE;
use crate::graph::testing::Random;
use std::collections::HashMap;

/// Requests that run or wait, and what has been told of each.
type Running = HashMap<SequenceId, (Request, Telling)>;

/// Takes events until all is answered. Gives the answers in the order in which they end.
fn finish_all<D: Device>(engine: &mut Engine<D>, mut running: Running) -> Vec<(SequenceId, Request, Told)> {
    let mut ended = Vec::new();
    while !running.is_empty() {
        let event = pollster::block_on(engine.advance()).unwrap();
        let (_, telling) = running.get_mut(&event.sequence).expect("an event of no request");
        if let Some(told) = telling.push(event.progress) {
            let (request, _) = running.remove(&event.sequence).unwrap();
            ended.push((event.sequence, request, told));
        }
    }
    ended
}

fn start<D: Device>(engine: &mut Engine<D>, running: &mut Running, request: Request) -> SequenceId {
    let id = engine.start(request.clone()).unwrap().sequence;
    running.insert(id, (request, Telling::default()));
    id
}

/// 64 requests at once, with short and long prompts, some of them invalid, some aborted at random times:
/// each of the others gives the text that it gives alone, and all pages return.
fn check_many<D: Device>(device: &D, contexts: u32) {
    let mut random = Random(u64::from(contexts));
    let mut engine = engine(device, &TestModel::new(), contexts);
    let mut running = Running::new();
    let mut aborts = Vec::new();
    for i in 0..64 {
        let mut below = |n: usize| (random.bits() >> 20) as usize % n;
        let long = "and so it goes on and on, again and again, until the very end of it all";
        let prompt = format!("{}{i}", &long[..1 + below(if i % 3 == 0 { long.len() - 1 } else { 9 })]);
        let mut request =
            if i % 2 == 0 { greedy(&prompt, 1 + below(12)) } else { seeded(&prompt, 1 + below(12), i) };
        if i % 8 == 5 {
            let (temperature, prompt) = if i % 16 == 5 { (-1.0, "x".into()) } else { (0.0, "x".repeat(400)) };
            (request.sampling.temperature, request.prompt) = (temperature, Some(Prompt::Text(prompt)));
            assert!(engine.start(request).is_err());
            continue;
        }
        if i % 16 == 0 {
            // Until the context is full.
            request.max_tokens = None;
        }
        let id = start(&mut engine, &mut running, request);
        if i % 7 == 3 {
            aborts.push((below(60), id));
        }
    }
    // Events before and between aborts, some of which come while the request waits.
    aborts.sort_unstable_by_key(|(at, _)| *at);
    let n_requests = running.len();
    let mut ended = Vec::new();
    let mut n_events = 0;
    for (at, id) in aborts {
        while n_events < at {
            n_events += 1;
            let event = pollster::block_on(engine.advance()).unwrap();
            let Some((_, telling)) = running.get_mut(&event.sequence) else {
                panic!("an event of no request")
            };
            if let Some(told) = telling.push(event.progress) {
                let (request, _) = running.remove(&event.sequence).unwrap();
                ended.push((event.sequence, request, told));
            }
        }
        if running.remove(&id).is_some() {
            assert!(engine.is_running(id));
            engine.cancel(id);
            assert!(!engine.is_running(id));
        }
    }
    ended.extend(finish_all(&mut engine, running));
    assert!(ended.len() > 40 && ended.len() < n_requests - 3, "{} of {n_requests}", ended.len());
    let mut single = self::engine(device, &TestModel::new(), 1);
    for (_, request, told) in ended {
        single.forget();
        let expected = answer(&mut single, request.clone());
        assert_eq!((&told.text, &told.ids), (&expected.text, &expected.ids), "{request:?}");
        assert_eq!(told.reason, expected.reason);
    }
    assert!(engine.scheduler.cache.has_all_pages());
    assert!(invalid(pollster::block_on(engine.advance())).contains("nothing is running"));
}

#[test]
fn many_requests_give_the_texts_that_they_give_alone() {
    for (contexts, depth, max_rows) in [(1, 1, 32), (2, 3, 8), (4, 4, 16), (8, 2, 32)] {
        let device = TestDevice::new(depth, max_rows);
        check_many(&device, contexts);
    }
}

#[cfg(feature = "cpu")]
#[test]
fn many_on_the_cpu() {
    check_many(&crate::cpu::Cpu::open(2).unwrap(), 2);
}

#[cfg(feature = "gpu")]
#[test]
fn many_on_a_gpu() {
    use crate::gpu::{Gpu, Options};
    let options = Options { kernels: "exact,steps:3".into(), ..Default::default() };
    check_many(&pollster::block_on(Gpu::open(options)).unwrap(), 2);
}

/// A request begins when fewer than eight older ones are left.
#[test]
fn the_first_to_come_is_the_first_to_be_served() {
    let device = TestDevice::default();
    let mut engine = engine(&device, &TestModel::new(), 8);
    let mut left: Vec<SequenceId> =
        (0..40).map(|i| engine.start(greedy(&i.to_string(), 1 + i % 5)).unwrap().sequence).collect();
    while let Ok(event) = pollster::block_on(engine.advance()) {
        assert!(left.iter().filter(|id| **id < event.sequence).count() < 8);
        if let Progress::End { .. } = event.progress {
            left.retain(|id| *id != event.sequence);
        }
    }
    assert!(left.is_empty());
    // Eight sequences, and no more, run in a step.
    let most = device.0.steps.borrow().iter().map(|(_, outputs)| outputs.len()).max();
    assert_eq!(most, Some(8));
}

/// Two requests whose answers together would not fit the pool run one after the other; those that fit run
/// together.
#[test]
fn requests_wait_for_room_in_the_pool() {
    for (max_tokens, at_once) in [(None, 1), (Some(20), 2)] {
        let device = TestDevice::default();
        let mut engine = engine(&device, &TestModel::new(), 1);
        let mut running = Running::new();
        for prompt in ["one", "two"] {
            let mut request = Request { max_tokens, ..greedy(prompt, 1) };
            request.sampling.logit_bias = HashMap::from([(2, -1000.0)]);
            start(&mut engine, &mut running, request);
        }
        for (_, request, told) in finish_all(&mut engine, running) {
            assert_eq!(told.text, alone(&device, request).text);
        }
        let steps = device.0.steps.borrow();
        let rows_of = |tokens: &[crate::graph::Token]| tokens.iter().map(|token| token.sequence).max();
        let most = steps.iter().filter_map(|(tokens, _)| rows_of(tokens)).max().unwrap() + 1;
        assert_eq!(most, at_once);
    }
}

/// A short prompt that comes after a long one has its first token before the long one is computed.
#[test]
fn nobody_waits_for_the_long_prompt_of_another() {
    let device = TestDevice::default();
    device.0.max_rows.set(8);
    let mut engine = engine(&device, &TestModel::new(), 3);
    let long = engine.start(greedy(&"long and longer ".repeat(5), 4)).unwrap().sequence;
    let short = engine.start(greedy("hi", 4)).unwrap().sequence;
    let mut first = Vec::new();
    while let Ok(event) = pollster::block_on(engine.advance()) {
        if let Progress::Token { .. } = event.progress {
            first.push(event.sequence);
        }
    }
    assert_eq!((first[0], first.last().copied()), (short, Some(long)));
}

/// Requests with the same prompt, as for several choices: it is computed once.
#[test]
fn prompts_that_come_together_are_computed_once() {
    let device = TestDevice::default();
    device.0.depth.set(2);
    let mut engine = engine(&device, &TestModel::new(), 4);
    let prompt = "one prompt of several choices, which is longer than one page";
    let mut running = Running::new();
    for seed in 0..4 {
        start(&mut engine, &mut running, seeded(prompt, 8, seed));
    }
    let ended = finish_all(&mut engine, running);
    let usage = ended[0].2.usage;
    let rows: usize = device.0.steps.borrow().iter().map(|(tokens, _)| tokens.len()).sum();
    let shared = (usage.prompt_tokens - 1) / PAGE as usize * PAGE as usize;
    assert!(rows <= usage.prompt_tokens + 3 * (usage.prompt_tokens - shared) + 4 * 8, "{rows} rows");
    for (id, request, told) in ended {
        let cached = if id == SequenceId(1) { 0 } else { shared };
        assert_eq!(told.usage.cached_tokens, cached);
        assert_eq!(told.text, alone(&device, request).text);
    }
}

/// Waiting requests keep their adapters, and an error of the device ends them, too.
#[test]
fn an_error_of_the_device_ends_those_that_wait() {
    let device = TestDevice::default();
    let mut engine = engine(&device, &TestModel::new(), 1);
    let ids: Vec<SequenceId> = (0..12).map(|_| engine.start(greedy("hello", 20)).unwrap().sequence).collect();
    assert!(ids.iter().all(|id| engine.is_running(*id)));
    device.0.fails_to_end.set(true);
    assert!(invalid(pollster::block_on(engine.advance())).contains("broken"));
    assert!(!ids.iter().any(|id| engine.is_running(*id)));
    let told = answer(&mut engine, greedy("hello", 5));
    assert_eq!(told.text, alone(&device, greedy("hello", 5)).text);
}
