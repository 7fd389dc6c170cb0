//! The KV pool's pages, and the sequences that own them.

use super::Error;
use crate::graph::PAGE;

/// Free pages of the pool.
#[derive(Debug)]
pub(super) struct Pool {
    free: Vec<u32>,
    n_pages: u32,
}

impl Pool {
    pub fn new(n_pages: u32) -> Self {
        Self { free: (0..n_pages).rev().collect(), n_pages }
    }
}

/// Tokens whose keys and values are in the pool, and the pages that hold them: position p is in page `pages[p / PAGE]`.
#[derive(Debug, Default)]
pub(super) struct Sequence {
    ids: Vec<u32>,
    pages: Vec<u32>,
}

impl Sequence {
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

    /// Makes room for more tokens; nothing changes if the pool has none.
    pub fn extend(&mut self, ids: &[u32], pool: &mut Pool) -> Result<(), Error> {
        let needed = (self.ids.len() + ids.len()).div_ceil(PAGE as usize);
        let more = needed.saturating_sub(self.pages.len());
        if more > pool.free.len() {
            let limit = (pool.n_pages * PAGE) as usize;
            return Err(Error::ContextLength { needed: self.ids.len() + ids.len(), limit });
        }
        self.pages.extend(pool.free.split_off(pool.free.len() - more));
        self.ids.extend_from_slice(ids);
        Ok(())
    }

    /// Says what a token is that was appended before it was known.
    pub fn set(&mut self, position: usize, id: u32) {
        if let Some(place) = self.ids.get_mut(position) {
            *place = id;
        }
    }

    /// Forgets all but the first `n` tokens and gives their pages back.
    pub fn truncate(&mut self, n: usize, pool: &mut Pool) {
        self.ids.truncate(n);
        let kept = self.ids.len().div_ceil(PAGE as usize);
        pool.free.extend(self.pages.split_off(kept));
    }

    /// How many leading tokens are the same.
    pub fn common_prefix(&self, ids: &[u32]) -> usize {
        self.ids.iter().zip(ids).take_while(|(a, b)| a == b).count()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_and_go() {
        let mut pool = Pool::new(4);
        let mut a = Sequence::default();
        let ids: Vec<u32> = (0..70).collect();
        a.extend(&ids, &mut pool).unwrap();
        assert_eq!((a.pages().len(), pool.free.len()), (3, 1));
        let mut cells: Vec<u32> = (0..70).map(|p| a.cell(p)).collect();
        cells.sort_unstable();
        cells.dedup();
        assert_eq!(cells.len(), 70);

        let mut b = Sequence::default();
        assert!(matches!(b.extend(&ids, &mut pool), Err(Error::ContextLength { needed: 70, limit: 128 })));
        assert_eq!((b.len(), pool.free.len()), (0, 1));
        a.truncate(32, &mut pool);
        assert_eq!((a.len(), a.pages().len(), pool.free.len()), (32, 1, 3));
        b.extend(&ids, &mut pool).unwrap();
        assert!(b.pages().iter().all(|page| !a.pages().contains(page)));
    }

    #[test]
    fn common_prefixes() {
        let mut pool = Pool::new(1);
        let mut a = Sequence::default();
        a.extend(&[1, 2, 3], &mut pool).unwrap();
        assert_eq!(a.common_prefix(&[1, 2, 4, 3]), 2);
        assert_eq!(a.common_prefix(&[1, 2, 3, 4]), 3);
        assert_eq!(a.common_prefix(&[]), 0);
    }
}
