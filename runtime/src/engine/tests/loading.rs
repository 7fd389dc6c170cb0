//! From files to engines.

use super::*;
use crate::graph::KvFormat;
use crate::model::ModelError;

fn options(context_length: usize) -> LoadOptions {
    LoadOptions { context_length: Some(context_length), ..Default::default() }
}

#[test]
fn a_model_says_what_it_is() {
    let device = TestDevice::default();
    let model = TestModel::new().with("general.name", "Small").with("general.license", "mit");
    let files = model.files(1);
    let (engine, digests) = load(&device, &files, LoadOptions::default()).unwrap();
    let info = engine.info();
    assert_eq!(
        (info.name.as_str(), info.architecture.as_str(), info.quantization.as_str()),
        ("Small", "llama", "F32")
    );
    assert_eq!(
        (info.context_length, info.trained_context_length, info.vocab_size),
        (CONTEXT, CONTEXT, words().len())
    );
    let parameters: u64 = model.tensors.iter().map(|(_, shape)| shape.iter().product::<u64>()).sum();
    assert_eq!((info.parameters, info.tensor_bytes), (parameters, 4 * parameters));
    // Two layers of 32 floats for keys and 32 for values, in f16.
    assert_eq!(info.kv_bytes, CONTEXT as u64 * 2 * 64 * 2);
    assert!(info.has_chat_template);
    assert_eq!(info.license.as_deref(), Some("mit"));
    let sha256: String = {
        use sha2::Digest;
        sha2::Sha256::digest(&files[0]).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    assert_eq!(digests, [sha256]);
    let unnamed = load(&device, &TestModel::new().files(1), LoadOptions::default()).unwrap().0;
    assert_eq!((unnamed.info().name.as_str(), unnamed.info().license.is_none()), ("llama", true));
}

#[test]
fn recommended_sampling_is_what_the_file_states_and_a_request_may_have() {
    let model = TestModel::new()
        .with("general.sampling.temp", 0.6_f32)
        .with("general.sampling.top_k", 20_u32)
        .with("general.sampling.top_p", 1.5_f32)
        .with("general.sampling.min_p", "few")
        .with("general.sampling.penalty_repeat", 1_u32);
    let (engine, _) = load(&TestDevice::default(), &model.files(1), LoadOptions::default()).unwrap();
    let said = serde_json::to_string(&engine.info().sampling).unwrap();
    assert_eq!(said, r#"{"temperature":0.6,"top_k":20,"repetition_penalty":1.0}"#);
    let (engine, _) =
        load(&TestDevice::default(), &TestModel::new().files(1), LoadOptions::default()).unwrap();
    assert_eq!(serde_json::to_string(&engine.info().sampling).unwrap(), "{}");
}

/// What the file states is what people call it; the tensors are the word where it states nothing known.
#[test]
fn the_mixture_has_the_name_that_the_file_states() {
    for (stated, name) in [(Some(15_u32), "Q4_K_M"), (Some(30), "IQ4_XS"), (Some(4711), "F32"), (None, "F32")]
    {
        let model = TestModel::new();
        let model = match stated {
            Some(number) => model.with("general.file_type", number),
            None => model,
        };
        let (engine, _) = load(&TestDevice::default(), &model.files(1), LoadOptions::default()).unwrap();
        assert_eq!(engine.info().quantization, name);
    }
}

#[test]
fn a_base_model_chats_by_the_fallback_and_says_that_it_has_no_template() {
    let device = TestDevice::default();
    let files = TestModel::new().without("tokenizer.chat_template").files(1);
    let options = |fallback: Option<&str>| LoadOptions {
        fallback_template: fallback.map(str::to_string),
        ..Default::default()
    };
    let (mut base, _) = load(&device, &files, options(None)).unwrap();
    let chat =
        || Request { messages: Some(vec![Message::new("user", "hello")]), prompt: None, ..greedy("", 8) };
    assert_eq!(base.start(chat()).unwrap_err().code(), "invalid_request");
    let continued = answer(&mut base, greedy("hello", 8)).ids;

    let (mut plain, _) = load(&device, &files, options(Some("plain"))).unwrap();
    assert!(!plain.info().has_chat_template);
    assert_eq!(answer(&mut plain, chat()).ids, continued);
    // A file's own template comes first.
    let (own, _) = load(&device, &TestModel::new().files(1), options(Some("plain"))).unwrap();
    assert!(own.info().has_chat_template);
}

#[test]
fn split_files_give_the_same_model() {
    let device = TestDevice::default();
    let expected = alone(&device, greedy("split", 12)).text;
    for n in [2, 3] {
        let files = TestModel::new().files(n);
        assert_eq!(files.len(), n);
        let (mut engine, digests) = load(&device, &files, LoadOptions::default()).unwrap();
        assert_eq!(digests.len(), n);
        assert_eq!(answer(&mut engine, greedy("split", 12)).text, expected);
    }
    let mut files = TestModel::new().files(3);
    files.swap(1, 2);
    let error = load(&device, &files, LoadOptions::default()).err().unwrap();
    assert_eq!(
        (error.code(), error.to_string().contains("file 2 of 3 says that it is 3 of 3")),
        ("corrupt_file", true)
    );
    files.pop();
    assert!(load(&device, &files, LoadOptions::default()).is_err());
    let hostile = TestModel::new().with("split.no", u64::MAX);
    assert!(load(&device, &hostile.files(1), LoadOptions::default()).is_err());
}

#[test]
fn contexts_have_limits() {
    let device = TestDevice::default();
    let files = TestModel::new().files(1);
    let context = |n| load(&device, &files, options(n)).map(|(engine, _)| engine.info().context_length);
    assert_eq!(context(40).unwrap(), 40);
    assert_eq!(context(1 << 40).unwrap(), CONTEXT);
    assert!(invalid(context(0)).contains("context length"));
    let parallel = |n| load(&device, &files, LoadOptions { parallel: Some(n), ..options(40) });
    assert_eq!(parallel(3).unwrap().0.info().kv_bytes, 3 * 64 * 2 * 64 * 2);
    assert!(invalid(parallel(0)).contains("room for 0 contexts"));
    assert!(invalid(parallel(9)).contains("for 1 to 8"));
    // 64 positions of 128 bytes are too many for a buffer of 4096 bytes, half of them fit.
    device.0.max_buffer.set(4096);
    let error = context(64).unwrap_err();
    assert!(matches!(error, Error::ContextMemory { wanted: 64, limit: 32 }), "{error}");
    assert_eq!(error.code(), "out_of_memory");
    assert_eq!(context(32).unwrap(), 32);
}

#[test]
fn load_options_are_read_from_json() {
    let options: LoadOptions = serde_json::from_str(r#"{"context_length": 7}"#).unwrap();
    assert_eq!((options.context_length, options.parallel, options.kv_format), (Some(7), None, KvFormat::F16));
    let options: LoadOptions = serde_json::from_str(r#"{"parallel": 2, "kv_format": "f16"}"#).unwrap();
    assert_eq!(options.parallel, Some(2));
    for format in KvFormat::ALL {
        let options = format!(r#"{{"kv_format": "{}"}}"#, format.name());
        assert_eq!(serde_json::from_str::<LoadOptions>(&options).unwrap().kv_format, format);
    }
    assert!(serde_json::from_str::<LoadOptions>(r#"{"kv_format": "f64"}"#).is_err());
}

#[test]
fn models_that_cannot_run_fail_with_their_reason() {
    let device = TestDevice::default();
    let error = |model: TestModel| load(&device, &model.files(1), LoadOptions::default()).err().unwrap();
    let other = error(TestModel::new().with("general.architecture", "rwkv7"));
    assert!(matches!(other, Error::Model(ModelError::Architecture(_))));
    assert_eq!(other.code(), "unsupported_architecture");
    let missing = error(TestModel::new().without_tensor("blk.1.ffn_up.weight"));
    assert_eq!((missing.code(), missing.to_string().contains("blk.1.ffn_up.weight")), ("corrupt_file", true));
    let vocabulary = error(TestModel::new().without("tokenizer.ggml.tokens"));
    assert_eq!(vocabulary.code(), "corrupt_file");
    let template = error(TestModel::new().with("tokenizer.chat_template", "{% for %}"));
    assert_eq!(template.code(), "template");
}

#[test]
fn calls_out_of_order_are_errors() {
    let device = TestDevice::default();
    let files = TestModel::new().files(2);
    let sizes: Vec<u64> = files.iter().map(|file| file.len() as u64).collect();
    let new = || Loading::<TestDevice>::new(&sizes, LoadOptions::default());
    let prepared = || {
        let mut loading = new();
        for (i, file) in files.iter().enumerate() {
            assert_eq!(loading.push_header(i, file).unwrap(), 0);
        }
        pollster::block_on(loading.prepare(&device)).unwrap();
        loading
    };
    assert!(invalid(new().push_header(2, &files[0])).contains("no file"));
    assert!(
        invalid(pollster::block_on(new().push_data(&device, 0, &files[0]))).contains("before the headers")
    );
    assert!(invalid(pollster::block_on(new().finish(&device))).contains("before the headers"));
    assert!(pollster::block_on(new().prepare(&device)).is_err());
    let mut none = Loading::<TestDevice>::new(&[], LoadOptions::default());
    assert!(invalid(pollster::block_on(none.prepare(&device)).map(|_| ())).contains("no files"));

    for wrong in [2, usize::MAX] {
        let result = pollster::block_on(prepared().push_data(&device, wrong, &files[0]));
        assert!(invalid(result).contains("out of order"));
    }
    let code = |result: Result<(), Error>| result.unwrap_err().code();
    // The second file's data before the first is complete; more than a file has; less.
    assert_eq!(code(pollster::block_on(prepared().push_data(&device, 1, &files[1]))), "corrupt_file");
    let longer = [files[0].as_slice(), &[0]].concat();
    assert_eq!(code(pollster::block_on(prepared().push_data(&device, 0, &longer))), "corrupt_file");
    let mut loading = prepared();
    pollster::block_on(loading.push_data(&device, 0, &files[0])).unwrap();
    assert_eq!(code(pollster::block_on(loading.finish(&device)).map(|_| ())), "corrupt_file");
    // A file that has been left cannot be taken up again.
    let mut loading = prepared();
    pollster::block_on(loading.push_data(&device, 0, &files[0])).unwrap();
    pollster::block_on(loading.push_data(&device, 1, &files[1][..100])).unwrap();
    assert!(invalid(pollster::block_on(loading.push_data(&device, 0, &[0]))).contains("out of order"));
}

#[test]
fn a_damaged_header_is_an_error() {
    let mut loading = Loading::<TestDevice>::new(&[1000], LoadOptions::default());
    let error = loading.push_header(0, b"<!doctype html>and more than the first bytes").unwrap_err();
    assert_eq!(error.code(), "corrupt_file");
}

#[test]
fn a_check_takes_nothing_of_the_device() {
    let check = |model: &TestModel| {
        let bytes = model.files(1).remove(0);
        let mut loading = Loading::<TestDevice>::new(&[bytes.len() as u64], options(CONTEXT));
        loading.push_header(0, &bytes).unwrap();
        let result = loading.check();
        (loading, result)
    };
    let (_, result) = check(&TestModel::new().with("general.architecture", "mamba"));
    assert_eq!(result.unwrap_err().code(), "unsupported_architecture");
    let (_, result) = check(&TestModel::new().with("tokenizer.chat_template", "{{"));
    assert_eq!(result.unwrap_err().code(), "template");
    // What was checked is prepared as without a check.
    let (mut loading, result) = check(&TestModel::new());
    result.unwrap();
    let info = pollster::block_on(loading.prepare(&TestDevice::default())).unwrap();
    assert_eq!((info.context_length, info.has_chat_template), (CONTEXT, true));
}

/// Without a wish, the KV pool has room for as many contexts as fit into a 32nd of the device's memory.
#[test]
fn room_for_contexts_by_memory() {
    let device = TestDevice::default();
    let files = TestModel::new().files(1);
    let contexts = |parallel, memory| {
        let options = LoadOptions { parallel, memory, ..Default::default() };
        load(&device, &files, options).map(|(engine, _)| engine.info().kv_bytes / 24_576)
    };
    // A context of 96 positions has 24 KiB: two layers of 32 floats for keys and 32 for values, in f16.
    let for_one = 32 * 24_576;
    for (memory, expected) in [(0, 1), (for_one, 1), (3 * for_one - 1, 2), (3 * for_one, 3), (1 << 40, 8)] {
        assert_eq!(contexts(None, memory).unwrap(), expected, "{memory}");
    }
    assert_eq!(contexts(Some(2), 1 << 40).unwrap(), 2);
    // Half of a context is in each layer's buffer.
    device.0.max_buffer.set(5 * 24_576 / 2);
    assert_eq!(contexts(None, 1 << 40).unwrap(), 5);
    assert!(matches!(contexts(Some(6), 0), Err(Error::ContextMemory { .. })));
    // Where there is less memory than was thought, one context has to do, unless more are asked for.
    device.0.max_pool.set(3 * 24_576);
    assert_eq!(contexts(None, 1 << 40).unwrap(), 1);
    assert!(invalid(contexts(Some(4), 0)).contains("broken"));
}
