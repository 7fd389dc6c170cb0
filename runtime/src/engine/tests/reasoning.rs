//! Answers of templates that know reasoning. The weights are random: what the model "thinks" is any text.

use super::constrained::json_model;
use super::*;

fn told(template: &str, max_tokens: usize) -> Told {
    let device = TestDevice::default();
    let mut engine = engine(&device, &json_model().with("tokenizer.chat_template", template), 1);
    let messages = Some(vec![Message::new("user", "abc")]);
    engine.start(Request { messages, prompt: None, ..seeded("", max_tokens, 3) }).unwrap();
    finish(&mut engine)
}

#[test]
fn after_a_prompt_that_opened_reasoning_the_answer_is_reasoning() {
    let plain = told("{{ messages[0].content }}<think>", 12);
    let thinking = told("{{ messages[0].content }}{% if false %}</think>{% endif %}<think>", 12);
    assert_eq!(plain.ids, thinking.ids);
    assert_eq!((plain.reasoning.as_str(), thinking.text.as_str()), ("", ""));
    assert_eq!(thinking.reasoning, plain.text.trim());
    assert!(!thinking.reasoning.is_empty());
}

#[test]
fn without_reasoning_the_answer_is_content() {
    let plain = told("{{ messages[0].content }}", 12);
    let other = told("{{ messages[0].content }}{% if false %}<think></think>{% endif %}", 12);
    assert_eq!((other.text, other.reasoning), (plain.text, String::new()));
}
