//! The formats of a graph's weights.

use super::LoadError;
use crate::graph::{Graph, Op, Weight, WeightId};
use crate::model::Tensors;
use crate::quant::Format;

/// The format of each weight of the graph. The error names the first tensor whose type has no kernels.
pub fn formats(graph: &Graph, tensors: &Tensors) -> Result<Vec<Format>, LoadError> {
    graph
        .weights
        .iter()
        .map(|weight| {
            let mut names = weight.source.tensors().map(|(name, _)| name);
            let Some(name) = names.next() else { return Ok(Format::F32) };
            let ty = |name: &str| tensors.get(name).map(|tensor| tensor.ty.name()).unwrap_or_default();
            let format = Format::from_name(&ty(name));
            let format = format
                .filter(|format| format.is_float() || !weight.is_vector)
                .ok_or_else(|| LoadError::TensorType { tensor: name.into(), ty: ty(name).to_string() })?;
            let others: Vec<&str> = names.collect();
            let n_blocks = weight.n_rows / (1 + others.len()) * format.row_blocks(weight.n_cols);
            for other in others {
                let apart = |why| LoadError::Experts { first: name.into(), tensor: other.into(), why };
                if ty(other) != ty(name) {
                    return Err(apart("their types differ"));
                }
                // Devices write the scales of four blocks at a time.
                if format.scales_bytes() > 0 && !n_blocks.is_multiple_of(4) {
                    return Err(apart("they are too small to be put together"));
                }
            }
            Ok(format)
        })
        .collect()
}

/// Bytes of a graph's weights on a device, in these formats.
pub fn weight_bytes(graph: &Graph, formats: &[Format]) -> u64 {
    let of = graph.weights.iter().zip(formats);
    of.map(|(w, format)| bytes_of(w, *format)).sum()
}

fn bytes_of(weight: &Weight, format: Format) -> u64 {
    match weight.is_vector {
        true => 4 * weight.n_cols as u64,
        false => format.planes((weight.n_rows * format.row_blocks(weight.n_cols)) as u64).total(),
    }
}

/// Bytes of weights that a step of one token reads: those of its projections; of experts, those in use.
pub fn bytes_per_token(graph: &Graph, formats: &[Format]) -> u64 {
    let bytes = |id: WeightId| formats.get(id.0).map_or(0, |format| bytes_of(graph.weight(id), *format));
    let of = graph.ops.iter().map(|op| match op {
        Op::MatMul { weight, .. } => bytes(*weight),
        Op::Experts { experts, .. } => {
            let all = bytes(experts.weight) as f64;
            (all * graph.n_used(experts.route) as f64 / experts.n_experts.max(1) as f64) as u64
        }
        _ => 0,
    });
    of.sum()
}
