//! A draft model: a small one of the same vocabulary, which guesses what the model will say. Its guesses are
//! checked as those of `lookup.rs` are, so they change no text.
//!
//! It has a KV pool of its own with one sequence, because only an answer that runs alone is drafted. The cell
//! of a token is its position. Where a guess was wrong, or another conversation comes, the tokens after the
//! common beginning are computed again into the same cells; no row sees cells after its own.

use super::device::{Device, DeviceModel};
use super::lookup::{CREDIT, Cause, LONG, SHORT};
use super::pace::Pace;
use super::{Engine, Error};
use crate::graph::{Output, PAGE, Step, Token};
use std::time::Duration;
use web_time::Instant;

/// A draft ends before the token with which it is less likely than this to be right.
const LIKELY: f32 = 0.4;
/// More tokens than these are read before the model is asked for a draft; so many are part of its first step.
/// Fewer are not read at once, because they take as long.
const FEW: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct DraftModel<M> {
    model: M,
    context_length: usize,
    /// The tokens whose keys and values are in its pool, from the first position on.
    ids: Vec<u32>,
    /// Steps that have begun, and whose results were not taken.
    under_way: usize,
    pace: Pace,
    /// Seconds that it took to read a token, the last time.
    token: Option<f64>,
    /// The last draft, and its position.
    last: (usize, Vec<u32>),
    pub gains: Gains,
}

impl<M: DeviceModel> DraftModel<M> {
    pub fn new(model: M, context_length: usize) -> Self {
        let pace = Pace::new(model.capacity().tokens as usize);
        let (last, gains) = ((0, Vec::new()), Gains::default());
        Self { model, context_length, ids: Vec::new(), under_way: 0, pace, token: None, last, gains }
    }

    /// Bytes of its buffers, and of its KV pool alone: as in [`super::ModelInfo`].
    pub fn bytes(&self) -> (u64, u64) {
        (self.model.gpu_bytes(), self.model.kv_bytes())
    }

    /// Tokens that a draft after so many others may have.
    fn room_after(&self, n: usize) -> usize {
        // The last token of a draft is not computed.
        self.context_length.saturating_sub(n)
    }

    /// How many tokens of a text are the same as those that are computed.
    fn known(&self, text: &[u32]) -> usize {
        self.ids.iter().zip(text).take_while(|(a, b)| a == b).count()
    }

    /// Whether much of a text must be read before a draft.
    fn is_behind(&self, text: &[u32]) -> bool {
        text.len() - self.known(text) > FEW.min(self.model.capacity().tokens as usize)
    }

    /// Computes a piece of a text, as long as the device's pace allows and as can be read in so many seconds.
    async fn read(&mut self, text: &[u32], seconds: f64) -> Result<(), Error> {
        self.settle().await?;
        self.ids.truncate(self.known(text));
        let first = self.ids.len();
        let rows = self.token.map_or(FEW, |token| (seconds / token) as usize);
        let rows = rows.max(FEW).min(self.pace.rows());
        let piece = &text[first..text.len().min(first + rows)];
        let begun = Instant::now();
        self.begin(first, piece, false)?;
        self.ids.extend_from_slice(piece);
        self.result().await?;
        self.pace.ended(piece.len(), begun);
        self.token = Some(begun.elapsed().as_secs_f64() / piece.len() as f64);
        Ok(())
    }

    /// What it says after a text, at most `most` tokens: the likeliest ones, as long as all of them together
    /// are likely enough.
    async fn guess(&mut self, text: &[u32], most: usize) -> Result<Vec<u32>, Error> {
        self.settle().await?;
        let (at, last) = &self.last;
        let was_right = !last.is_empty() && text.get(*at..).is_some_and(|text| text.starts_with(last));
        let most = most.min(if was_right { LONG } else { SHORT });
        // The last token must be computed, for its logits.
        self.ids.truncate(self.known(&text[..text.len() - 1]));
        let rest = &text[self.ids.len()..];
        self.begin(self.ids.len(), rest, true)?;
        self.ids.extend_from_slice(rest);
        let mut draft = Vec::new();
        let (mut n_begun, mut likely) = (1, 1.0);
        while draft.len() < most {
            while n_begun < most && self.under_way < self.model.depth() {
                self.begin(text.len() + n_begun - 1, &[Token::FROM_SLOT], true)?;
                n_begun += 1;
            }
            self.result().await?;
            let Some(chosen) = self.model.chosen().first() else { break };
            likely *= (-chosen.log_sum).exp();
            if likely < LIKELY && !draft.is_empty() {
                break;
            }
            draft.push(chosen.id);
        }
        self.ids.extend(draft.iter().take(n_begun - 1));
        self.last = (text.len(), draft.clone());
        Ok(draft)
    }

