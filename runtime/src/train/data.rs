//! From conversations to examples: which tokens are the model's own turns.

use super::{Example, Preference, TrainError};
use crate::text::{ChatTemplate, Message, TextError, Tokenizer, Variables};
use serde::Deserialize;

impl From<TextError> for TrainError {
    fn from(error: TextError) -> Self {
        Self::Example(error.to_string())
    }
}

/// A model's text side.
#[derive(Clone, Copy, Debug)]
pub struct Texts<'a> {
    /// Its chat template.
    pub template: &'a ChatTemplate,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
}

/// A line of a JSONL file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    /// OpenAI's format for fine-tuning.
    Messages { messages: Vec<Message> },
    /// OpenAI's format for preferences.
    Preference { input: Input, preferred_output: Vec<Message>, non_preferred_output: Vec<Message> },
    /// What TRL calls a preference.
    Pair { prompt: Prompt, chosen: Prompt, rejected: Prompt },
    /// What TRL calls a prompt and its completion.
    Completion { prompt: Prompt, completion: Prompt },
}

#[derive(Debug, Deserialize)]
struct Input {
    messages: Vec<Message>,
}

/// A text or messages.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Prompt {
    Text(String),
    Messages(Vec<Message>),
}

impl Prompt {
    fn messages(self, role: &str) -> Vec<Message> {
        match self {
            Prompt::Text(text) => vec![Message::new(role, &text)],
            Prompt::Messages(messages) => messages,
        }
    }
}

/// What a file of examples holds.
#[derive(Debug, Default)]
pub struct Data {
    /// Conversations to learn from.
    pub examples: Vec<Example>,
    /// Answers of which one is better.
    pub preferences: Vec<Preference>,
    /// Lines that cannot be used, by number from 1, and why.
    pub refused: Vec<(usize, String)>,
}

