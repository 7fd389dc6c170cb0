//! A draft model changes no text and no distribution, and saves steps.

use super::speculation::{check_distribution, check_on, distribution, requests, with};
use super::*;

/// A model whose output has other numbers, so that it knows nothing of what the test model says.
fn stranger() -> TestModel {
    TestModel::new().with_tensor("output.weight", &[words().len() as u64, 32])
}

fn load_draft<D: Device>(device: &D, engine: &mut Engine<D>, draft: &TestModel) -> Result<(), Error> {
    let files = draft.files(1);
    let sizes = [files[0].len() as u64];
    let mut loading = Loading::draft(&sizes, engine);
    assert_eq!(loading.push_header(0, &files[0])?, 0);
    pollster::block_on(async {
        loading.prepare(device).await?;
        loading.push_data(device, 0, &files[0]).await?;
        loading.finish_draft(device, engine).await.map(drop)
    })
}

/// An engine of the test model with room for so many contexts, and a draft model.
fn drafted<D: Device>(device: &D, draft: &TestModel, contexts: u32) -> Engine<D> {
    let mut engine = engine(device, &TestModel::new(), contexts);
    load_draft(device, &mut engine, draft).unwrap();
    engine
}

fn models() -> [TestModel; 3] {
    // The last one's context ends before that of the model.
    [TestModel::new(), stranger(), TestModel::new().with("llama.context_length", 40_u32)]
}

/// Texts are the same with each draft model. Both in fresh engines and in one that has answered others.
fn check_all<D: Device>(device: &D, requests: &[Request]) {
    for draft in models() {
        let mut used = drafted(device, &draft, 1);
        for request in requests {
            check_on(&mut drafted(device, &draft, 1), device, request);
            used.forget();
            check_on(&mut used, device, request);
        }
    }
}

#[test]
fn a_draft_model_changes_no_text() {
    for (depth, max_rows) in [(1, 32), (4, 32), (3, 10)] {
        let device = TestDevice::new(depth, max_rows);
        let mut requests = requests();
        let long = "a long prompt that is read in several pieces before the first guess is made";
        requests.extend([greedy("hello", 40), seeded("hello", 40, 8), greedy(long, 20)]);
        check_all(&device, &requests);
    }
}

#[cfg(feature = "cpu")]
#[test]
fn a_draft_model_on_the_cpu() {
    for threads in [1, 2] {
        check_all(&crate::cpu::Cpu::open(threads).unwrap(), &requests()[6..]);
    }
}

#[cfg(feature = "gpu")]
#[test]
fn a_draft_model_on_a_gpu() {
    use crate::gpu::{Gpu, Options};
    let options = Options { kernels: "exact,shared,tile,f32,steps:3".into(), ..Default::default() };
    let gpu = pollster::block_on(Gpu::open(options)).unwrap();
    // Software adapters are slow.
    let requests = [greedy("hello", 24), seeded("hello", 24, 3), requests().swap_remove(8)];
    check_all(&gpu, &requests);
}

#[test]
fn a_model_that_drafts_itself_is_right_and_takes_few_steps() {
    for depth in [1, 4] {
        let device = TestDevice::default();
        device.0.depth.set(depth);
        for request in [greedy("hello", 41), seeded("hello", 41, 3)] {
            let mut engine = drafted(&device, &TestModel::new(), 1);
            device.0.steps.borrow_mut().clear();
            let Usage { drafted_tokens, accepted_tokens, completion_tokens, .. } =
                answer(&mut engine, with(&request, true)).usage;
            // A draft is what is likeliest, so with a seed more are wrong.
            let is_right = request.sampling.temperature > 0.0 || 10 * accepted_tokens >= 9 * drafted_tokens;
            assert!(drafted_tokens > 15 && is_right, "{accepted_tokens} of {drafted_tokens}");
            // Steps that check a draft have an output for each of their rows. Each gives a token besides.
            let steps = device.0.steps.borrow();
            let checks = steps.iter().filter(|(rows, outputs)| rows.len() > 1 && rows.len() == outputs.len());
            let most = completion_tokens - accepted_tokens;
            assert!(checks.count() <= most && most < 41 - accepted_tokens / 2);
        }
    }
}

