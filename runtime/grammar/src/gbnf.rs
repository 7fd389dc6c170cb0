//! llama.cpp's grammar format, GBNF, as Lark.
//!
//! GBNF describes characters, without a lexer. So every character becomes a terminal of its own: then no
//! terminal is the beginning of another one, and the Lark grammar accepts the same texts.

use std::fmt::Write;

#[cfg(test)]
#[path = "gbnf_tests.rs"]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;

/// Groups within groups at most.
const MAX_DEPTH: usize = 64;
/// Repetitions of an item at most.
const MAX_REPEAT: u32 = 10_000;

/// The same grammar in llguidance's dialect of Lark. An error tells the line.
pub fn to_lark(gbnf: &str) -> Result<String, String> {
    let mut parser = Parser { text: gbnf, at: 0, lark: String::new() };
    parser.rules().map_err(|problem| {
        let line = 1 + gbnf.get(..parser.at).unwrap_or(gbnf).matches('\n').count();
        format!("line {line}: {problem}")
    })?;
    Ok(parser.lark)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    lark: String,
}

impl Parser<'_> {
    fn rules(&mut self) -> Result<(), String> {
        self.space(true);
        if self.peek().is_none() {
            return Err("there are no rules".into());
        }
        while self.peek().is_some() {
            let name = self.name()?;
            self.space(false);
            if !self.eat("::=") {
                return Err(format!("`::=` must follow the name {name}"));
            }
            self.space(true);
            self.push(&rule_name(&name));
            self.push(":");
            self.alternatives(0)?;
            self.push("\n");
            if !matches!(self.peek(), None | Some('\n' | '\r')) {
                return Err(format!("a rule cannot go on with {:?}", self.peek().unwrap_or_default()));
            }
            self.space(true);
        }
        Ok(())
    }

    /// `a b | c`, up to the end of the line or, in a group, to its end.
    fn alternatives(&mut self, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("groups are nested more than {MAX_DEPTH} deep"));
        }
        loop {
            let mut is_empty = true;
            while self.item(depth)? {
                is_empty = false;
                self.space(depth > 0);
            }
            if is_empty {
                self.push(" \"\"");
            }
            if !self.eat("|") {
                return Ok(());
            }
            self.push(" |");
            self.space(true);
        }
    }

    /// One symbol with its repetition; false if there is none.
    fn item(&mut self, depth: usize) -> Result<bool, String> {
        let start = self.lark.len();
        match self.peek() {
            Some('"') => self.literal()?,
            Some('[') => self.class()?,
            Some('.') => {
                self.eat(".");
                self.push(" /(?s:.)/");
            }
            Some('(') => {
                self.eat("(");
                self.space(true);
                self.push(" (");
                self.alternatives(depth + 1)?;
                if !self.eat(")") {
                    return Err("a group has no `)`".into());
                }
                self.push(")");
            }
            Some('<' | '!') => self.token()?,
            Some(c) if is_name(c) => {
                let name = self.name()?;
                self.push(" ");
                self.push(&rule_name(&name));
            }
            _ => return Ok(false),
        }
        self.space(depth > 0);
        let repetition = self.repetition()?;
        if !repetition.is_empty() {
            let item = self.lark.split_off(start);
            self.push(" (");
            self.push(&item);
            self.push(")");
            self.push(&repetition);
        }
        Ok(true)
    }

    /// `"text"`: a terminal for each character.
    fn literal(&mut self) -> Result<(), String> {
        self.eat("\"");
        self.push(" (");
        let mut is_empty = true;
        while !self.eat("\"") {
            let c = self.character()?;
            self.push(" ");
            self.terminal(|set| write_char(set, c));
            is_empty = false;
        }
        self.push(if is_empty { "\"\")" } else { ")" });
        Ok(())
    }

    /// `[a-z_]` or `[^"]`
    fn class(&mut self) -> Result<(), String> {
        self.eat("[");
        let mut set = String::new();
        if self.eat("^") {
            set.push('^');
        }
        let mut is_empty = true;
        while !self.eat("]") {
            let first = self.character()?;
            write_char(&mut set, first);
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            if is_range {
                self.eat("-");
                let last = self.character()?;
                if last < first {
                    return Err(format!("the range {first:?} to {last:?} is empty"));
                }
                set.push('-');
                write_char(&mut set, last);
            }
            is_empty = false;
        }
        if is_empty {
            return Err("a set of characters is empty".into());
        }
        self.push(" ");
        self.terminal(|text| text.push_str(&set));
        Ok(())
    }

    /// `<[7]>`, `<think>` or `!<[7]>`
    fn token(&mut self) -> Result<(), String> {
        let is_other = self.eat("!");
        self.eat("<");
        let Some(length) = self.rest().find('>') else { return Err("a token has no `>`".into()) };
        let name = self.rest()[..length].to_owned();
        self.at += length + 1;
        let id = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if id.is_some_and(|id| id.parse::<u32>().is_err()) {
            return Err(format!("<{name}> is no token id"));
        }
        match (is_other, id) {
            (true, Some(id)) => self.push(&format!(" <[^{id}]>")),
            (true, None) => return Err(format!("name the token <{name}> by its id after `!`, as in !<[7]>")),
            (false, _) if name.chars().all(|c| !c.is_whitespace() && c != '<') && !name.is_empty() => {
                self.push(&format!(" <{name}>"));
            }
            (false, _) => return Err(format!("<{name}> is no token")),
        }
        Ok(())
    }

    /// `*`, `+`, `?`, `{2}`, `{2,}` or `{2,5}` as Lark writes it; nothing if there is none.
    fn repetition(&mut self) -> Result<String, String> {
        for sign in ["*", "+", "?"] {
            if self.eat(sign) {
                return Ok(sign.into());
            }
        }
        if !self.eat("{") {
            return Ok(String::new());
        }
        let Some(length) = self.rest().find('}') else { return Err("a repetition has no `}`".into()) };
        let text = self.rest()[..length].to_owned();
        self.at += length + 1;
        let number = |text: &str| {
            let number = text.trim().parse::<u32>().ok().filter(|n| *n <= MAX_REPEAT);
            number.ok_or_else(|| format!("{{{text}}} is no number of repetitions up to {MAX_REPEAT}"))
        };
        Ok(match text.split_once(',') {
            None => format!("{{{}}}", number(&text)?),
            Some((least, most)) if most.trim().is_empty() => format!("{{{},}}", number(least)?),
            Some((least, most)) => {
                let least = if least.trim().is_empty() { 0 } else { number(least)? };
                let most = number(most)?;
                if most < least {
                    return Err(format!("{{{text}}}: the second number is smaller than the first"));
                }
                format!("{{{least},{most}}}")
            }
        })
    }

    /// A character of a text or a set; `\` begins an escape.
    fn character(&mut self) -> Result<char, String> {
        let c = self.take().ok_or("the grammar ends inside a text or a set of characters")?;
        if c != '\\' {
            return Ok(c);
        }
        let escape = self.take().ok_or("the grammar ends inside an escape")?;
        let digits = match escape {
            't' => return Ok('\t'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            '\\' | '"' | '[' | ']' | '-' | '^' => return Ok(escape),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(format!("the escape \\{escape} is not known")),
        };
        let code = self.rest().get(..digits).and_then(|code| u32::from_str_radix(code, 16).ok());
        let c = code
            .and_then(char::from_u32)
            .ok_or(format!("\\{escape} needs {digits} digits of a character"))?;
        self.at += digits;
        Ok(c)
    }

    fn name(&mut self) -> Result<String, String> {
        let length = self.rest().find(|c| !is_name(c)).unwrap_or(self.rest().len());
        if length == 0 {
            return Err("a rule begins with its name".into());
        }
        let name = self.rest()[..length].to_owned();
        self.at += length;
        Ok(name)
    }

    /// Skips blanks and comments, and new lines where a rule may go on after them.
    fn space(&mut self, lines: bool) {
        loop {
            let skipped = |c: char| c == ' ' || c == '\t' || (lines && (c == '\n' || c == '\r'));
            self.at += self.rest().len() - self.rest().trim_start_matches(skipped).len();
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn terminal(&mut self, set: impl FnOnce(&mut String)) {
        self.lark.push_str("/[");
        set(&mut self.lark);
        self.lark.push_str("]/");
    }

    fn push(&mut self, text: &str) {
        self.lark.push_str(text);
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn eat(&mut self, text: &str) -> bool {
        let is_there = self.rest().starts_with(text);
        self.at += if is_there { text.len() } else { 0 };
        is_there
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// A name that Lark takes for a rule's. Different names stay different.
fn rule_name(name: &str) -> String {
    if name == "root" {
        return "start".into();
    }
    let mut lark = String::from("r_");
    for c in name.chars() {
        match c {
            '_' => lark.push_str("__"),
            '-' => lark.push_str("_d"),
            c if c.is_ascii_uppercase() => {
                lark.push_str("_u");
                lark.push(c.to_ascii_lowercase());
            }
            c => lark.push(c),
        }
    }
    lark
}

/// A character in a regular expression's set.
fn write_char(set: &mut String, c: char) {
    // Writing to a string never fails.
    let _ = write!(set, "\\u{{{:x}}}", u32::from(c));
}
