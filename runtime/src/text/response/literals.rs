//! Arguments that are nearly JSON, as calls of Python have them or objects with quotes of their own: read
//! character by character, and given out as JSON.

use super::calls::Dialect;
use serde_json::Value;

/// Arguments that are being read.
#[derive(Debug)]
pub(super) struct Literals {
    dialect: Dialect,
    /// What ends the lists and maps that are open, in JSON.
    open: Vec<char>,
    /// A text that is being read: which quotes it has.
    quotes: Option<usize>,
    is_escaped: bool,
    /// What has come of a text, or of a word, name or number.
    word: String,
    /// Whether the word was a text, and is complete.
    is_text: bool,
}

impl Literals {
    pub fn new(dialect: Dialect) -> Self {
        let word = String::new();
        Self { dialect, open: Vec::new(), quotes: None, is_escaped: false, word, is_text: false }
    }

    /// Takes a character. Returns more of the JSON, and whether that is all of it.
    pub fn push(&mut self, c: char) -> (String, bool) {
        let [begins, assigns, ends] = self.dialect.signs;
        if self.open.is_empty() {
            if c == begins {
                self.open.push('}');
                return ("{".into(), false);
            }
            return (String::new(), false);
        }
        if let Some(quotes) = self.quotes {
            self.in_text(c, quotes);
            return (String::new(), false);
        }
        let is_outer = self.open.len() == 1;
        let mut json = String::new();
        match c {
            _ if is_outer && c == ends => {
                self.end_word(false, &mut json);
                self.open.clear();
                json.push('}');
                return (json, true);
            }
            _ if c == ':' || (is_outer && c == assigns) => {
                self.end_word(true, &mut json);
                json.push_str(": ");
            }
            ',' => {
                self.end_word(false, &mut json);
                json.push_str(", ");
            }
            '[' | '(' => {
                json.push('[');
                self.open.push(']');
            }
            '{' => {
                json.push('{');
                self.open.push('}');
            }
            ']' | ')' | '}' if !is_outer => {
                self.end_word(false, &mut json);
                json.extend(self.open.pop());
            }
            _ => {
                self.word.push(c);
                let word = self.word.trim_start();
                let begun = self.dialect.quotes.iter().position(|(open, _)| open == word);
                if begun.is_some() && !self.is_text {
                    self.word.clear();
                    self.quotes = begun;
                }
            }
        }
        (json, false)
    }

    fn in_text(&mut self, c: char, quotes: usize) {
        let Some((_, close)) = self.dialect.quotes.get(quotes) else { return };
        let has_escapes = close.chars().count() == 1;
        self.word.push(c);
        if std::mem::take(&mut self.is_escaped) {
            return;
        }
        if has_escapes && c == '\\' {
            self.is_escaped = true;
        } else if let Some(text) = self.word.strip_suffix(close.as_str()) {
            self.word = if has_escapes { unescaped(text) } else { text.to_string() };
            self.quotes = None;
            self.is_text = true;
        }
    }

    /// Writes the word that has ended.
    fn end_word(&mut self, is_key: bool, json: &mut String) {
        let word = std::mem::take(&mut self.word);
        if std::mem::take(&mut self.is_text) {
            json.push_str(&Value::from(word).to_string());
            return;
        }
        let text = match word.trim() {
            "" => return,
            "True" => "true",
            "False" => "false",
            "None" => "null",
            other => other,
        };
        match serde_json::from_str::<Value>(text) {
            Ok(_) if !is_key => json.push_str(text),
            _ => json.push_str(&Value::from(text).to_string()),
        }
    }
}

/// A text of Python or JSON without its escapes. What is none stays.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    // The first half of a character beyond 16 bits.
    let mut high = None;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let Some(escape) = rest.chars().next().filter(|_| c == '\\') else {
            high = None;
            out.push(c);
            continue;
        };
        rest = &rest[escape.len_utf8()..];
        let digits = match escape {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        let code =
            rest.get(..digits).filter(|_| digits > 0).and_then(|hex| u32::from_str_radix(hex, 16).ok());
        if let Some(code) = code {
            rest = &rest[digits..];
            let code = match (high.take(), code) {
                (Some(high), 0xDC00..=0xDFFF) => 0x10000_u32 + ((high - 0xD800) << 10) + (code - 0xDC00),
                _ => code,
            };
            if (0xD800..0xDC00).contains(&code) {
                high = Some(code);
            } else {
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            continue;
        }
        high = None;
        match escape {
            'n' => out.push('\n'),
            'r' => out.push('\r'),
            't' => out.push('\t'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            '\\' | '\'' | '"' | '/' => out.push(escape),
            other => out.extend(['\\', other]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are what Python says of `dict(…)`, and what RFC 8259 says of escapes.
    #[test]
    fn arguments_become_json() {
        let object = Dialect::object(vec![("<|\"|>".into(), "<|\"|>".into())]);
        for (dialect, text, json) in [
            (Dialect::python(), "()", "{}"),
            (Dialect::python(), "(a='x', b = 7 ,c=True)", r#"{"a": "x", "b": 7, "c": true}"#),
            (Dialect::python(), r#"(a='it\'s', b="\"")"#, r#"{"a": "it's", "b": "\""}"#),
            (Dialect::python(), r"(a='\u00e9\ud83d\ude00\n\q')", r#"{"a": "é😀\n\\q"}"#),
            (
                Dialect::python(),
                "(a=[1, 'b)', None], c=(1.5, 2))",
                r#"{"a": [1, "b)", null], "c": [1.5, 2]}"#,
            ),
            (Dialect::python(), r#"(a={"b": false, 'c': []})"#, r#"{"a": {"b": false, "c": []}}"#),
            (object.clone(), "{}", "{}"),
            (
                object.clone(),
                r#"{a:<|"|>x "y", {z}<|"|>,n:2,o:{p:[]}}"#,
                r#"{"a": "x \"y\", {z}", "n": 2, "o": {"p": []}}"#,
            ),
            (object, r#"{"a": "\\", b:[None,1.0]}"#, r#"{"a": "\\", "b": [null, 1.0]}"#),
        ] {
            let mut literals = Literals::new(dialect);
            let mut out = String::new();
            let mut ends = Vec::new();
            for c in text.chars() {
                let (more, has_ended) = literals.push(c);
                out.push_str(&more);
                ends.push(has_ended);
            }
            assert_eq!(out, json, "{text}");
            assert_eq!(ends.iter().position(|end| *end), Some(ends.len() - 1), "{text}");
        }
    }
}
