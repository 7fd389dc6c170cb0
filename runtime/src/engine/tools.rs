//! Tools in requests: which may be called, what the prompt says about them, and what the answer must be.

use super::{Device, Engine, Error, Request, ResponseFormat, ToolChoice};
use crate::text::Message;
use crate::text::grammar::{Constraint, Grammar, GrammarError};
use crate::text::response::{Format, Otherwise, Tools, Wanted};
use serde_json::json;

impl Request {
    /// The tools that may be called; none if the request has none or forbids calls.
    pub(super) fn callable(&self) -> Result<Option<Tools>, Error> {
        let Some(list) = &self.variables.tools else {
            return match self.tool_choice {
                ToolChoice::Auto | ToolChoice::None => Ok(None),
                _ => Err(Error::InvalidRequest("`tool_choice` needs `tools`".into())),
            };
        };
        let list = serde_json::to_value(list).map_err(|e| Error::InvalidRequest(e.to_string()))?;
        let tools = Tools::new(&list).map_err(Error::InvalidRequest)?;
        match &self.tool_choice {
            ToolChoice::None => Ok(None),
            ToolChoice::Auto => Ok(Some(tools).filter(|tools| !tools.is_empty())),
            _ if tools.is_empty() => Err(Error::InvalidRequest("`tool_choice` needs `tools`".into())),
            ToolChoice::Required => Ok(Some(tools)),
            ToolChoice::Function(name) => match tools.only(name) {
                Some(tools) => Ok(Some(tools)),
                None => Err(Error::InvalidRequest(format!("`tool_choice`: there is no tool {name:?}"))),
            },
        }
    }
}

impl<D: Device> Engine<D> {
    /// The prompt of a conversation, with what else a request gives the template.
    pub(super) fn chat_ids(
        &self,
        request: &Request,
        messages: &[Message],
        has_tools: bool,
    ) -> Result<Vec<u32>, Error> {
        let (Some(template), Some(tool_use)) = (&self.template, &self.tool_use) else {
            let message = "this is a base model without a chat template: load it with one (`template`, in \
                           the program `--template`), or give it a raw `prompt`";
            return Err(Error::InvalidRequest(message.into()));
        };
        let mut variables = request.variables.clone();
        variables.tools = variables.tools.filter(|_| has_tools);
        let messages = tool_use.prepare(messages, variables.tools.as_ref());
        Ok(template.encode_chat(&self.tokenizer, &messages, &variables)?)
    }

    /// The parts of the answer to this request.
    pub(super) fn format_of(&self, request: &Request, has_tools: bool, is_constrained: bool) -> Format {
        match &self.tool_use {
            _ if request.messages.is_none() => Format::default(),
            Some(tool_use) if has_tools => {
                Format { calls: Some(tool_use.calls.clone()), ..self.format.clone() }
            }
            // What a grammar allows is content.
            _ if is_constrained => Format::default(),
            _ => self.format.clone(),
        }
    }

    /// What the answer to a prompt must be; none: any text.
    pub(super) fn constraint(
        &self,
        request: &Request,
        tools: Option<&Tools>,
        prompt: &[u32],
    ) -> Result<Option<Constraint>, Error> {
        let own = request.constraint()?;
        let (Some(tools), Some(tool_use)) = (tools, &self.tool_use) else { return Ok(own) };
        let is_required = !matches!(request.tool_choice, ToolChoice::Auto);
        let any = json!({ "type": "object" });
        let otherwise = match (&request.response_format, &own) {
            _ if is_required => Otherwise::Nothing,
            (_, None) if tools.iter().any(|tool| tool.is_strict) => Otherwise::Text,
            (_, None) => return Ok(None),
            (ResponseFormat::JsonSchema { json_schema }, _) => Otherwise::Json(&json_schema.schema),
            (ResponseFormat::JsonObject, _) => Otherwise::Json(&any),
            _ => return Err(Error::InvalidRequest("a request has either `tools` or a `grammar`".into())),
        };
        let is_reasoning = self.format.opens_reasoning(&self.tokenizer, prompt);
        let wanted = Wanted { tools, otherwise, reasoning: self.format.reasoning.as_deref(), is_reasoning };
        let lark = wanted.lark(tool_use, &self.tokenizer);
        Ok(Some(Constraint::Lark(lark.map_err(|error| Error::InvalidRequest(error.to_string()))?)))
    }

    /// The grammar of an answer that may call tools. An error names the schema that is to blame.
    pub(super) fn grammar_of_calls(
        &mut self,
        constraint: &Constraint,
        tools: &Tools,
        request: &Request,
    ) -> Result<Grammar, Error> {
        let error = match self.grammar(constraint, &request.continue_ids) {
            Err(Error::Grammar(error @ GrammarError::Text { .. })) => error,
            other => return other,
        };
        for tool in tools.iter() {
            let alone = self.grammar(&Constraint::JsonSchema(tool.parameters.clone()), &[]);
            if let Err(Error::Grammar(error @ GrammarError::Schema { .. })) = alone {
                return Err(Error::InvalidRequest(format!("tool {:?}: {error}", tool.name)));
            }
        }
        if let ResponseFormat::JsonSchema { json_schema } = &request.response_format {
            self.grammar(&Constraint::JsonSchema(json_schema.schema.clone()), &[])?;
        }
        Err(error.into())
    }
}
