//! Adapters at run time.

use super::*;
use crate::adapter::LowRank;
use crate::adapter::tests::{config, gguf, matrices, safetensors};
use crate::adapter::{Adapter, AdapterFiles, Base};
use crate::gguf::HeaderReader;
use crate::graph::Token;

fn of(name: &str, scale: f32) -> AdapterUse {
    AdapterUse { name: name.into(), scale }
}

/// An engine with the adapters "one", of rank 3 from PEFT, and "two", of rank 40 from a GGUF file.
fn adapted<D: Device>(device: &D, sequences: u32) -> Engine<D> {
    let mut engine = engine(device, &TestModel::new(), sequences);
    let weights = safetensors(&matrices(3, 1));
    let config = config(3, 6.0, "");
    let one = AdapterFiles::Peft { config: config.as_bytes(), weights: &weights };
    engine.load_adapter("one", one).unwrap();
    engine.load_adapter("two", AdapterFiles::Gguf(&gguf(&matrices(40, 2), 4.0))).unwrap();
    engine
}

fn with(adapters: &[AdapterUse], request: Request) -> Request {
    Request { adapters: adapters.to_vec(), ..request }
}

/// The model with `scale` of both adapters merged into its file.
fn merged(scales: [f32; 2]) -> Vec<u8> {
    let mut file = TestModel::new().files(1).remove(0);
    let mut reader = HeaderReader::new(file.len() as u64);
    reader.push(&file).unwrap();
    let header = reader.finish().unwrap();
    let graph = TestModel::new().graph().unwrap();
    let base = Base { architecture: "llama", graph: &graph };
    let files = [gguf(&matrices(3, 1), 6.0), gguf(&matrices(40, 2), 4.0)];
    for (bytes, scale) in files.iter().zip(scales) {
        for (path, factor) in Adapter::read(AdapterFiles::Gguf(bytes), base).unwrap().paths {
            let tensor = header.tensors.iter().find(|tensor| tensor.name == path.tensor).unwrap();
            let LowRank { rank, n_in, n_out, a, b, .. } = path;
            for (o, i) in (0..n_out).flat_map(|o| (0..n_in).map(move |i| (o, i))) {
                let at = tensor.offset as usize + 4 * (o * n_in + i);
                let number = f32::from_le_bytes(file[at..at + 4].try_into().unwrap());
                let product: f32 = (0..rank).map(|r| b[o * rank + r] * a[r * n_in + i]).sum();
                file[at..at + 4].copy_from_slice(&(number + scale * factor * product).to_le_bytes());
            }
        }
    }
    file
}

fn mean_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f32>() / a.len() as f32
}

/// Adapters give what weights give that they are merged into: in steps of many rows and of one.
fn check_scores<D: Device>(device: &D, one_by_one: &[bool], tolerance: f32) {
    let ids: Vec<u32> = (0..40).map(|i| 3 + i * 7 % 50).collect();
    let mut engine = adapted(device, 1);
    let score = |engine: &mut Engine<D>, one_by_one, uses: &[AdapterUse]| {
        pollster::block_on(engine.score_with(&ids, one_by_one, uses)).unwrap().logprobs
    };
    let plain = score(&mut engine, false, &[]);
    for scales in [[1.0, 0.0], [0.5, 0.0], [0.0, 1.0], [-0.5, 0.7]] {
        let mut reference =
            load(&TestDevice::default(), &[merged(scales)], LoadOptions::default()).unwrap().0;
        let expected = pollster::block_on(reference.score(&ids, false)).unwrap().logprobs;
        for &one_by_one in one_by_one {
            let found = score(&mut engine, one_by_one, &[of("two", scales[1]), of("one", scales[0])]);
            let off = mean_difference(&found, &expected);
            assert!(off < tolerance, "{scales:?}, one by one: {one_by_one}: {off}");
            assert!(mean_difference(&found, &plain) > 50.0 * tolerance, "{scales:?} changes nothing");
        }
    }
    // Off again, the model is as it was.
    assert_eq!(score(&mut engine, false, &[of("one", 0.0)]), plain);
    assert_eq!(score(&mut engine, false, &[]), plain);
}

#[test]
fn adapters_do_what_merged_weights_do() {
    check_scores(&TestDevice::default(), &[false], 1e-3);
}

#[cfg(feature = "cpu")]
#[test]
fn adapters_on_the_cpu() {
    check_scores(&crate::cpu::Cpu::open(2).unwrap(), &[false, true], 2e-3);
}

#[cfg(feature = "gpu")]
#[test]
fn adapters_on_a_gpu() {
    use crate::gpu::{Gpu, Options};
    for (kernels, one_by_one) in [("exact,steps:1", true), ("exact,shared,tile,f32,steps:3", false)] {
        let options = Options { kernels: kernels.into(), ..Default::default() };
        check_scores(&pollster::block_on(Gpu::open(options)).unwrap(), &[one_by_one], 2e-3);
    }
}

