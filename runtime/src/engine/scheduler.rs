//! Which rows of which sequences the next step computes.
//!
//! Requests wait in line for a free sequence, and until the pool has room for the longest answer that they
//! may get. A step takes the last token of every answer that is past its prompt, and a piece of each prompt
//! that is not. Where it pays, steps begin before the results of earlier ones are known. A row then takes its
//! token from the slot of its sequence, where the device keeps the token that it chose last. Each sequence
//! has one slot.

mod score;

use super::adapters::Parts;
use super::answer::Answer;
use super::cache::{Cache, Set};
use super::device::{DeviceModel, SlotState};
use super::lookup::Cause;
use super::mix::Mix;
use super::pace::Pace;
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
    /// Requests that wait for their turn, the next first.
    pub waiting: VecDeque<Waiting>,
    pub cache: Cache,
    /// Sets of adapters whose sequences can share steps.
    pub mix: Option<Mix>,
    /// Positions of a sequence.
    context_length: usize,
    /// Positions that each row sees at most; none: all.
    window: Option<u32>,
    most_rows: usize,
    most_outputs: usize,
    pace: Pace,
    /// Steps that have begun, the oldest first.
    under_way: VecDeque<UnderWay>,
    next: NextStep,
}

/// A request that waits for its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub answer: Answer,
    /// The adapters that it uses.
    pub adapters: Parts,
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
    /// Rows of a draft, which are its last ones. Each has an output, after the first.
    pub n_draft: usize,
    /// The outputs of rows of its prompt that the host reads.
    pub read: Range<usize>,
}

/// The step that is being put together.
#[derive(Debug, Default)]
struct NextStep {
    /// What the device runs: the plan of a set that all its sequences use, or the mix. It stays for the step
    /// after.
    plan: Option<u32>,
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
    /// Without any tokens yet. `context_length` is how many a sequence may have, and `window` how many of
    /// them a row sees at most; none: all.
    pub fn new(capacity: Capacity, context_length: usize, window: Option<u32>) -> Self {
        Self {
            sequences: (0..capacity.sequences).map(|_| Sequence::default()).collect(),
            waiting: VecDeque::new(),
            cache: Cache::new(capacity.pages),
            mix: None,
            context_length,
            window,
            most_rows: capacity.tokens as usize,
            most_outputs: capacity.outputs as usize,
            pace: Pace::new(capacity.tokens as usize),
            under_way: VecDeque::new(),
            next: NextStep::default(),
        }
    }

