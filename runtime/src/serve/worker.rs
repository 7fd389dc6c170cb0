//! The loop that owns the engine. Handlers send it requests and get their progress.

use nomoat_runtime::engine::{Device, Engine, Error, Progress, Request, SequenceId, Started};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A request, and where its progress goes. Dropping the receiver ends the answer.
pub struct Job {
    request: Request,
    answer: Answer,
}

/// Where the progress of one choice goes.
struct Answer {
    choice: usize,
    progress: UnboundedSender<Step>,
}

/// The number of a choice, and what happened to it.
pub type Step = (usize, Result<Told, Failure>);

/// What happened to a choice.
pub enum Told {
    /// It begins, without so many messages of the conversation.
    Started {
        omitted_messages: usize,
    },
    Progress(Box<Progress>),
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The runtime's code, see [`Error::code`].
    pub code: &'static str,
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { code: error.code(), message: error.to_string() }
    }
}

/// Sends requests to the engine.
#[derive(Clone)]
pub struct Sender(UnboundedSender<Job>);

/// Counts since the start, and what is going on.
#[derive(Default)]
pub struct Metrics {
    pub requests: AtomicU64,
    pub failed: AtomicU64,
    pub running: AtomicU64,
    pub prompt_tokens: AtomicU64,
    pub cached_tokens: AtomicU64,
    pub completion_tokens: AtomicU64,
}

/// The way from handlers to the engine.
pub fn channel() -> (Sender, UnboundedReceiver<Job>) {
    let (sender, receiver) = unbounded_channel();
    (Sender(sender), receiver)
}

impl Sender {
    /// Asks for answers, one for each choice.
    pub fn ask(&self, requests: Vec<Request>) -> UnboundedReceiver<Step> {
        let (progress, receiver) = unbounded_channel();
        for (choice, request) in requests.into_iter().enumerate() {
            // If the engine is gone, the receiver ends at once.
            let _ = self.0.send(Job { request, answer: Answer { choice, progress: progress.clone() } });
        }
        receiver
    }
}

impl Answer {
    /// Whether the client still wants it.
    fn send(&self, told: Result<Told, Failure>) -> bool {
        self.progress.send((self.choice, told)).is_ok()
    }
}

struct Running {
    sequence: SequenceId,
    answer: Answer,
}

/// Answers requests until all senders are gone and everything is answered.
pub fn run<D: Device>(engine: &mut Engine<D>, mut jobs: UnboundedReceiver<Job>, metrics: &Metrics) {
    let mut running: Vec<Running> = Vec::new();
    loop {
        loop {
            let job = match jobs.try_recv() {
                Ok(job) => job,
                Err(TryRecvError::Disconnected) if running.is_empty() => return,
                Err(TryRecvError::Empty) if running.is_empty() => match jobs.blocking_recv() {
                    Some(job) => job,
                    None => return,
                },
                Err(_) => break,
            };
            // The client may have left already.
            if !job.answer.progress.is_closed() {
                running.extend(start(engine, job, metrics));
            }
        }
        metrics.running.store(running.len() as u64, Ordering::Relaxed);
        if !running.is_empty() {
            advance(engine, &mut running, metrics);
            // Before it waits for the next request.
            metrics.running.store(running.len() as u64, Ordering::Relaxed);
        }
    }
}

fn start<D: Device>(engine: &mut Engine<D>, job: Job, metrics: &Metrics) -> Option<Running> {
    let Job { request, answer } = job;
    metrics.requests.fetch_add(1, Ordering::Relaxed);
    match engine.start(request) {
        Ok(Started { sequence, omitted_messages, .. }) => {
            // If the client has left, the first progress finds out.
            answer.send(Ok(Told::Started { omitted_messages }));
            Some(Running { sequence, answer })
        }
        Err(error) => {
            metrics.failed.fetch_add(1, Ordering::Relaxed);
            answer.send(Err(Failure::from(&error)));
            None
        }
    }
}

/// Takes one event to its receiver.
fn advance<D: Device>(engine: &mut Engine<D>, running: &mut Vec<Running>, metrics: &Metrics) {
    match pollster::block_on(engine.advance()) {
        Ok(event) => {
            let Some(at) = running.iter().position(|running| running.sequence == event.sequence) else {
                return;
            };
            let is_last = event.progress.is_last();
            let [prompt, cached, completion] = match &event.progress {
                Progress::End { usage, .. } => {
                    [usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens]
                }
                Progress::Embedding { prompt_tokens, .. } => [*prompt_tokens, 0, 0],
                Progress::Prefill { .. } | Progress::Prompt { .. } | Progress::Token { .. } => [0; 3],
            };
            let is_received = running[at].answer.send(Ok(Told::Progress(Box::new(event.progress))));
            metrics.prompt_tokens.fetch_add(prompt as u64, Ordering::Relaxed);
            metrics.cached_tokens.fetch_add(cached as u64, Ordering::Relaxed);
            metrics.completion_tokens.fetch_add(completion as u64, Ordering::Relaxed);
            if !is_last && !is_received {
                engine.cancel(event.sequence);
            }
            if is_last || !is_received {
                running.swap_remove(at);
            }
        }
        Err(error) => {
            let failure = Failure::from(&error);
            running.retain(|running| {
                let is_running = engine.is_running(running.sequence);
                if !is_running {
                    metrics.failed.fetch_add(1, Ordering::Relaxed);
                    running.answer.send(Err(failure.clone()));
                }
                is_running
            });
        }
    }
}