#[test]
fn requests_name_adapters() {
    let device = TestDevice::default();
    let mut engine = adapted(&device, 1);
    let plain = answer(&mut engine, greedy("hello", 12));
    let one = answer(&mut engine, with(&[of("one", 1.0)], greedy("hello", 12)));
    assert_ne!(plain.text, one.text);
    let by_model = Request { model: Some("llama:one".into()), ..greedy("hello", 12) };
    assert_eq!(answer(&mut engine, by_model).text, one.text);
    let json = r#"{"prompt": "hello", "max_tokens": 12, "temperature": 0, "model": "llama",
        "adapters": [{"name": "one"}]}"#;
    assert_eq!(answer(&mut engine, Request::from_json(json).unwrap()).text, one.text);
    let names: Vec<String> = engine.adapters().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["one", "two"]);
}

#[test]
fn names_that_are_not_known_are_errors() {
    let device = TestDevice::default();
    let mut engine = adapted(&device, 1);
    let hello = || greedy("hello", 4);
    let model = |name: &str| Request { model: Some(name.into()), ..hello() };
    for (request, words) in [
        (with(&[of("three", 1.0)], hello()), "no adapter \"three\"; loaded: \"one\", \"two\""),
        (model("llama:three"), "no adapter \"three\""),
        (with(&[of("one", 1.0), of("one", 2.0)], hello()), "named twice"),
        (with(&[of("one", f32::NAN)], hello()), "not a number"),
        (with(&[of("one", 1.0)], model("llama:two")), "either adapters or a model"),
    ] {
        let message = invalid(engine.start(request));
        assert!(message.contains(words), "{message}");
    }
    let file = gguf(&matrices(2, 1), 1.0);
    for (name, words) in [("one", "already"), ("", "cannot name"), ("a:b", "cannot name")] {
        let message = invalid(engine.load_adapter(name, AdapterFiles::Gguf(&file)));
        assert!(message.contains(words), "{message}");
    }
    assert!(invalid(engine.unload_adapter("three")).contains("no adapter"));
    engine.unload_adapter("one").unwrap();
    assert!(invalid(engine.start(with(&[of("one", 1.0)], hello()))).contains("loaded: \"two\""));
}

#[test]
fn a_prefix_is_used_with_its_adapters_only() {
    let device = TestDevice::default();
    let prompt = "a prompt that is long enough to share pages with another one";
    let mut engine = adapted(&device, 6);
    let cached = |engine: &mut Engine<TestDevice>, uses: &[AdapterUse]| {
        let told = answer(engine, with(uses, greedy(prompt, 6)));
        let expected = answer(&mut adapted(&device, 1), with(uses, greedy(prompt, 6)));
        assert_eq!(told.text, expected.text, "{uses:?}");
        told.usage.cached_tokens
    };
    let all = cached(&mut engine, &[]);
    assert_eq!(all, 0);
    let again = cached(&mut engine, &[]);
    assert!(again > 40);
    assert_eq!(cached(&mut engine, &[of("one", 1.0)]), 0);
    assert_eq!(cached(&mut engine, &[of("one", 0.5)]), 0);
    // All are kept side by side. With strength 0 it is the model as it is.
    for uses in [of("one", 0.5), of("one", 1.0), of("one", 0.0)] {
        assert_eq!(cached(&mut engine, &[uses]), again);
    }
    // An adapter of the same name is another one.
    engine.unload_adapter("one").unwrap();
    let weights = safetensors(&matrices(3, 1));
    let config = config(3, 6.0, "");
    engine.load_adapter("one", AdapterFiles::Peft { config: config.as_bytes(), weights: &weights }).unwrap();
    assert_eq!(cached(&mut engine, &[of("one", 0.5)]), 0);
}

/// Answers to the same prompt at once, with different adapters.
fn together<D: Device>(engine: &mut Engine<D>, uses: &[Vec<AdapterUse>]) -> Vec<String> {
    let requests: Vec<Request> = uses.iter().map(|uses| with(uses, greedy("hello", 10))).collect();
    super::together::texts(super::together::together(engine, &requests, |_, _| {}))
}

fn different_uses() -> [Vec<AdapterUse>; 3] {
    [vec![], vec![of("one", 1.0)], vec![of("two", 0.5), of("one", 1.0)]]
}

