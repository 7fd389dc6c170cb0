// Parameters of a step, shared by all its dispatches.
struct Step {
    n_tokens: u32,   // rows of the step, one per token
    n_outputs: u32,  // rows for which logits are wanted
    max_pages: u32,  // entries of one sequence in the page table
    n_splits: u32,   // workgroups that share one head's context in attention
}
@group(0) @binding(0) var<uniform> step: Step;
