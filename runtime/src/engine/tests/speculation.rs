//! Drafts change no text and no distribution, and save steps.

use super::*;

pub(super) fn with(request: &Request, speculate: bool) -> Request {
    Request { speculate: Some(speculate), ..request.clone() }
}

/// What a request gives with drafts is what it gives without; how many tokens were drafted and were right.
fn check<D: Device>(device: &D, request: &Request) -> (usize, usize) {
    check_on(&mut engine(device, &TestModel::new(), 1), device, request)
}

/// The same on this engine, which has answered nothing like it.
pub(super) fn check_on<D: Device>(engine: &mut Engine<D>, device: &D, request: &Request) -> (usize, usize) {
    let plain = alone(device, with(request, false));
    assert_eq!((plain.usage.drafted_tokens, plain.usage.accepted_tokens), (0, 0));
    let told = answer(engine, with(request, true));
    let Usage { drafted_tokens, accepted_tokens, .. } = told.usage;
    assert_eq!(told, Told { usage: Usage { drafted_tokens, accepted_tokens, ..plain.usage }, ..plain });
    assert!(engine.scheduler.cache.has_all_pages());
    (drafted_tokens, accepted_tokens)
}

/// Requests that use every way to choose a token, and end in every way.
pub(super) fn requests() -> Vec<Request> {
    let repeats = "one two three one two three one two";
    let mut penalised = seeded(repeats, 24, 3);
    (penalised.sampling.frequency_penalty, penalised.sampling.temperature) = (0.2, 0.4);
    let mut truncated = seeded(repeats, 24, 4);
    (truncated.sampling.top_k, truncated.sampling.temperature) = (5, 0.3);
    let mut by_host = seeded(repeats, 24, 5);
    (by_host.sampling.typical_p, by_host.sampling.temperature) = (0.9, 0.4);
    let mut scored = greedy(repeats, 20);
    scored.top_logprobs = Some(3);
    let mut stopped = greedy(repeats, 40);
    stopped.stop = vec![alone(&TestDevice::default(), stopped.clone()).text[10..13].to_string()];
    let mut resumed = greedy(repeats, 20);
    resumed.continue_ids = alone(&TestDevice::default(), resumed.clone()).ids[..5].to_vec();
    let shifting = Request { context_overflow: ContextOverflow::Shift, ..greedy(repeats, 200) };
    let mut all: Vec<Request> = (1..7).map(|n| greedy(repeats, n)).collect();
    all.extend([greedy(repeats, 300), seeded(repeats, 40, 6)]);
    all.extend([penalised, truncated, by_host, scored, stopped, resumed, shifting]);
    all
}

fn check_all<D: Device>(device: &D, requests: Vec<Request>) {
    let (mut drafted, mut accepted) = (0, 0);
    let mut count = |n: (usize, usize)| (drafted, accepted) = (drafted + n.0, accepted + n.1);
    for mut request in requests {
        count(check(device, &request));
        // Predictions that are right, right up to a point, and wrong.
        let text = alone(device, request.clone()).text;
        for prediction in [text.clone(), text.replace(['a', 'b', 'c', 'd'], "z"), "unlike".into()] {
            request.prediction = Some(prediction);
            count(check(device, &request));
        }
    }
    assert!(
        drafted > 100 && accepted > 50 && accepted < drafted,
        "{accepted} of {drafted} tokens were right"
    );
}

#[test]
fn drafts_change_no_text() {
    for (depth, max_rows) in [(1, 32), (4, 32), (3, 10)] {
        let device = TestDevice::new(depth, max_rows);
        check_all(&device, requests());
    }
}

#[cfg(feature = "cpu")]
#[test]
fn drafts_on_the_cpu() {
    for threads in [1, 2] {
        check_all(&crate::cpu::Cpu::open(threads).unwrap(), requests());
    }
}

#[cfg(feature = "gpu")]
#[test]
fn drafts_on_a_gpu() {
    use crate::gpu::{Gpu, Options};
    let options = Options { kernels: "exact,shared,tile,f32,steps:3".into(), ..Default::default() };
    // Each way to choose a token once: software adapters are slow.
    let mut requests = requests().split_off(7);
    requests.retain(|request| request.context_overflow == ContextOverflow::Stop);
    check_all(&pollster::block_on(Gpu::open(options)).unwrap(), requests);
}

/// A right prediction of 41 tokens. The first comes from the prompt, and a step gives up to eight of the
/// others. The tokens of the prediction's beginning may differ, since it is no text of its own.
#[test]
fn what_is_predicted_takes_few_steps() {
    for depth in [1, 4] {
        let device = TestDevice::default();
        device.0.depth.set(depth);
        let mut request = with(&greedy("hello", 41), true);
        // Tokens that have no text of their own.
        request.sampling.logit_bias.extend([0, 1, 2, 3].map(|id| (id, -100.0)));
        let plain = alone(&device, with(&request, false));
        request.prediction = Some(plain.text.clone());
        device.0.steps.borrow_mut().clear();
        let told = alone(&device, request);
        assert_eq!(told.text, plain.text);
        let accepted = told.usage.accepted_tokens;
        assert!(accepted >= 30, "{accepted} of 40 tokens were guessed");
        // Each step gives one token besides.
        assert_eq!(device.0.steps.borrow().len(), 1 + 40 - accepted);
    }
}

