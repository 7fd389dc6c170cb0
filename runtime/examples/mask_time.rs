//! How long masks take with a model's vocabulary: `cargo run --release --example mask_time MODEL.gguf`.
//! Answers are random walks: of the tokens that a constraint allows, one is taken at random.

use nomoat_runtime::gguf::HeaderReader;
use nomoat_runtime::text::Tokenizer;
use nomoat_runtime::text::grammar::{Constraint, Grammars, grammars_of};
use serde_json::json;
use std::error::Error;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tokens of a walk at most.
const TOKENS: usize = 300;
const WALKS: u64 = 20;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("give a GGUF file")?;
    let mut file = std::fs::File::open(&path)?;
    let mut reader = HeaderReader::new(file.metadata()?.len());
    let mut piece = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut piece)?;
        if reader.push(&piece[..n])? == 0 {
            break;
        }
    }
    let tokenizer = Arc::new(Tokenizer::from_metadata(&mut reader.finish()?.metadata)?);
    let begun = Instant::now();
    let grammars = grammars_of(&tokenizer)?;
    println!("{} tokens, prepared in {:.0?}", tokenizer.vocab_size(), begun.elapsed());
    let person = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string" },
            "age": { "type": "integer", "minimum": 0, "maximum": 150 },
            "mail": { "type": "string", "format": "email" },
            "tags": { "type": "array", "items": { "enum": ["red", "green", "blue"] } },
            "friends": { "type": "array", "items": { "$ref": "#" } },
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": false,
    });
    for (name, constraint) in [
        ("JSON object", Constraint::JsonObject),
        ("JSON Schema", Constraint::JsonSchema(person)),
        ("regular expression", Constraint::Regex(r"([A-Z][a-z]+ ){3,20}[0-9]{4}-[0-9]{2}-[0-9]{2}".into())),
        (
            "Lark",
            Constraint::Lark(
                "start: sum\nsum: sum \"+\" item | item\nitem: /[0-9]+/ | \"(\" sum \")\"\n".into(),
            ),
        ),
    ] {
        let begun = Instant::now();
        grammars.compile(&constraint)?;
        let compiled = begun.elapsed();
        let mut times = Vec::new();
        for seed in 0..WALKS {
            walk(&grammars, &constraint, &tokenizer, seed, &mut times)?;
        }
        times.sort_unstable();
        let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
        println!(
            "{name}: compiled in {compiled:.1?}; {} tokens: p50 {:.1?}, p99 {:.1?}, most {:.1?}",
            times.len(),
            at(0.5),
            at(0.99),
            times.last().copied().unwrap_or_default(),
        );
    }
    Ok(())
}

/// Times a token: its acceptance, and the mask for the next.
fn walk(
    grammars: &Grammars,
    constraint: &Constraint,
    tokenizer: &Tokenizer,
    seed: u64,
    times: &mut Vec<Duration>,
) -> Result<(), Box<dyn Error>> {
    let mut grammar = grammars.compile(constraint)?;
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for _ in 0..TOKENS {
        // xorshift64 (Marsaglia, Xorshift RNGs, 2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let n = tokenizer.vocab_size() as u64;
        let first = (random % n) as u32;
        let ids = (first..n as u32).chain(0..first);
        let Some(id) = ids.into_iter().find(|id| grammar.allows(*id)) else { return Ok(()) };
        if tokenizer.stop_ids().contains(&id) {
            return Ok(());
        }
        let begun = Instant::now();
        grammar.accept(id)?;
        if grammar.is_complete() {
            return Ok(());
        }
        grammar.prepare()?;
        times.push(begun.elapsed());
    }
    Ok(())
}
