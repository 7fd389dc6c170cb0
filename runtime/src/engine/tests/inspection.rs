//! Models by their headers.

use super::*;
use crate::gguf::Header;
use crate::graph::Source;

fn headers(files: &[Vec<u8>]) -> Vec<Header> {
    let sizes: Vec<u64> = files.iter().map(|file| file.len() as u64).collect();
    let mut headers = Headers::new(&sizes);
    for (i, file) in files.iter().enumerate() {
        assert_eq!(headers.push(i, file).unwrap(), 0);
    }
    headers.finish().unwrap()
}

fn inspected(model: &TestModel) -> Inspection {
    inspect(headers(&model.files(1)), &LoadOptions::default()).unwrap()
}

#[test]
fn headers_say_what_loading_says() {
    let model = TestModel::new().with("general.name", "Small").with("general.license", "mit");
    let device = TestDevice::default();
    for (n_files, options) in
        [(1, LoadOptions::default()), (3, LoadOptions { context_length: Some(40), ..Default::default() })]
    {
        let files = model.files(n_files);
        let said = inspect(headers(&files), &options).unwrap();
        let (engine, _) = load(&device, &files, options).unwrap();
        let info = engine.info();
        assert_eq!(said.problem, None);
        assert_eq!(
            (&said.name, &said.architecture, &said.quantization, &said.license),
            (&info.name, &info.architecture, &info.quantization, &info.license)
        );
        assert_eq!(
            (said.parameters, said.tensor_bytes, said.kv_bytes, said.has_chat_template),
            (info.parameters, info.tensor_bytes, info.kv_bytes, true)
        );
        assert_eq!(
            (said.context_length, said.trained_context_length),
            (info.context_length, info.trained_context_length as u64)
        );
        // Floats are kept as they are, and the graph has constants of its own.
        let graph = model.graph().unwrap();
        let constants = graph.weights.iter().map(|weight| match &weight.source {
            Source::Constant(numbers) => 4 * numbers.len() as u64,
            Source::Tensor { .. } | Source::Tensors(_) => 0,
        });
        assert_eq!(said.weight_bytes, 4 * said.parameters + constants.sum::<u64>());
    }
}

#[test]
fn a_model_that_does_not_run_says_why_and_what_it_is() {
    let other = TestModel::new().with("general.architecture", "mamba").with("mamba.context_length", 2048_u32);
    let said = inspected(&other);
    let problem = said.problem.unwrap();
    assert_eq!(problem.code, "unsupported_architecture");
    assert!(problem.message.contains("mamba"), "{}", problem.message);
    assert_eq!((said.architecture.as_str(), said.trained_context_length), ("mamba", 2048));
    assert!(said.parameters > 0 && said.has_chat_template);
    assert_eq!((said.weight_bytes, said.kv_bytes), (0, 0));

    let more = TestModel::new().with_tensor("blk.0.extra.weight", &[32, 32]);
    assert_eq!(inspected(&more).problem.unwrap().code, "unsupported_feature");
    let less = TestModel::new().without_tensor("blk.1.ffn_up.weight");
    assert_eq!(inspected(&less).problem.unwrap().code, "corrupt_file");
}

#[test]
fn a_base_model_has_no_template() {
    let base = TestModel::new().without("tokenizer.chat_template");
    assert!(!inspected(&base).has_chat_template);
}

#[test]
fn a_wrong_request_is_no_verdict() {
    let files = TestModel::new().files(1);
    let options = LoadOptions { context_length: Some(0), ..Default::default() };
    assert!(matches!(inspect(headers(&files), &options), Err(Error::InvalidRequest(_))));
    assert!(inspect(Vec::new(), &LoadOptions::default()).is_err());
}

#[test]
fn a_token_reads_the_matrices_once_and_of_experts_those_in_use() {
    let matrices = |model: &TestModel| -> u64 {
        let of = model.tensors.iter().filter(|(_, shape)| shape.len() == 2);
        of.map(|(_, shape)| 4 * shape[0] * shape[1]).sum()
    };
    let model = TestModel::new();
    assert_eq!(inspected(&model).bytes_per_token, matrices(&model));
    let (engine, _) = load(&TestDevice::default(), &model.files(1), LoadOptions::default()).unwrap();
    assert_eq!(engine.info().bytes_per_token, matrices(&model));
    // Of a table that is not the output, too, a token reads one row.
    let untied = model.with_tensor("output.weight", &[words().len() as u64, 32]);
    assert_eq!(inspected(&untied).bytes_per_token, matrices(&TestModel::new()));
    // Two of four experts.
    let mut mixture =
        TestModel::new().with("llama.expert_count", 4_u32).with("llama.expert_used_count", 2_u32);
    for layer in 0..2 {
        for part in ["gate", "up", "down"] {
            mixture = mixture.without_tensor(&format!("blk.{layer}.ffn_{part}.weight"));
        }
        mixture = mixture.with_tensor(&format!("blk.{layer}.ffn_gate_inp.weight"), &[4, 32]);
    }
    let beside = matrices(&mixture);
    for layer in 0..2 {
        mixture = mixture
            .with_tensor(&format!("blk.{layer}.ffn_gate_exps.weight"), &[4, 64, 32])
            .with_tensor(&format!("blk.{layer}.ffn_up_exps.weight"), &[4, 64, 32])
            .with_tensor(&format!("blk.{layer}.ffn_down_exps.weight"), &[4, 32, 64]);
    }
    assert_eq!(inspected(&mixture).bytes_per_token, beside + 2 * 3 * 2 * 4 * 64 * 32);
}