#[test]
fn sequences_with_different_adapters_share_steps() {
    for depth in [1, 3] {
        let device = TestDevice::default();
        device.0.depth.set(depth);
        let uses = different_uses();
        let request = |uses: &Vec<AdapterUse>| with(uses, greedy("hello", 10));
        let expected: Vec<String> =
            uses.iter().map(|uses| answer(&mut adapted(&device, 1), request(uses)).text).collect();
        let mut engine = adapted(&device, 3);
        device.0.selected.borrow_mut().clear();
        device.0.steps.borrow_mut().clear();
        assert_eq!(together(&mut engine, &uses), expected);
        let sets = |tokens: &[Token]| {
            let mut sets: Vec<u32> = tokens.iter().map(|token| token.set).collect();
            sets.sort_unstable();
            sets.dedup();
            sets.len()
        };
        let steps = device.0.steps.borrow().len();
        let shared = device.0.steps.borrow().iter().filter(|(tokens, _)| sets(tokens) == 3).count();
        assert!(shared > steps / 2, "{shared} of {steps} steps");
        // The plan stays for the next answers of the same sets, in any order.
        let last = *device.0.selected.borrow().iter().max().unwrap();
        let again = [uses[2].clone(), uses[0].clone()];
        assert_eq!(together(&mut engine, &again), [expected[2].clone(), expected[0].clone()]);
        assert_eq!(device.0.selected.borrow().iter().max(), Some(&last));
        engine.unload_adapter("one").unwrap();
        assert_eq!(together(&mut engine, &[vec![], vec![of("two", 0.5)]])[0], expected[0]);
    }
}

#[test]
fn an_adapter_of_a_running_answer_stays() {
    let device = TestDevice::default();
    let mut engine = adapted(&device, 3);
    for uses in different_uses() {
        engine.start(with(&uses, greedy("hello", 10))).unwrap();
    }
    assert!(invalid(engine.unload_adapter("one")).contains("an answer uses"));
}

#[cfg(feature = "cpu")]
#[test]
fn sequences_share_steps_on_the_cpu() {
    check_together(&crate::cpu::Cpu::open(2).unwrap());
}

#[cfg(feature = "gpu")]
#[test]
fn sequences_share_steps_on_a_gpu() {
    use crate::gpu::{Gpu, Options};
    let options = Options { kernels: "exact,steps:2".into(), ..Default::default() };
    check_together(&pollster::block_on(Gpu::open(options)).unwrap());
}

fn check_together<D: Device>(device: &D) {
    let uses = different_uses();
    let alone: Vec<String> =
        uses.iter().flat_map(|uses| together(&mut adapted(device, 1), std::slice::from_ref(uses))).collect();
    assert_eq!(together(&mut adapted(device, 3), &uses), alone);
}

#[test]
fn sets_that_are_not_in_use_give_way() {
    let device = TestDevice::default();
    let mut engine = adapted(&device, 2);
    let told = |engine: &mut Engine<TestDevice>, scale| {
        answer(engine, with(&[of("one", scale)], greedy("hello", 5))).text
    };
    let first = told(&mut engine, 1.0);
    for i in 2..20 {
        told(&mut engine, i as f32 / 10.0);
    }
    assert_eq!(told(&mut engine, 1.0), first);
    engine.unload_adapter("one").unwrap();
    engine.unload_adapter("two").unwrap();
    assert!(engine.adapters().is_empty());
}

/// Pages of conversations with adapters are found again after a restart by the adapters' files and strengths.
#[test]
fn pages_with_adapters_are_kept() {
    use super::kept::{kept, restore};
    let device = TestDevice::default();
    let prompt = "a prompt that is longer than two pages, so that they are kept when its engine ends";
    let request = |uses: &[AdapterUse]| with(uses, greedy(prompt, 6));
    let (one, both) = ([of("one", 1.0)], [of("one", 0.5), of("two", 1.0)]);
    let mut first = adapted(&device, 3);
    let expected = [&[][..], &one, &both].map(|uses| answer(&mut first, request(uses)).text);
    let pages = kept(&mut first);
    let mut names: Vec<&String> = pages.iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!((pages.len(), names.len()), (6, 6));

    let mut second = adapted(&device, 3);
    for (uses, expected) in [&both[..], &[], &one].iter().zip([2, 0, 1]).map(|(u, i)| (u, &expected[i])) {
        assert_eq!(restore(&mut second, &request(uses), &pages), 2, "{uses:?}");
        let told = answer(&mut second, request(uses));
        assert_eq!((&told.text, told.usage.cached_tokens), (expected, 64));
        assert!(second.scheduler.cache.has_all_pages());
    }
    // Another strength, and another adapter under the same name.
    assert_eq!(restore(&mut second, &request(&[of("one", 0.9)]), &pages), 0);
    let mut third = engine(&device, &TestModel::new(), 1);
    let other = gguf(&matrices(3, 9), 6.0);
    third.load_adapter("one", AdapterFiles::Gguf(&other)).unwrap();
    assert_eq!(restore(&mut third, &request(&one), &pages), 0);
    // A page of one set is not taken for another, nor for one that is not there.
    let PromptPages { set, ids, names, .. } = third.prompt_pages(&request(&one));
    assert!(set.is_some() && names.len() == 2);
    for set in [set, None, Some(99)] {
        let foreign = |(_, page): &(String, Vec<u8>)| third.restore_page(set, &ids[..32], page);
        let taken = pages.iter().map(foreign).filter(|taken| *taken).count();
        // That of the model without adapters is its own.
        assert_eq!(taken, usize::from(set.is_none()));
    }
}
