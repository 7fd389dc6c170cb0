//! Conversations to prompts, by the model's own chat template.

mod environment;
mod message;
mod python;

#[cfg(test)]
mod tests;

pub use message::{Message, Variables};

use super::{TextError, Tokenizer};
use crate::gguf::Metadata;
use minijinja::{Environment, Value};

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
        let source = match metadata.str("tokenizer.chat_template").filter(|source| !source.trim().is_empty())
        {
            Some(source) => source,
            None if tokenizer.id_of("<|im_start|>").is_some() && tokenizer.id_of("<|im_end|>").is_some() => {
                CHATML
            }
            None => return Ok(None),
        };
        let spelled = |id: Option<u32>| id.and_then(|id| tokenizer.spelled(id)).unwrap_or_default();
        Ok(Some(Self {
            environment: environment::new(source)?,
            bos: spelled(tokenizer.bos()),
            eos: spelled(tokenizer.eos()),
        }))
    }

    /// The prompt for a conversation, up to where the model's answer begins.
    pub fn render(&self, messages: &[Message], variables: &Variables) -> Result<String, TextError> {
        let messages = Value::from(messages.iter().map(|message| message.0.clone()).collect::<Vec<_>>());
        environment::render(&self.environment, variables.context(messages, &self.bos, &self.eos))
    }

    /// The token ids of that prompt. Control tokens count only where the template writes them. In messages
    /// they are text, so that no message can forge a turn.
    pub fn encode_chat(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        variables: &Variables,
    ) -> Result<Vec<u32>, TextError> {
        let marked: Vec<Message> = messages
            .iter()
            .map(|m| Message(message::map_strings(&m.0, &|text| mark(tokenizer, text))))
            .collect();
        let prompt = self.render(&marked, variables)?;
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
