//! Conversations and answers that are longer than the context.

use super::{Device, Engine, Error, Request};
use crate::text::Message;
use serde::Deserialize;

/// What becomes of a prompt or an answer for which the context has no room.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ContextOverflow {
    /// The prompt is an error; the answer ends.
    #[default]
    Stop,
    /// The oldest turns of a conversation are left out. The answer ends when the context is full.
    Truncate,
    /// The first tokens and the last ones stay, and the answer goes on.
    Shift,
}

/// The first tokens, which stay: much attention goes to them, whatever they are (arXiv 2309.17453).
const SINKS: usize = 4;

/// Appends tokens to a sequence. Where the context has no room for one, the first tokens stay and the last
/// ones, half as many as the context holds.
pub(super) fn append_shifting(ids: &mut Vec<u32>, more: &[u32], context_length: usize) {
    for id in more {
        ids.push(*id);
        if ids.len() > context_length {
            let sinks = SINKS.min(context_length / 4);
            let rest = (context_length / 2).max(sinks + 1) - sinks;
            ids.drain(sinks..ids.len() - rest);
        }
    }
}

impl Request {
    /// Whether its answer goes on when the context is full.
    pub(super) fn shifts(&self) -> bool {
        self.context_overflow == ContextOverflow::Shift && !self.reads_prompt()
    }

    /// Whether the host reads rows of the prompt, so that all of it is computed.
    pub(super) fn reads_prompt(&self) -> bool {
        self.prompt_logprobs || self.embedding.is_some()
    }
}

impl<D: Device> Engine<D> {
    /// The prompt, shortened as the request allows, and how many messages are left out.
    pub(super) fn fitting_prompt(
        &self,
        request: &Request,
        has_tools: bool,
    ) -> Result<(Vec<u32>, usize), Error> {
        let ids = self.prompt_ids(request, has_tools)?;
        match &request.messages {
            Some(messages) if request.context_overflow == ContextOverflow::Truncate => {
                self.truncated(request, messages, ids, has_tools)
            }
            _ if request.shifts() => {
                let mut shifted = Vec::new();
                append_shifting(&mut shifted, &ids, self.info.context_length);
                Ok((shifted, 0))
            }
            _ => Ok((ids, 0)),
        }
    }

    /// The tokens to compute: a prompt, and those that the answer has already.
    pub(super) fn with_answer(&self, request: &Request, mut prompt: Vec<u32>) -> Vec<u32> {
        match request.shifts() {
            true => append_shifting(&mut prompt, &request.continue_ids, self.info.context_length),
            false => prompt.extend_from_slice(&request.continue_ids),
        }
        prompt
    }

    /// The prompt of a conversation that leaves room for an answer: all that it may get, but at most a
    /// quarter of the context. `ids` is the whole prompt.
    fn truncated(
        &self,
        request: &Request,
        messages: &[Message],
        ids: Vec<u32>,
        has_tools: bool,
    ) -> Result<(Vec<u32>, usize), Error> {
        let context_length = self.info.context_length;
        let room = context_length - request.max_tokens.unwrap_or(usize::MAX).min(context_length / 4);
        let conversation = Conversation::new(messages);
        let cuts = conversation.cuts();
        if ids.len() <= room || cuts.is_empty() {
            return Ok((ids, 0));
        }
        // Whole quarters of the room are left out: the next turns then have the same cut, and share the
        // prefix of this one.
        let quarter = (room / 4).max(1);
        let left_out = (ids.len() - room).div_ceil(quarter) * quarter;
        let prompt = |cut: usize| self.chat_ids(request, &conversation.from(cut), has_tools);
        let (mut low, mut high) = (0, cuts.len() - 1);
        while low < high {
            let middle = (low + high) / 2;
            if prompt(cuts[middle])?.len() + left_out <= ids.len() {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let cut = cuts[low];
        Ok((prompt(cut)?, messages.len() - conversation.from(cut).len()))
    }
}

/// Messages with what is needed to know where they can be cut.
struct Conversation<'a> {
    messages: &'a [Message],
    roles: Vec<String>,
    /// The last question, which always stays: one message of the user, or several in a row.
    question: std::ops::Range<usize>,
}

impl<'a> Conversation<'a> {
    fn new(messages: &'a [Message]) -> Self {
        let roles: Vec<String> = messages.iter().map(Message::role).collect();
        let end = roles.iter().rposition(|role| role == "user").map_or(0, |last| last + 1);
        let n = roles[..end].iter().rev().take_while(|role| *role == "user").count();
        Self { messages, roles, question: end - n..end }
    }

    /// Where the messages that stay can begin: at a question that follows an answer, or, behind the last
    /// question, at an answer that follows another one. So calls stay with their results.
    fn cuts(&self) -> Vec<usize> {
        let mut cuts = Vec::new();
        let mut before = "";
        for (i, role) in self.roles.iter().enumerate().filter(|(_, role)| *role != "system") {
            let is_question = role == "user" && !matches!(before, "" | "user");
            let is_round = role == "assistant" && i > self.question.end && before != "user";
            if is_question || is_round && !self.question.is_empty() {
                cuts.push(i);
            }
            before = role;
        }
        cuts
    }

    /// What stays from a cut on; besides, what the system says and the last question.
    fn from(&self, cut: usize) -> Vec<Message> {
        let stays = |i: &usize| *i >= cut || self.roles[*i] == "system" || self.question.contains(i);
        (0..self.messages.len()).filter(stays).map(|i| self.messages[i].clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_cut_before_questions_and_rounds_of_calls() {
        let cuts = |roles: &[&str]| {
            let messages: Vec<Message> = roles.iter().map(|role| Message::new(role, "x")).collect();
            let conversation = Conversation::new(&messages);
            let cuts = conversation.cuts();
            cuts.into_iter().map(|cut| (cut, conversation.from(cut).len())).collect::<Vec<_>>()
        };
        assert!(cuts(&["system", "user"]).is_empty());
        assert!(cuts(&["system", "assistant"]).is_empty());
        assert_eq!(cuts(&["user", "assistant", "user"]), [(2, 1)]);
        assert_eq!(cuts(&["system", "user", "assistant", "user"]), [(3, 2)]);
        // Questions in a row stay together.
        assert_eq!(cuts(&["user", "user", "assistant", "user", "user"]), [(3, 2)]);
        // Calls go with their results.
        let roles = ["user", "assistant", "tool", "assistant", "user", "assistant"];
        assert_eq!(cuts(&roles), [(4, 2)]);
        let roles = ["user", "assistant", "user", "assistant", "tool", "tool", "assistant", "tool"];
        assert_eq!(cuts(&roles), [(2, 6), (6, 3)]);
    }
}
