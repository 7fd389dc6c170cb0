//! `nomoat bench masks`: how long the masks of constrained answers take, for a model's vocabulary.

use super::shape::random;
use anyhow::Result;
use nomoat_runtime::text::Tokenizer;
use nomoat_runtime::text::grammar::{Constraint, Grammar, grammars_of};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Answers of random tokens to each constraint, and tokens of each at most.
const ANSWERS: u64 = 40;
const MAX_TOKENS: usize = 200;

/// Prints JSON: for each constraint the milliseconds to begin, and of a token's mask.
pub fn run(model: &Path) -> Result<()> {
    let mut headers = crate::headers(&crate::files(model)?)?;
    let tokenizer = Arc::new(Tokenizer::from_metadata(&mut headers[0].metadata)?);
    let start = Instant::now();
    let grammars = grammars_of(&tokenizer)?;
    let vocabulary_ms = ms(start.elapsed());
    let mut results = Vec::new();
    for (name, constraint, text) in constraints() {
        let start = Instant::now();
        let mut grammar = grammars.compile(&constraint)?;
        let begin_ms = ms(start.elapsed());
        // A text as a model would write it.
        let mut times = Vec::new();
        for id in tokenizer.encode_middle(&text)? {
            take(&mut grammar, id, &mut times)?;
        }
        let mut entry = json!({ "constraint": name, "begin_ms": begin_ms, "text": summary(&mut times) });
        // Any tokens that are allowed, also those that no model would choose.
        let mut times = Vec::new();
        for seed in 1..=ANSWERS {
            let mut grammar = grammars.compile(&constraint)?;
            let mut random = random(seed);
            for _ in 0..MAX_TOKENS {
                let Some(id) = allowed(grammar.mask(), random()) else { break };
                if grammar.is_complete() || tokenizer.stop_ids().contains(&id) {
                    break;
                }
                take(&mut grammar, id, &mut times)?;
            }
        }
        entry["random_tokens"] = summary(&mut times);
        results.push(entry);
    }
    let n_tokens = tokenizer.vocab_size();
    println!("{}", json!({ "vocabulary": n_tokens, "vocabulary_ms": vocabulary_ms, "constraints": results }));
    Ok(())
}

/// Takes a token, and measures what comes before the next one can be chosen.
fn take(grammar: &mut Grammar, id: u32, times: &mut Vec<Duration>) -> Result<()> {
    let start = Instant::now();
    grammar.accept(id)?;
    grammar.prepare()?;
    times.push(start.elapsed());
    Ok(())
}

fn constraints() -> Vec<(&'static str, Constraint, String)> {
    let person = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" },
            "born": { "type": "string", "format": "date" },
            "height": { "type": "number", "minimum": 0, "maximum": 3 },
            "languages": {
                "type": "array", "items": { "enum": ["English", "Français", "中文"] }, "maxItems": 5
            },
            "address": {
                "type": "object",
                "properties": {
                    "street": { "type": "string", "maxLength": 60 },
                    "zip": { "type": "string", "pattern": "^[0-9]{5}$" }
                },
                "required": ["street", "zip"], "additionalProperties": false
            },
            "notes": { "anyOf": [{ "type": "string" }, { "type": "null" }] }
        },
        "required": ["name", "born", "height", "languages", "address", "notes"],
        "additionalProperties": false
    });
    let text = json!({
        "name": "Ada Lovelace", "born": "1815-12-10", "height": 1.68, "languages": ["English", "Français"],
        "address": { "street": "12 St James's Square", "zip": "10115" },
        "notes": "She wrote what is held to be the first program, for a machine that was never built."
    });
    let free = json!({
        "title": "The sea", "rating": 4.5, "read": true, "by": null,
        "verses": [{ "line": "The waves come in, they go out", "n": 1 }, { "line": "and in again", "n": 2 }]
    });
    let sum = "start: expr\nexpr: term ((\"+\" | \"-\") term)*\nterm: factor ((\"*\" | \"/\") factor)*\n\
               factor: NUMBER | \"(\" expr \")\"\nNUMBER: /[0-9]+(\\.[0-9]+)?/\n%ignore /[ ]/";
    vec![
        ("json_object", Constraint::JsonObject, free.to_string()),
        ("json_schema", Constraint::JsonSchema(person), text.to_string()),
        (
            "regex",
            Constraint::Regex(r"[A-Z][a-z]+( [a-z]+){2,20}[.!?]".into()),
            "The quick brown fox jumps over the lazy dog again.".into(),
        ),
        ("lark", Constraint::Lark(sum.into()), "(1 + 23) * 4.5 - 678 / (9 + 10 * 11)".into()),
    ]
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Percentiles, in milliseconds.
fn summary(times: &mut [Duration]) -> Value {
    times.sort_unstable();
    let at = |share: f64| {
        let index = ((times.len() as f64 * share).ceil() as usize).saturating_sub(1);
        times.get(index).copied().map(ms)
    };
    json!({ "tokens": times.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0) })
}

/// One of the tokens of a mask, by a random number.
fn allowed(mask: &[u32], random: u64) -> Option<u32> {
    let n: u64 = mask.iter().map(|word| u64::from(word.count_ones())).sum();
    let wanted = random.checked_rem(n)? as usize;
    let mut bits = (0..).zip(mask).flat_map(|(word, bits)| {
        (0..32).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| 32 * word + bit)
    });
    bits.nth(wanted)
}
