//! Embeddings of texts.

use super::*;

fn embedding(prompt: impl Into<Prompt>, dimensions: usize) -> Request {
    Request { prompt: Some(prompt.into()), embedding: Some(dimensions), ..Default::default() }
}

/// The rest of the only running request.
fn embedded<D: Device>(engine: &mut Engine<D>, request: Request) -> (Vec<f32>, usize) {
    engine.start(request).unwrap();
    loop {
        match pollster::block_on(engine.advance()).unwrap().progress {
            Progress::Prefill { .. } => {}
            Progress::Embedding { embedding, prompt_tokens } => return (embedding, prompt_tokens),
            other => panic!("{other:?}"),
        }
    }
}

fn is_close(found: &[f32], expected: &[f32], by: f32) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| (f - e).abs() < by)
}

/// The tiny llama model against numpy: see `tests/golden/embeddings.py`.
#[cfg(any(feature = "cpu", feature = "gpu"))]
fn check_golden<D: Device>(device: &D, by: f32) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("embeddings.json")).unwrap()).unwrap();
    let file = std::fs::read(folder.join("tiny/llama.gguf")).unwrap();
    let options = LoadOptions { parallel: Some(2), ..Default::default() };
    let (mut engine, _) = load(device, &[file], options).unwrap();
    let text = golden["text"].as_str().unwrap();
    let before = answer(&mut engine, greedy(text, 8)).text;
    for (name, pooling) in [("mean", Pooling::Mean), ("cls", Pooling::Cls), ("last", Pooling::Last)] {
        engine.pooling = pooling;
        let expected: Vec<f32> = serde_json::from_value(golden[name].clone()).unwrap();
        let (found, n) = embedded(&mut engine, embedding(text, 0));
        assert_eq!(n, golden["prompt_ids"].as_array().unwrap().len());
        assert!(is_close(&found, &expected, by), "{name}: {found:?}, not {expected:?}");
        let ids: Vec<u32> = serde_json::from_value(golden["prompt_ids"].clone()).unwrap();
        let (of_ids, _) = embedded(&mut engine, embedding(Prompt::Ids(ids), 0));
        assert!(is_close(&of_ids, &found, 1e-6));
    }
    // Answers are as before.
    assert_eq!(answer(&mut engine, greedy(text, 8)).text, before);
}

#[cfg(feature = "cpu")]
#[test]
fn golden_on_the_cpu() {
    check_golden(&crate::cpu::Cpu::open(2).unwrap(), 0.004);
}

#[cfg(feature = "gpu")]
#[test]
fn golden_on_a_gpu() {
    use crate::gpu::{Gpu, Options};
    let options = Options { kernels: "exact,steps:3".into(), ..Default::default() };
    check_golden(&pollster::block_on(Gpu::open(options)).unwrap(), 0.004);
}

/// Also where a text is longer than a step, and beside answers, which do not change.
#[test]
fn a_text_has_one_embedding() {
    let device = TestDevice::default();
    device.0.depth.set(3);
    let text = "the quick brown fox jumps over the lazy dog";
    let (expected, _) = embedded(&mut engine(&device, &TestModel::new(), 1), embedding(text, 0));
    assert_eq!(expected.len(), 32);
    assert!((expected.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    device.0.max_rows.set(16);
    let mut engine = engine(&device, &TestModel::new(), 2);
    let alone = answer(&mut engine, greedy("hello", 30));
    let answering = engine.start(greedy("hello", 30)).unwrap().sequence;
    let embedding_id = engine.start(embedding(text, 0)).unwrap().sequence;
    let mut telling = Telling::default();
    let (mut found, mut told) = (Vec::new(), None);
    while let Ok(event) = pollster::block_on(engine.advance()) {
        match event.progress {
            Progress::Embedding { embedding, .. } => {
                assert_eq!(event.sequence, embedding_id);
                found = embedding;
            }
            progress if event.sequence == answering => told = telling.push(progress).or(told),
            _ => {}
        }
    }
    assert!(is_close(&found, &expected, 1e-5), "{found:?}, not {expected:?}");
    assert_eq!(told.unwrap().text, alone.text);
    // No logits are computed for it.
    let n = device.0.selected.borrow().len();
    let (other, _) = embedded(&mut engine, embedding("a small cat", 0));
    assert!(!is_close(&other, &expected, 0.01));
    assert!(device.0.selected.borrow()[n..].iter().all(|number| *number == Some(embed::EMBEDDER)));
}

#[test]
fn fewer_dimensions_are_the_first_of_all() {
    let (_, mut engine) = single();
    let (all, _) = embedded(&mut engine, embedding("some text", 0));
    let (few, _) = embedded(&mut engine, embedding("some text", 8));
    let length = all[..8].iter().map(|x| x * x).sum::<f32>().sqrt();
    let expected: Vec<f32> = all[..8].iter().map(|x| x / length).collect();
    assert!(is_close(&few, &expected, 1e-5));
    assert!(invalid(engine.start(embedding("some text", 33))).contains("`dimensions`"));
    assert!(invalid(engine.start(embedding(Prompt::Ids(vec![]), 0))).contains("empty"));
    assert!(invalid(engine.start(embedding(Prompt::Ids(vec![900]), 0))).contains("no token 900"));
    let long = Prompt::Ids(vec![5; CONTEXT + 1]);
    assert!(matches!(engine.start(embedding(long, 0)), Err(Error::ContextLength { .. })));
    let adapters = vec![AdapterUse { name: "one".into(), scale: 1.0 }];
    let adapted = Request { adapters, ..embedding("some text", 0) };
    assert!(invalid(engine.start(adapted)).contains("adapters"));
    engine.pooling = Pooling::Other(4);
    assert!(invalid(engine.start(embedding("some text", 0))).contains("pooling type 4"));
}

#[test]
fn files_say_how_rows_are_pooled() {
    for (number, expected) in [
        (None, Pooling::Mean),
        (Some(0_u32), Pooling::Mean),
        (Some(1), Pooling::Mean),
        (Some(2), Pooling::Cls),
        (Some(3), Pooling::Last),
        (Some(4), Pooling::Other(4)),
    ] {
        let mut model = TestModel::new();
        let key = |number: u32| ("llama.pooling_type".to_string(), number.into());
        model.metadata.extend(number.map(key));
        assert_eq!(engine(&TestDevice::default(), &model, 1).pooling, expected, "{number:?}");
    }
}