#[test]
fn a_stranger_is_wrong() {
    let device = TestDevice::default();
    let mut engine = drafted(&device, &stranger(), 1);
    let (mut drafted, mut accepted) = (0, 0);
    for prompt in ["hello", "a fox", "once upon a time"] {
        let usage = answer(&mut engine, with(&greedy(prompt, 20), true)).usage;
        (drafted, accepted) = (drafted + usage.drafted_tokens, accepted + usage.accepted_tokens);
    }
    assert!(drafted > 30 && 5 * accepted < drafted, "{accepted} of {drafted}");
}

#[test]
fn a_draft_model_does_not_change_the_distribution() {
    let device = TestDevice::default();
    let mut engine = drafted(&device, &TestModel::new(), 1);
    let first = answer(&mut engine, greedy("abcde", 2)).ids[0];
    let p = distribution(&mut engine, "abcde", first);
    check_distribution(&mut engine, None, first, &p);
}

#[test]
fn other_vocabularies_are_refused_before_the_data() {
    let device = TestDevice::default();
    let mut other = words();
    other[7] = "#".into();
    let mut more = words();
    more.push("more".into());
    let n = words().len();
    let kinds = |first: usize| (0..n).map(|id| if id < first { 3 } else { 1 }).collect::<Vec<i32>>();
    let scores = |n: usize| (0..n).map(|id| -(id as f32)).collect::<Vec<f32>>();
    let model = TestModel::new;
    for (draft, says) in [
        (model().with("tokenizer.ggml.tokens", other), "its token 7 is \"#\", not \"d\""),
        (model().with("tokenizer.ggml.token_type", kinds(4)), "its token 3, \"▁\", is a control token"),
        (
            model()
                .with("tokenizer.ggml.tokens", more)
                .with("tokenizer.ggml.scores", scores(n + 1))
                .with("tokenizer.ggml.token_type", vec![1; n + 1])
                .with_tensor("token_embd.weight", &[n as u64 + 1, 32]),
            "its vocabulary has 57 tokens, not 56",
        ),
    ] {
        let mut engine = engine(&device, &TestModel::new(), 1);
        let file = draft.files(1).remove(0);
        let mut loading = Loading::draft(&[file.len() as u64], &engine);
        assert_eq!(loading.push_header(0, &file).unwrap(), 0);
        let error = loading.check().unwrap_err();
        assert!(matches!(&error, Error::Draft(message) if message == says), "{error}");
        assert_eq!(error.code(), "invalid_request");
        assert_eq!(engine.info().draft, None);
        answer(&mut engine, greedy("hello", 3));
    }
}

#[test]
fn its_memory_counts() {
    let device = TestDevice::default();
    let plain = engine(&device, &TestModel::new(), 2);
    let small = TestModel::new().with("general.name", "Small").with("llama.context_length", 32_u32);
    let engine = drafted(&device, &small, 2);
    // Two layers of 32 floats for keys and 32 for values, in f16.
    assert_eq!(engine.info().kv_bytes, plain.info().kv_bytes + 32 * 2 * 64 * 2);
    assert_eq!((engine.info().draft.as_deref(), engine.info().context_length), (Some("Small"), CONTEXT));
}

/// Several answers, aborts, errors of the device and calls that nobody waits for leave the draft model right.
#[test]
fn whatever_comes_between() {
    for (draft, depth) in [(TestModel::new(), 1), (TestModel::new(), 4), (stranger(), 2)] {
        let device = TestDevice::default();
        device.0.depth.set(depth);
        let mut engine = drafted(&device, &draft, 4);
        let requests = requests();
        for (i, request) in requests.iter().enumerate() {
            let expected = alone(&device, with(request, false)).text;
            let id = engine.start(with(request, true)).unwrap().sequence;
            // Another answer runs beside it for a while, or is cut off, or the device fails once.
            let other = engine.start(with(&greedy("another", 4), true)).unwrap().sequence;
            if i % 3 == 0 {
                engine.cancel(other);
            }
            let mut telling = Telling::default();
            let mut told = None;
            for at in 0.. {
                device.0.pending.set(at % 3);
                device.0.fails_to_end.set(i == 9 && at == 8);
                let mut advance = Box::pin(engine.advance());
                let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                let event = match advance.as_mut().poll(&mut context) {
                    std::task::Poll::Ready(event) => event,
                    std::task::Poll::Pending => continue,
                };
                drop(advance);
                match event {
                    Ok(event) if event.sequence == id => told = told.or(telling.push(event.progress)),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            device.0.pending.set(0);
            match told {
                Some(told) => assert_eq!(told.text, expected, "{i}"),
                None => assert_eq!(i, 9),
            }
            assert!(engine.scheduler.cache.has_all_pages());
        }
    }
}
