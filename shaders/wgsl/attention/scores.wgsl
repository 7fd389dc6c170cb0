// From products of queries and keys to scores, one for each query.
override SCALE: f32;
// The scale at position p is SCALE * (1 + GROWTH * ln(1 + floor(p / EVERY))).
override GROWTH: f32 = 0.0;
override EVERY: u32 = 1u;
// Scores become SOFT_CAP * tanh(score / SOFT_CAP) (arXiv 2408.00118); 0: they do not.
override SOFT_CAP: f32 = 0.0;
// ALiBi (arXiv 2108.12409): scores lose the head's slope for each position between key and row; 0: nothing.
// ALIBI is the exponent of the slope of head N_SLOPES - 1; heads from N_SLOPES on have slopes in between.
override ALIBI: f32 = 0.0;
override N_SLOPES: u32 = 1u;

fn scale_at(position: u32) -> f32 {
    if GROWTH == 0.0 {
        return SCALE;
    }
    return SCALE * (1.0 + GROWTH * log(1.0 + f32(position / EVERY)));
}

fn slope_of(head: u32) -> f32 {
    let power = select(f32(head) - f32(N_SLOPES) + 0.5, f32(head) + 1.0, head < N_SLOPES);
    return exp2(-ALIBI * power / f32(N_SLOPES));
}

// `distance` is the number of positions between key and row.
fn score_of(product: Numbers, slope: Numbers, distance: Numbers) -> Numbers {
    var score = product;
    if SOFT_CAP > 0.0 {
        let limit = Numbers() + 40.0;
        score = SOFT_CAP * tanh(clamp(score / SOFT_CAP, -limit, limit));
    }
    if ALIBI > 0.0 {
        score -= slope * distance;
    }
    return score;
}
