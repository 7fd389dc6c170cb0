//! Tests on what files say about their tokens, on small vocabularies whose results were worked out by hand.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use super::Tokenizer;
use super::tests::{pieces, words};
use crate::gguf::{Array, Metadata, Value};

#[test]
fn merges_that_say_nothing_new_are_left_out() {
    let mut metadata = words();
    // The last ones would merge to a token that is longer than any other, and a pair again at another rank.
    let merges = ["a b", "ab c", "no such", "<|im_start|> <|im_start|>", "Ġ a", "a b"];
    metadata.insert("tokenizer.ggml.merges", &merges[..]);
    let usual = Tokenizer::from_metadata(&mut words()).unwrap();
    let tokenizer = Tokenizer::from_metadata(&mut metadata).unwrap();
    for text in ["abcab a", "aab", " ab"] {
        assert_eq!(tokenizer.encode(text, false).unwrap(), usual.encode(text, false).unwrap());
    }
    // "ab" at its first rank comes before " a".
    assert_eq!(tokenizer.decode(&tokenizer.encode(" ab", false).unwrap()[1..]), "ab");
}

#[test]
fn ids_that_mean_none_or_nothing() {
    let tokenizer = |key: &str, value: Value| {
        let mut metadata = pieces();
        metadata.insert(key, value);
        Tokenizer::from_metadata(&mut metadata).unwrap()
    };
    let eos = "tokenizer.ggml.eos_token_id";
    for none in [Value::I32(-1), Value::U32(u32::MAX), Value::I64(-1), Value::U64(u64::MAX)] {
        let tokenizer = tokenizer("tokenizer.ggml.bos_token_id", none);
        assert!(tokenizer.warnings().is_empty());
        assert_eq!(tokenizer.encode("a", false).unwrap(), [tokenizer.id_of("▁a").unwrap()]);
    }
    // An id past the vocabulary: the usual one, and a warning.
    let odd = tokenizer("tokenizer.ggml.bos_token_id", 1_000_000u32.into());
    assert_eq!(odd.encode("a", false).unwrap()[0], 1);
    let [warning] = odd.warnings() else { panic!("{:?}", odd.warnings()) };
    assert!(warning.contains("bos_token_id is 1000000"), "{warning}");
    let odd = tokenizer("tokenizer.ggml.eot_token_id", 1_000_000u32.into());
    assert_eq!((odd.stop_ids(), odd.warnings().len()), (&[2][..], 1));
    // A list, of which one id is none.
    let list = tokenizer(eos, vec![2, -1, 5].into());
    assert_eq!((list.stop_ids(), list.eos()), (&[2, 5][..], Some(2)));
    assert!(list.warnings().is_empty());
    assert_eq!(tokenizer(eos, vec![5u32, u32::MAX].into()).stop_ids(), [2, 5]);
}

/// The order is that of llama.cpp's `format_prompt_infill`: prefix, suffix, middle.
#[test]
fn tokens_that_fill_in_the_middle() {
    let infill = |mut metadata: Metadata| {
        let tokenizer = Tokenizer::from_metadata(&mut metadata).unwrap();
        tokenizer.encode_infill("ab", "</s>c").unwrap().map(|ids| (ids, tokenizer))
    };
    assert!(infill(pieces()).is_none());
    // By name, where a key says nothing; a control token in the text is text.
    let mut named = pieces();
    let mut tokens = named.strings("tokenizer.ggml.tokens").unwrap().unwrap().to_vec();
    tokens.extend(["▁<MID>", "▁<PRE>", "▁<SUF>"].map(String::from));
    named.take("tokenizer.ggml.token_type").unwrap();
    named.insert("tokenizer.ggml.scores", vec![0.0f32; tokens.len()]);
    named.insert("tokenizer.ggml.tokens", tokens);
    let (ids, tokenizer) = infill(named).unwrap();
    let id = |token: &str| tokenizer.id_of(token).unwrap();
    assert_eq!(ids[..2], [1, id("▁<PRE>")]);
    let suffix = ids.iter().position(|it| *it == id("▁<SUF>")).unwrap();
    assert_eq!(ids.last(), Some(&id("▁<MID>")));
    let plain = |text: &str| tokenizer.encode(text, false).unwrap()[1..].to_vec();
    assert_eq!((&ids[2..suffix], &ids[suffix + 1..ids.len() - 1]), (&plain("ab")[..], &plain("</s>c")[..]));
    // By the keys of newer and of older files. A third is missing.
    let mut keyed = pieces();
    keyed.insert("tokenizer.ggml.fim_pre_token_id", 260u32);
    keyed.insert("tokenizer.ggml.suffix_token_id", 261u32);
    assert!(infill(keyed.clone()).is_none());
    keyed.insert("tokenizer.ggml.fim_mid_token_id", 262u32);
    let (ids, _) = infill(keyed).unwrap();
    assert_eq!((ids[1], ids.contains(&261), ids.last()), (260, true, Some(&262)));
}

