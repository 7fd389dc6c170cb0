// What attention over the step's own rows shares: which rows see which, and scores.
//
//   q     [n_tokens, N_HEADS, HEAD_DIM] f32
//   k     [n_tokens, N_KV_HEADS, HEAD_DIM] f32
//   v     [n_tokens, N_KV_HEADS, VALUE_DIM] f32
//   ends  [n_tokens, N_HEADS] of ln(sum of exp(score)), and of the product of the result and its gradient
#import common/step
#import common/token
alias Numbers = f32;
#import attention/scores
@group(0) @binding(1) var<storage, read> tokens: array<Token>;
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> k: array<f32>;
@group(0) @binding(4) var<storage, read> v: array<f32>;

override N_HEADS: u32;
override N_KV_HEADS: u32;
override HEAD_DIM: u32;
override VALUE_DIM: u32;
// Positions that a row sees; 0: all.
override WINDOW: u32;

fn sees(row: u32, key: u32) -> bool {
    let distance = tokens[row].position - tokens[key].position;
    return tokens[row].sequence == tokens[key].sequence
        && tokens[row].position >= tokens[key].position
        && (WINDOW == 0u || distance < WINDOW);
}

fn kv_head(head: u32) -> u32 {
    return head / (N_HEADS / N_KV_HEADS);
}

// The score of a key, and its slope by the product of query and key.
fn score(row: u32, head: u32, key: u32) -> vec2<f32> {
    let query_at = (row * N_HEADS + head) * HEAD_DIM;
    let key_at = (key * N_KV_HEADS + kv_head(head)) * HEAD_DIM;
    var product = 0.0;
    for (var i = 0u; i < HEAD_DIM; i++) {
        product += q[query_at + i] * k[key_at + i];
    }
    let position = tokens[row].position;
    let scale = scale_at(position);
    var slope = scale;
    if SOFT_CAP > 0.0 {
        let capped = tanh(clamp(scale * product / SOFT_CAP, -40.0, 40.0));
        slope *= 1.0 - capped * capped;
    }
    let distance = f32(position - tokens[key].position);
    return vec2<f32>(score_of(scale * product, slope_of(head), distance), slope);
}

