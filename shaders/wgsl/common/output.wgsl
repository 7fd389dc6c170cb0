// A row of the step whose logits are wanted.
struct Output {
    row: u32,
    target_id: u32,  // the token whose logit is reported
    slot: u32,       // where the chosen token is kept for later steps, or NO_SLOT
    by_choice: u32,  // 0: the likeliest token; 1: the output's Choice picks it; 2: the host does
}

const NO_SLOT = 0xffffffffu;
