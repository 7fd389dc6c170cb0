//! Prompt lookup: where a text repeats itself, the tokens that followed before are likely to follow again.
//! They are a *draft*. A step computes the last token and its draft as rows of their own, so all that are
//! right come at once.
//!
//! Each row's token is chosen as it would be without a draft: random numbers depend only on the seed and the
//! token's number. A draft is right up to the first token that is not the chosen one. This is rejection
//! sampling for a draft that is certain of itself (arXiv 2211.17192): it accepts a token as often as it is
//! likely, and what takes the place of another follows the distribution without it.

use super::draft_model::Gains;
use std::time::Duration;
use web_time::Instant;

/// Fewest tokens that must have been there before, in this order.
const LEAST: usize = 3;
/// So many are likely enough to go on as before that a draft is tried at once.
const SURE: usize = 6;
/// More are not compared.
const MOST: usize = 16;
/// Tokens of a draft after so few, and after more. With the token before them these are the numbers of rows
/// that kernels for few rows take at once.
pub(super) const SHORT: usize = 3;
pub(super) const LONG: usize = 7;
/// The share of time that may be lost by drafts that are wrong.
const LOSS: f64 = 0.02;
/// Most tokens' time that is lost again after drafts that were right.
pub(super) const CREDIT: f64 = 4.0;
/// Results after a draft that count as its costs: the device has nothing else under way then.
const SETTLING: u32 = 2;

/// What a result is a cost of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cause {
    /// A draft of what the text repeats.
    Repeat,
    /// One of the draft model.
    Guess,
    /// The draft model has read some of the text.
    Reading,
}

/// The text that drafts come from, and whether they pay.
#[derive(Debug)]
pub(super) struct Lookup {
    /// A prediction of the answer, prompt and answer.
    ids: Vec<u32>,
    account: Account,
    /// Drafts are made: always, or where they pay.
    always: bool,
    is_off: bool,
    /// The last result; none if others have run since.
    last: Option<Instant>,
    /// Results that count as costs, and of what.
    settling: u32,
    cause: Cause,
    /// What the draft model says comes next.
    guess: Vec<u32>,
    /// How long the prompt took, from the first token until [`Gains`] know it.
    prompt_time: Option<Duration>,
    /// Tokens of drafts so far, and how many of them were right.
    pub drafted: usize,
    pub accepted: usize,
}

impl Lookup {
    /// For the answer to a prompt. `speculate`: always or never; none: where it pays.
    pub fn new(prompt: &[u32], prediction: &[u32], speculate: Option<bool>) -> Self {
        let mut ids = Vec::new();
        if !prediction.is_empty() {
            // The prediction follows the end of the prompt, as the answer does.
            ids.extend_from_slice(&prompt[prompt.len().saturating_sub(MOST)..]);
            ids.extend_from_slice(prediction);
        }
        ids.extend_from_slice(prompt);
        Self {
            ids,
            account: Account::default(),
            always: speculate == Some(true),
            is_off: speculate == Some(false),
            last: None,
            settling: 0,
            cause: Cause::Repeat,
            guess: Vec::new(),
            prompt_time: None,
            drafted: 0,
            accepted: 0,
        }
    }

    /// Appends a token to the answer.
    pub fn push(&mut self, id: u32) {
        self.ids.push(id);
        self.guess.clear();
    }

    /// Takes note of the time that the prompt took.
    pub fn prompt_took(&mut self, time: Duration) {
        self.prompt_time = Some(time);
    }

    /// Whether the draft model is asked where nothing repeats.
    pub fn asks(&self, gains: &Gains) -> bool {
        !self.is_off && (self.always || self.account.token.is_some() && gains.allow_draft())
    }

    /// Seconds that the draft model may take to read more of the text.
    pub fn for_reading(&self, gains: &Gains) -> f64 {
        if self.always { f64::INFINITY } else { gains.for_reading() }
    }

    /// Takes what the draft model says comes next.
    pub fn propose(&mut self, guess: Vec<u32>) {
        self.guess = guess;
    }

