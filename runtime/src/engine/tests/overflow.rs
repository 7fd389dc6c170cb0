//! Conversations and answers that are longer than the context.

use super::*;

/// A turn of one letter, which takes `n` tokens.
fn turn(role: &str, letter: char, n: usize) -> Message {
    // The template adds two control tokens.
    Message::new(role, &String::from(letter).repeat(n - 2))
}

fn chat(messages: &[Message], overflow: ContextOverflow) -> Request {
    Request { prompt: None, messages: Some(messages.to_vec()), context_overflow: overflow, ..greedy("", 20) }
}

/// Questions and answers of ten tokens, and a question at the end.
fn long_chat(n: usize) -> Vec<Message> {
    let roles = ["user", "assistant"].iter().cycle();
    ('a'..='z').zip(roles).take(n).map(|(letter, role)| turn(role, letter, 10)).collect()
}

/// The context has 96 tokens, 20 of which are for the answer. What is over is left out in quarters of the
/// 76 others, 19 tokens each.
#[test]
fn the_oldest_turns_are_left_out() {
    let (device, mut engine) = single();
    for (n, left_out) in [(5, 0), (7, 0), (9, 2), (11, 4), (13, 6), (15, 8)] {
        let messages = long_chat(n);
        let request = chat(&messages, ContextOverflow::Truncate);
        let started = engine.start(request.clone()).unwrap();
        assert_eq!((started.omitted_messages, started.prompt_tokens), (left_out, 10 * (n - left_out)));
        let told = finish(&mut engine);
        let rest = chat(&messages[left_out..], ContextOverflow::Stop);
        assert_eq!(told, Told { usage: told.usage, ..alone(&device, rest) });
        if n > 9 {
            let error = engine.start(chat(&messages, ContextOverflow::Stop)).unwrap_err();
            assert_eq!(error.code(), "context_length_exceeded");
        }
    }
    // The answer needs less room: fewer turns are left out.
    let mut request = chat(&long_chat(9), ContextOverflow::Truncate);
    request.max_tokens = Some(6);
    assert_eq!(engine.start(request.clone()).unwrap().omitted_messages, 0);
    // It may be as long as it likes: it gets a quarter of the context.
    request.max_tokens = None;
    assert_eq!(engine.start(request).unwrap().omitted_messages, 2);
}

/// Turns are left out several at a time, so that the next question shares the prefix of the one before.
#[test]
fn the_next_turn_has_the_same_cut() {
    let (_, mut engine) = single();
    let mut messages = long_chat(8);
    messages.push(turn("user", 'w', 4));
    let before = answer(&mut engine, chat(&messages, ContextOverflow::Truncate));
    assert_eq!((before.usage.prompt_tokens, before.usage.cached_tokens), (64, 0));
    messages.push(turn("assistant", 'x', 4));
    messages.push(turn("user", 'y', 4));
    let next = answer(&mut engine, chat(&messages, ContextOverflow::Truncate));
    assert_eq!(next.usage.prompt_tokens, 72);
    assert!(next.usage.cached_tokens >= 64, "{} tokens", next.usage.cached_tokens);
}

/// What the system says stays, and so does the last question, however long it is.
#[test]
fn system_messages_and_the_last_question_stay() {
    let (device, mut engine) = single();
    let mut messages = long_chat(9);
    messages.insert(0, turn("system", 's', 10));
    messages.insert(4, turn("system", 't', 10));
    *messages.last_mut().unwrap() = turn("user", 'q', 60);
    let request = chat(&messages, ContextOverflow::Truncate);
    assert_eq!(engine.start(request).unwrap().omitted_messages, 8);
    let stay = [0, 4, 10].map(|i| messages[i].clone());
    let expected = alone(&device, chat(&stay, ContextOverflow::Stop));
    assert_eq!(finish(&mut engine).text, expected.text);

    messages.push(turn("user", 'r', 60));
    let error = engine.start(chat(&messages, ContextOverflow::Truncate)).unwrap_err();
    assert!(matches!(error, Error::ContextLength { needed: 140, limit: 96 }), "{error}");
    // A text has no turns.
    let request = Request { context_overflow: ContextOverflow::Truncate, ..greedy(&"long".repeat(30), 5) };
    assert!(matches!(engine.start(request), Err(Error::ContextLength { .. })));
}

/// An agent that works on one question: the oldest calls go with their results.
#[test]
fn calls_go_with_their_results() {
    let (device, mut engine) = single();
    let mut messages = long_chat(3);
    for letter in ['l', 'm', 'n', 'o'] {
        messages.push(turn("assistant", letter, 10));
        messages.push(turn("tool", letter, 5));
        messages.push(turn("tool", letter, 5));
    }
    let started = engine.start(chat(&messages, ContextOverflow::Truncate)).unwrap();
    // What is before the question, and whole rounds of three messages behind it.
    let rounds = started.omitted_messages.checked_sub(2).unwrap();
    assert!(rounds > 0 && rounds % 3 == 0, "{rounds} messages");
    let stay = [&messages[2..3], &messages[3 + rounds..]].concat();
    let expected = alone(&device, chat(&stay, ContextOverflow::Stop));
    assert_eq!(started.prompt_tokens, expected.usage.prompt_tokens);
    assert_eq!(finish(&mut engine).text, expected.text);
}

fn shifting(request: Request) -> Request {
    Request { context_overflow: ContextOverflow::Shift, ..request }
}

