//! Conversations to prompts, by the model's own chat template.

mod builtin;
mod environment;
mod marks;
mod message;
mod percent;
mod python;
mod reasoning;
mod tools;

#[cfg(test)]
mod reasoning_tests;
#[cfg(test)]
pub(super) mod tests;

pub use message::{Message, Variables};
#[cfg(test)]
pub(in crate::text) use tools::all_written;
pub use tools::{ToolPrompt, ToolUse};

use super::response::{Content, Format, Given};
use super::{TextError, Tokenizer};
use crate::gguf::Metadata;
use builtin::{CHATML, TEMPLATES};
use marks::StandIns;
use message::map_strings;
use minijinja::{Environment, Value};
use std::cell::Cell;
use std::sync::Arc;

/// Messages for which a template is rendered once more, one at a time.
const MAX_SINGLE: usize = 64;

/// Bytes of what a template writes of a trial, which is read in many ways.
const MAX_TRIAL: usize = 64 << 10;

/// A model's chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    /// The response template that belongs to it: one that was given, or is known.
    response: Option<Given>,
}

impl ChatTemplate {
    /// The file's template; without one, ChatML if the vocabulary has its tokens; otherwise none, as for base
    /// models.
    pub fn from_metadata(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>, TextError> {
        let source = match metadata.str("tokenizer.chat_template")?.filter(|source| !source.trim().is_empty())
        {
            Some(source) => source,
            None if tokenizer.id_of("<|im_start|>").is_some() && tokenizer.id_of("<|im_end|>").is_some() => {
                CHATML
            }
            None => return Ok(None),
        };
        let mut template = Self::new(source, tokenizer)?;
        // As `response_template` in the configuration of transformers' tokenizers. Without one that can be
        // used, the chat template shows how answers are marked.
        let own = metadata.str("tokenizer.response_template")?.and_then(|json| Given::new(json).ok());
        template.response = own.or(template.response);
        Ok(Some(template))
    }

    /// With a response template, as JSON: it says how the answers are marked.
    pub fn with_response_template(self, json: &str) -> Result<Self, TextError> {
        Ok(Self { response: Some(Given::new(json)?), ..self })
    }

    /// A built-in template, for models from before templates: `chatml`, `alpaca`, `vicuna`, `koala`,
    /// `open-assistant`, `gpt4all-j`, or `plain`, which only puts the texts together.
    pub fn named(name: &str, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let Some((_, source)) = TEMPLATES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = TEMPLATES.iter().map(|(name, _)| *name).collect();
            let problem = format!("there is no template {name:?}; there are {}", known.join(", "));
            return Err(TextError::UnknownTemplate(problem));
        };
        Self::new(source, tokenizer)
    }

    fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let spelled = |id: Option<u32>| id.and_then(|id| tokenizer.spelled(id)).unwrap_or_default();
        let environment = environment::new(source)?;
        let (bos, eos) = (spelled(tokenizer.bos()), spelled(tokenizer.eos()));
        Ok(Self { environment, bos, eos, response: Given::known_for(source) })
    }

    /// How the answers mark their reasoning, without tools. Renders the template several times.
    pub fn format(&self) -> Format {
        if let Some(given) = &self.response {
            return Format {
                reasoning: given.reasoning.clone(),
                content: given.content.clone(),
                calls: None,
            };
        }
        let content = Content::spelled_in(&self.source()).into();
        Format { reasoning: reasoning::of(self).map(Arc::new), content, calls: None }
    }

    /// How the template handles tools. Renders it several times.
    pub fn tool_use(&self) -> ToolUse {
        ToolUse::of(self)
    }

    fn source(&self) -> String {
        let template = self.environment.get_template(environment::NAME);
        template.map_or_else(|_| String::new(), |template| template.source().to_string())
    }

    /// The prompt for a conversation, up to where the model's answer begins.
    pub fn render(&self, messages: &[Message], variables: &Variables) -> Result<String, TextError> {
        let messages = Value::from(messages.iter().map(|message| message.0.clone()).collect::<Vec<_>>());
        environment::render(&self.environment, variables.context(messages, &self.bos, &self.eos))
    }

    /// What the template writes of a short conversation that shows how it works; none if it fails or writes
    /// too much.
    fn tried(&self, messages: &[Message], variables: &Variables) -> Option<String> {
        self.render(messages, variables).ok().filter(|text| text.len() <= MAX_TRIAL)
    }

    /// The token ids of that prompt. Control tokens count only where the template writes them. In messages
    /// they are text, so that no message can forge a turn.
    pub fn encode_chat(
        &self,
        tokenizer: &Tokenizer,
        messages: &[Message],
        variables: &Variables,
    ) -> Result<Vec<u32>, TextError> {
        let prompt = self.render(messages, variables)?;
        self.check_last(&prompt, messages, variables)?;
        let stand_ins = StandIns::not_in(&prompt)?;
        let spells = |value: &Value| {
            let found = Cell::new(false);
            map_strings(value, &|text| {
                found.set(found.get() || marks::spells(tokenizer, text));
                String::new()
            });
            found.get()
        };
        let replaced = |value: &Value| map_strings(value, &|text| stand_ins.replace(tokenizer, text));
        let in_messages: Vec<usize> = (0..messages.len()).filter(|i| spells(&messages[*i].0)).collect();
        let in_variables = [&variables.tools, &variables.documents].into_iter().flatten().any(spells);
        if in_messages.is_empty() && !in_variables {
            return tokenizer.encode(&prompt, true);
        }
        // With stand-ins in all these messages and, if wanted, in tools and documents.
        let marked = |which: &[usize], with_variables: bool| {
            let mut messages = messages.to_vec();
            for i in which {
                messages[*i] = Message(replaced(&messages[*i].0));
            }
            let mut variables = variables.clone();
            if with_variables {
                variables.tools = variables.tools.as_ref().map(replaced);
                variables.documents = variables.documents.as_ref().map(replaced);
            }
            // A template that raises an error then shows nothing about its parts: all of them are text.
            self.render(&messages, &variables).unwrap_or_default()
        };
        let other = marked(&in_messages, in_variables);
        let mut text = stand_ins.mark(&prompt, &other);
        if text != other && in_messages.len() <= MAX_SINGLE {
            // One message at a time, so that less of the prompt differs.
            text = stand_ins.mark(&prompt, &marked(&[], in_variables));
            for i in &in_messages {
                let other = stand_ins.mark(&prompt, &marked(&[*i], false));
                text = stand_ins.either(&text, &other);
            }
        }
        tokenizer.encode_marked(&text, |plain| stand_ins.restore(plain))
    }

    /// A template that leaves out the last message would let the model answer something else.
    fn check_last(&self, prompt: &str, messages: &[Message], variables: &Variables) -> Result<(), TextError> {
        let Some((last, before)) = messages.split_last() else { return Ok(()) };
        let Some(changed) = last.with_other_text() else { return Ok(()) };
        let changed: Vec<Message> = before.iter().cloned().chain([changed]).collect();
        match self.render(&changed, variables) {
            Ok(other) if other == prompt => {
                let role = last.role();
                Err(TextError::Template(format!("it leaves out the last message, whose role is {role:?}")))
            }
            _ => Ok(()),
        }
    }
}
