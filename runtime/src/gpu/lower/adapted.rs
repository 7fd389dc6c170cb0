//! Plans of a model with low-rank paths, beside the model's own plan.

use super::*;

/// A plan of the same model with low-rank paths. It chooses tokens as the model's plan does.
#[derive(Debug)]
pub(in crate::gpu) struct AdaptedPlan {
    pub few: List,
    pub many: List,
    pub buffers: Buffers,
    /// What is read in place of the model's logits, and its width.
    pub logits: Option<(ValueId, usize)>,
}

/// Makes a plan of a model with low-rank paths beside that of the model. `graph` and `weights` begin with the
/// model's.
pub(in crate::gpu) fn lower_adapted(
    gpu: &Gpu,
    graph: &Graph,
    weights: &Weights,
    capacity: Capacity,
    base: &Plan,
) -> Result<AdaptedPlan, GpuError> {
    let max_binding = gpu.info().max_binding_size;
    let accepts = Accepts { formats: &weights.formats, max_binding, weights: Some(weights) };
    let (few, many) = (fuse(graph, &accepts), unfused(graph));
    let mut lowering = Lowering {
        gpu,
        graph,
        weights,
        capacity,
        buffers: base.buffers.share(gpu, graph, &[&few, &many], capacity),
        is_few: true,
        scratch: base.scratch.clone(),
        held: HashMap::new(),
        shapes: base.shapes.clone(),
        grids: HashMap::new(),
        dispatches: Vec::new(),
    };
    let few = lowering.list(few)?;
    lowering.is_few = false;
    let many = lowering.list(many)?;
    let logits = graph.logits.map(|id| (id, graph.value(id).width));
    Ok(AdaptedPlan { few, many, buffers: lowering.buffers, logits })
}