impl Texts<'_> {
    /// Reads JSONL. Lines that cannot be used are listed, and the rest is kept. Examples of more than
    /// `max_tokens` tokens cannot be used.
    pub fn read(&self, jsonl: &str, max_tokens: usize) -> Data {
        let mut data = Data::default();
        for (i, line) in jsonl.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            if let Err(error) = self.read_line(line, max_tokens, &mut data) {
                data.refused.push((i + 1, error.to_string()));
            }
        }
        data
    }

    fn read_line(&self, line: &str, max_tokens: usize, data: &mut Data) -> Result<(), TrainError> {
        let line: Line = serde_json::from_str(line).map_err(|error| {
            let known = "messages; or prompt and completion; or prompt, chosen and rejected";
            let what = if error.is_data() { format!("it has none of {known}") } else { error.to_string() };
            TrainError::Example(what)
        })?;
        let fits = |example: &Example| {
            let n = example.ids.len();
            if n <= max_tokens {
                return Ok(());
            }
            Err(TrainError::Example(format!("it has {n} tokens, but {max_tokens} are the most")))
        };
        let (before, chosen, rejected) = match line {
            Line::Messages { messages } => {
                let examples = self.examples(&messages)?;
                examples.iter().try_for_each(fits)?;
                data.examples.extend(examples);
                return Ok(());
            }
            Line::Completion { prompt, completion } => {
                let example = self.answer(&prompt.messages("user"), completion.messages("assistant"))?;
                fits(&example)?;
                data.examples.push(example);
                return Ok(());
            }
            Line::Preference { input, preferred_output, non_preferred_output } => {
                (input.messages, preferred_output, non_preferred_output)
            }
            Line::Pair { prompt, chosen, rejected } => {
                (prompt.messages("user"), chosen.messages("assistant"), rejected.messages("assistant"))
            }
        };
        let chosen = self.answer(&before, chosen)?;
        let rejected = self.answer(&before, rejected)?;
        [&chosen, &rejected].into_iter().try_for_each(fits)?;
        data.preferences.push(Preference { chosen, rejected });
        Ok(())
    }

    /// A conversation, of which all turns of the model are learnt. Where a template shows an earlier turn
    /// otherwise once others follow (as those do that leave out reasoning), that turn is an example of its
    /// own.
    pub fn examples(&self, messages: &[Message]) -> Result<Vec<Example>, TrainError> {
        let mut examples: Vec<Example> = Vec::new();
        for i in (0..messages.len()).rev().filter(|i| messages[*i].role() == "assistant") {
            let turn = self.turn(&messages[..i], &messages[i..=i])?;
            match examples.last_mut().filter(|later| later.ids.starts_with(&turn.ids)) {
                Some(later) => {
                    later.learnt.iter_mut().zip(turn.learnt).for_each(|(later, learnt)| *later |= learnt);
                }
                None => examples.push(turn),
            }
        }
        match examples.is_empty() {
            true => Err(TrainError::Example("it has no message whose role is assistant".into())),
            false => Ok(examples),
        }
    }

    /// An answer of one message after others.
    fn answer(&self, before: &[Message], answer: Vec<Message>) -> Result<Example, TrainError> {
        match answer.as_slice() {
            [one] if one.role() == "assistant" => self.turn(before, &answer),
            _ => Err(TrainError::Example("an answer is one message whose role is assistant".into())),
        }
    }

    /// A turn after others. What the model is given is the prompt for those others, as when it answers, and
    /// what follows is learnt.
    fn turn(&self, before: &[Message], turn: &[Message]) -> Result<Example, TrainError> {
        let begun = self.template.encode_chat(self.tokenizer, before, &Variables::default())?;
        let all: Vec<Message> = before.iter().chain(turn).cloned().collect();
        let whole = Variables { is_whole: true, ..Variables::default() };
        let ids = self.template.encode_chat(self.tokenizer, &all, &whole)?;
        let start = begun.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        if start == 0 || start == ids.len() {
            return Err(TrainError::Example("the chat template shows nothing of the answer".into()));
        }
        Ok(Example { learnt: (0..ids.len()).map(|i| i >= start).collect(), ids })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::gguf::Metadata;
    use crate::model::testing::TestModel;

    fn with_template(template: &str, check: impl Fn(Texts)) {
        let mut metadata: Metadata = TestModel::new().header().metadata;
        metadata.insert("tokenizer.chat_template", template);
        let tokenizer = Tokenizer::from_metadata(&mut metadata).unwrap();
        let template = ChatTemplate::from_metadata(&metadata, &tokenizer).unwrap().unwrap();
        check(Texts { template: &template, tokenizer: &tokenizer });
    }

    /// The text of what is learnt, with `|` where it begins.
    fn learnt(texts: &Texts, example: &Example) -> String {
        let mut before = false;
        let mut out = String::new();
        for (id, learnt) in example.ids.iter().zip(&example.learnt) {
            if *learnt != before {
                out.push('|');
            }
            before = *learnt;
            match *id {
                1 => out.push('<'),
                2 => out.push('>'),
                id => out.push_str(&String::from_utf8(texts.tokenizer.token_bytes(id)).unwrap()),
            }
        }
        out
    }

    const TURNS: &str = "{% for m in messages %}{{ '<s>' + m.role[:1] + m.content + '</s>' }}{% endfor %}\
        {% if add_generation_prompt %}{{ '<s>a' }}{% endif %}";
    /// Earlier answers are shown without their first letter.
    const SHORTER: &str = "{% for m in messages %}{{ '<s>' + m.role[:1] }}\
        {% if m.role == 'assistant' and not loop.last %}{{ m.content[1:] }}{% else %}{{ m.content }}\
        {% endif %}{{ '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>a' }}{% endif %}";
    const LINE: &str = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant",
        "content": "yo"}, {"role": "user", "content": "no"}, {"role": "assistant", "content": "so"}]}"#;

    fn line(text: &str) -> String {
        text.replace('\n', " ")
    }

    #[test]
    fn the_models_turns_are_learnt() {
        with_template(TURNS, |texts| {
            let data = texts.read(&line(LINE), 100);
            assert_eq!(data.refused, []);
            let [example] = data.examples.as_slice() else { unreachable!("{data:?}") };
            let text = learnt(&texts, example).replace(' ', "");
            assert_eq!(text, "<uhi><a|yo>|<uno><a|so>");
        });
    }

    #[test]
    fn turns_that_a_template_shows_otherwise_are_examples_of_their_own() {
        with_template(SHORTER, |texts| {
            let data = texts.read(&line(LINE), 100);
            let found: Vec<String> =
                data.examples.iter().map(|e| learnt(&texts, e).replace(' ', "")).collect();
            assert_eq!(found, ["<uhi><ao><uno><a|so>", "<uhi><a|yo>"]);
        });
    }

    #[test]
    fn pairs_of_answers_are_read_in_both_formats() {
        let trl = r#"{"prompt": "hi", "chosen": "yes", "rejected": "no"}"#;
        let openai = r#"{"input": {"messages": [{"role": "user", "content": "hi"}]},
            "preferred_output": [{"role": "assistant", "content": "yes"}],
            "non_preferred_output": [{"role": "assistant", "content": "no"}]}"#;
        with_template(TURNS, |texts| {
            let data = texts.read(&format!("{trl}\n\n{}\n", line(openai)), 100);
            assert_eq!((data.preferences.len(), &data.refused), (2, &vec![]));
            assert_eq!(data.preferences[0], data.preferences[1]);
            assert_eq!(learnt(&texts, &data.preferences[0].chosen).replace(' ', ""), "<uhi><a|yes>");
            assert_eq!(learnt(&texts, &data.preferences[0].rejected).replace(' ', ""), "<uhi><a|no>");
        });
    }

    #[test]
    fn lines_that_cannot_be_used_are_told_by_number() {
        let good = r#"{"prompt": "hi", "completion": "yes"}"#;
        let lines = [
            good,
            "{",
            r#"{"text": "hi"}"#,
            r#"{"messages": [{"role": "user", "content": "hi"}]}"#,
            r#"{"prompt": "hi", "completion": "a long answer of many letters"}"#,
            good,
        ];
        with_template(TURNS, |texts| {
            let data = texts.read(&lines.join("\n"), 20);
            assert_eq!(data.examples.len(), 2);
            let numbers: Vec<usize> = data.refused.iter().map(|(number, _)| *number).collect();
            assert_eq!(numbers, [2, 3, 4, 5]);
            for ((_, found), part) in
                data.refused.iter().zip(["EOF", "none of messages", "no message", "tokens"])
            {
                assert!(found.contains(part), "{found}");
            }
        });
    }

    /// A control token in an answer is text, here as when the model is asked.
    #[test]
    fn messages_cannot_forge_turns() {
        with_template(TURNS, |texts| {
            let data = texts.read(r#"{"prompt": "hi", "completion": "a</s>b"}"#, 100);
            let ends = data.examples[0].ids.iter().filter(|id| **id == 2).count();
            assert_eq!(ends, 2);
        });
    }
}
