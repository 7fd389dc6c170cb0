//! The pages of the KV pool. Sequences that begin alike can share pages, so a page counts its owners.

use crate::graph::PAGE;

/// Which pages are free, and how many sequences own each of the others.
#[derive(Debug)]
pub(super) struct Pool {
    free: Vec<u32>,
    owners: Vec<u32>,
}

impl Pool {
    pub fn new(n_pages: u32) -> Self {
        Self { free: (0..n_pages).rev().collect(), owners: vec![0; n_pages as usize] }
    }

    /// Positions that the pool holds.
    pub fn cells(&self) -> usize {
        self.owners.len() * PAGE as usize
    }

    /// Takes free pages; none if there are fewer.
    pub fn take(&mut self, n: usize) -> Option<Vec<u32>> {
        let at = self.free.len().checked_sub(n)?;
        let pages = self.free.split_off(at);
        pages.iter().for_each(|page| self.owners[*page as usize] = 1);
        Some(pages)
    }

    /// Gives pages another owner.
    pub fn share(&mut self, pages: &[u32]) {
        pages.iter().for_each(|page| self.owners[*page as usize] += 1);
    }

    /// Takes an owner from pages. Those without one are free again.
    pub fn release(&mut self, pages: &[u32]) {
        for &page in pages {
            let owners = &mut self.owners[page as usize];
            *owners -= 1;
            if *owners == 0 {
                self.free.push(page);
            }
        }
    }

    /// Whether a page has more than one owner.
    pub fn is_shared(&self, page: u32) -> bool {
        self.owners[page as usize] > 1
    }

    /// Pages without an owner.
    pub fn n_free(&self) -> usize {
        self.free.len()
    }
}
