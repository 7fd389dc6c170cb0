//! Answers that are held to a schema or a grammar. The weights are random: what fits is the grammar's doing.

use super::*;
use crate::engine::answer::Answer;
use crate::text::grammar::GrammarError;
use serde_json::{Map, Value, json};

/// A byte-level vocabulary of printable characters, with a few longer tokens.
pub(super) fn json_model() -> TestModel {
    let control = ["<unk>", "<s>", "</s>"].map(String::from);
    let printable = (33..127_u8).map(|byte| char::from(byte).to_string());
    let merges = ["t r", "tr u", "tru e", "\" :", "a b", "ab c", "{ \"", "Ġ Ġ"];
    let merged = merges.iter().map(|merge| merge.replace(' ', ""));
    // The bytes of a space, a line feed and ü.
    let others = ["Ġ", "Ċ", "Ã", "¼"].map(String::from);
    let tokens: Vec<String> = control.into_iter().chain(printable).chain(others).chain(merged).collect();
    let kinds: Vec<i32> = (0..tokens.len()).map(|id| if id < 3 { 3 } else { 1 }).collect();
    let n = tokens.len() as u64;
    TestModel::new()
        .with("tokenizer.ggml.model", "gpt2")
        .with("tokenizer.ggml.tokens", tokens)
        .with("tokenizer.ggml.token_type", kinds)
        .with("tokenizer.ggml.merges", merges.map(String::from).to_vec())
        .with("llama.context_length", 1024_u32)
        .with_tensor("token_embd.weight", &[n, 32])
}

fn json_engine(sequences: u32) -> (TestDevice, Engine<TestDevice>) {
    let device = TestDevice::default();
    let engine = engine(&device, &json_model(), sequences);
    (device, engine)
}

fn with_schema(request: Request, schema: &Value) -> Request {
    let json_schema = NamedSchema { schema: schema.clone() };
    Request { response_format: ResponseFormat::JsonSchema { json_schema }, ..request }
}

fn with_regex(request: Request, regex: &str) -> Request {
    Request { grammar: Some(GrammarText::Regex(regex.into())), ..request }
}

