//! A sequence: its tokens, the pages with their keys and values, and the answer that extends it.

use super::Error;
use super::answer::Answer;
use super::pool::Pool;
use crate::graph::PAGE;

/// Tokens and where their keys and values are: those of position p are in page `pages[p / PAGE]`. After an
/// answer has ended they stay, for prompts that begin alike.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    /// Tokens whose steps have begun. Those past `computed` may be placeholders.
    ids: Vec<u32>,
    pages: Vec<u32>,
    /// Tokens that are known, and whose keys and values are in the pool.
    computed: usize,
    /// The set of adapters that its keys and values are computed with; none: the model as it is.
    pub set: Option<u32>,
    /// The running answer.
    pub answer: Option<Answer>,
    /// When it was taken for an answer; a later time is a larger number.
    pub last_used: u64,
}

impl Sequence {
    /// Tokens whose steps have begun.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn pages(&self) -> &[u32] {
        &self.pages
    }

    /// The pool cell of a position.
    pub fn cell(&self, position: u32) -> u32 {
        self.pages[(position / PAGE) as usize] * PAGE + position % PAGE
    }

    /// Appends tokens, whose step is about to begin. Nothing changes if the pool has no room for them.
    pub fn extend(&mut self, ids: &[u32], pool: &mut Pool) -> Result<(), Error> {
        let needed = self.ids.len() + ids.len();
        let more = needed.div_ceil(PAGE as usize).saturating_sub(self.pages.len());
        let pages = pool.take(more).ok_or(Error::ContextLength { needed, limit: pool.cells() })?;
        self.pages.extend(pages);
        self.ids.extend_from_slice(ids);
        Ok(())
    }

    /// Records that the first `n` tokens are computed. `next` is the token after them, if it is known now:
    /// the step that it is fed to may have begun.
    pub fn set_computed(&mut self, n: usize, next: Option<u32>) {
        self.computed = n;
        if let (Some(place), Some(id)) = (self.ids.get_mut(n), next) {
            *place = id;
        }
    }

    /// Forgets all but the first `n` tokens and gives their pages back. If the last page is then shared and
    /// has room, its tokens are forgotten, too: what comes next would be written into it. They must be
    /// computed again.
    pub fn truncate(&mut self, n: usize, pool: &mut Pool) {
        let page = PAGE as usize;
        let mut n = n.min(self.ids.len());
        if !n.is_multiple_of(page) && self.pages.get(n / page).is_some_and(|last| pool.is_shared(*last)) {
            n -= n % page;
        }
        self.ids.truncate(n);
        self.computed = self.computed.min(n);
        pool.release(&self.pages.split_off(n.div_ceil(page)));
    }

    /// How many leading tokens are computed and the same.
    pub fn common_prefix(&self, ids: &[u32]) -> usize {
        self.ids[..self.computed].iter().zip(ids).take_while(|(a, b)| a == b).count()
    }

    /// A sequence that shares the full pages among the first `n` tokens, which are computed.
    pub fn fork(&self, n: usize, pool: &mut Pool) -> Self {
        let n_pages = n.min(self.computed) / PAGE as usize;
        let (pages, n) = (&self.pages[..n_pages], n_pages * PAGE as usize);
        pool.share(pages);
        let (ids, pages) = (self.ids[..n].to_vec(), pages.to_vec());
        Self { ids, pages, computed: n, set: self.set, answer: None, last_used: self.last_used }
    }

    /// Ends the running answer. What steps under way compute for it is forgotten.
    pub fn end_answer(&mut self, pool: &mut Pool) -> Option<Answer> {
        let answer = self.answer.take();
        self.truncate(self.computed, pool);
        answer
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn sequence(n: u32, pool: &mut Pool) -> Sequence {
        let mut sequence = Sequence::default();
        sequence.extend(&(0..n).collect::<Vec<u32>>(), pool).unwrap();
        sequence.set_computed(n as usize, None);
        sequence
    }

    #[test]
    fn pages_come_and_go() {
        let mut pool = Pool::new(4);
        let ids: Vec<u32> = (0..70).collect();
        let mut a = sequence(70, &mut pool);
        assert_eq!((a.pages().len(), pool.n_free()), (3, 1));
        let mut cells: Vec<u32> = (0..70).map(|p| a.cell(p)).collect();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(cells.len(), 70);

        let mut b = Sequence::default();
        assert!(matches!(b.extend(&ids, &mut pool), Err(Error::ContextLength { needed: 70, limit: 128 })));
        assert_eq!((b.len(), pool.n_free()), (0, 1));
        a.truncate(32, &mut pool);
        assert_eq!((a.len(), a.pages().len(), pool.n_free()), (32, 1, 3));
        b.extend(&ids, &mut pool).unwrap();
        assert!(b.pages().iter().all(|page| !a.pages().contains(page)));
    }

    #[test]
    fn prefixes_are_of_computed_tokens() {
        let mut pool = Pool::new(1);
        let mut a = Sequence::default();
        a.extend(&[1, 2, 3, 0], &mut pool).unwrap();
        assert_eq!(a.common_prefix(&[1, 2, 3]), 0);
        a.set_computed(3, Some(4));
        assert_eq!(a.common_prefix(&[1, 2, 4, 3]), 2);
        assert_eq!(a.common_prefix(&[1, 2, 3, 4]), 3);
        assert_eq!(a.common_prefix(&[]), 0);
        a.set_computed(4, None);
        assert_eq!(a.common_prefix(&[1, 2, 3, 4]), 4);
    }

    #[test]
    fn a_fork_shares_full_pages() {
        let mut pool = Pool::new(6);
        let mut a = sequence(70, &mut pool);
        let mut b = a.fork(69, &mut pool);
        assert_eq!((b.len(), b.computed, b.pages()), (64, 64, &a.pages()[..2]));
        assert_eq!(pool.n_free(), 3);
        b.extend(&[7; 10], &mut pool).unwrap();
        assert_eq!((b.pages()[..2].to_vec(), pool.n_free()), (a.pages()[..2].to_vec(), 2));
        assert!(!a.pages().contains(&b.pages()[2]));

        // The pages stay until their last owner is gone.
        a.truncate(0, &mut pool);
        assert_eq!((a.pages().len(), pool.n_free()), (0, 3));
        b.truncate(0, &mut pool);
        assert_eq!(pool.n_free(), 6);
    }

    /// What follows a truncated sequence must not be written into a page that another sequence reads.
    #[test]
    fn a_shared_page_is_not_written() {
        let mut pool = Pool::new(4);
        let mut a = sequence(64, &mut pool);
        let b = a.fork(64, &mut pool);
        a.truncate(40, &mut pool);
        assert_eq!((a.len(), a.computed, a.pages()), (32, 32, &b.pages()[..1]));
        a.extend(&[9; 8], &mut pool).unwrap();
        assert!(!b.pages().contains(&a.pages()[1]));
        // At the end of a page nothing is lost.
        let mut c = b.fork(64, &mut pool);
        c.truncate(64, &mut pool);
        assert_eq!((c.len(), c.pages()), (64, b.pages()));
    }
}
