// A row of the step whose logits are wanted.
struct Output {
    row: u32,
    target_id: u32,  // the token whose logit is reported
    slot: u32,       // where the chosen token is kept for later steps; NO_SLOT: nowhere
    by_choice: u32,  // 1: the token is chosen by the output's Choice; 0: the likeliest is taken
}

const NO_SLOT = 0xffffffffu;
