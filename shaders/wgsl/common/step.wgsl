// What changes from step to step and is the same for every dispatch of a step.
struct Step {
    n_tokens: u32,   // rows of the step: tokens
    n_outputs: u32,  // rows for which logits are wanted
    max_pages: u32,  // entries of one sequence in the page table
    n_splits: u32,   // workgroups that share the context of one head in attention
}
@group(0) @binding(0) var<uniform> step: Step;
