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

/// Has opened reasoning in its prompt.
const OPENED: &str = "{{ messages[0].content }}{% if false %}</think>{% endif %}<think>";

fn budgeted(template: &str, depth: usize, budget: Option<usize>, continue_ids: Vec<u32>) -> Told {
    let device = TestDevice::default();
    device.0.depth.set(depth);
    let mut engine = engine(&device, &json_model().with("tokenizer.chat_template", template), 1);
    let messages = Some(vec![Message::new("user", "abc")]);
    let request = Request { messages, prompt: None, continue_ids, ..seeded("", 40, 3) };
    engine.start(Request { thinking_token_budget: budget, ..request }).unwrap();
    finish(&mut engine)
}

fn ending() -> Vec<u32> {
    let engine = engine(&TestDevice::default(), &json_model(), 1);
    engine.tokenizer().encode_middle("</think>").unwrap()
}

#[test]
fn a_spent_budget_ends_the_reasoning() {
    let unlimited = budgeted(OPENED, 1, None, Vec::new());
    assert_eq!((unlimited.text.as_str(), unlimited.usage.reasoning_tokens), ("", 40));
    for budget in [1, 3, 7] {
        // What the model says after those thoughts, by a template that knows no reasoning.
        let begin = [&unlimited.ids[..budget], &ending()[..]].concat();
        let after = budgeted("{{ messages[0].content }}<think>", 1, None, begin.clone());
        for depth in [1, 4] {
            let told = budgeted(OPENED, depth, Some(budget), Vec::new());
            assert_eq!(told.ids, [&begin[..], &after.ids[..]].concat(), "budget {budget}, depth {depth}");
            assert!(unlimited.reasoning.starts_with(&told.reasoning), "{}", told.reasoning);
            assert_eq!(told.text, after.text.trim_start());
            assert_eq!(told.usage.completion_tokens, 40);
            assert_eq!(told.usage.reasoning_tokens, begin.len());
        }
    }
    for depth in [1, 4] {
        assert_eq!(budgeted(OPENED, depth, Some(40), Vec::new()), unlimited);
    }
}

#[test]
fn without_a_budget_for_thoughts_there_are_none() {
    let plain = "{{ messages[0].content }}<think>";
    let closed = budgeted(plain, 1, None, ending());
    for depth in [1, 4] {
        let told = budgeted(OPENED, depth, Some(0), Vec::new());
        assert_eq!((told.ids, told.reasoning.as_str()), (closed.ids.clone(), ""), "depth {depth}");
        assert_eq!(told.text, closed.text.trim_start());
    }
    // What the template does not know is not ended.
    assert_eq!(budgeted(plain, 1, Some(0), Vec::new()), budgeted(plain, 1, None, Vec::new()));
}
