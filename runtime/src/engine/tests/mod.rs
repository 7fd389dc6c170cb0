//! The engine on the test device and a small model with random weights.

mod adapters;
mod answers;
mod cases;
mod constrained;
mod draft_model;
mod embeddings;
mod experts;
mod inspection;
mod kept;
mod kv;
mod loading;
mod logprobs;
mod overflow;
mod prefix;
mod queue;
mod reasoning;
mod speculation;
mod together;
mod tools;
#[cfg(feature = "cpu")]
mod training;
mod windows;

use super::testing::{TestDevice, engine, load};
use super::*;
use crate::graph;
use crate::model::testing::{CONTEXT, TestModel, words};
use crate::text::response::whole;

/// An engine of one sequence, and its device.
fn single() -> (TestDevice, Engine<TestDevice>) {
    let device = TestDevice::default();
    let engine = engine(&device, &TestModel::new(), 1);
    (device, engine)
}

/// A greedy request.
fn greedy(prompt: &str, max_tokens: usize) -> Request {
    let sampling = Sampling { temperature: 0.0, ..Default::default() };
    Request { prompt: Some(prompt.into()), max_tokens: Some(max_tokens), sampling, ..Default::default() }
}

/// A request whose tokens are chosen at random.
fn seeded(prompt: &str, max_tokens: usize, seed: u64) -> Request {
    let sampling = Sampling { seed: Some(seed), ..Default::default() };
    Request { sampling, ..greedy(prompt, max_tokens) }
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    text: String,
    reasoning: String,
    calls: Vec<(String, Option<serde_json::Value>)>,
    /// Tokens but the last, which only ends it.
    ids: Vec<u32>,
    reason: FinishReason,
    context_full: bool,
    usage: Usage,
}

/// What has been told of a running answer.
#[derive(Clone, Debug, Default)]
struct Telling {
    text: String,
    reasoning: String,
    calls: Vec<CallDelta>,
    ids: Vec<u32>,
}

impl Telling {
    /// Takes an event; gives the answer when it is complete.
    fn push(&mut self, progress: Progress) -> Option<Told> {
        match progress {
            Progress::Prefill { done, total } => assert!(done <= total && self.ids.is_empty()),
            Progress::Prompt { .. } => {}
            Progress::Embedding { .. } => panic!("no answer"),
            Progress::Token { id, text, reasoning, calls, .. } => {
                self.calls.extend(calls);
                self.ids.push(id);
                self.text.push_str(&text);
                self.reasoning.push_str(&reasoning);
            }
            Progress::End {
                text,
                reasoning: last,
                calls: more,
                finish_reason: reason,
                context_full,
                usage,
                ..
            } => {
                let Telling { text: told, reasoning, mut calls, ids } = self.clone();
                calls.extend(more);
                let calls = whole(&calls);
                let reasoning = reasoning + &last;
                return Some(Told { text: told + &text, reasoning, calls, ids, reason, context_full, usage });
            }
        }
        None
    }
}

/// The rest of the only running answer.
fn finish<D: Device>(engine: &mut Engine<D>) -> Told {
    let mut telling = Telling::default();
    loop {
        let event = pollster::block_on(engine.advance()).unwrap();
        if let Some(told) = telling.push(event.progress) {
            return told;
        }
    }
}

fn answer<D: Device>(engine: &mut Engine<D>, request: Request) -> Told {
    engine.start(request).unwrap();
    finish(engine)
}

/// What a request gives on a fresh engine.
fn alone<D: Device>(device: &D, request: Request) -> Told {
    answer(&mut engine(device, &TestModel::new(), 1), request)
}

/// The message of an invalid request.
fn invalid<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::InvalidRequest(message)) => message,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("no error"),
    }
}
