//! The JSON Schema Test Suite (draft 2020-12). See `tests/schemas/README.md`.

use crate::{Constraint, GrammarError, Grammars};
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct File {
    name: String,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    description: String,
    schema: Value,
    tests: Vec<Test>,
}

#[derive(Deserialize)]
struct Test {
    description: String,
    data: Value,
    valid: bool,
}

fn suite() -> Vec<File> {
    let file = &include_bytes!("../../../tests/schemas/draft2020-12.json.gz")[..];
    serde_json::from_reader(GzDecoder::new(file)).unwrap()
}

/// Whether a schema accepts a text from beginning to end; none if it is not supported.
fn accepts(grammars: &Grammars, schema: &Value, text: &str) -> Result<bool, GrammarError> {
    let mut grammar = grammars.compile(&Constraint::JsonSchema(schema.clone()))?;
    for byte in text.bytes() {
        if grammar.is_complete() || !grammar.allows(u32::from(byte)) {
            return Ok(false);
        }
        grammar.accept(u32::from(byte))?;
        grammar.prepare()?;
    }
    Ok(grammar.is_complete() || grammar.can_end())
}

/// What is accepted and should not be: files, how many of their tests, and why.
const TOO_MUCH: &[(&str, usize, &str)] = &[
    ("optional/format/date", 3, "29 February in every year"),
    ("optional/format/date-time", 2, "second 60 in every minute"),
    ("optional/format/hostname", 24, "rules of whole names: their length, and what Punycode stands for"),
    ("optional/format/time", 10, "second 60 in every minute"),
];

/// What could be accepted and is not.
const TOO_LITTLE: &[(&str, usize, &str)] = &[
    ("allOf", 2, "properties come in the order of the schema"),
    ("const", 5, "one way to write a value"),
    ("enum", 4, "one way to write a value"),
    ("format", 10, "a format is a rule, not a remark"),
    ("optional/format/email", 4, "no quotes and no addresses of IPv6"),
    ("optional/format/ipv6", 4, "no addresses that end as those of IPv4"),
    ("type", 1, "integers have no fraction"),
    ("vocabulary", 1, "the schema's own vocabulary is not read"),
];

#[test]
fn what_a_schema_forbids_is_not_accepted() {
    let grammars = Grammars::single_byte().unwrap();
    let (mut too_much, mut too_little) = (BTreeMap::new(), BTreeMap::new());
    let (mut n_schemas, mut n_refused, mut n_tests) = (0, 0, 0);
    let files = suite();
    for File { name, groups } in &files {
        for Group { description, schema, tests } in groups {
            n_schemas += 1;
            for test in tests {
                match accepts(&grammars, schema, &test.data.to_string()) {
                    Ok(is_accepted) => {
                        n_tests += 1;
                        if is_accepted != test.valid {
                            println!("{name}: {description}: {}: accepted: {is_accepted}", test.description);
                            let wrong = if is_accepted { &mut too_much } else { &mut too_little };
                            *wrong.entry(name.as_str()).or_insert(0) += 1;
                        }
                    }
                    // A schema that is not supported is an error that says where.
                    Err(GrammarError::Schema { path, .. }) => {
                        assert!(path.starts_with('#'), "{name}: {description}: {path}");
                        n_refused += 1;
                        break;
                    }
                    Err(error) => panic!("{name}: {description}: {error}"),
                }
            }
        }
    }
    println!("{n_schemas} schemas, {n_refused} of them refused; {n_tests} tests");
    let by_file = |list: &[(&'static str, usize, &str)]| {
        list.iter().map(|(file, n, _)| (*file, *n)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(too_much, by_file(TOO_MUCH));
    assert_eq!(too_little, by_file(TOO_LITTLE));
    // Most of the suite is compared.
    assert!(n_tests > 950, "{n_tests}");
}
