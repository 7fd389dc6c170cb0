//! Models whose layers all have a window: pages that no row sees any more are given back.

use super::*;
use crate::graph::PAGE;

const WINDOW: u32 = 40;
/// Room for what three answers take at a time, where a step has at most 128 rows.
const LONG: u32 = 704;

/// A model all of whose layers see 40 positions of its context.
fn windowed() -> TestModel {
    let mut model = TestModel::new();
    for (key, _) in &mut model.metadata {
        *key = key.replacen("llama.", "phi3.", 1);
    }
    model
        .with("general.architecture", "phi3")
        .with("phi3.context_length", LONG)
        .with("phi3.attention.sliding_window", WINDOW)
}

/// An engine with room for one context.
fn windowed_engine<D: Device>(device: &D) -> Engine<D> {
    engine(device, &windowed(), 1)
}

/// A request that is only ended by its length.
fn long(prompt: &str, n_tokens: usize, seed: u64) -> Request {
    let mut request = seeded(prompt, n_tokens, seed);
    request.sampling.logit_bias = [(2, -100.0)].into();
    request
}

/// Three long answers in a pool that has room for one whole context: they run together, in pages that the
/// others have given back, and get the tokens that they get alone in pages of their own.
fn check<D: Device>(device: &D, n_tokens: usize) {
    let prompts = ["hello", &"a long prompt and more of it ".repeat(5), "x"];
    let mut seed = 0;
    let requests = prompts.map(|prompt| {
        seed += 1;
        long(prompt, n_tokens, seed)
    });
    let expected = requests.clone().map(|request| answer(&mut windowed_engine(device), request));
    let mut engine = windowed_engine(device);
    let ids = requests.map(|request| engine.start(request).unwrap().sequence);
    let mut telling = vec![Telling::default(); ids.len()];
    let mut told = vec![None; ids.len()];
    let mut most_running = 0;
    while let Ok(event) = pollster::block_on(engine.advance()) {
        let which = ids.iter().position(|id| *id == event.sequence).unwrap();
        told[which] = telling[which].push(event.progress);
        let sequences = &engine.scheduler.sequences;
        most_running = most_running.max(sequences.iter().filter(|s| s.answer.is_some()).count());
        let most = engine.model.capacity().tokens + WINDOW;
        for sequence in sequences {
            assert!(sequence.n_owned() <= (most.div_ceil(PAGE) + 1) as usize, "{}", sequence.n_owned());
        }
    }
    assert_eq!(most_running, 3);
    for (told, expected) in told.into_iter().zip(expected) {
        assert!(expected.ids.len() + 20 > n_tokens, "{}", expected.ids.len());
        // Tokens that are guessed depend on who runs at the same time.
        let told = told.map(|told| (told.text, told.ids, told.reason));
        assert_eq!(told, Some((expected.text, expected.ids, expected.reason)));
    }
    assert!(engine.scheduler.cache.has_all_pages());
}

#[test]
fn long_answers_share_a_pool_that_none_needs_whole() {
    for (depth, max_rows) in [(1, 32), (3, 32), (4, 8)] {
        let device = TestDevice::new(depth, max_rows);
        check(&device, 300);
    }
}

#[cfg(feature = "cpu")]
#[test]
fn long_answers_share_a_pool_on_the_cpu() {
    check(&crate::cpu::Cpu::open(2).unwrap(), 300);
}

#[cfg(feature = "gpu")]
#[test]
fn long_answers_share_a_pool_on_a_gpu() {
    let options = crate::gpu::Options { kernels: "exact,few,steps:3".into(), ..Default::default() };
    check(&pollster::block_on(crate::gpu::Gpu::open(options)).unwrap(), 150);
}

/// What a conversation has computed is found again, pages that it gave back included, and gives the same
/// text.
#[test]
fn what_was_given_back_is_still_cached() {
    let device = TestDevice::default();
    let mut engine = windowed_engine(&device);
    let prompt = "the beginning of a long conversation ".repeat(5);
    let first = answer(&mut engine, long(&prompt, 300, 4));
    let again = answer(&mut engine, long(&prompt, 300, 4));
    assert_eq!(again.usage.cached_tokens, again.usage.prompt_tokens - 1);
    assert_eq!((again.text, again.ids), (first.text, first.ids));
    assert!(engine.scheduler.cache.has_all_pages());
}

/// Where a layer sees all, nothing can be given back.
#[test]
fn the_longest_window_counts() {
    assert_eq!(windowed().graph().unwrap().window(), Some(WINDOW));
    assert_eq!(TestModel::new().graph().unwrap().window(), None);
    // It has a window in every other layer.
    assert_eq!(crate::model::golden::Tiny::new("gemma2").graph().window(), None);
}
