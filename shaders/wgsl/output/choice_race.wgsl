// Samples a token from those that top-k, top-p and min-p keep, one winner per part: each token draws an
// exponentially distributed arrival time, divided by its weight, and the earliest wins. Random numbers are
// the hash pcg4d (Jarzynski and Olano, JCGT 9(3), 2020) of seed, counter and token.
//
//   logits, choice, seen, bias, parts   see output/depth
//   histogram [n_slots, 2048], see output/choice_count; read only for top-k and top-p
//   winners   [n_outputs, N_PARTS] (token as bits, score)
//
// One workgroup of 256 threads per part of 2048 tokens. Grid: x = parts, y = outputs.
#import common/step
#import output/depth
@group(0) @binding(6) var<storage, read> histogram: array<u32>;
@group(0) @binding(7) var<storage, read_write> winners: array<vec2<f32>>;

// Per group of eight bins: number of tokens, and probability mass.
var<workgroup> counts: array<u32, 256>;
var<workgroup> masses: array<f32, 256>;
var<workgroup> cut: f32;
var<workgroup> scores: array<f32, 256>;
var<workgroup> tokens: array<u32, 256>;

// Where the output's bins begin in the histogram.
var<private> bins: u32;

fn mass(bin: u32) -> f32 {
    return f32(histogram[bins + bin]) * exp(-(f32(bin) + 0.5) * BIN);
}

// Number of bins that hold the `n` likeliest tokens.
fn bins_of_tokens(n: u32) -> u32 {
    var sum = 0u;
    var bin = 0u;
    for (; bin < BINS && sum + counts[bin / 8u] < n; bin += 8u) {
        sum += counts[bin / 8u];
    }
    for (; bin < BINS; bin++) {
        sum += histogram[bins + bin];
        if sum >= n {
            return bin + 1u;
        }
    }
    return BINS;
}

// Number of bins that hold this share of the mass of the first `kept` bins.
fn bins_of_mass(kept: u32, share: f32) -> u32 {
    var total = 0.0;
    for (var bin = 0u; bin + 8u <= kept; bin += 8u) {
        total += masses[bin / 8u];
    }
    for (var bin = kept / 8u * 8u; bin < kept; bin++) {
        total += mass(bin);
    }
    let wanted = share * total;
    var sum = 0.0;
    var bin = 0u;
    for (; bin + 8u <= kept && sum + masses[bin / 8u] < wanted; bin += 8u) {
        sum += masses[bin / 8u];
    }
    for (; bin < kept; bin++) {
        sum += mass(bin);
        if sum >= wanted {
            return bin + 1u;
        }
    }
    return kept;
}

fn pcg4d(seed: vec4<u32>) -> u32 {
    var v = seed * 1664525u + 1013904223u;
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v ^= v >> vec4<u32>(16u);
    v.x += v.y * v.w;
    return v.x;
}

// Arrival time of a token of weight 1: exponentially distributed with mean 1.
fn arrival(choice: Choice, token: u32) -> f32 {
    let hash = pcg4d(vec4<u32>(choice.seed_low, choice.seed_high, choice.counter, token));
    // 23 bits plus one half, so that v is never 0 or 1.
    let v = (f32(hash >> 9u) + 0.5) / 8388608.0;
    // WGSL guarantees log near 1 only to an absolute error of 2^-21; a series is more precise.
    if v < 0.01 {
        return v * (1.0 + v * (0.5 + v / 3.0));
    }
    return -log(1.0 - v);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let o = group.y;
    if o >= step.n_outputs || outputs[o].by_choice != 1u {
        return;
    }
    let choice = choices[o];
    bins = outputs[o].slot * BINS;
    let top = top_logit(o, thread);
    if choice.top_k > 0u || choice.top_p < 1.0 {
        var n = 0u;
        var m = 0.0;
        for (var bin = 8u * thread; bin < 8u * thread + 8u; bin++) {
            n += histogram[bins + bin];
            m += mass(bin);
        }
        counts[thread] = n;
        masses[thread] = m;
    }
    workgroupBarrier();
    if thread == 0u {
        var kept = BINS;
        if choice.top_k > 0u {
            kept = bins_of_tokens(choice.top_k);
        }
        if choice.top_p < 1.0 {
            kept = bins_of_mass(kept, choice.top_p);
        }
        // Tokens that far below the likeliest, after temperature, are too unlikely to win.
        cut = f32(BINS) * BIN * choice.temperature;
        if kept < BINS {
            cut = min(cut, f32(kept) * BIN);
        }
        if choice.min_p > 0.0 {
            cut = min(cut, -log(choice.min_p));
        }
    }
    workgroupBarrier();
    let first = group.x * PART;
    var best = -3.4e38;
    var token = first;
    for (var i = first + thread; i < min(first + PART, N_VOCAB); i += 256u) {
        var score = adjusted(o, i) - top;
        if choice.temperature > 0.0 {
            if -score > cut {
                continue;
            }
            score = score / choice.temperature - log(arrival(choice, i));
        }
        if score > best {
            best = score;
            token = i;
        }
    }
    scores[thread] = best;
    tokens[thread] = token;
    for (var stride = 128u; stride > 0u; stride /= 2u) {
        workgroupBarrier();
        if thread < stride {
            let s = scores[thread + stride];
            let i = tokens[thread + stride];
            if s > scores[thread] || (s == scores[thread] && i < tokens[thread]) {
                scores[thread] = s;
                tokens[thread] = i;
            }
        }
    }
    if thread == 0u {
        winners[o * N_PARTS + group.x] = vec2<f32>(bitcast<f32>(tokens[0]), scores[0]);
    }
}
