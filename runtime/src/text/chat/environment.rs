//! The environment in which templates run: minijinja with what templates expect of Python's jinja2 as
//! transformers sets it up, within limits.

use super::{percent, python};
use crate::text::TextError;
use chrono::{DateTime, Local, TimeZone};
use fancy_regex::Regex;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value};
use std::fmt::{Display, Write as _};
use std::io;

/// Limits on a template's instructions, nesting and output, because templates may be hostile. Two attacks
/// that minijinja 3.1 does not count remain: a list doubled by `+`, and lists nested a hundred thousand deep.
/// They end the worker.
const FUEL: u64 = 2_000_000;
const MAX_RECURSION: usize = 128;
const MAX_OUTPUT: usize = 16 << 20;
const MAX_TEMPLATE: usize = 1 << 20;
/// Published templates have at most 60 tokens in a tag.
const MAX_TAG_TOKENS: usize = 1000;
const MAX_ELIFS: usize = 500;

/// The name of the only template in an environment.
pub const NAME: &str = "chat";

/// An environment with one template.
pub fn new(source: &str) -> Result<Environment<'static>, TextError> {
    if source.len() > MAX_TEMPLATE {
        let problem = format!("it has {} bytes; at most {MAX_TEMPLATE} are allowed", source.len());
        return Err(TextError::Template(problem));
    }
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    let syntax = syntax.map_err(|e| failed(&e))?;
    check_chains(&source, &syntax)?;
    let source = percent::as_filter(&without_generation_tags(&source)?, &syntax).map_err(|e| failed(&e))?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_RECURSION);
    python::add_to(&mut environment);
    environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: &str| strftime(&Local::now(), format));
    environment.add_template_owned(NAME, source).map_err(|e| failed(&e))?;
    Ok(environment)
}

/// A template's output.
pub fn render(environment: &Environment, context: Value) -> Result<String, TextError> {
    let template = environment.get_template(NAME).map_err(|e| failed(&e))?;
    let mut out = Bounded(Vec::new());
    template.render_captured_to(context, &mut out).map_err(|e| failed(&e))?;
    String::from_utf8(out.0).map_err(|e| TextError::Template(e.to_string()))
}

fn failed(error: &minijinja::Error) -> TextError {
    let line = error.line().map(|line| format!(" (line {line})")).unwrap_or_default();
    let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    TextError::Template(format!("{}{detail}{line}", error.kind()))
}

/// Limits chains of operators, filters and `elif`. Each link is a level of the syntax tree, and of the stack,
/// that the parser's own nesting limit does not count.
fn check_chains(source: &str, syntax: &SyntaxConfig) -> Result<(), TextError> {
    let (mut in_tag, mut elifs) = (0, 0);
    for token in tokenize(source, false, syntax.clone()) {
        match token.map_err(|e| failed(&e))?.0 {
            Token::VariableStart | Token::BlockStart => in_tag = 0,
            Token::Ident("elif") => elifs += 1,
            _ => in_tag += 1,
        }
        if in_tag > MAX_TAG_TOKENS || elifs > MAX_ELIFS {
            return Err(TextError::Template("an expression or a chain of elif is too long".into()));
        }
    }
    Ok(())
}

/// Replaces the `generation` tags, which mark the model's own turns for training.
fn without_generation_tags(source: &str) -> Result<String, TextError> {
    let failed = |e: fancy_regex::Error| TextError::Template(e.to_string());
    let opening = Regex::new(r"\{%([-+]?)\s*generation\s*([-+]?)%\}").map_err(failed)?;
    let closing = Regex::new(r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}").map_err(failed)?;
    let source = opening.try_replacen(source, 0, "{%$1 if true $2%}").map_err(failed)?;
    Ok(closing.try_replacen(&source, 0, "{%$1 endif $2%}").map_err(failed)?.into_owned())
}

/// A time in a strftime format.
pub fn strftime<Z: TimeZone<Offset: Display>>(
    time: &DateTime<Z>,
    format: &str,
) -> Result<String, minijinja::Error> {
    let mut text = String::new();
    write!(text, "{}", time.format(format)).map_err(|_| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("{format:?} is not a date format"))
    })?;
    Ok(text)
}

/// Output of at most [`MAX_OUTPUT`] bytes.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("its output is longer than {MAX_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
