// How a token is chosen (see graph/choice.rs in the runtime), and logits with their penalties and bias.
//   logits [1, N_VOCAB] f32
//   seen   [N_VOCAB] how often the answer has a token; the top bit is set where the prompt has it
//   bias   [N_VOCAB] f32
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
@group(0) @binding(2) var<uniform> choice: Choice;
@group(0) @binding(3) var<storage, read> seen: array<u32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;

fn adjusted(i: u32) -> f32 {
    var logit = logits[i];
    if choice.adjusts == 0u {
        return logit;
    }
    let s = seen[i];
    if s != 0u {
        logit = select(logit * choice.repetition_penalty, logit / choice.repetition_penalty, logit > 0.0);
    }
    let count = s & 0x7fffffffu;
    if count > 0u {
        logit -= choice.presence_penalty + choice.frequency_penalty * f32(count);
    }
    return logit + bias[i];
}
