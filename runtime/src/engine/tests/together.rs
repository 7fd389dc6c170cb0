//! Several sequences at once.

use super::*;
use crate::graph::{PAGE, Token};

/// Answers requests together; gives what each got. `at` is called before each event.
pub(super) fn together<D: Device>(
    engine: &mut Engine<D>,
    requests: &[Request],
    mut at: impl FnMut(usize, &mut Engine<D>),
) -> Vec<Option<Told>> {
    let ids: Vec<SequenceId> =
        requests.iter().map(|request| engine.start(request.clone()).unwrap().sequence).collect();
    let mut telling = vec![Telling::default(); ids.len()];
    let mut told = vec![None; ids.len()];
    for i in 0.. {
        at(i, engine);
        let Ok(event) = pollster::block_on(engine.advance()) else { break };
        let i = ids.iter().position(|id| *id == event.sequence).expect("an event of no sequence");
        assert!(told[i].is_none(), "an event after the end");
        told[i] = telling[i].push(event.progress);
    }
    told
}

pub(super) fn texts(told: Vec<Option<Told>>) -> Vec<String> {
    told.into_iter().map(|told| told.expect("an answer did not end").text).collect()
}

/// A request whose tokens the host picks.
fn by_host(prompt: &str, max_tokens: usize, seed: u64) -> Request {
    let mut request = seeded(prompt, max_tokens, seed);
    request.sampling.dry_multiplier = 0.8;
    request.sampling.typical_p = 0.95;
    request.sampling.frequency_penalty = 0.3;
    request
}

/// What the host picks is what a device chooses where both can, and DRY changes a text that repeats.
#[test]
fn the_host_picks_as_a_device_chooses() {
    let device = TestDevice::default();
    device.0.depth.set(3);
    for (prompt, seed) in [("hello", 3), ("and so on and so on", 4)] {
        let mut request = seeded(prompt, 30, seed);
        (request.sampling.repetition_penalty, request.sampling.min_p) = (1.2, 0.05);
        let expected = alone(&device, request.clone());
        request.sampling.top_n_sigma = 100.0;
        assert_eq!(alone(&device, request.clone()), expected);
        // An answer that is resumed goes on as it would have.
        let ids = expected.ids[..7].to_vec();
        let resumed = alone(&device, Request { continue_ids: ids.clone(), ..request });
        assert_eq!([ids, resumed.ids].concat(), expected.ids);
    }
    let mut request = greedy("aaaaaaaaaaaaaaaa", 12);
    let plain = alone(&device, request.clone());
    request.sampling.dry_multiplier = 50.0;
    let dry = alone(&device, request);
    // Three of a kind repeat one token, which is free.
    let most = |ids: &[u32]| ids.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
    assert!(most(&plain.ids) > Some(3) && most(&dry.ids) <= Some(3), "{} {}", plain.text, dry.text);
}

/// Two sequences, greedy and at random, with prompts of different lengths and an answer that ends earlier.
fn check_two<D: Device>(device: &D) {
    let long = "a much longer prompt than that of its neighbour";
    let mut penalised = seeded("so", 25, 3);
    penalised.sampling.frequency_penalty = 2.0;
    for requests in [
        [greedy("hello", 20), greedy(long, 20)],
        [seeded(long, 30, 1), seeded("hello", 8, 2)],
        [greedy(long, 12), seeded("hi", 25, 77)],
        [penalised, greedy("hello", 16)],
        [by_host("hello", 20, 8), seeded(long, 12, 4)],
        [by_host(long, 9, 1), by_host("and so on", 20, 2)],
    ] {
        let expected: Vec<Told> = requests.iter().map(|request| alone(device, request.clone())).collect();
        let mut engine = engine(device, &TestModel::new(), 2);
        let told = together(&mut engine, &requests, |_, _| ());
        for (told, expected) in told.into_iter().zip(expected) {
            assert_eq!(told, Some(expected));
        }
    }
}

#[test]
fn two_give_the_texts_that_they_give_alone() {
    for (depth, max_rows) in [(1, 32), (1, 8), (3, 32), (4, 8)] {
        let device = TestDevice::new(depth, max_rows);
        check_two(&device);
    }
}

