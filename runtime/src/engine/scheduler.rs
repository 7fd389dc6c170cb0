//! Which rows of which sequences the next step computes.
//!
//! A step takes the last token of every answer that is past its prompt, and a piece of the prompts that are
//! not. Where it pays, steps begin before the results of earlier ones are known. A row then takes its token
//! from the slot of its sequence, where the device keeps the token that it chose last. Each sequence has one
//! slot.

use super::answer::Answer;
use super::device::{DeviceModel, SlotState};
use super::pace::Pace;
use super::pool::Pool;
use super::sequence::Sequence;
use super::{Error, SequenceId};
use crate::graph::{Capacity, Choice, Output, PAGE, Step, Token};
use bytemuck::Zeroable;
use std::collections::VecDeque;
use std::ops::Range;
use web_time::Instant;

/// The sequences of a model, and their steps.
#[derive(Debug)]
pub(super) struct Scheduler {
    /// The number of a sequence here is that of its slot.
    pub sequences: Vec<Sequence>,
    pub pool: Pool,
    /// Positions of a sequence.
    context_length: usize,
    most_rows: usize,
    most_outputs: usize,
    pace: Pace,
    /// Steps that have begun, the oldest first.
    under_way: VecDeque<UnderWay>,
    next: NextStep,
}

/// A step that has begun.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub shares: Vec<Share>,
    prompt_rows: usize,
    begun: Instant,
}

/// What a step computes for a sequence.
#[derive(Clone, Debug)]
pub(super) struct Share {
    /// The number of the sequence.
    pub sequence: usize,
    /// The answer for which it is computed. If the sequence has another one by then, the result is dropped.
    pub answer: Option<SequenceId>,
    /// Tokens of the sequence at the end of the step.
    pub end: usize,
    /// The output that chooses the next token of the answer.
    pub output: Option<usize>,
    /// The outputs of rows of its prompt that the host reads.
    pub read: Range<usize>,
}

/// The step that is being put together.
#[derive(Debug, Default)]
struct NextStep {
    /// The adapters that all its sequences use. It stays for the step after.
    set: Option<u32>,
    tokens: Vec<Token>,
    outputs: Vec<Output>,
    choices: Vec<Choice>,
    pages: Vec<u32>,
    shares: Vec<Share>,
    prompt_rows: usize,
}

impl NextStep {
    fn clear(&mut self) {
        self.tokens.clear();
        self.outputs.clear();
        self.choices.clear();
        self.pages.clear();
        self.shares.clear();
        self.prompt_rows = 0;
    }
}

impl Scheduler {
    /// Without any tokens yet. `context_length` is how many a sequence may have.
    pub fn new(capacity: Capacity, context_length: usize) -> Self {
        Self {
            sequences: (0..capacity.sequences).map(|_| Sequence::default()).collect(),
            pool: Pool::new(capacity.pages),
            context_length,
            most_rows: capacity.tokens as usize,
            most_outputs: capacity.outputs as usize,
            pace: Pace::new(capacity.tokens as usize),
            under_way: VecDeque::new(),
            next: NextStep::default(),
        }
    }

    /// An error if every sequence is answering.
    pub fn check_free(&self) -> Result<(), Error> {
        let is_free = self.sequences.iter().any(|sequence| sequence.answer.is_none());
        if is_free { Ok(()) } else { Err(self.all_answer()) }
    }

    fn all_answer(&self) -> Error {
        let n = self.sequences.len();
        Error::InvalidRequest(format!("all {n} sequences are answering; wait for one to end"))
    }

    /// Takes a sequence without an answer for a prompt that is computed with this set of adapters. Gives its
    /// number, and how many of the prompt's tokens it has.
    pub fn claim(&mut self, ids: &[u32], set: Option<u32>, time: u64) -> Result<(usize, usize), Error> {
        // The last token must be computed, for its logits.
        let ids = &ids[..ids.len().saturating_sub(1)];
        // Keys and values depend on the adapters.
        let prefix = |i: usize| match self.sequences[i].set == set {
            true => self.sequences[i].common_prefix(ids),
            false => 0,
        };
        let all = 0..self.sequences.len();
        let is_free = |i: &usize| self.sequences[*i].answer.is_none();
        let Some(oldest) = all.clone().filter(is_free).min_by_key(|i| self.sequences[*i].last_used) else {
            return Err(self.all_answer());
        };
        let source = all.max_by_key(|i| prefix(*i)).unwrap_or(oldest);
        // A prompt continues the sequence that begins like it, unless most of that would be lost. Otherwise
        // the one used longest ago gives way, and shares pages with it.
        let is_continued = is_free(&source) && 2 * prefix(source) >= self.sequences[source].len();
        let taken = if is_continued { source } else { oldest };
        let (own, shared) = (prefix(taken), prefix(source));
        if shared - shared % PAGE as usize > own {
            let fork = self.sequences[source].fork(shared, &mut self.pool);
            self.sequences[taken].truncate(0, &mut self.pool);
            self.sequences[taken] = fork;
        } else {
            self.sequences[taken].truncate(own, &mut self.pool);
        }
        let sequence = &mut self.sequences[taken];
        sequence.last_used = time;
        sequence.set = set;
        Ok((taken, sequence.len()))
    }