#[test]
fn sentencepiece_files_without_keys_have_the_usual_tokens() {
    let mut metadata = pieces();
    for name in ["bos", "eos", "unknown"] {
        metadata.take(&format!("tokenizer.ggml.{name}_token_id")).unwrap();
    }
    let tokenizer = Tokenizer::from_metadata(&mut metadata).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.stop_ids()), (Some(1), Some(2), &[2][..]));
    assert_eq!(tokenizer.encode("a", false).unwrap(), [1, tokenizer.id_of("▁a").unwrap()]);
}

#[test]
fn hostile_vocabularies_are_errors() {
    let refused = |mut metadata: Metadata, key: &str, value: Value, words: &str| {
        metadata.insert(key, value);
        let message = Tokenizer::from_metadata(&mut metadata).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    };
    let strings = |strings: &[&str]| Value::from(strings);
    refused(pieces(), "tokenizer.ggml.model", "plamo2".into(), "plamo2");
    refused(pieces(), "tokenizer.ggml.scores", vec![1.0f32].into(), "scores");
    refused(pieces(), "tokenizer.ggml.scores", "none".into(), "scores");
    refused(pieces(), "tokenizer.ggml.token_type", vec![1, 2].into(), "token_type");
    refused(pieces(), "tokenizer.ggml.tokens", strings(&[]), "0 tokens");
    refused(pieces(), "tokenizer.ggml.tokens", 1u32.into(), "tokens");
    refused(words(), "tokenizer.ggml.pre", "of my own".into(), "of my own");
    refused(words(), "tokenizer.ggml.merges", 1u32.into(), "merges");
    refused(words(), "tokenizer.ggml.merges", strings(&["ab"]), "not a pair");
    refused(words(), "tokenizer.ggml.merges", strings(&[" "]), "not a pair");
    refused(words(), "tokenizer.ggml.merges", strings(&[""]), "not a pair");
    refused(words(), "tokenizer.ggml.eos_token_id", "</s>".into(), "eos_token_id is the string");
    refused(words(), "tokenizer.ggml.bos_token_id", 1.5f32.into(), "bos_token_id is the number 1.5");
    refused(words(), "tokenizer.ggml.add_bos_token", 2u32.into(), "add_bos_token is the number 2");
    refused(pieces(), "tokenizer.ggml.add_space_prefix", "no".into(), "add_space_prefix is the string");
    let as_unigram = || {
        let mut metadata = pieces();
        metadata.insert("tokenizer.ggml.model", "t5");
        metadata
    };
    let map = "tokenizer.ggml.precompiled_charsmap";
    refused(as_unigram(), map, "none".into(), "not an array of bytes");
    refused(as_unigram(), map, Value::Array(Array::U8(vec![9, 0, 0, 0, 1])), "cut off");
    let mut long = as_unigram();
    let mut tokens = long.strings("tokenizer.ggml.tokens").unwrap().unwrap().to_vec();
    tokens[5] = "x".repeat(2000);
    long.insert("tokenizer.ggml.tokens", tokens);
    refused(long, "x", 0u32.into(), "1024 bytes");
    let twice = |mut metadata: Metadata, words: &str| {
        let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
        let tokens: Vec<String> = tokens.iter().map(|_| "same".to_string()).collect();
        metadata.insert("tokenizer.ggml.tokens", tokens);
        refused(metadata, "x", 0u32.into(), words);
    };
    twice(words(), "are equal");
    twice(pieces(), "appears twice");
    // A vocabulary may have several empty tokens, which no text contains.
    let mut metadata = words();
    let mut tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap().to_vec();
    (tokens[0], tokens[1]) = (String::new(), String::new());
    metadata.insert("tokenizer.ggml.tokens", tokens);
    Tokenizer::from_metadata(&mut metadata).unwrap();
}

/// A vocabulary of another kind: its tokens and their types.
fn vocabulary(model: &str, tokens: &[(&str, i32)]) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("tokenizer.ggml.model", model);
    metadata.insert("tokenizer.ggml.tokens", tokens.iter().map(|(t, _)| t.to_string()).collect::<Vec<_>>());
    metadata.insert("tokenizer.ggml.token_type", tokens.iter().map(|(_, kind)| *kind).collect::<Vec<_>>());
    metadata
}

