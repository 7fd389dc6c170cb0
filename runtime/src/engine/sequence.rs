//! A sequence: its tokens, the pages with their keys and values, and the answer that extends it.

use super::Error;
use super::answer::Answer;
use super::cache::Cache;
use super::overflow::append_shifting;
use crate::graph::PAGE;
use std::ops::Range;

/// Tokens and where their keys and values are: those of position p are in page `pages[p / PAGE]`. Pages that
/// no layer's window reaches any more are given back. After an answer has ended its pages are in the prefix
/// cache, for prompts that begin alike.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// Tokens whose steps have begun. Those past `computed` may be placeholders.
    ids: Vec<u32>,
    pages: Vec<u32>,
    /// Of them, the first ones that are given back.
    n_gone: usize,
    /// See [`Self::computed`].
    computed: usize,
    /// The set of adapters that its keys and values are computed with; none: the model as it is.
    pub set: Option<u32>,
    /// The running answer.
    pub answer: Option<Answer>,
    /// Pages that the answer takes at most.
    pub reserved: usize,
}

impl Sequence {
    /// Appends computed tokens in pages of their own or shared ones, to full pages.
    pub fn append_computed(&mut self, ids: &[u32], pages: Vec<u32>) {
        self.ids.extend_from_slice(ids);
        self.pages.extend(pages);
        self.computed = self.ids.len();
    }

    /// Tokens that are known, and whose keys and values are in the pool.
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// Tokens whose steps have begun.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Some of its tokens.
    pub fn ids(&self, range: Range<usize>) -> &[u32] {
        self.ids.get(range).unwrap_or_default()
    }

    /// Forgets the tokens after the first `n`, and gives up pages that are empty then.
    pub fn shorten(&mut self, n: usize, cache: &mut Cache) {
        self.ids.truncate(n);
        let n_pages = n.div_ceil(PAGE as usize).min(self.pages.len());
        cache.release(&self.pages.split_off(n_pages));
    }

    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// Pages that it has not given back.
    #[cfg(test)]
    pub fn n_owned(&self) -> usize {
        self.pages.len() - self.n_gone
    }

    /// The pool cell of a position.
    pub fn cell(&self, position: u32) -> u32 {
        self.pages[(position / PAGE) as usize] * PAGE + position % PAGE
    }

    /// Gives back the pages that no step from now on reads, if a row sees at most `window` positions. Steps
    /// run in order, so those under way have read them before another sequence writes there.
    pub fn give_back(&mut self, window: Option<u32>, cache: &mut Cache) {
        let Some(window) = window else { return };
        let n_unseen = (self.ids.len() + 1).saturating_sub(window as usize) / PAGE as usize;
        if let Some(unseen) = self.pages.get(self.n_gone..n_unseen) {
            cache.release(unseen);
            self.n_gone = n_unseen;
        }
    }

    /// Appends tokens, whose step is about to begin. Nothing changes if the pool has no room for them.
    pub fn extend(&mut self, ids: &[u32], cache: &mut Cache) -> Result<(), Error> {
        let needed = self.ids.len() + ids.len();
        let more = needed.div_ceil(PAGE as usize).saturating_sub(self.pages.len());
        let pages = cache.take(more).ok_or(Error::ContextLength { needed, limit: cache.cells() })?;
        self.pages.extend(pages);
        self.ids.extend_from_slice(ids);
        Ok(())
    }

    /// Records that the first `n` tokens are computed. `next` is the token after them, if it is known now:
    /// the step that it is fed to may have begun. Pages that are full can be shared from now on.
    pub fn set_computed(&mut self, n: usize, next: Option<u32>, cache: &mut Cache) {
        let (before, page) = (self.computed, PAGE as usize);
        self.computed = n;
        if let (Some(place), Some(id)) = (self.ids.get_mut(n), next) {
            *place = id;
        }
        if before / page < n / page {
            cache.insert(self.set, &self.ids[..n - n % page], &self.pages, self.n_gone);
        }
    }

    /// Where the context has no room for what the answer needs next: goes on with a part of the tokens, which
    /// are computed again, because keys depend on their positions.
    pub fn shift(&mut self, context_length: usize, cache: &mut Cache) {
        let Some(answer) = self.answer.as_mut().filter(|answer| answer.shifts && !answer.is_ahead()) else {
            return;
        };
        let next = answer.upcoming();
        if self.computed + next.len() <= context_length {
            return;
        }
        let mut ids = self.ids[..self.computed].to_vec();
        append_shifting(&mut ids, next, context_length);
        answer.feed_again(ids);
        cache.insert(self.set, &self.ids[..self.computed], &self.pages, self.n_gone);
        cache.release(&self.pages[self.n_gone..]);
        (self.ids, self.pages) = (Vec::new(), Vec::new());
        (self.n_gone, self.computed) = (0, 0);
    }

    /// Ends the running answer, and leaves the computed tokens to the prefix cache. What steps under way
    /// compute is forgotten.
    pub fn end(&mut self, cache: &mut Cache) {
        let Self { ids, pages, n_gone, computed, set, .. } = std::mem::take(self);
        cache.insert(set, &ids[..computed], &pages, n_gone);
        cache.release(&pages[n_gone..]);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_and_go() {
        let mut cache = Cache::new(4);
        let ids: Vec<u32> = (0..70).collect();
        let mut a = Sequence::default();
        a.extend(&ids, &mut cache).unwrap();
        assert_eq!(a.pages().len(), 3);
        let mut cells: Vec<u32> = (0..70).map(|p| a.cell(p)).collect();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(cells.len(), 70);

        let mut b = Sequence::default();
        let error = b.extend(&ids, &mut cache);
        assert!(matches!(error, Err(Error::ContextLength { needed: 70, limit: 128 })));
        assert_eq!((b.len(), b.pages().len()), (0, 0));
        a.end(&mut cache);
        assert_eq!((a.len(), cache.has_all_pages()), (0, true));
        b.extend(&ids, &mut cache).unwrap();
    }

    #[test]
    fn only_computed_tokens_are_cached() {
        let mut cache = Cache::new(4);
        let ids: Vec<u32> = (0..70).collect();
        let mut a = Sequence::default();
        a.extend(&ids, &mut cache).unwrap();
        a.set_computed(31, None, &mut cache);
        assert_eq!(cache.find(None, &ids), Default::default());
        // A full page is shared while the sequence goes on.
        a.set_computed(33, Some(1000), &mut cache);
        let first = cache.find(None, &ids);
        assert_eq!((&first.full[..], first.part), (&a.pages()[..1], None));
        cache.release(&first.full);
        // Its next token has become known.
        let second = a.pages()[1];
        a.end(&mut cache);
        let found = cache.find(None, &ids);
        assert_eq!(found.part, Some((second, 1)));
        cache.release(&found.full);
        assert!(cache.has_all_pages());
    }
}
