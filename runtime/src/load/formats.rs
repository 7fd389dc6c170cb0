//! The formats of a graph's weights.

use super::LoadError;
use crate::graph::{Graph, Source};
use crate::model::Tensors;
use crate::quant::Format;

/// The format of each weight of the graph. The error names the first tensor whose type has no kernels.
pub fn formats(graph: &Graph, tensors: &Tensors) -> Result<Vec<Format>, LoadError> {
    graph
        .weights
        .iter()
        .map(|weight| {
            let Source::Tensor { name, .. } = &weight.source else { return Ok(Format::F32) };
            let ty = tensors.get(name).map(|tensor| tensor.ty.name()).unwrap_or_default();
            let format = Format::from_name(&ty);
            format
                .filter(|format| format.is_float() || !weight.is_vector)
                .ok_or_else(|| LoadError::TensorType { tensor: name.clone(), ty: ty.to_string() })
        })
        .collect()
}

/// Bytes of a graph's weights on a device, in these formats.
pub fn weight_bytes(graph: &Graph, formats: &[Format]) -> u64 {
    let of = graph.weights.iter().zip(formats);
    of.map(|(w, format)| match w.is_vector {
        true => 4 * w.n_cols as u64,
        false => format.planes((w.n_rows * format.row_blocks(w.n_cols)) as u64).total(),
    })
    .sum()
}