/// With drafts in their steps, several answers give what each gives alone, and aborts leave nothing behind.
#[test]
fn several_with_drafts() {
    let device = TestDevice::default();
    device.0.depth.set(2);
    let requests: Vec<Request> = requests().iter().map(|request| with(request, true)).collect();
    let expected: Vec<String> = requests.iter().map(|request| alone(&device, request.clone()).text).collect();
    let mut engine = engine(&device, &TestModel::new(), 4);
    let ids: Vec<SequenceId> =
        requests.iter().map(|request| engine.start(request.clone()).unwrap().sequence).collect();
    let mut telling = vec![Telling::default(); ids.len()];
    let mut told = vec![None; ids.len()];
    for i in 0.. {
        if i == 60 {
            engine.cancel(ids[2]);
        }
        let Ok(event) = pollster::block_on(engine.advance()) else { break };
        let which = ids.iter().position(|id| *id == event.sequence).unwrap();
        told[which] = told[which].take().or(telling[which].push(event.progress));
    }
    for (i, (told, expected)) in told.into_iter().zip(expected).enumerate() {
        match told {
            Some(told) => assert_eq!(told.text, expected, "{i}"),
            None => assert_eq!(i, 2),
        }
    }
    assert!(engine.scheduler.cache.has_all_pages());
}

#[test]
fn drafts_do_not_change_the_distribution() {
    let device = TestDevice::default();
    let mut engine = engine(&device, &TestModel::new(), 1);
    let first = answer(&mut engine, greedy("abcde", 2)).ids[0];
    let p = distribution(&mut engine, "abcde", first);
    let draft = (4..p.len() as u32).max_by(|a, b| p[*a as usize].total_cmp(&p[*b as usize])).unwrap();
    let prediction = engine.tokenizer().decode(&[first, draft, draft, draft]);
    check_distribution(&mut engine, Some(prediction), first, &p);
}

/// The probabilities of the tokens after a prompt and a first token.
pub(super) fn distribution<D: Device>(engine: &mut Engine<D>, prompt: &str, first: u32) -> Vec<f64> {
    let prompt = engine.tokenizer().encode(prompt, true).unwrap();
    let ids = [&prompt[..], &[first]].concat();
    let mut p = |id| {
        let score = pollster::block_on(engine.score(&[&ids[..], &[id]].concat(), false)).unwrap();
        f64::from(*score.logprobs.last().unwrap()).exp()
    };
    (0..words().len() as u32).map(&mut p).collect()
}

/// The token that a draft is about has the model's own distribution `p`: a chi-squared test over many seeds.
/// It comes after "abcde" and `first`.
pub(super) fn check_distribution<D: Device>(
    engine: &mut Engine<D>,
    prediction: Option<String>,
    first: u32,
    p: &[f64],
) {
    let mut counts = vec![0.0; p.len()];
    let (mut n, mut accepted) = (0.0, 0);
    for seed in 0..6000 {
        let mut request = with(&seeded("abcde", 4, seed), true);
        request.prediction.clone_from(&prediction);
        let told = answer(engine, request);
        // An answer of two tokens ends with the second, which is then the end of its text.
        let (Some(one), second) = (told.ids.first(), told.ids.get(1).copied().unwrap_or(2)) else { continue };
        if *one == first {
            counts[second as usize] += 1.0;
            n += 1.0;
            accepted += usize::from(told.usage.accepted_tokens > 0);
        }
    }
    assert!(n > 60.0 && accepted > 3, "{n} drafts, {accepted} of them right");
    // Tokens that are expected less than five times are counted together.
    let (mut chi, mut bins, mut rest) = (0.0, 0, [0.0, 0.0]);
    for (count, p) in counts.iter().zip(p) {
        if n * p < 5.0 {
            rest = [rest[0] + count, rest[1] + n * p];
        } else {
            chi += (count - n * p).powi(2) / (n * p);
            bins += 1;
        }
    }
    if rest[1] > 0.0 {
        chi += (rest[0] - rest[1]).powi(2) / rest[1];
        bins += 1;
    }
    // Mean and variance of χ² are its degrees of freedom and twice that.
    let freedom = f64::from(bins - 1);
    assert!(chi < freedom + 4.0 * (2.0 * freedom).sqrt(), "χ² is {chi}, {freedom} degrees of freedom");
}

#[test]
fn drafts_fit_constraints() {
    let regex = Some(GrammarText::Regex("(abc|abd){8}( done)?".into()));
    let mut accepted = 0;
    for (temperature, seed) in [(0.0, 1), (0.7, 2), (1.0, 3)] {
        let mut request = Request { grammar: regex.clone(), ..seeded("abcabdabc", 60, seed) };
        request.sampling.temperature = temperature;
        accepted += check(&TestDevice::default(), &request).1;
    }
    assert!(accepted > 0);
}
