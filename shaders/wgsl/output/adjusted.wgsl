// Parameters of a choice (see graph/choice.rs in the runtime), and logits with penalties, bias and mask.
//   outputs [n_outputs]
//   logits  [n_outputs, N_VOCAB] f32
//   choices [n_outputs]
//   seen    [n_slots, N_VOCAB + N_VOCAB / 32] how often each token is in the answer, and the top bit if it is
//           in the prompt; then the slot's mask, a bit for each token: 1 if it may be chosen
//   bias    [n_slots, N_VOCAB] f32
#import common/output
struct Choice {
    temperature: f32,
    top_p: f32,
    min_p: f32,
    top_k: u32,
    repetition_penalty: f32,
    presence_penalty: f32,
    frequency_penalty: f32,
    adjusts: u32,
    seed_low: u32,
    seed_high: u32,
    counter: u32,
    masked: u32,
}
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> choices: array<Choice>;
@group(0) @binding(3) var<storage, read> seen: array<u32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(8) var<storage, read> outputs: array<Output>;

override N_VOCAB: u32;

// Words of a slot in `seen`.
fn seen_words() -> u32 {
    return N_VOCAB + (N_VOCAB + 31u) / 32u;
}

// The logit of tokens that may not be chosen: far below any other, and still finite after temperature.
const MASKED = -1e30;

// The adjusted logit of token `i` in output `o`.
fn adjusted(o: u32, i: u32) -> f32 {
    var logit = logits[o * N_VOCAB + i];
    let choice = choices[o];
    let slot = outputs[o].slot;
    let first = slot * seen_words();
    if choice.masked != 0u && ((seen[first + N_VOCAB + i / 32u] >> (i % 32u)) & 1u) == 0u {
        return MASKED;
    }
    if choice.adjusts == 0u {
        return logit;
    }
    let s = seen[first + i];
    if s != 0u {
        logit = select(logit * choice.repetition_penalty, logit / choice.repetition_penalty, logit > 0.0);
    }
    let count = s & 0x7fffffffu;
    if count > 0u {
        logit -= choice.presence_penalty + choice.frequency_penalty * f32(count);
    }
    return logit + bias[slot * N_VOCAB + i];
}
