// Parameters of a choice (see graph/choice.rs in the runtime), and logits with penalties and bias applied.
//   outputs [n_outputs]
//   logits  [n_outputs, N_VOCAB] f32
//   choices [n_outputs]
//   seen    [n_slots, N_VOCAB] how often a token is in the answer; the top bit is set if it is in the prompt
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
    unused: u32,
}
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> choices: array<Choice>;
@group(0) @binding(3) var<storage, read> seen: array<u32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(8) var<storage, read> outputs: array<Output>;

override N_VOCAB: u32;

// The adjusted logit of token `i` in output `o`.
fn adjusted(o: u32, i: u32) -> f32 {
    var logit = logits[o * N_VOCAB + i];
    let choice = choices[o];
    if choice.adjusts == 0u {
        return logit;
    }
    let at = outputs[o].slot * N_VOCAB + i;
    let s = seen[at];
    if s != 0u {
        logit = select(logit * choice.repetition_penalty, logit / choice.repetition_penalty, logit > 0.0);
    }
    let count = s & 0x7fffffffu;
    if count > 0u {
        logit -= choice.presence_penalty + choice.frequency_penalty * f32(count);
    }
    return logit + bias[at];
}