/// Whether a value fits a schema of the few keywords that these tests use.
fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return schema == &json!(true) };
    schema.iter().all(|(key, rule)| {
        let number = || value.as_f64();
        let chars = || value.as_str().map(|text| text.chars().count() as u64);
        let items = || value.as_array();
        match key.as_str() {
            "type" => match rule.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                "boolean" => value.is_boolean(),
                "null" => value.is_null(),
                other => panic!("type {other}"),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "const" => rule == value,
            "minimum" => number().is_none_or(|n| n >= rule.as_f64().unwrap()),
            "maximum" => number().is_none_or(|n| n <= rule.as_f64().unwrap()),
            "minLength" => chars().is_none_or(|n| n >= rule.as_u64().unwrap()),
            "maxLength" => chars().is_none_or(|n| n <= rule.as_u64().unwrap()),
            "minItems" => items().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "maxItems" => items().is_none_or(|items| items.len() as u64 <= rule.as_u64().unwrap()),
            "items" => items().is_none_or(|items| items.iter().all(|item| fits(root, rule, item))),
            "anyOf" => rule.as_array().unwrap().iter().any(|rule| fits(root, rule, value)),
            "$ref" => fits(root, root.pointer(&rule.as_str().unwrap()[1..]).unwrap(), value),
            "required" => value.as_object().is_none_or(|object| {
                rule.as_array().unwrap().iter().all(|name| object.contains_key(name.as_str().unwrap()))
            }),
            "properties" => value.as_object().is_none_or(|object| {
                object.iter().all(|(name, value)| rule.get(name).is_none_or(|rule| fits(root, rule, value)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|object| {
                let known = |name: &String| schema.get("properties").is_some_and(|p| p.get(name).is_some());
                object.iter().all(|(name, value)| known(name) || fits(root, rule, value))
            }),
            "$defs" | "description" => true,
            other => panic!("keyword {other}"),
        }
    })
}

fn object(properties: &[(&str, Value)]) -> Value {
    let required: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
    let map: Map<String, Value> = properties.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
    json!({ "type": "object", "properties": map, "required": required, "additionalProperties": false })
}

/// A random schema of a bounded size, so that answers end.
fn random_schema(random: &mut crate::graph::testing::Random, depth: usize) -> Value {
    let kinds = if depth == 0 { 6 } else { 9 };
    match random.bits() >> 20 & 0xffff {
        n if n % kinds == 0 => json!({ "type": "integer", "minimum": 3, "maximum": 40 + n }),
        n if n % kinds == 1 => json!({ "type": "boolean" }),
        n if n % kinds == 2 => json!({ "type": "string", "minLength": n % 3, "maxLength": 3 + n % 5 }),
        n if n % kinds == 3 => json!({ "enum": ["red", "green", 7, null] }),
        n if n % kinds == 4 => json!({ "type": "null" }),
        n if n % kinds == 5 => json!({ "const": { "abc": [true, n] } }),
        n if n % kinds == 6 => {
            let items = random_schema(random, depth - 1);
            json!({ "type": "array", "items": items, "minItems": n % 2, "maxItems": 2 })
        }
        n if n % kinds == 7 => {
            json!({ "anyOf": [random_schema(random, depth - 1), random_schema(random, 0)] })
        }
        n => {
            let names = ["abc", "true", "x y", "ü\"\n"];
            let names = &names[..1 + n as usize % 4];
            object(&names.iter().map(|name| (*name, random_schema(random, depth - 1))).collect::<Vec<_>>())
        }
    }
}

#[test]
fn every_answer_fits_its_schema() {
    let (device, mut engine) = json_engine(1);
    device.0.depth.set(3);
    let mut random = crate::graph::testing::Random(4);
    for i in 0..40 {
        let schema = random_schema(&mut random, 2);
        for request in [greedy("abc", 900), seeded("abc", 900, i)] {
            let told = answer(&mut engine, with_schema(request, &schema));
            assert_eq!(told.reason, FinishReason::Stop, "{schema}: {}", told.text);
            let value = serde_json::from_str(&told.text).unwrap_or_else(|e| panic!("{e}: {}", told.text));
            assert!(fits(&schema, &schema, &value), "{value} for {schema}");
        }
    }
}

#[test]
fn recursion_and_json_objects() {
    let (_, mut engine) = json_engine(1);
    let child = json!({ "anyOf": [{ "$ref": "#/$defs/tree" }, { "type": "null" }] });
    let tree = json!({ "$defs": { "tree": object(&[("abc", child)]) }, "$ref": "#/$defs/tree" });
    let mut ended = 0;
    for seed in 0..8 {
        let told = answer(&mut engine, with_schema(seeded("abc", 300, seed), &tree));
        if told.reason == FinishReason::Stop {
            ended += 1;
            let value = serde_json::from_str(&told.text).unwrap();
            assert!(fits(&tree, &tree, &value), "{value}");
        }
        let json = Request { response_format: ResponseFormat::JsonObject, ..seeded("abc", 60, seed) };
        let told = answer(&mut engine, json);
        assert!(told.text.starts_with('{'), "{}", told.text);
        if told.reason == FinishReason::Stop {
            // A number may be too large for a double: that is JSON all the same.
            if let Err(error) = serde_json::from_str::<Map<String, Value>>(&told.text) {
                assert!(error.to_string().starts_with("number out of range"), "{error}: {}", told.text);
            }
        }
    }
    assert!(ended > 0);
}

#[test]
fn expressions_and_grammars() {
    let (_, mut engine) = json_engine(1);
    for seed in 0..5 {
        let told = answer(&mut engine, with_regex(seeded("abc", 40, seed), "[xy]{3,5}-(one|two)"));
        let (left, right) = told.text.split_once('-').unwrap();
        assert!((3..=5).contains(&left.len()) && left.chars().all(|c| c == 'x' || c == 'y'));
        assert!(right == "one" || right == "two", "{right}");
        let lark = "start: pair\npair: \"(\" pair \")\" | \"x\"\n";
        let lark = Request { grammar: Some(GrammarText::Lark(lark.into())), ..seeded("abc", 200, seed) };
        let told = answer(&mut engine, lark);
        let depth = told.text.find('x').unwrap_or_else(|| panic!("{}", told.text));
        assert_eq!(told.text, format!("{}x{}", "(".repeat(depth), ")".repeat(depth)));
    }
}

/// Forced tokens are computed in one step, like a prompt, and give the same answer.
#[test]
fn forced_tokens_are_not_chosen_one_by_one() {
    let (device, mut engine) = json_engine(1);
    let text = ["It is \"forced\", abcabc: ü! ", " And so is this; true! "];
    let request = |n| with_regex(greedy("abc", n), &format!("{}[xy]{}[xy]{{3}}", text[0], text[1]));
    let told = answer(&mut engine, request(400));
    let x = |c: char| matches!(c, 'x' | 'y');
    assert_eq!(told.text.split(x).collect::<Vec<_>>(), [text[0], text[1], "", "", ""]);
    let steps = device.0.steps.borrow().len();
    assert!(5 * steps < told.usage.completion_tokens, "{steps} steps for {told:?}");
    // What was computed is right: it is used when the answer goes on without the constraint.
    let more = || Request { continue_ids: told.ids.clone(), ..greedy("abc", told.ids.len() + 12) };
    let again = answer(&mut engine, more());
    let (tokens, _) = device.0.steps.borrow()[steps].clone();
    assert!(tokens.len() < 9, "{tokens:?}");
    assert_eq!(again.ids, answer(&mut json_engine(1).1, more()).ids);
    // All of them count, and the limit can be within them.
    let cut = answer(&mut engine, request(7));
    assert_eq!((cut.usage.completion_tokens, cut.reason), (7, FinishReason::Length));
    assert!(told.text.starts_with(&cut.text));
}

#[test]
fn answers_together_do_not_disturb_each_other() {
    let (device, mut engine) = json_engine(3);
    device.0.depth.set(4);
    let schema =
        object(&[("abc", json!({ "type": "string", "maxLength": 9 })), ("x", json!({ "type": "boolean" }))]);
    let requests = || {
        let penalised = Sampling { frequency_penalty: 0.5, ..seeded("", 1, 5).sampling };
        [
            with_schema(Request { sampling: penalised, ..seeded("one", 90, 5) }, &schema),
            greedy("two", 30),
            with_regex(seeded("three", 30, 6), "[a-f]{20}"),
        ]
    };
    let alone: Vec<Told> = requests().map(|request| answer(&mut json_engine(1).1, request)).to_vec();
    let ids = requests().map(|request| engine.start(request).unwrap().sequence);
    let mut telling = vec![Telling::default(); 3];
    let mut told = vec![None; 3];
    while told.iter().any(Option::is_none) {
        let event = pollster::block_on(engine.advance()).unwrap();
        let i = ids.iter().position(|id| *id == event.sequence).unwrap();
        told[i] = telling[i].push(event.progress);
    }
    assert_eq!(told.into_iter().flatten().collect::<Vec<_>>(), alone);
}

/// An answer that goes on after an interruption is held to the same constraint.
#[test]
fn a_constrained_answer_continues() {
    let (_, mut engine) = json_engine(1);
    let request = || with_regex(seeded("abc", 40, 3), "[a-f]{12}!");
    let whole = answer(&mut engine, request());
    let begun = whole.ids[..5].to_vec();
    let rest = answer(&mut engine, Request { continue_ids: begun.clone(), ..request() });
    assert_eq!([begun, rest.ids].concat(), whole.ids);
    let wrong = engine.tokenizer().encode("z", false).unwrap();
    let error = invalid(engine.start(Request { continue_ids: wrong, ..request() }));
    assert!(error.contains("does not fit"), "{error}");
}

#[test]
fn constraints_that_cannot_be_used_are_errors() {
    let (_, mut engine) = json_engine(1);
    let both = with_regex(with_schema(greedy("abc", 9), &json!({})), "a");
    assert!(invalid(engine.start(both)).contains("either"));
    let error = engine.start(with_regex(greedy("abc", 9), "(")).unwrap_err();
    assert!(matches!(error, Error::Grammar(GrammarError::Text { .. })), "{error}");
    assert_eq!(error.code(), "invalid_request");
    let error = engine.start(with_schema(greedy("abc", 9), &json!({ "not": {} }))).unwrap_err();
    assert!(matches!(error, Error::Grammar(GrammarError::Schema { .. })), "{error}");
    // Nothing has begun.
    assert!(invalid(pollster::block_on(engine.advance())).contains("nothing is running"));
}

#[test]
fn requests_name_their_constraints_as_openai_does() {
    let constraint = |json: &str| Request::from_json(json).unwrap().constraint().unwrap();
    assert_eq!(constraint(r#"{"prompt": "a", "response_format": {"type": "text"}}"#), None);
    let schema = r#"{"response_format": {"type": "json_schema", "json_schema":
        {"name": "a", "strict": true, "schema": {"type": "null"}}}}"#;
    use crate::text::grammar::Constraint;
    assert_eq!(constraint(schema), Some(Constraint::JsonSchema(json!({ "type": "null" }))));
    assert_eq!(constraint(r#"{"response_format": {"type": "json_object"}}"#), Some(Constraint::JsonObject));
    assert_eq!(constraint(r#"{"grammar": {"regex": "a+"}}"#), Some(Constraint::Regex("a+".into())));
    assert_eq!(constraint(r#"{"grammar": {"lark": "x"}}"#), Some(Constraint::Lark("x".into())));
    for wrong in [
        r#"{"response_format": {"type": "xml"}}"#,
        r#"{"response_format": {"type": "json_schema"}}"#,
        r#"{"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}"#,
        r#"{"grammar": {"yacc": "x"}}"#,
    ] {
        assert!(invalid(Request::from_json(wrong)).contains("malformed request"), "{wrong}");
    }
}

/// Where probabilities are asked for, forced tokens are computed like others: each has its own.
#[test]
fn forced_tokens_have_probabilities() {
    let (_, mut engine) = json_engine(1);
    let request = with_regex(greedy("abc", 60), "[xy]forced[xy]");
    engine.start(Request { top_logprobs: Some(1), ..request }).unwrap();
    let (mut bytes, mut telling) = (Vec::new(), Telling::default());
    let told = loop {
        let progress = pollster::block_on(engine.advance()).unwrap().progress;
        if let Progress::Token { logprob, .. } | Progress::End { logprob, .. } = &progress {
            bytes.extend(logprob.iter().flat_map(|token| token.token.bytes.clone()));
        }
        if let Some(told) = telling.push(progress) {
            break told;
        }
    };
    assert_eq!(String::from_utf8(bytes).unwrap(), told.text);
    assert_eq!(told.text.trim_start_matches(['x', 'y']).trim_end_matches(['x', 'y']), "forced");
}

/// A mask that the host applies is computed after its step has begun, and before its result is waited for.
#[test]
fn masks_of_the_host_are_computed_while_the_device_works() {
    let has_mask = |engine: &Engine<TestDevice>| engine.scheduler.answers().all(Answer::has_mask);
    // With probabilities, the host picks; without, the device, which needs the mask for its step.
    for (by_host, before_step) in [(true, false), (false, true)] {
        let begun = || {
            let (device, mut engine) = json_engine(1);
            let request = with_regex(greedy("abc", 20), "[a-z]+");
            engine.start(Request { top_logprobs: by_host.then_some(1), ..request }).unwrap();
            while !matches!(pollster::block_on(engine.advance()).unwrap().progress, Progress::Token { .. }) {}
            assert!(!has_mask(&engine), "nothing needs the mask yet");
            (device, engine)
        };
        let (device, mut engine) = begun();
        device.0.fails_to_begin.set(true);
        assert!(engine.scheduler.begin_steps(&mut engine.model).is_err());
        assert_eq!(has_mask(&engine), before_step, "when a step begins");

        let (device, mut engine) = begun();
        let n_steps = device.0.steps.borrow().len();
        engine.scheduler.begin_steps(&mut engine.model).unwrap();
        assert_eq!(device.0.steps.borrow().len(), n_steps + 1);
        assert!(has_mask(&engine), "before its result");
    }
}