    /// What is likely to follow, at most so many tokens; empty if nothing is, or if it does not pay.
    /// `is_alone`: no other answer runs.
    pub fn draft(&mut self, most: usize, is_alone: bool) -> Vec<u32> {
        if !is_alone {
            self.last = None;
        }
        if self.is_off || !self.always && !is_alone {
            return Vec::new();
        }
        let may_repeat = self.always || self.account.allows(MOST);
        let (at, n) = if may_repeat { longest_repeat(&self.ids) } else { (0, 0) };
        if n < LEAST || !self.always && !self.account.allows(n) {
            return self.guess.iter().take(most).copied().collect();
        }
        let n_draft = if n < SURE { SHORT } else { LONG };
        // Where the text ends, what repeats goes on in circles.
        self.ids[at..].iter().cycle().take(n_draft.min(most)).copied().collect()
    }

    /// Takes note that a draft's step begins, or that the answer waits for one instead of running ahead.
    pub fn strain(&mut self, cause: Cause) {
        (self.settling, self.cause) = (SETTLING, cause);
    }

    /// The same for the step of a draft that [`Self::draft`] has given.
    pub fn strain_by_draft(&mut self) {
        let cause = if self.guess.is_empty() { Cause::Repeat } else { Cause::Guess };
        self.strain(cause);
    }

    /// Takes note of a result of so many tokens. `gains` are those of the draft model.
    pub fn told(&mut self, tokens: usize, gains: Option<&mut Gains>) {
        let now = Instant::now();
        let cause = (self.settling > 0).then_some(self.cause);
        self.settling = self.settling.saturating_sub(1);
        let Some(last) = self.last.replace(now) else { return };
        let time = now.duration_since(last);
        if !matches!(cause, Some(Cause::Guess | Cause::Reading)) {
            self.account.add(time, tokens, cause.is_some());
        }
        // An answer without drafts earns nothing for others.
        if let Some(gains) = gains.filter(|_| !self.is_off) {
            gains.earn_prompt(self.prompt_time.take().unwrap_or_default());
            let token = *self.account.token.get_or_insert(time.as_secs_f64());
            gains.add(time, tokens, token, cause);
        }
    }
}

/// Where a text goes on that ends with the same tokens as all of it, and how many those are: the most, and
/// those that came last.
fn longest_repeat(ids: &[u32]) -> (usize, usize) {
    let Some(&last) = ids.last() else { return (0, 0) };
    let mut best = (0, 0);
    for at in (1..ids.len()).rev().filter(|at| ids[at - 1] == last) {
        let pairs = ids[..at].iter().rev().zip(ids.iter().rev());
        let n = pairs.take(MOST).take_while(|(a, b)| a == b).count();
        if n > best.1 {
            best = (at, n);
        }
        if n == MOST {
            break;
        }
    }
    best
}

/// What drafts have gained, in time.
#[derive(Debug, Default)]
struct Account {
    /// Seconds of a token without a draft, of late.
    token: Option<f64>,
    /// Seconds that drafts have saved, and may lose again.
    saved: f64,
}

impl Account {
    /// Whether a draft may be tried after so many tokens that were there before.
    fn allows(&self, n: usize) -> bool {
        let Some(token) = self.token else { return false };
        // What is not sure must have been earned.
        self.saved >= if n < SURE { token } else { 0.0 }
    }

