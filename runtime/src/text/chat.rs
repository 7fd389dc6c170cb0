//! Conversations to prompts, by the model's own chat template, which runs within limits.

use super::{TextError, Tokenizer};
use crate::gguf::Metadata;
use fancy_regex::Regex;
use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::fmt::Write as _;
use std::io;

/// One message of a conversation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, or another role that the template knows.
    pub role: String,
    /// The message's text.
    pub content: String,
}

/// Limits on a template's instructions, nesting and output, because templates may be hostile. Two attacks
/// that minijinja 3.1 does not count remain: a list doubled by `+`, and lists nested a hundred thousand deep.
/// They end the worker.
const FUEL: u64 = 2_000_000;
const MAX_RECURSION: usize = 64;
const MAX_OUTPUT: usize = 16 << 20;
const MAX_TEMPLATE: usize = 1 << 20;
/// Published templates have at most 60 tokens in a tag.
const MAX_TAG_TOKENS: usize = 1000;
const MAX_ELIFS: usize = 500;

/// Breaks up a control token that is spelled out in a message, so that it stays text. It is a noncharacter,
/// which no text contains.
const MARK: char = '\u{fdd0}';

const CHATML: &str = "{% for message in messages %}\
    {{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// The file's template; without one, ChatML if the vocabulary has its tokens; otherwise none, as for base
    /// models.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>, TextError> {
        let source = match metadata.str("tokenizer.chat_template")? {
            Some(source) => source,
            None if tokenizer.id_of("<|im_start|>").is_some() && tokenizer.id_of("<|im_end|>").is_some() => {
                CHATML
            }
            None => return Ok(None),
        };
        if source.len() > MAX_TEMPLATE {
            let problem = format!("it has {} bytes; at most {MAX_TEMPLATE} are allowed", source.len());
            return Err(TextError::Template(problem));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let syntax = syntax.map_err(|e| failed(&e))?;
        check_chains(source, &syntax)?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        environment.add_template_owned("chat", without_generation_tags(source)?).map_err(|e| failed(&e))?;
        let spelled = |id: Option<u32>| id.and_then(|id| tokenizer.spelled(id)).unwrap_or_default();
        Ok(Some(Self { environment, bos: spelled(tokenizer.bos()), eos: spelled(tokenizer.eos()) }))
    }

    /// The prompt for a conversation, up to where the model's answer begins.
    pub fn render(&self, messages: &[Message]) -> Result<String, TextError> {
        let template = self.environment.get_template("chat").map_err(|e| failed(&e))?;
        let mut out = Bounded(Vec::new());
        let message =
            |m: &Message| Value::from_pairs([("role", m.role.clone()), ("content", m.content.clone())]);
        let messages: Vec<Value> = messages.iter().map(message).collect();
        let context = context! {
            messages => messages,
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        template.render_captured_to(context, &mut out).map_err(|e| failed(&e))?;
        String::from_utf8(out.0).map_err(|e| TextError::Template(e.to_string()))
    }

    /// The token ids of that prompt. Control tokens count only where the template writes them. In messages
    /// they are text, so that no message can forge a turn.
    pub fn encode_chat(&self, tokenizer: &Tokenizer, messages: &[Message]) -> Result<Vec<u32>, TextError> {
        let marked: Vec<Message> = messages
            .iter()
            .map(|message| Message {
                role: mark(tokenizer, &message.role),
                content: mark(tokenizer, &message.content),
            })
            .collect();
        let prompt = self.render(&marked)?;
        tokenizer.encode_marked(&prompt, |plain| plain.replace(MARK, ""))
    }
}

/// Breaks up the control tokens in a text with [`MARK`].
fn mark(tokenizer: &Tokenizer, text: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    let mut from = 0;
    for (start, end) in tokenizer.markers_in(text) {
        let first = text[start..end].chars().next().map_or(0, char::len_utf8);
        marked.push_str(&text[from..start + first]);
        marked.push(MARK);
        from = start + first;
    }
    marked.push_str(&text[from..]);
    marked
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

/// JSON as Python writes it, which templates expect: spaces after commas and colons, no HTML escapes.
fn tojson(value: Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent = options.get::<Option<usize>>("indent")?.map(|n| " ".repeat(n.min(16)));
    let mut json = Vec::new();
    let written = match &indent {
        Some(indent) => {
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut json, formatter))
        }
        None => value.serialize(&mut Serializer::with_formatter(&mut json, PythonFormatter)),
    };
    let failed = |e: String| minijinja::Error::new(ErrorKind::BadSerialization, e);
    written.map_err(|e| failed(e.to_string()))?;
    String::from_utf8(json).map_err(|e| failed(e.to_string()))
}

/// JSON on one line, with spaces after commas and colons.
struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.begin_array_value(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

/// Today's date in a strftime format, for templates such as Llama 3's.
fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    let now = web_time::SystemTime::now().duration_since(web_time::UNIX_EPOCH).unwrap_or_default();
    let now = chrono::DateTime::from_timestamp(now.as_secs() as i64, 0).unwrap_or_default();
    let mut text = String::new();
    write!(text, "{}", now.format(format)).map_err(|_| {
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
