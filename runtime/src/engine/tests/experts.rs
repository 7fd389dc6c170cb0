//! Files of Mixtral from before merged experts: a tensor for each expert.

use super::*;
use crate::gguf::{HeaderReader, TensorType, Writer};
use crate::model::golden::Tiny;

/// A model's file with a tensor for each expert, the last one first. `ty` says of which type the file says
/// that a tensor is; none: the tensor is left out.
fn apart(model: &Tiny, ty: impl Fn(&str, TensorType) -> Option<TensorType>) -> Vec<u8> {
    let mut tensors = Vec::new();
    for tensor in &model.header.tensors {
        let bytes = &model.file[tensor.offset as usize..][..tensor.n_bytes as usize];
        match (tensor.name.strip_suffix("_exps.weight"), tensor.shape.as_slice()) {
            (Some(stem), [n, shape @ ..]) => {
                let experts = bytes.chunks_exact(bytes.len() / *n as usize).enumerate().rev();
                let named = |(i, bytes)| (format!("{stem}.{i}.weight"), shape.to_vec(), tensor.ty, bytes);
                tensors.extend(experts.map(named));
            }
            _ => tensors.push((tensor.name.clone(), tensor.shape.clone(), tensor.ty, bytes)),
        }
    }
    tensors.retain_mut(|(name, _, of, _)| ty(name, *of).map(|ty| *of = ty).is_some());
    let metadata = model.header.metadata.iter();
    let writer = metadata.fold(Writer::new(), |writer, (key, value)| writer.metadata(key, value.clone()));
    let writer = tensors.iter().fold(writer, |writer, (name, shape, ty, _)| writer.tensor(name, shape, *ty));
    let mut file = Vec::new();
    writer.write(&mut file, |i, out| out.write_all(tensors[i].3)).unwrap();
    file
}

fn check<D: Device>(device: &D) {
    let model = Tiny::new("mixtral");
    let files = [model.file.clone(), apart(&model, |_, ty| Some(ty))];
    let scores = files.map(|file| {
        let (mut engine, _) = load(device, &[file], LoadOptions::default()).unwrap();
        pollster::block_on(engine.score(&model.ids(), false)).unwrap()
    });
    assert!(scores[0].logprobs.len() > 20);
    assert_eq!(scores[0], scores[1]);
}

#[cfg(feature = "cpu")]
#[test]
fn experts_apart_are_as_merged_ones_on_the_cpu() {
    check(&crate::cpu::Cpu::open(2).unwrap());
}

#[cfg(feature = "gpu")]
#[test]
fn experts_apart_are_as_merged_ones_on_a_gpu() {
    let options = crate::gpu::Options { kernels: "exact,steps:1".into(), ..Default::default() };
    check(&pollster::block_on(crate::gpu::Gpu::open(options)).unwrap());
}

/// What the header of a file is refused for.
fn problem(file: &[u8]) -> String {
    let mut reader = HeaderReader::new(file.len() as u64);
    reader.push(file).unwrap();
    let inspection = inspect(vec![reader.finish().unwrap()], &LoadOptions::default()).unwrap();
    inspection.problem.map(|problem| problem.message).unwrap_or_default()
}

#[test]
fn experts_that_do_not_go_together_are_refused_at_the_header() {
    let model = Tiny::new("mixtral");
    assert_eq!(problem(&apart(&model, |_, ty| Some(ty))), "");
    // A type of the same size.
    let is_other = |name: &str| name == "blk.0.ffn_gate.1.weight";
    let mixed = apart(&model, |name, ty| Some(if is_other(name) { TensorType::BF16 } else { ty }));
    let mixed = problem(&mixed);
    assert!(mixed.contains("blk.0.ffn_gate.1.weight") && mixed.contains("types differ"), "{mixed}");
    let missing = problem(&apart(&model, |name, ty| (!is_other(name)).then_some(ty)));
    assert!(missing.contains("blk.0.ffn_gate.1.weight is missing"), "{missing}");
}