    fn add(&mut self, time: Duration, tokens: usize, by_draft: bool) {
        let time = time.as_secs_f64();
        let token = *self.token.get_or_insert(time);
        if by_draft {
            self.saved += tokens as f64 * token - time;
        } else {
            self.token = Some(0.8 * token + 0.2 * time);
            self.saved += LOSS * time;
        }
        self.saved = self.saved.min(CREDIT * token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(prompt: &[u32], prediction: &[u32]) -> Lookup {
        Lookup::new(prompt, prediction, Some(true))
    }

    #[test]
    fn what_came_before_comes_again() {
        let text: Vec<u32> = (10..30).collect();
        let mut it = lookup(&text, &[]);
        assert!(it.draft(9, true).is_empty());
        for id in [10, 11, 12, 13, 14, 15] {
            it.push(id);
            let expected: &[u32] = match id {
                10 | 11 => &[],
                12 => &[13, 14, 15],
                13 => &[14, 15, 16],
                14 => &[15, 16, 17],
                _ => &[16, 17, 18, 19, 20, 21, 22],
            };
            assert_eq!(it.draft(9, true), expected);
        }
        assert_eq!(it.draft(2, true), [16, 17]);
        assert!(it.draft(0, true).is_empty());
        it.push(99);
        assert!(it.draft(9, true).is_empty());
    }

    #[test]
    fn the_longest_repeat_counts_and_of_equals_the_last() {
        let it = &mut lookup(&[1, 2, 3, 4, 50, 9, 2, 3, 4, 60, 8, 2, 3, 4, 70, 1, 2, 3, 4], &[]);
        assert_eq!(it.draft(1, true), [50]);
        let it = &mut lookup(&[9, 2, 3, 4, 60, 8, 2, 3, 4, 70, 1, 2, 3, 4], &[]);
        assert_eq!(it.draft(1, true), [70]);
        // What is repeated may overlap with what repeats it.
        let it = &mut lookup(&[5, 5, 5, 5], &[]);
        assert_eq!(it.draft(3, true), [5, 5, 5]);
        let it = &mut lookup(&[7, 8, 7, 8, 7, 8, 7, 8], &[]);
        assert_eq!(it.draft(5, true), [7, 8, 7, 8, 7]);
    }

    #[test]
    fn a_prediction_follows_the_prompt() {
        let it = &mut lookup(&[1, 2, 3, 4, 5, 6], &[40, 41, 42]);
        assert_eq!(it.draft(3, true), [40, 41, 42]);
        it.push(7);
        it.push(40);
        it.push(41);
        assert!(it.draft(3, true).is_empty());
        it.push(42);
        // The prompt comes after the prediction, but does not belong to it.
        assert_eq!(it.draft(1, true), [1]);
    }

    const TOKEN: Duration = Duration::from_millis(100);

    /// Tokens one by one until a draft after `n` tokens may be tried.
    fn tokens_until(account: &mut Account, n: usize) -> usize {
        let mut tokens = 0;
        while !account.allows(n) {
            account.add(TOKEN, 1, false);
            tokens += 1;
            assert!(tokens < 10_000);
        }
        tokens
    }

    #[test]
    fn drafts_that_are_wrong_lose_little_time() {
        let mut account = Account::default();
        // What a token takes must be known first.
        assert_eq!(tokens_until(&mut account, SURE), 1);
        assert!(!account.allows(LEAST));
        // A step that takes as long as six tokens and gives one: the loss is two hundredths of the time.
        account.add(6 * TOKEN, 1, true);
        let tokens = tokens_until(&mut account, SURE);
        assert!((245..=255).contains(&tokens), "{tokens}");
    }

    #[test]
    fn drafts_that_are_right_earn_others() {
        let mut account = Account::default();
        account.add(TOKEN, 1, false);
        for _ in 0..50 {
            account.add(3 * TOKEN, 8, true);
        }
        assert!(account.allows(LEAST));
        // However much was saved, only a little of it is lost again.
        account.add(6 * TOKEN, 1, true);
        assert!(!account.allows(SURE));
    }

    #[test]
    fn not_beside_others_and_not_where_it_is_off() {
        let text = [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6];
        for (speculate, is_alone, expected) in [
            (Some(true), true, true),
            (Some(true), false, true),
            (Some(false), true, false),
            (None, false, false),
            (None, true, true),
        ] {
            let mut it = Lookup::new(&text, &[], speculate);
            it.account.add(TOKEN, 1, false);
            assert_eq!(!it.draft(4, is_alone).is_empty(), expected);
        }
        // What a token takes is not known.
        assert!(Lookup::new(&text, &[], None).draft(4, true).is_empty());
    }
}
