//! Examples, and a reference that sorts all tokens and computes all probabilities.

use super::*;
use crate::graph::testing::Random;
use bytemuck::Zeroable;
use std::collections::BTreeMap;

const SPELL: Spell = &|_| Vec::new();

fn sampling(json: &str) -> Sampling {
    let sampling: Sampling = serde_json::from_str(json).unwrap();
    sampling.check().unwrap();
    sampling
}

fn numbered(counter: u32) -> Choice {
    Choice { temperature: 1.0, top_p: 1.0, seed: [5, 0], counter, ..Choice::zeroed() }
}

/// What is left of a distribution, as probabilities by token.
fn left(sampling: &Sampling, logits: &[f32], choice: &Choice) -> BTreeMap<u32, f64> {
    let mut chain = Chain::new(sampling, &[], SPELL);
    chain.begin(logits, choice, &[], &[], &[]);
    chain.truncate(choice);
    let temperature = f64::from(chain.temperature());
    let top = f64::from(top(&chain.candidates));
    let weight = |c: &Candidate| ((f64::from(c.logit) - top) / temperature).exp();
    let sum: f64 = chain.candidates.iter().map(weight).sum();
    chain.candidates.iter().map(|c| (c.id, weight(c) / sum)).collect()
}

/// A counter at which XTC is applied with a probability of 0.99, and not with one of 0.01.
const COUNTER: u32 = 0;

fn examples(json: &str, probabilities: &[f32], expected: &[(u32, f64)]) {
    let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
    let found = left(&sampling(json), &logits, &numbered(COUNTER));
    let ids: Vec<u32> = found.keys().copied().collect();
    assert_eq!(ids, expected.iter().map(|(id, _)| *id).collect::<Vec<_>>(), "{json}");
    for (id, p) in expected {
        assert!((found[id] - p).abs() < 1e-5, "{json}: {found:?}");
    }
}