    /// Begins a step of tokens from a position on; the last one may choose a token, which the slot keeps.
    fn begin(&mut self, first: usize, ids: &[u32], chooses: bool) -> Result<(), Error> {
        let tokens: Vec<Token> = (first as u32..)
            .zip(ids)
            .map(|(position, &id)| Token { id, position, sequence: 0, cell: position, ..Token::default() })
            .collect();
        let output = Output { slot: 0, ..Output::likeliest(ids.len().saturating_sub(1) as u32, 0) };
        let pages: Vec<u32> = (0..(first + ids.len()).div_ceil(PAGE as usize) as u32).collect();
        self.model.submit(&Step {
            tokens: &tokens,
            outputs: if chooses { std::slice::from_ref(&output) } else { &[] },
            choices: &[],
            pages: &pages,
            max_pages: pages.len() as u32,
        })?;
        self.under_way += 1;
        Ok(())
    }

    /// Waits for the oldest step. If the future is dropped, the step stays the oldest.
    async fn result(&mut self) -> Result<(), Error> {
        let result = self.model.result().await;
        self.under_way -= 1;
        if result.is_err() {
            self.ids.clear();
        }
        result
    }

    /// Waits for steps whose results are not needed: a draft has ended before them, or nobody waited for it.
    async fn settle(&mut self) -> Result<(), Error> {
        while self.under_way > 0 {
            self.result().await?;
        }
        Ok(())
    }
}

/// The share of the time without drafts that drafts may lose, that reading may take of it, and of the time of
/// prompts.
const LOSS: f64 = 0.02;
const READING: f64 = 0.02;
const PROMPTS: f64 = 0.05;
/// Most tokens' time that reading may take after drafts that have saved more.
const READING_CREDIT: f64 = 64.0;

/// What a draft model has gained in all answers, in seconds: what it may lose again. Reading a text is a cost
/// that pays later, if at all, so it has an account of its own.
#[derive(Debug, Default)]
pub(super) struct Gains {
    drafts: f64,
    reading: f64,
}

impl Gains {
    /// Whether a draft may be tried.
    pub fn allow_draft(&self) -> bool {
        self.drafts >= 0.0
    }

    /// Seconds that a piece of a text may take; less than 0: none is read.
    pub fn for_reading(&self) -> f64 {
        self.reading
    }

    /// Takes note of the time that a prompt took.
    pub fn earn_prompt(&mut self, time: Duration) {
        self.reading += PROMPTS * time.as_secs_f64();
    }

    /// Takes note of a result of so many tokens, and what it is a cost of. `token` is the time of a token
    /// without drafts.
    pub fn add(&mut self, time: Duration, tokens: usize, token: f64, cause: Option<Cause>) {
        let time = time.as_secs_f64();
        let saved = tokens as f64 * token - time;
        match cause {
            None => {
                self.drafts += LOSS * time;
                self.reading += READING * time;
            }
            Some(Cause::Guess) => {
                self.drafts += saved;
                self.reading += saved;
            }
            Some(Cause::Reading) => self.reading += saved,
            Some(Cause::Repeat) => {}
        }
        self.drafts = self.drafts.min(CREDIT * token);
        self.reading = self.reading.min(READING_CREDIT * token);
    }
}

impl<D: Device> Engine<D> {
    /// Adds a draft model.
    pub(super) fn set_draft(&mut self, model: D::Model, name: String, context_length: usize) {
        let draft = self.draft.insert(DraftModel::new(model, context_length));
        self.info.draft = Some(name);
        self.info.kv_bytes = self.model.kv_bytes() + draft.bytes().1;
        self.info.gpu_bytes = self.gpu_bytes();
    }