#[test]
fn wordpiece_has_its_ends_and_longest_pieces() {
    let tokens =
        [("[UNK]", 2), ("[CLS]", 3), ("[SEP]", 3), ("▁cafe", 1), ("▁un", 1), ("aff", 1), ("able", 1)];
    let tokens = [&tokens[..], &[("▁!", 1), ("s", 1), ("▁語", 1)]].concat();
    let mut metadata = vocabulary("bert", &tokens);
    for (key, id) in [("unknown", 0u32), ("bos", 1), ("seperator", 2)] {
        metadata.insert(format!("tokenizer.ggml.{key}_token_id"), id);
    }
    let tokenizer = Tokenizer::from_metadata(&mut metadata.clone()).unwrap();
    let encode = |text: &str| tokenizer.encode(text, true).unwrap();
    assert_eq!(encode("Unaffable cafés!\u{0}"), [1, 4, 5, 6, 3, 8, 7, 2]);
    // A word that cannot be spelled to its end is one unknown token; Chinese characters are words.
    assert_eq!(encode("unx 語語 [SEP]"), [1, 0, 9, 9, 2]);
    assert_eq!(tokenizer.decode(&encode("unaffable cafe")), "unaffable cafe");
    metadata.insert("tokenizer.ggml.normalizer.lowercase", false);
    let cased = Tokenizer::from_metadata(&mut metadata).unwrap();
    assert_eq!(cased.encode("un Un café", true).unwrap(), [1, 4, 0, 0, 2]);
}

#[test]
fn unigram_takes_the_best_sum() {
    let tokens =
        [("<pad>", 3), ("</s>", 3), ("<unk>", 2), ("▁", 1), ("▁a", 1), ("b", 1), ("ab", 1), ("a", 1)];
    let mut metadata = vocabulary("t5", &tokens);
    let scores = vec![0.0f32, 0.0, 0.0, -1.0, -2.0, -2.5, -3.0, -4.0];
    metadata.insert("tokenizer.ggml.scores", scores);
    metadata.insert("tokenizer.ggml.add_space_prefix", true);
    let tokenizer = Tokenizer::from_metadata(&mut metadata).unwrap();
    // "▁" + "ab" has -4, "▁a" + "b" -4.5; the end is added.
    assert_eq!(tokenizer.encode("ab", true).unwrap(), [3, 6, 1]);
    // Unknown characters in a row are one token.
    assert_eq!(tokenizer.encode("a語語b", false).unwrap(), [4, 2, 5, 1]);
    assert_eq!(tokenizer.encode("ab</s>", true).unwrap(), [3, 6, 1]);
    assert_eq!((tokenizer.stop_ids(), tokenizer.decode(&[4, 3, 6])), (&[1][..], "a ab".into()));
}

#[test]
fn rwkv_tokens_are_bytes() {
    let tokens =
        [("<s>", 3), ("\\n", 1), ("\\xe8\\xaa", 1), ("\\x9e", 1), ("a\\\\", 1), ("a", 1), ("\\'", 1)];
    let mut metadata = vocabulary("rwkv", &tokens);
    metadata.insert("tokenizer.ggml.add_bos_token", true);
    metadata.insert("tokenizer.ggml.bos_token_id", 0u32);
    let tokenizer = Tokenizer::from_metadata(&mut metadata).unwrap();
    let ids = tokenizer.encode("語a\n'a\\", false).unwrap();
    assert_eq!(ids, [2, 3, 5, 1, 6, 4]);
    assert_eq!(tokenizer.decode(&ids), "語a\n'a\\");
    assert!(tokenizer.encode("b", false).unwrap_err().to_string().contains("0x62"));
}

#[test]
fn ends_of_answers_by_name() {
    let stops = |names: &[&str]| {
        let mut metadata = words();
        let mut tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap().to_vec();
        let first = tokens.len();
        tokens.retain(|token| token != "<|im_end|>");
        tokens.extend(names.iter().map(|name| name.to_string()));
        metadata.take("tokenizer.ggml.token_type").unwrap();
        metadata.insert("tokenizer.ggml.tokens", tokens);
        let tokenizer = Tokenizer::from_metadata(&mut metadata).unwrap();
        let stops = tokenizer.stop_ids().iter().map(|id| names[*id as usize + 1 - first]).collect::<Vec<_>>();
        let shown =
            names.iter().map(|name| tokenizer.decode(&[tokenizer.id_of(name).unwrap()])).collect::<String>();
        (stops.concat(), shown)
    };
    assert_eq!(stops(&["<turn|>", "[e~[", "xy"]), ("<turn|>[e~[".into(), "xy".into()));
    assert_eq!(stops(&["<|end|>", "<|return|>"]), ("<|end|><|return|>".into(), String::new()));
    // In the Harmony format, parts of an answer end with <|end|>.
    let harmony = ["<|end|>", "<|return|>", "<|call|>", "<|channel|>"];
    assert_eq!(stops(&harmony), ("<|return|><|call|>".into(), "<|end|><|channel|>".into()));
    assert_eq!(stops(&["</s>", "<|tool_response>"]), ("<|tool_response>".into(), "</s>".into()));
}

#[test]
fn phi_3_ignores_white_space_after_its_tokens() {
    let encode = |name: &str| {
        let mut metadata = words();
        metadata.insert("general.name", name);
        let tokenizer = Tokenizer::from_metadata(&mut metadata).unwrap();
        tokenizer.decode(&tokenizer.encode("a<|im_end|> \n a<|user|>\n", true).unwrap())
    };
    assert_eq!(encode("Phi-3-mini"), "aa<|user|>");
    assert_eq!(encode("Other"), "a \n a<|user|>\n");
}