#[cfg(feature = "cpu")]
#[test]
fn two_on_the_cpu() {
    for threads in [1, 2] {
        check_two(&crate::cpu::Cpu::open(threads).unwrap());
    }
}

#[cfg(feature = "gpu")]
#[test]
fn two_on_a_gpu() {
    use crate::gpu::{Gpu, Options};
    for kernels in ["exact,steps:1", "exact,steps:4", "exact,shared,tile,f32,steps:3"] {
        let options = Options { kernels: kernels.into(), ..Default::default() };
        check_two(&pollster::block_on(Gpu::open(options)).unwrap());
    }
}

#[test]
fn one_of_two_is_cancelled() {
    for depth in [1, 3] {
        let device = TestDevice::default();
        device.0.depth.set(depth);
        let requests = [seeded("stays", 24, 1), seeded("goes away", 24, 2)];
        let expected = alone(&device, requests[0].clone());
        for after in [0, 1, 2, 9] {
            let mut engine = engine(&device, &TestModel::new(), 2);
            let told = together(&mut engine, &requests, |i, engine| {
                if i == after {
                    // The second request of this engine.
                    engine.cancel(SequenceId(2));
                }
            });
            assert_eq!(told, [Some(expected.clone()), None]);
            // Its place can be taken.
            let told = together(&mut engine, &[seeded("stays", 24, 1), greedy("new", 5)], |_, _| ());
            assert_eq!(texts(told), [expected.text.clone(), alone(&device, greedy("new", 5)).text]);
        }
    }
}

#[test]
fn one_begins_while_another_runs() {
    let device = TestDevice::default();
    device.0.depth.set(3);
    let (first, second) = (seeded("early bird", 30, 5), seeded("a late one that has to catch up", 10, 6));
    let expected = [&first, &second].map(|request| alone(&device, (*request).clone()).text);
    let mut engine = engine(&device, &TestModel::new(), 2);
    let id = engine.start(first).unwrap().sequence;
    let mut telling = [Telling::default(), Telling::default()];
    let mut told = [None, None];
    for i in 0.. {
        if i == 7 {
            engine.start(second.clone()).unwrap();
        }
        let Ok(event) = pollster::block_on(engine.advance()) else { break };
        let which = usize::from(event.sequence != id);
        if let Some(done) = telling[which].push(event.progress) {
            told[which] = Some(done.text);
        }
    }
    assert_eq!(told, expected.map(Some));
}

#[test]
fn more_than_two() {
    let device = TestDevice::default();
    device.0.depth.set(2);
    let requests: Vec<Request> = (0..8).map(|i| seeded(&"abcdefgh"[i..], 4 + 3 * i, i as u64)).collect();
    let expected: Vec<String> = requests.iter().map(|request| alone(&device, request.clone()).text).collect();
    let mut engine = engine(&device, &TestModel::new(), 8);
    assert_eq!(texts(together(&mut engine, &requests, |_, _| ())), expected);
}

/// A step takes a row of each answer, and a piece of a prompt beside them.
#[test]
fn rows_of_several_sequences_share_steps() {
    let device = TestDevice::default();
    device.0.depth.set(2);
    let mut engine = engine(&device, &TestModel::new(), 2);
    let long: String = "and so it goes on and on and on for ever".into();
    engine.start(greedy("x", 30)).unwrap();
    for _ in 0..3 {
        pollster::block_on(engine.advance()).unwrap();
    }
    device.0.steps.borrow_mut().clear();
    engine.start(greedy(&long, 5)).unwrap();
    while pollster::block_on(engine.advance()).is_ok() {}
    let steps = device.0.steps.borrow();
    let mixed = steps.iter().filter(|(tokens, outputs)| tokens.len() > 2 && !outputs.is_empty());
    assert!(mixed.count() > 0, "no step has a prompt and an answer");
    assert!(steps.iter().all(|(tokens, _)| tokens.len() <= 32));
    let pairs: Vec<_> =
        steps.iter().filter(|(tokens, outputs)| (tokens.len(), outputs.len()) == (2, 2)).collect();
    assert!(pairs.len() >= 4, "{}", pairs.len());
    for (tokens, outputs) in pairs {
        let slots: Vec<u32> = outputs.iter().map(|output| output.slot).collect();
        assert_eq!(slots, [0, 1]);
        assert_eq!(tokens.iter().map(|token| token.sequence).collect::<Vec<_>>(), [0, 1]);
        // A token that is not known to the host comes from the slot of its own sequence.
        for (slot, token) in tokens.iter().enumerate().filter(|(_, token)| token.id & Token::FROM_SLOT != 0) {
            assert_eq!(token.id, Token::FROM_SLOT | slot as u32);
        }
    }
    assert!(steps.iter().any(|(tokens, _)| tokens.iter().any(|token| token.id & Token::FROM_SLOT != 0)));
}

