//! Texts that GBNF grammars accept, and grammars that are none.

use super::*;
use crate::{Constraint, GrammarError, Grammars};

/// Whether a grammar accepts a text from beginning to end, byte by byte.
fn accepts(gbnf: &str, text: &str) -> bool {
    let grammars = Grammars::single_byte().unwrap();
    let mut grammar =
        grammars.compile(&Constraint::Gbnf(gbnf.into())).unwrap_or_else(|e| panic!("{gbnf}: {e}"));
    for byte in text.bytes() {
        if grammar.is_complete() || !grammar.allows(u32::from(byte)) {
            return false;
        }
        grammar.accept(u32::from(byte)).unwrap();
        grammar.prepare().unwrap();
    }
    grammar.is_complete() || grammar.can_end()
}

#[test]
fn texts_that_fit_and_texts_that_do_not() {
    let list = "root ::= (\"- \" item)+ # a list\nitem ::= [^\\n]+ \"\\n\"\n";
    let ambiguous = "root ::= \"if\" \"(\" | [a-z]* \";\"";
    let names = "root ::= a-b a_b A-B\na-b ::= \"1\"\na_b ::= \"2\"\nA-B ::= \"3\"";
    let sum = "root ::= expr \"=\" num \"\\n\"\nexpr ::= term ([-+*/] term)*\n\
               term ::= num | \"(\" expr \")\"\nnum ::= [0-9]+";
    let lines = "root ::= (\n  # with comments\n  \"a\" |\n  \"b\"\n) |\n  \"c\"";
    for (gbnf, yes, no) in [
        (list, &["- a\n", "- a\n- é b\n"][..], &["", "- a", "- \n", "a\n"][..]),
        // No lexer decides too early between the literal and the letters.
        (ambiguous, &["if(", "if;", "ifx;", ";"], &["if", "ix(", "IF;"]),
        (names, &["123"], &["122", "111"]),
        (sum, &["1=2\n", "(1+23)*4=7\n"], &["1+=2\n", "1=2"]),
        (lines, &["a", "b", "c"], &["", "ab"]),
        (
            "root ::= [ab]{2,3} \"c\"{2} \"d\"{1,}",
            &["abccd", "aaaccddd"],
            &["accd", "abcd", "abcc", "aaaaccd"],
        ),
        ("root ::= \"\" | \"x\" root", &["", "xxx"], &["xy"]),
        ("root ::= [ぁ-ゟ]+ [\\x41-\\u0043\\U00000044]", &["ぁんA", "あD"], &["A", "ぁE", "アA"]),
        ("root ::= [-a] [a-] [\\]^\\\\]", &["--]", "aa^", "--\\"], &["b-]", "---"]),
        ("root ::= . .", &["é\n", "ab"], &["a", "abc"]),
    ] {
        for text in yes {
            assert!(accepts(gbnf, text), "{gbnf}\nrefuses {text:?}");
        }
        for text in no {
            assert!(!accepts(gbnf, text), "{gbnf}\naccepts {text:?}");
        }
    }
}

#[test]
fn what_is_no_gbnf_is_an_error_with_its_line() {
    let deep = format!("root ::= {}", "(".repeat(100_000));
    for (gbnf, problem) in [
        ("", "line 1: there are no rules"),
        ("root ::= \"a\"\nb = \"c\"", "line 2: `::=` must follow"),
        ("root ::= \"a", "line 1: the grammar ends"),
        ("root ::= [a", "line 1: the grammar ends"),
        ("root ::= []", "line 1: a set"),
        ("root ::= [z-a]", "line 1: the range"),
        ("root ::= (\"a\"", "line 1: a group has no `)`"),
        ("root ::= \"a\" )", "line 1: a rule cannot go on with ')'"),
        ("root ::= \"\\q\"", "line 1: the escape \\q"),
        ("root ::= \"\\ud800\"", "line 1: \\u needs 4 digits"),
        ("root ::= \"a\"{3,2}", "line 1: {3,2}"),
        ("root ::= \"a\"{99999999999}", "line 1: {99999999999}"),
        ("root ::= !<think>", "line 1: name the token"),
        (deep.as_str(), "line 1: groups are nested"),
    ] {
        let error = to_lark(gbnf).unwrap_err();
        assert!(error.starts_with(problem), "{:.80}: {error}", gbnf);
    }
    let grammars = Grammars::single_byte().unwrap();
    let missing = grammars.compile(&Constraint::Gbnf("root ::= nowhere".into()));
    assert!(matches!(missing, Err(GrammarError::Text { .. })));
}
