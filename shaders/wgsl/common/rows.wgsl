#import common/step
// Whether this dispatch computes the output rows instead of the token rows.
override OUTPUT_ROWS: bool = false;

fn step_rows() -> u32 {
    return select(step.n_tokens, step.n_outputs, OUTPUT_ROWS);
}