#[test]
fn conversations_stay_while_others_run() {
    let device = TestDevice::default();
    let mut engine = engine(&device, &TestModel::new(), 2);
    let (one, two) = ("first conversation", "another conversation");
    for prompt in [one, two] {
        answer(&mut engine, greedy(prompt, 6));
    }
    // Both are still there.
    for prompt in [one, two, one] {
        let told = answer(&mut engine, greedy(prompt, 6));
        assert_eq!(told.usage.cached_tokens, told.usage.prompt_tokens - 1);
        assert_eq!(told.text, alone(&device, greedy(prompt, 6)).text);
    }
    // A third has only its first token in common, and all three have room.
    assert_eq!(answer(&mut engine, greedy("third", 6)).usage.cached_tokens, 1);
    let n = engine.tokenizer().encode(one, true).unwrap().len();
    assert_eq!(answer(&mut engine, greedy(one, 6)).usage.cached_tokens, n - 1);
}

#[test]
fn a_prompt_shares_the_pages_of_a_running_answer() {
    for depth in [1, 3] {
        let device = TestDevice::default();
        device.0.depth.set(depth);
        let common = "they all begin with the same long words ";
        let requests = [format!("{common}one"), format!("{common}two")].map(|prompt| seeded(&prompt, 20, 4));
        let expected = requests.clone().map(|request| alone(&device, request).text);
        let mut engine = engine(&device, &TestModel::new(), 2);
        let first = engine.start(requests[0].clone()).unwrap();
        let mut telling = [Telling::default(), Telling::default()];
        while telling[0].ids.len() < 3 {
            telling[0].push(pollster::block_on(engine.advance()).unwrap().progress);
        }
        let second = engine.start(requests[1].clone()).unwrap();
        assert!(first.prompt_tokens > PAGE as usize);
        let mut told = [None, None];
        while let Ok(event) = pollster::block_on(engine.advance()) {
            let which = usize::from(event.sequence == second.sequence);
            told[which] = told[which].take().or(telling[which].push(event.progress));
        }
        let told = told.map(Option::unwrap);
        assert_eq!(told[1].usage.cached_tokens, PAGE as usize);
        assert_eq!(told.map(|told| told.text), expected);
        // A prompt with half of the shared page gets a copy of it.
        let half = greedy(&common[..PAGE as usize / 2], 9);
        let told = answer(&mut engine, half.clone());
        assert_eq!(told.usage.cached_tokens, told.usage.prompt_tokens - 1);
        assert_eq!(told.text, alone(&device, half).text);
        // Both pages of the second prompt are there.
        let again = answer(&mut engine, requests[1].clone());
        assert_eq!(again.usage.cached_tokens, again.usage.prompt_tokens - 1);
        assert_eq!(again.text, alone(&device, requests[1].clone()).text);
    }
}

#[test]
fn an_error_of_the_device_ends_all() {
    let device = TestDevice::default();
    device.0.depth.set(2);
    let requests = [seeded("one", 20, 1), seeded("two", 20, 2)];
    let expected = requests.clone().map(|request| alone(&device, request).text);
    let mut engine = engine(&device, &TestModel::new(), 2);
    let told = together(&mut engine, &requests, |i, _| {
        if i == 6 {
            device.0.fails_to_end.set(true);
        }
    });
    assert_eq!(told, [None, None]);
    assert_eq!(texts(together(&mut engine, &requests, |_, _| ())), expected);
}