/// Without control tokens, of which one ends an answer.
fn endless(mut request: Request) -> Request {
    request.sampling.logit_bias.extend([(0, -100.0), (1, -100.0), (2, -100.0)]);
    request
}

/// What is left of the tokens when there is no room for one more: the first 4, and the last ones up to half
/// of the context.
fn shifted(mut ids: Vec<u32>) -> Vec<u32> {
    if ids.len() > CONTEXT {
        let last = ids.split_off(ids.len() - (CONTEXT / 2 - 4));
        ids.truncate(4);
        ids.extend(last);
    }
    ids
}

/// An answer of `n` tokens, each asked for by itself.
fn token_by_token<D: Device>(device: &D, prompt: &[u32], n: usize) -> Vec<u32> {
    let mut engine = engine(device, &TestModel::new(), 1);
    let (mut ids, mut answer) = (prompt.to_vec(), Vec::new());
    for _ in 0..n {
        let mut request = greedy("", 1);
        request.prompt = Some(Prompt::Ids(ids.clone()));
        request.top_logprobs = Some(0);
        engine.start(endless(request)).unwrap();
        let told = loop {
            if let Progress::End { logprob, .. } = pollster::block_on(engine.advance()).unwrap().progress {
                break logprob.unwrap().token.bytes;
            }
        };
        let tokenizer = engine.tokenizer();
        let id = (3..tokenizer.vocab_size() as u32).find(|id| tokenizer.token_bytes(*id) == told).unwrap();
        answer.push(id);
        ids.push(id);
        ids = shifted(ids);
    }
    answer
}

/// The answer goes on past the end of the context, and each token is what the model gives for the tokens
/// that are left.
fn check_shift<D: Device>(device: &D, depth: usize) {
    let request = endless(shifting(greedy("how long will this go on", 260)));
    let mut engine = engine(device, &TestModel::new(), 2);
    let told = answer(&mut engine, request.clone());
    assert_eq!(
        (told.reason, told.context_full, told.usage.completion_tokens),
        (FinishReason::Length, false, 260)
    );
    let prompt = engine.tokenizer().encode("how long will this go on", true).unwrap();
    let expected = token_by_token(device, &prompt, 259);
    assert_eq!(told.ids, expected, "{depth} steps under way");
    assert!(engine.scheduler.cache.has_all_pages());
    // An answer that was interrupted goes on as it would have.
    for n in [60, 72, 73, 74, 150, 258] {
        let resumed =
            answer(&mut engine, Request { continue_ids: expected[..n].to_vec(), ..request.clone() });
        assert_eq!(resumed.ids, expected[n..]);
    }
}

#[test]
fn an_answer_goes_on_for_ever() {
    for depth in [1, 4] {
        let device = TestDevice::default();
        device.0.depth.set(depth);
        check_shift(&device, depth);
    }
}

#[cfg(feature = "cpu")]
#[test]
fn an_answer_goes_on_on_the_cpu() {
    check_shift(&crate::cpu::Cpu::open(1).unwrap(), 1);
}

#[test]
fn two_go_on_together() {
    let device = TestDevice::default();
    device.0.depth.set(3);
    let requests = [(1, 200), (2, 130)].map(|(seed, n)| endless(shifting(seeded("on and on", n, seed))));
    let expected = requests.clone().map(|request| alone(&device, request));
    let mut engine = engine(&device, &TestModel::new(), 2);
    let ids = requests.map(|request| engine.start(request).unwrap().sequence);
    let mut telling = [Telling::default(), Telling::default()];
    let mut told = [None, None];
    while let Ok(event) = pollster::block_on(engine.advance()) {
        let which = ids.iter().position(|id| *id == event.sequence).unwrap();
        told[which] = told[which].take().or(telling[which].push(event.progress));
    }
    assert_eq!(told, expected.map(Some));
    assert!(engine.scheduler.cache.has_all_pages());
}

#[test]
fn a_prompt_that_is_too_long_is_shifted() {
    let (device, mut engine) = single();
    let ids: Vec<u32> = (0..150).map(|i| 4 + i % 50).collect();
    let mut request = shifting(greedy("", 9));
    request.prompt = Some(Prompt::Ids(ids.clone()));
    let told = answer(&mut engine, request.clone());
    // Its 97th token leaves 48; 53 more follow, the 49th of which leaves 48 again.
    let expected = [&ids[..4], &ids[146 - 44..]].concat();
    assert_eq!(told.usage.prompt_tokens, expected.len());
    request.prompt = Some(Prompt::Ids(expected));
    assert_eq!(told.text, alone(&device, request.clone()).text);
    // What scores its prompt needs all of it.
    request.prompt = Some(Prompt::Ids(ids));
    (request.top_logprobs, request.prompt_logprobs) = (Some(0), true);
    assert!(matches!(engine.start(request), Err(Error::ContextLength { .. })));
}

#[test]
fn a_constraint_holds_across_shifts() {
    let (_, mut engine) = single();
    let request =
        Request { grammar: Some(GrammarText::Regex("[a-c]{150}hello".into())), ..greedy("go", 400) };
    let told = answer(&mut engine, shifting(request));
    let (letters, end) = told.text.split_at(150);
    assert!(letters.chars().all(|c| matches!(c, 'a'..='c')) && end == "hello", "{}", told.text);
    assert_eq!(told.reason, FinishReason::Stop);
}