    /// All that are running or wait.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        let running = self.sequences.iter().filter_map(|sequence| sequence.answer.as_ref());
        running.chain(self.waiting.iter().map(|waiting| &waiting.answer))
    }

    /// The pages that an answer takes at most at a time.
    fn pages_for(&self, answer: &Answer) -> usize {
        let n_tokens = answer.most_tokens().min(self.context_length);
        let all = n_tokens.div_ceil(PAGE as usize);
        match self.window {
            // What the first row of a step sees, and the others; both ends may be within a page.
            Some(window) => all.min((window as usize + self.most_rows - 1).div_ceil(PAGE as usize) + 1),
            None => all,
        }
    }

    /// Takes the next request out of the line, if it can be claimed a sequence.
    pub fn next_waiting(&mut self) -> Option<Waiting> {
        let reserved: usize = self.sequences.iter().map(|sequence| sequence.reserved).sum();
        let needed = reserved + self.pages_for(&self.waiting.front()?.answer);
        let is_free = self.sequences.iter().any(|sequence| sequence.answer.is_none());
        let has_room = needed * PAGE as usize <= self.cache.cells();
        if is_free && has_room { self.waiting.pop_front() } else { None }
    }

    /// Gives a request that [`Self::next_waiting`] gave a free sequence, and prepares its slot.
    pub fn claim(&mut self, set: Set, answer: Answer, model: &mut impl DeviceModel) {
        let reserved = self.pages_for(&answer);
        let free = self.sequences.iter().position(|sequence| sequence.answer.is_none());
        let Some(slot) = free else { return };
        let sequence = &mut self.sequences[slot];
        // A score that was dropped may have left tokens.
        sequence.end(&mut self.cache);
        (sequence.set, sequence.answer, sequence.reserved) = (set, Some(answer), reserved);
        self.set_slot(slot, model);
    }

    /// Ends all answers.
    pub fn end_answers(&mut self) {
        self.waiting.clear();
        for sequence in &mut self.sequences {
            sequence.end(&mut self.cache);
        }
    }

    /// Ends an answer, if it is running or waits.
    pub fn end_answer(&mut self, id: SequenceId) {
        self.waiting.retain(|waiting| waiting.answer.id != id);
        let is_its =
            |sequence: &&mut Sequence| sequence.answer.as_ref().is_some_and(|answer| answer.id == id);
        if let Some(sequence) = self.sequences.iter_mut().find(is_its) {
            sequence.end(&mut self.cache);
        }
    }

    /// Begins steps until as many are under way as the device wants, or until there is nothing to compute.
    pub fn begin_steps(&mut self, model: &mut impl DeviceModel) -> Result<(), Error> {
        while self.under_way.len() < model.depth() && self.put_together(model)? {
            self.submit(model)?;
        }
        // Masks that the host applies to what a step gives are computed while the device works.
        for answer in self.sequences.iter_mut().filter_map(|sequence| sequence.answer.as_mut()) {
            let _ = answer.prepare_mask();
        }
        Ok(())
    }

    /// The mix, if it is what the next step runs.
    fn mixed(&self) -> Option<&Mix> {
        self.mix.as_ref().filter(|mix| self.next.plan == Some(mix.number))
    }

    /// Whether the next step has the sequences of a set.
    fn is_next(&self, set: Set) -> bool {
        self.mixed().map_or(set == self.next.plan, |mix| mix.index(set).is_some())
    }

    /// Puts a step together; false if there is nothing to compute. The sets of adapters that the mix has
    /// share a step, the others take turns.
    fn put_together(&mut self, model: &mut impl DeviceModel) -> Result<bool, Error> {
        let mut plans = self.sets();
        if let Some(mix) = &self.mix {
            let is_in = |set: &Set| mix.index(*set).is_some();
            // One set alone has its own plan, which computes no more than it must.
            if plans.iter().filter(|set| is_in(set)).count() > 1 {
                plans.retain(|set| !is_in(set));
                plans.push(Some(mix.number));
                plans.sort_unstable();
            }
        }
        let next = plans.partition_point(|plan| *plan <= self.next.plan);
        plans.rotate_left(next);
        for plan in plans {
            self.next.clear();
            self.next.plan = plan;
            self.add_answers()?;
            self.add_prompts(model)?;
            if !self.next.tokens.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The only sequence that answers, and how many tokens a draft of it may have.
    pub fn only(&mut self) -> Option<(&mut Sequence, usize)> {
        let (room, context_length) = (self.draft_room(), self.context_length);
        let mut running = self.sequences.iter_mut().filter(|sequence| sequence.answer.is_some());
        let only = running.next().filter(|_| running.next().is_none())?;
        let room = room.min(context_length.saturating_sub(only.len() + 1));
        Some((only, room))
    }

    /// Rows that a step has for drafts: every sequence may need a row and an output, too.
    fn draft_room(&self) -> usize {
        self.most_rows.min(self.most_outputs).saturating_sub(self.sequences.len())
    }

    /// The last token of every answer that is past its prompt, and what is drafted after it.
    fn add_answers(&mut self) -> Result<(), Error> {
        let is_alone = self.only().is_some();
        let room = self.draft_room();
        for slot in 0..self.sequences.len() {
            let is_its = self.is_next(self.sequences[slot].set);
            let sequence = &mut self.sequences[slot];
            let n = sequence.len();
            let answer = sequence.answer.as_mut().filter(|_| is_its);
            let Some(answer) = answer.filter(|answer| answer.continues(n, self.context_length)) else {
                continue;
            };
            let taken = self.next.tokens.len().max(self.next.outputs.len());
            let draft = answer.draft(room.saturating_sub(taken).min(self.context_length - n - 1), is_alone);
            if draft.is_empty() {
                let id = answer.last().unwrap_or(Token::FROM_SLOT | slot as u32);
                self.add_rows(slot, &[id])?;
                self.add_choice(slot);
            } else if let Some(last) = answer.last() {
                self.add_rows(slot, &[&[last], &draft[..]].concat())?;
                self.add_drafted_choices(slot, draft.len());
            } else {
                // The draft waits for the tokens that steps under way will choose.
                answer.lookup.strain(Cause::Repeat);
            }
        }
        Ok(())
    }

    /// Pieces of prompts, as many rows as the device's pace allows. Each prompt gets a part of them; what a
    /// short one leaves is for the longer ones.
    fn add_prompts(&mut self, model: &mut impl DeviceModel) -> Result<(), Error> {
        let mut room = self.pace.rows().min(self.most_rows - self.next.tokens.len());
        let unfed = |sequence: &Sequence| sequence.answer.as_ref().map_or(0, Answer::unfed);
        let mut slots: Vec<usize> = (0..self.sequences.len())
            .filter(|slot| self.is_next(self.sequences[*slot].set))
            .filter(|slot| unfed(&self.sequences[*slot]) > 0)
            .filter(|slot| !self.awaits_prefix(*slot))
            .collect();
        slots.sort_by_key(|slot| unfed(&self.sequences[*slot]));
        for (i, &slot) in slots.iter().enumerate() {
            if room == 0 {
                break;
            }
            if self.sequences[slot].len() == 0 {
                self.begin_prompt(slot, model);
            }
            // Every other sequence may need an output, too.
            let outputs =
                self.most_outputs.saturating_sub(self.next.outputs.len() + self.sequences.len() - 1);
            let Some(answer) = &mut self.sequences[slot].answer else { continue };
            let most = if answer.reads_prompt() { outputs } else { room };
            let n = answer.unfed().min(room.div_ceil(slots.len() - i)).min(most);
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

    /// Whether an older answer is about to compute pages that a prompt begins with, so that this prompt had
    /// better wait and share them.
    fn awaits_prefix(&self, slot: usize) -> bool {
        let Sequence { answer: Some(answer), set, .. } = &self.sequences[slot] else { return false };
        let Some(prompt) = answer.prompt().filter(|_| self.sequences[slot].len() == 0) else { return false };
        if answer.reads_prompt() {
            return false;
        }
        self.sequences.iter().any(|other| {
            let older = other.answer.as_ref().filter(|older| older.id < answer.id && other.set == *set);
            let same = older.and_then(Answer::prompt).map_or(0, |older| {
                older.iter().zip(&prompt[..prompt.len() - 1]).take_while(|(a, b)| a == b).count()
            });
            other.computed() < same - same % PAGE as usize
        })
    }

    /// Begins a prompt with what the prefix cache has of it.
    fn begin_prompt(&mut self, slot: usize, model: &mut impl DeviceModel) {
        let sequence = &mut self.sequences[slot];
        let Some(answer) = &mut sequence.answer else { return };
        if answer.reads_prompt() {
            // All its rows are wanted.
            return answer.begin(0);
        }
        // The last token must be computed, for its logits.
        let Some((_, ids)) = answer.prompt().and_then(<[u32]>::split_last) else { return };
        let prefix = self.cache.find(sequence.set, ids);
        let n_full = prefix.full.len() * PAGE as usize;
        let ids = ids[..n_full + prefix.part.map_or(0, |(_, n)| n)].to_vec();
        sequence.append_computed(&ids[..n_full], prefix.full);
        sequence.give_back(self.window, &mut self.cache);
        if let Some((from, _)) = prefix.part
            && let Some(page) = self.cache.take(1)
        {
            // What follows is written to a page of its own. It may be the cached one, if that had to go.
            if page[0] != from {
                model.copy_page(from, page[0]);
            }
            sequence.append_computed(&ids[n_full..], page);
        }
        let n = sequence.computed();
        if let Some(answer) = &mut sequence.answer {
            answer.begin(n);
        }
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
        let set = self.mixed().and_then(|mix| mix.index(self.sequences[sequence].set)).unwrap_or(0);
        let next = &mut self.next;
        let row = next.shares.len() as u32;
        let known = &mut self.sequences[sequence];
        let first = known.len() as u32;
        known.give_back(self.window, &mut self.cache);
        known.extend(ids, &mut self.cache)?;
        next.tokens.extend((first..).zip(ids).map(|(position, &id)| Token {
            id,
            position,
            sequence: row,
            cell: known.cell(position),
            set,
            ..Token::default()
        }));
        let answer = known.answer.as_ref().map(|answer| answer.id);
        next.shares.push(Share { sequence, answer, end: known.len(), output: None, n_draft: 0, read: 0..0 });
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

    /// Outputs of the last row but `n_draft`, and of those of the draft.
    fn add_drafted_choices(&mut self, slot: usize, n_draft: usize) {
        let next = &mut self.next;
        let (Some(answer), Some(share)) = (&mut self.sequences[slot].answer, next.shares.last_mut()) else {
            return;
        };
        (share.output, share.n_draft) = (Some(next.outputs.len()), n_draft);
        let by_choice = answer.choose_drafted(n_draft);
        let n = next.tokens.len() as u32;
        // The host tells the device what has become of them.
        let output = |row| Output { by_choice, ..Output::likeliest(row, 0) };
        next.outputs.extend((n - 1 - n_draft as u32..n).map(output));
        next.choices.resize(next.outputs.len(), Choice::zeroed());
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
        let step = Step {
            tokens: &next.tokens,
            outputs: &next.outputs,
            choices: &next.choices,
            pages: &next.pages,
            max_pages: max_pages as u32,
        };
        let is_masked = |(output, choice): &(&Output, &Choice)| output.by_choice == 1 && choice.masked != 0;
        let mut masked = step.outputs.iter().zip(step.choices).filter(is_masked).peekable();
        let begun = Instant::now();
        model.select(next.plan);
        if masked.peek().is_some() {
            model.begin(&step)?;
        }
        for (output, _) in masked {
            let sequence = self.sequences.get_mut(output.slot as usize);
            if let Some(mask) = sequence.and_then(|sequence| sequence.answer.as_mut()?.mask()) {
                model.set_mask(output.slot, mask);
            }
        }
        model.submit(&step)?;
        let shares = next.shares.clone();
        self.under_way.push_back(UnderWay { shares, prompt_rows: next.prompt_rows, begun });
        Ok(())
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
