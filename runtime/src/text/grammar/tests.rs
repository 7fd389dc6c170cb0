//! Errors of schemas, hostile constraints, and vocabularies.

use super::*;
use crate::model::testing::TestModel;
use crate::text::Tokenizer;
use serde_json::json;
use std::sync::Arc;

/// SentencePiece: small letters, alone and after a space.
fn grammars() -> (Arc<Tokenizer>, Grammars) {
    let mut metadata = TestModel::new().header().metadata;
    let tokenizer = Arc::new(Tokenizer::from_metadata(&mut metadata).unwrap());
    let grammars = grammars_of(&tokenizer).unwrap();
    (tokenizer, grammars)
}

fn allowed(tokenizer: &Tokenizer, grammar: &Grammar) -> Vec<String> {
    let ids = (0..tokenizer.vocab_size() as u32).filter(|id| grammar.allows(*id));
    ids.map(|id| tokenizer.spelled(id).unwrap()).collect()
}

#[test]
fn pieces_with_spaces_and_the_end() {
    let (tokenizer, grammars) = grammars();
    let mut grammar = grammars.compile(&Constraint::Regex("a b?".into())).unwrap();
    assert_eq!(allowed(&tokenizer, &grammar), ["a"]);
    grammar.accept(tokenizer.id_of("a").unwrap()).unwrap();
    grammar.prepare().unwrap();
    assert_eq!(allowed(&tokenizer, &grammar), ["▁", "▁b"]);
    // A token that does not fit changes nothing.
    let z = tokenizer.id_of("z").unwrap();
    assert_eq!(grammar.accept(z), Err(GrammarError::Token(z)));
    grammar.accept(tokenizer.id_of("▁").unwrap()).unwrap();
    grammar.prepare().unwrap();
    assert_eq!(allowed(&tokenizer, &grammar), ["</s>", "b"]);
    assert!(!grammar.is_complete());
    grammar.accept(tokenizer.id_of("b").unwrap()).unwrap();
    assert!(grammar.is_complete());
    grammar.prepare().unwrap();
    assert_eq!(allowed(&tokenizer, &grammar), ["</s>"]);
}

#[test]
fn schemas_that_are_not_supported_name_their_keyword() {
    let (_, grammars) = grammars();
    for (schema, path) in [
        (json!({ "not": {} }), "#/not"),
        (
            json!({ "type": "object", "properties": { "a": { "type": "array", "contains": {} } } }),
            "#/properties/a/contains",
        ),
        (
            json!({ "properties": { "a/b~": { "anyOf": [{}, { "format": "no-such" }] } } }),
            "#/properties/a~1b~0/anyOf/1/format",
        ),
        (json!({ "items": { "$ref": "https://example.org/x.json" } }), "#/items/$ref"),
        (json!({ "$defs": { "a": { "type": "strange" } }, "$ref": "#/$defs/a" }), "#/$defs/a/type"),
        (json!({ "type": "string", "pattern": "(" }), "#/pattern"),
        (json!({ "x-guidance": { "lenient": true }, "not": {} }), "#"),
        (json!(false), "#"),
        (json!(7), "#"),
    ] {
        match grammars.compile(&Constraint::JsonSchema(schema.clone())) {
            Err(GrammarError::Schema { path: found, problem }) => {
                assert_eq!(found, path, "{schema}: {problem}");
                assert!(!problem.is_empty());
            }
            other => panic!("{schema}: {:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn hostile_constraints_are_errors() {
    let (_, grammars) = grammars();
    for constraint in [
        Constraint::Regex("(".repeat(100_000)),
        Constraint::Lark(format!("start: {}\n", "(".repeat(100_000))),
        Constraint::Lark("start: start\n".into()),
        Constraint::Lark("start: missing\n".into()),
        Constraint::Lark(String::new()),
        Constraint::Lark("a".repeat(MAX_BYTES + 1)),
        Constraint::JsonSchema(json!({ "type": "object", "properties": 7 })),
        Constraint::JsonSchema(json!({ "enum": [] })),
        Constraint::JsonSchema(json!({ "type": "string", "minLength": 5, "maxLength": 2 })),
    ] {
        let found = grammars.compile(&constraint);
        let shown: String = format!("{constraint:?}").chars().take(60).collect();
        assert!(found.is_err(), "{shown}");
    }
}

#[test]
fn gbnf_names_tokens_by_text_or_id() {
    let (tokenizer, grammars) = grammars();
    let a = tokenizer.id_of("a").unwrap();
    let allowed = |gbnf: String| {
        let grammar = grammars.compile(&Constraint::Gbnf(gbnf)).unwrap();
        (0..tokenizer.vocab_size() as u32).filter(|id| grammar.allows(*id)).collect::<Vec<_>>()
    };
    assert_eq!(allowed(format!("root ::= <[{a}]>")), [a]);
    assert!(!allowed(format!("root ::= !<[{a}]> \"b\"")).contains(&a));
}