    /// Bytes of all buffers on a GPU.
    pub(super) fn gpu_bytes(&self) -> u64 {
        self.model.gpu_bytes() + self.draft.as_ref().map_or(0, |draft| draft.bytes().0)
    }

    /// Lets the draft model guess what comes next, or read what it needs for that, where it is likely to pay.
    /// False if results must come before.
    pub(super) async fn guess(&mut self) -> Result<bool, Error> {
        let (Some(draft), Some((sequence, room))) = (&mut self.draft, self.scheduler.only()) else {
            return Ok(true);
        };
        let computed = sequence.computed();
        let room = room.min(draft.room_after(computed + 1));
        let Some(answer) = &mut sequence.answer else { return Ok(true) };
        let room = answer.room_for_guess(room, &draft.gains);
        if room == 0 {
            return Ok(true);
        }
        let for_reading = answer.lookup.for_reading(&draft.gains);
        let mut text = sequence.ids(0..computed).to_vec();
        if draft.is_behind(&text) && for_reading < 0.0 {
            return Ok(true);
        }
        let Some(answer) = &mut sequence.answer else { return Ok(true) };
        let Some(last) = answer.last() else {
            // Steps under way will choose it.
            answer.lookup.strain(Cause::Guess);
            return Ok(!answer.is_ahead());
        };
        text.push(last);
        if draft.is_behind(&text) {
            answer.lookup.strain(Cause::Reading);
            draft.read(&text, for_reading).await?;
        } else {
            answer.lookup.strain(Cause::Guess);
            let guess = draft.guess(&text, room).await?;
            answer.lookup.propose(guess);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: f64 = 0.1;

    /// An answer, whose prompt the model takes so long to read, and the draft model so many pieces of a
    /// token's time. A step with a draft takes so many tokens' time and gives so many tokens. Returns the
    /// time with drafts over the time without.
    fn answer(gains: &mut Gains, prompt: f64, pieces: usize, tokens: usize, draft: (f64, usize)) -> f64 {
        gains.earn_prompt(Duration::from_secs_f64(prompt));
        let add = |gains: &mut Gains, time: f64, n, cause| {
            gains.add(Duration::from_secs_f64(time), n, TOKEN, cause);
            time
        };
        let (mut time, mut n, mut read) = (prompt, 0, 0);
        while n < tokens {
            let (spent, more, cause) = match (gains.allow_draft(), read < pieces) {
                (true, true) if gains.for_reading() >= 0.0 => (2.0 * TOKEN, 1, Some(Cause::Reading)),
                (true, false) => (draft.0 * TOKEN, draft.1, Some(Cause::Guess)),
                _ => (TOKEN, 1, None),
            };
            read += usize::from(cause == Some(Cause::Reading));
            time += add(gains, spent, more, cause);
            n += more;
        }
        time / (prompt + n as f64 * TOKEN)
    }

    #[test]
    fn a_draft_model_that_does_not_pay_loses_little() {
        for (prompt, pieces, tokens) in [(0.5, 1, 128), (1.0, 4, 128), (20.0, 20, 400), (60.0, 60, 128)] {
            for draft in [(1.2, 1), (2.0, 1), (4.0, 1), (9.0, 8)] {
                let times = answer(&mut Gains::default(), prompt, pieces, tokens, draft);
                assert!((1.0..1.05).contains(&times), "{prompt} s, {draft:?}: {times}");
            }
        }
        // Over many answers, too.
        let mut gains = Gains::default();
        let all: f64 = (0..100).map(|_| answer(&mut gains, 2.0, 4, 64, (3.0, 1))).sum();
        assert!(all < 100.0 * 1.05, "{all}");
    }

    #[test]
    fn one_that_pays_is_used_at_once() {
        let mut gains = Gains::default();
        let first = answer(&mut gains, 4.0, 4, 200, (2.0, 4));
        assert!(first < 0.8, "{first}");
        // What it saved lets it read the next, longer prompt.
        let second = answer(&mut gains, 4.0, 30, 200, (2.0, 4));
        assert!(second < 0.8, "{second}");
        assert!(second > first);
        // Of what was saved, only a little is lost again.
        let third = answer(&mut gains, 4.0, 0, 200, (3.0, 1));
        assert!(third < 1.05, "{third}");
    }
}
