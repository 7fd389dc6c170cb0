//! Conversations to prompts: the model's own chat template, run within limits.

use super::{TextError, Tokenizer};
use crate::gguf::Metadata;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io;

/// One message of a conversation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Message {
    /// `system`, `user` or `assistant`, or what else the template knows.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A template's instructions, nesting and output are bounded: it comes from a stranger.
const FUEL: u64 = 2_000_000;
const MAX_RECURSION: usize = 64;
const MAX_OUTPUT: usize = 16 << 20;
const MAX_TEMPLATE: usize = 1 << 20;

/// Stands within a control token that a message spells out, so that it does not count as one. Not a character: no text has it.
const MARK: char = '\u{fdd0}';

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl ChatTemplate {
    /// The file's template; ChatML where it has none but the tokens for it; none for base models.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>, TextError> {
        let source = match metadata.str("tokenizer.chat_template") {
            Some(source) => source,
            None if tokenizer.id_of("<|im_start|>").is_some() && tokenizer.id_of("<|im_end|>").is_some() => {
                CHATML
            }
            None => return Ok(None),
        };
        if source.len() > MAX_TEMPLATE {
            return Err(TextError::Template(format!("it has {} bytes", source.len())));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| failed(&e))?);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", strftime_now);
        environment.add_template_owned("chat", source.to_string()).map_err(|e| failed(&e))?;
        let spelled = |id: Option<u32>| id.and_then(|id| tokenizer.spelled(id)).unwrap_or_default();
        Ok(Some(Self { environment, bos: spelled(tokenizer.bos()), eos: spelled(tokenizer.eos()) }))
    }

    /// The prompt that the template makes of a conversation, ready for the model's answer.
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

    /// Token ids of that prompt. Control tokens that the template writes count; the same strings within a message are text, so
    /// that no message can pass for another's turn.
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

/// Breaks up the control tokens in a text.
fn mark(tokenizer: &Tokenizer, text: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    let mut from = 0;
    for (start, end) in tokenizer.control_tokens_in(text) {
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

/// Today in a format of C's strftime, as templates of Llama 3's kind ask for.
fn strftime_now(format: &str) -> Result<String, minijinja::Error> {
    let now = web_time::SystemTime::now().duration_since(web_time::UNIX_EPOCH).unwrap_or_default();
    let now = chrono::DateTime::from_timestamp(now.as_secs() as i64, 0).unwrap_or_default();
    let mut text = String::new();
    write!(text, "{}", now.format(format)).map_err(|_| {
        minijinja::Error::new(ErrorKind::InvalidOperation, format!("no date format: {format}"))
    })?;
    Ok(text)
}

/// Output that ends before it fills the memory.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other(format!("its output passes {MAX_OUTPUT} bytes")));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