    /// Ends all answers.
    pub fn end_answers(&mut self) {
        for sequence in &mut self.sequences {
            sequence.end_answer(&mut self.pool);
        }
    }

    /// Ends an answer, if it is running.
    pub fn end_answer(&mut self, id: SequenceId) {
        let is_its =
            |sequence: &&mut Sequence| sequence.answer.as_ref().is_some_and(|answer| answer.id == id);
        if let Some(sequence) = self.sequences.iter_mut().find(is_its) {
            sequence.end_answer(&mut self.pool);
        }
    }

    /// Begins steps until as many are under way as the device wants, or until there is nothing to compute.
    pub fn begin_steps(&mut self, model: &mut impl DeviceModel) -> Result<(), Error> {
        while self.under_way.len() < model.depth() && self.put_together()? {
            self.submit(model)?;
        }
        Ok(())
    }

    /// Puts a step together; false if there is nothing to compute. A step runs one set of adapters: the sets
    /// of the running answers take turns.
    fn put_together(&mut self) -> Result<bool, Error> {
        let running = self.sequences.iter().filter(|sequence| sequence.answer.is_some());
        let mut sets: Vec<Option<u32>> = running.map(|sequence| sequence.set).collect();
        sets.sort_unstable();
        sets.dedup();
        let next = sets.partition_point(|set| *set <= self.next.set);
        sets.rotate_left(next);
        for set in sets {
            self.next.clear();
            self.next.set = set;
            self.add_answers()?;
            self.add_prompts()?;
            if !self.next.tokens.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The last token of every answer that is past its prompt.
    fn add_answers(&mut self) -> Result<(), Error> {
        for slot in 0..self.sequences.len() {
            let sequence = &self.sequences[slot];
            let answer = sequence.answer.as_ref().filter(|_| sequence.set == self.next.set);
            let n = sequence.len();
            if let Some(answer) = answer.filter(|answer| answer.continues(n, self.context_length)) {
                let id = answer.last().unwrap_or(Token::FROM_SLOT | slot as u32);
                self.add_rows(slot, &[id])?;
                self.add_choice(slot);
            }
        }
        Ok(())
    }

    /// Pieces of prompts, as many rows as the device's pace allows.
    fn add_prompts(&mut self) -> Result<(), Error> {
        let mut room = self.pace.rows().min(self.most_rows - self.next.tokens.len());
        let mut slots: Vec<usize> = (0..self.sequences.len()).collect();
        let n_others = slots.len() - 1;
        // The oldest request first.
        slots.sort_by_key(|slot| self.sequences[*slot].last_used);
        for slot in slots {
            let sequence = &mut self.sequences[slot];
            let Some(answer) = sequence.answer.as_mut().filter(|_| sequence.set == self.next.set) else {
                continue;
            };
            // Every other sequence may need one more.
            let needed = self.next.outputs.len() + n_others;
            let outputs = self.most_outputs.saturating_sub(needed);
            let n = answer.unfed().min(room).min(if answer.reads_prompt() { outputs } else { room });
            if n == 0 {
                continue;
            }
            let (is_answered, read) = (!answer.is_embedding(), answer.to_read(n));
            let ids = answer.feed(n).to_vec();
            let is_last = answer.unfed() == 0;
            room -= n;
            self.next.prompt_rows += n;
            self.add_rows(slot, &ids)?;
            self.add_reads(ids.len(), read);
            if is_last && is_answered {
                self.add_choice(slot);
            }
        }
        Ok(())
    }

    /// Outputs of some of the last `n` rows, which the host reads.
    fn add_reads(&mut self, n: usize, read: Range<usize>) {
        let next = &mut self.next;
        let (first, row) = (next.outputs.len(), next.tokens.len() - n);
        next.outputs.extend(read.map(|i| Output::by_host((row + i) as u32)));
        next.choices.resize(next.outputs.len(), Choice::zeroed());
        if let Some(share) = next.shares.last_mut() {
            share.read = first..next.outputs.len();
        }
    }

    /// Appends tokens to a sequence, and to the step the rows that compute them.
    fn add_rows(&mut self, sequence: usize, ids: &[u32]) -> Result<(), Error> {
        let next = &mut self.next;
        let row = next.shares.len() as u32;
        let known = &mut self.sequences[sequence];
        let first = known.len() as u32;
        known.extend(ids, &mut self.pool)?;
        next.tokens.extend((first..).zip(ids).map(|(position, &id)| Token {
            id,
            position,
            sequence: row,
            cell: known.cell(position),
        }));
        let answer = known.answer.as_ref().map(|answer| answer.id);
        next.shares.push(Share { sequence, answer, end: known.len(), output: None, read: 0..0 });
        Ok(())
    }

    /// An output of the last row, which chooses the next token of the sequence's answer.
    fn add_choice(&mut self, slot: usize) {
        let next = &mut self.next;
        let (Some(answer), Some(share)) = (&mut self.sequences[slot].answer, next.shares.last_mut()) else {
            return;
        };
        share.output = Some(next.outputs.len());
        let (by_choice, choice) = answer.next_choice();
        let row = next.tokens.len() as u32 - 1;
        next.outputs.push(Output { row, target: 0, slot: slot as u32, by_choice });
        next.choices.push(choice);
    }

    fn submit(&mut self, model: &mut impl DeviceModel) -> Result<(), Error> {
        let next = &mut self.next;
        // A row of the page table for each share, as long as the longest.
        let pages_of = |share: &Share| self.sequences[share.sequence].pages();
        let max_pages = next.shares.iter().map(|share| pages_of(share).len()).max().unwrap_or(0);
        for share in &next.shares {
            let pages = pages_of(share);
            next.pages.extend_from_slice(pages);
            next.pages.extend(std::iter::repeat_n(0, max_pages - pages.len()));
        }
        for (output, choice) in next.outputs.iter().zip(&next.choices) {
            let answer = self.sequences.get(output.slot as usize).and_then(|s| s.answer.as_ref());
            if let Some(mask) =
                answer.and_then(Answer::mask).filter(|_| output.by_choice == 1 && choice.masked != 0)
            {
                model.set_mask(output.slot, mask);
            }
        }
        let begun = Instant::now();
        model.select(next.set);
        model.submit(&Step {
            tokens: &next.tokens,
            outputs: &next.outputs,
            choices: &next.choices,
            pages: &next.pages,
            max_pages: max_pages as u32,
        })?;
        let shares = next.shares.clone();
        self.under_way.push_back(UnderWay { shares, prompt_rows: next.prompt_rows, begun });
        Ok(())
    }

    /// Forgets the tokens of the first sequence, on which scores are computed with this set of adapters.
    pub fn clear_first(&mut self, set: Option<u32>) {
        self.sequences[0].truncate(0, &mut self.pool);
        self.sequences[0].set = set;
    }

    /// Begins a step that appends tokens to the first sequence.
    pub fn begin_score(
        &mut self,
        model: &mut impl DeviceModel,
        ids: &[u32],
        outputs: impl Iterator<Item = Output>,
    ) -> Result<(), Error> {
        self.next.clear();
        self.next.set = self.sequences[0].set;
        self.add_rows(0, ids)?;
        self.next.outputs.extend(outputs);
        self.submit(model)
    }

    /// Records that the tokens of such a step are computed.
    pub fn end_score(&mut self, step: &UnderWay) {
        for share in &step.shares {
            self.sequences[share.sequence].set_computed(share.end, None);
        }
    }

    /// Waits for the oldest step under way; none if there is none. If the future is dropped, the step stays
    /// the oldest.
    pub async fn result(&mut self, model: &mut impl DeviceModel) -> Result<Option<UnderWay>, Error> {
        if self.under_way.is_empty() {
            return Ok(None);
        }
        let result = model.result().await;
        let step = self.under_way.pop_front();
        result?;
        if let Some(step) = step.as_ref().filter(|step| step.prompt_rows > 0) {
            self.pace.ended(step.prompt_rows, step.begun);
        }
        Ok(step)
    }

    /// Waits until no step is under way. The results are dropped.
    pub async fn drain(&mut self, model: &mut impl DeviceModel) -> Result<(), Error> {
        while self.result(model).await?.is_some() {}
        Ok(())
    }

    /// Prepares the slot of a sequence for its answer.
    pub fn set_slot(&self, slot: usize, model: &mut impl DeviceModel) {
        if let Some(answer) = self.sequences[slot].answer.as_ref().filter(|a| a.sampler.is_by_choice()) {
            let (seen, bias) = answer.sampler.adjustments();
            model.set_slot(slot as u32, SlotState { seen, bias });
        }
    }
}