/// The examples of llama.cpp's tests/test-sampling.cpp.
#[test]
fn llama_cpps_examples() {
    let even = [0.1, 0.2, 0.3, 0.4];
    let all = [(0, 0.1), (1, 0.2), (2, 0.3), (3, 0.4)];
    examples(r#"{"top_n_sigma": 1}"#, &even, &[(2, 3.0 / 7.0), (3, 4.0 / 7.0)]);
    examples(r#"{"top_n_sigma": 0}"#, &even, &all);
    examples(r#"{"top_n_sigma": 3}"#, &even, &all);
    examples(r#"{"top_k": 1}"#, &even, &[(3, 1.0)]);
    examples(r#"{"top_k": 3}"#, &even, &[(1, 2.0 / 9.0), (2, 3.0 / 9.0), (3, 4.0 / 9.0)]);
    examples(r#"{"top_k": 4}"#, &even, &all);
    examples(r#"{"top_p": 0}"#, &even, &[(3, 1.0)]);
    examples(r#"{"top_p": 0.8}"#, &even, &[(1, 2.0 / 9.0), (2, 3.0 / 9.0), (3, 4.0 / 9.0)]);
    for (min_p, kept) in
        [(0.0, 4), (0.24, 4), (0.26, 3), (0.49, 3), (0.51, 2), (0.74, 2), (0.76, 1), (1.0, 1)]
    {
        let sum: f64 = all[4 - kept..].iter().map(|(_, p)| p).sum();
        let expected: Vec<(u32, f64)> = all[4 - kept..].iter().map(|(id, p)| (*id, p / sum)).collect();
        examples(&format!(r#"{{"min_p": {min_p}}}"#), &even, &expected);
    }
    let falling = [0.4, 0.3, 0.2, 0.1];
    let xtc = |threshold: f32| format!(r#"{{"xtc_probability": 0.99, "xtc_threshold": {threshold}}}"#);
    examples(&xtc(0.09), &falling, &[(3, 1.0)]);
    examples(&xtc(0.19), &falling, &[(2, 2.0 / 3.0), (3, 1.0 / 3.0)]);
    examples(&xtc(0.29), &falling, &[(1, 0.5), (2, 2.0 / 6.0), (3, 1.0 / 6.0)]);
    examples(&xtc(0.39), &falling, &[(0, 0.4), (1, 0.3), (2, 0.2), (3, 0.1)]);
    examples(r#"{"typical_p": 0.5}"#, &[0.97, 0.01, 0.01, 0.01], &[(0, 1.0)]);
    let third = 1.0 / 3.0;
    examples(r#"{"typical_p": 0.5}"#, &[0.4, 0.2, 0.2, 0.2], &[(1, third), (2, third), (3, third)]);
}

/// XTC is applied as often as asked, and leaves the likeliest tokens alone otherwise.
#[test]
fn xtc_comes_with_its_probability() {
    let logits = [0.6_f32.ln(), 0.4_f32.ln()];
    let xtc = sampling(r#"{"xtc_probability": 0.3, "xtc_threshold": 0.2}"#);
    let applied = (0..10_000).filter(|n| !left(&xtc, &logits, &numbered(*n)).contains_key(&0)).count();
    assert!((2850..3150).contains(&applied), "{applied}");
    assert!(left(&sampling(r#"{"xtc_probability": 0.01}"#), &logits, &numbered(COUNTER)).contains_key(&0));
}

/// Dynamic temperature: e^(0.75 ln 2) tokens' worth of entropy out of two, and so on.
#[test]
fn the_temperature_follows_the_entropy() {
    let temperature = |json: &str, probabilities: &[f32]| {
        let mut chain = Chain::new(&sampling(json), &[], SPELL);
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        chain.begin(&logits, &numbered(0), &[], &[], &[]);
        chain.temperature()
    };
    let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-5, "{a}, not {b}");
    // Four equal tokens have all the entropy that four can have, and two sure ones none.
    close(temperature(r#"{"temperature": 0.8, "dynatemp_range": 0.5}"#, &[0.25; 4]), 1.3);
    close(temperature(r#"{"temperature": 0.8, "dynatemp_range": 0.5}"#, &[1.0, 1e-30]), 0.3);
    // 0.5, 0.25, 0.125, 0.125 have 1.75 bits of 2.
    let some = [0.5, 0.25, 0.125, 0.125];
    close(temperature(r#"{"temperature": 0.8, "dynatemp_range": 0.4}"#, &some), 0.4 + 0.8 * 0.875);
    let squared = r#"{"temperature": 0.8, "dynatemp_range": 0.4, "dynatemp_exponent": 2}"#;
    close(temperature(squared, &some), 0.4 + 0.8 * 0.875 * 0.875);
    // It is not below 0, and one token needs none.
    close(temperature(r#"{"temperature": 0.5, "dynatemp_range": 2}"#, &[1.0, 1e-30]), 0.0);
    close(temperature(r#"{"temperature": 0.5, "dynatemp_range": 2}"#, &[1.0]), 0.5);
}

#[test]
fn tokens_are_picked_with_their_probabilities() {
    let logits = [0.1_f32, 0.2, 0.3, 0.4].map(f32::ln);
    let typical = sampling(r#"{"typical_p": 0.999, "top_k": 3, "temperature": 2}"#);
    let mut counts = [0.0; 4];
    let mut chain = Chain::new(&typical, &[], SPELL);
    for counter in 0..20_000 {
        counts[chain.pick(&logits, &numbered(counter), &[], &[], &[], SPELL) as usize] += 1.0 / 20_000.0;
    }
    // √2, √3 and √4 of their sum.
    for (found, expected) in counts.iter().zip([0.0_f64, 0.275, 0.337, 0.389]) {
        assert!((found - expected).abs() < 0.015, "{counts:?}");
    }
}

/// A token that is picked is the one that a device would choose from the same candidates.
#[test]
fn the_race_is_the_devices() {
    let mut random = Random(9);
    let logits: Vec<f32> = (0..300).map(|_| 3.0 * random.normal()).collect();
    let seen: Vec<u32> = (0..300).map(|i| i % 3).collect();
    let bias: Vec<f32> = (0..300).map(|_| random.normal()).collect();
    let mask: Vec<u32> = (0..10).map(|_| random.bits() as u32).collect();
    // A sampler that changes nothing, so that the host picks.
    let wide = sampling(r#"{"temperature": 0.8, "min_p": 0.01, "top_n_sigma": 100}"#);
    let mut chain = Chain::new(&wide, &[], SPELL);
    for counter in 0..200 {
        let plain = Choice { temperature: 0.8, min_p: 0.01, repetition_penalty: 1.3, ..numbered(counter) };
        let choice =
            Choice { frequency_penalty: 0.2, adjusts: counter % 2, masked: counter / 2 % 2, ..plain };
        let expected = choice.choose(&mut logits.clone(), &seen, &bias, &mask);
        assert_eq!(chain.pick(&logits, &choice, &seen, &bias, &mask, SPELL), expected, "{counter}");
    }
}

#[test]
fn dry_changes_what_is_picked() {
    let dry = r#"{"dry_multiplier": 2, "temperature": 0}"#;
    let pick = |text: &[u32]| {
        let mut chain = Chain::new(&sampling(dry), text, SPELL);
        chain.pick(&[0.0, 0.0, 1.5, 1.0], &numbered(0), &[], &[], &[], SPELL)
    };
    assert_eq!(pick(&[0, 1]), 2);
    assert_eq!(pick(&[0, 1, 2, 0, 1]), 3);
    // The text grows.
    let mut chain = Chain::new(&sampling(dry), &[0, 1, 2], SPELL);
    [0, 1].iter().for_each(|id| chain.accept(*id, SPELL));
    assert_eq!(chain.pick(&[0.0, 0.0, 1.5, 1.0], &numbered(0), &[], &[], &[], SPELL), 3);
}

/// Mirostat holds the mean surprise near its aim, whatever the temperature of the model is.
#[test]
fn mirostat_holds_the_surprise() {
    let mut random = Random(12);
    let logits: Vec<f32> = (0..500).map(|_| 2.0 * random.normal()).collect();
    for tau in [2.0, 4.0] {
        let json = format!(r#"{{"mirostat": 2, "mirostat_tau": {tau}, "top_k": 1}}"#);
        let mut chain = Chain::new(&sampling(&json), &[], SPELL);
        assert_eq!(chain.mu, 2.0 * tau);
        let mut surprises = Vec::new();
        for counter in 0..2000 {
            let before = chain.mu;
            chain.pick(&logits, &numbered(counter), &[], &[], &[], SPELL);
            // e = surprise − τ; µ ← µ − η e.
            surprises.push((before - chain.mu) / 0.1 + tau);
        }
        let mean = surprises[500..].iter().sum::<f32>() / 1500.0;
        assert!((mean - tau).abs() < 0.05, "{mean} for {tau}");
        let greedy = sampling(r#"{"mirostat": 2, "temperature": 0}"#);
        let top = Chain::new(&greedy, &[], SPELL).pick(&logits, &numbered(0), &[], &[], &[], SPELL);
        assert!(logits.iter().all(|logit| *logit <= logits[top as usize]));
    }
}

/// Tokens with their probabilities, the likeliest first.
type Sorted = Vec<(u32, f64)>;

fn normalised(mut list: Sorted) -> Sorted {
    let sum: f64 = list.iter().map(|(_, p)| p).sum();
    list.iter_mut().for_each(|(_, p)| *p /= sum);
    list
}

fn entropy(list: &Sorted) -> f64 {
    list.iter().map(|(_, p)| -p * p.ln()).sum()
}

fn until(list: Sorted, is_enough: impl Fn(f64) -> bool) -> Sorted {
    let mut mass = 0.0;
    let n = list.iter().position(|(_, p)| {
        mass += p;
        is_enough(mass)
    });
    list[..n.map_or(list.len(), |n| n + 1)].to_vec()
}

fn reference(s: &Sampling, logits: &[f32], applies_xtc: bool) -> Sorted {
    let numbers: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let variance = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / numbers.len() as f64;
    let top = numbers.iter().copied().fold(f64::MIN, f64::max);
    let mut list: Sorted = (0..).zip(&numbers).map(|(id, x)| (id, (x - top).exp())).collect();
    if s.top_n_sigma > 0.0 {
        let least = top - f64::from(s.top_n_sigma) * variance.sqrt();
        list.retain(|(id, _)| numbers[*id as usize] >= least);
    }
    list.sort_by(|a, b| b.1.total_cmp(&a.1));
    if s.top_k > 0 {
        list.truncate(s.top_k);
    }
    list = normalised(list);
    if s.typical_p < 1.0 {
        let expected = entropy(&list);
        list.sort_by(|a, b| (-a.1.ln() - expected).abs().total_cmp(&(-b.1.ln() - expected).abs()));
        list = until(list, |mass| mass > f64::from(s.typical_p));
        list.sort_by(|a, b| b.1.total_cmp(&a.1));
        list = normalised(list);
    }
    if s.top_p < 1.0 {
        list = normalised(until(list, |mass| mass >= f64::from(s.top_p)));
    }
    let likeliest = list[0].1;
    list.retain(|(_, p)| *p >= f64::from(s.min_p) * likeliest);
    list = normalised(list);
    if applies_xtc {
        let likely = list.iter().filter(|(_, p)| *p >= f64::from(s.xtc_threshold)).count();
        list = normalised(list[likely.saturating_sub(1)..].to_vec());
    }
    let mut temperature = f64::from(s.temperature);
    if s.dynatemp_range > 0.0 && list.len() > 1 {
        let share = entropy(&list) / (list.len() as f64).ln();
        let range = f64::from(s.dynatemp_range);
        let low = (temperature - range).max(0.0);
        temperature = low + (temperature + range - low) * share.powf(f64::from(s.dynatemp_exponent));
    }
    list.iter_mut().for_each(|(_, p)| *p = p.powf(1.0 / temperature));
    normalised(list)
}

#[test]
fn distributions_are_the_references() {
    let settings = [
        r#"{"typical_p": 0.9}"#,
        r#"{"typical_p": 0.2, "temperature": 0.7}"#,
        r#"{"top_n_sigma": 1.5, "temperature": 1.5}"#,
        r#"{"top_k": 500, "typical_p": 0.95, "top_p": 0.9, "min_p": 0.02}"#,
        r#"{"top_n_sigma": 2, "top_k": 90, "xtc_probability": 1, "xtc_threshold": 0.02, "temperature": 0.9}"#,
        r#"{"top_p": 0.97, "min_p": 0.05, "dynatemp_range": 0.6, "dynatemp_exponent": 1.3}"#,
        r#"{"top_k": 40, "top_p": 0.95, "min_p": 0.05, "xtc_probability": 1, "dynatemp_range": 0.3}"#,
    ];
    for (seed, n) in [(1, 20), (2, 700), (3, 3000)] {
        let mut random = Random(seed);
        let logits: Vec<f32> = (0..n).map(|_| 2.5 * random.normal()).collect();
        for json in settings {
            let sampling = sampling(json);
            let expected = reference(&sampling, &logits, sampling.xtc_probability > 0.0);
            let found = left(&sampling, &logits, &numbered(seed as u32));
            assert_eq!(found.len(), expected.len(), "{json}, {n} tokens");
            for (id, p) in expected {
                let found = found.get(&id).copied().unwrap_or(0.0);
                assert!((found - p).abs() < 1e-5 + 1e-4 * p, "{json}, {n} tokens: {id} has {found}, not {p}");
            }
        }
    }
}
