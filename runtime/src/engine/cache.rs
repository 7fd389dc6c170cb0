//! The prefix cache: a tree of pages, so that prompts that begin alike compute what they share only once.
//!
//! A node is a page with its tokens. All tokens before it are on the way from the root, so a node stands for
//! one prefix. Only a leaf may have a page that is not full. The tree is an owner of its pages, as sequences
//! are. Pages that only the tree owns are given up when a sequence needs them: the leaves that were used
//! longest ago first.

use super::embed::EMBEDDER;
use super::kept::Name;
use super::pool::Pool;
use crate::graph::PAGE;
use std::cell::OnceCell;

/// What keys and values depend on besides the tokens before: the set of adapters, if there is one.
pub(super) type Set = Option<u32>;

/// The pool and the tree.
#[derive(Debug)]
pub(super) struct Cache {
    pool: Pool,
    /// Counts uses.
    time: u64,
    /// Unused places have no page.
    nodes: Vec<Option<Node>>,
    /// The first pages, for each set of adapters.
    roots: Vec<(Set, usize)>,
}

#[derive(Debug)]
struct Node {
    /// As many as are computed, at most [`PAGE`].
    tokens: Vec<u32>,
    page: u32,
    parent: Option<usize>,
    children: Vec<usize>,
    last_used: u64,
    /// Its name among kept pages, once that has been asked for. Tokens of a full page never change.
    name: OnceCell<Name>,
}

/// What a prompt shares with the tree.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Prefix {
    /// Pages of which all tokens are the same.
    pub full: Vec<u32>,
    /// Another page, and how many of its tokens are the same.
    pub part: Option<(u32, usize)>,
}

impl Cache {
    /// An empty tree over a pool of so many pages.
    pub fn new(n_pages: u32) -> Self {
        Self { pool: Pool::new(n_pages), time: 0, nodes: Vec::new(), roots: Vec::new() }
    }

    /// Positions that the pool holds.
    pub fn cells(&self) -> usize {
        self.pool.cells()
    }

    /// Takes an owner from pages.
    pub fn release(&mut self, pages: &[u32]) {
        self.pool.release(pages);
    }

    /// The longest prefix of tokens that is computed. The caller is an owner of its full pages from now on.
    pub fn find(&mut self, set: Set, ids: &[u32]) -> Prefix {
        self.time += 1;
        let time = self.time;
        let mut prefix = Prefix::default();
        let mut parent = None;
        for ids in ids.chunks(PAGE as usize) {
            let Some((found, n)) = self.best_child(set, parent, ids) else { break };
            let Some(node) = self.node_mut(found) else { break };
            node.last_used = time;
            if n < PAGE as usize {
                prefix.part = Some((node.page, n));
                break;
            }
            prefix.full.push(node.page);
            parent = Some(found);
        }
        self.pool.share(&prefix.full);
        prefix
    }

    /// Adds a computed sequence, whose page i holds its tokens from `i * PAGE` on. A prefix that the tree has
    /// already keeps its pages. The first `n_gone` pages are not the sequence's any more: nothing is added if
    /// the tree does not have them. Nothing looks for what the model without its head has computed.
    pub fn insert(&mut self, set: Set, ids: &[u32], pages: &[u32], n_gone: usize) {
        if set == Some(EMBEDDER) {
            return;
        }
        self.time += 1;
        let mut parent = None;
        for (i, (ids, &page)) in ids.chunks(PAGE as usize).zip(pages).enumerate() {
            let best = self.best_child(set, parent, ids);
            if i < n_gone && best.is_none_or(|(_, n)| n < PAGE as usize) {
                return;
            }
            let same = best.filter(|(child, n)| {
                // Either has all the tokens that the other has.
                *n == ids.len() || self.node(*child).is_some_and(|node| node.tokens.len() == *n)
            });
            let at = match same {
                Some((child, _)) => {
                    self.renew(child, ids, page);
                    child
                }
                None => {
                    self.pool.share(&[page]);
                    let (tokens, children, last_used) = (ids.to_vec(), Vec::new(), self.time);
                    self.add(set, Node { tokens, page, parent, children, last_used, name: OnceCell::new() })
                }
            };
            parent = Some(at);
        }
    }

    /// Adds a page that was computed before, of the last tokens. Its contents are given by `write`. False if
    /// the pages before it are missing, or if there is no room for it.
    pub fn restore(&mut self, set: Set, ids: &[u32], write: impl FnOnce(u32)) -> bool {
        let mut pages = self.find(set, ids).full;
        let n = ids.len() / PAGE as usize;
        let is_next = pages.len() + 1 == n;
        if is_next && let Some(taken) = self.take(1) {
            write(taken[0]);
            pages.extend(taken);
            self.insert(set, ids, &pages, 0);
        }
        self.release(&pages);
        pages.len() >= n
    }

    /// The full pages of the sets that have a root. Those that were used last come first, and pages come
    /// after those before them. `next` makes a page's name from that of the page before (at first the root)
    /// and its tokens.
    pub fn named(
        &self,
        root: impl Fn(Set) -> Option<Name>,
        next: impl Fn(Name, &[u32]) -> Name,
    ) -> Vec<(Name, u32)> {
        let roots = self.roots.iter().filter_map(|(set, at)| Some((root(*set)?, *at)));
        let mut open: Vec<(Name, usize)> = roots.collect();
        let mut found = Vec::new();
        while let Some((before, at)) = open.pop() {
            let Some(node) = self.node(at).filter(|node| node.tokens.len() == PAGE as usize) else {
                continue;
            };
            let name = *node.name.get_or_init(|| next(before, &node.tokens));
            found.push((node.last_used, name, node.page));
            open.extend(node.children.iter().map(|child| (name, *child)));
        }
        // Pages before are found first, and are never used earlier.
        found.sort_by_key(|(last_used, ..)| std::cmp::Reverse(*last_used));
        found.into_iter().map(|(_, name, page)| (name, page)).collect()
    }

    /// Forgets everything. What sequences use stays theirs.
    pub fn clear(&mut self) {
        while self.evict().is_some() {}
    }

    /// Marks a node as used. If a sequence has more of its tokens, its page takes the place of the node's.
    fn renew(&mut self, at: usize, ids: &[u32], page: u32) {
        let Some(node) = self.nodes.get_mut(at).and_then(Option::as_mut) else { return };
        node.last_used = self.time;
        if node.tokens.len() < ids.len() {
            self.pool.share(&[page]);
            self.pool.release(&[node.page]);
            (node.page, node.tokens) = (page, ids.to_vec());
        }
    }

    /// Takes free pages, and gives up cached ones if there are too few; none if that is not enough.
    pub fn take(&mut self, n: usize) -> Option<Vec<u32>> {
        while self.pool.n_free() < n {
            self.evict()?;
        }
        self.pool.take(n)
    }

    /// Gives up the leaf that was used longest ago, one that frees its page if there is any.
    fn evict(&mut self) -> Option<()> {
        let leaves = self.nodes.iter().enumerate().filter_map(|(i, node)| Some((i, node.as_ref()?)));
        let leaves = leaves.filter(|(_, node)| node.children.is_empty());
        let (leaf, _) = leaves.min_by_key(|(_, node)| (self.pool.is_shared(node.page), node.last_used))?;
        let node = self.nodes[leaf].take()?;
        self.pool.release(&[node.page]);
        match node.parent {
            Some(parent) => self.node_mut(parent)?.children.retain(|child| *child != leaf),
            None => self.roots.retain(|(_, root)| *root != leaf),
        }
        Some(())
    }

    /// The child that begins with the most of these tokens, and how many; none if there are none.
    fn best_child(&self, set: Set, parent: Option<usize>, ids: &[u32]) -> Option<(usize, usize)> {
        let roots = self.roots.iter().filter(|root| parent.is_none() && root.0 == set).map(|root| root.1);
        let children = parent.and_then(|parent| self.node(parent)).map_or(&[][..], |node| &node.children);
        let common = |child: usize| {
            let tokens = self.node(child).map_or(&[][..], |node| &node.tokens);
            tokens.iter().zip(ids).take_while(|(a, b)| a == b).count()
        };
        let all = roots.chain(children.iter().copied()).map(|child| (child, common(child)));
        all.max_by_key(|(_, n)| *n).filter(|(_, n)| *n > 0)
    }

    fn add(&mut self, set: Set, node: Node) -> usize {
        let parent = node.parent;
        let at = self.nodes.iter().position(Option::is_none).unwrap_or(self.nodes.len());
        if at == self.nodes.len() {
            self.nodes.push(None);
        }
        self.nodes[at] = Some(node);
        match parent.and_then(|parent| self.node_mut(parent)) {
            Some(parent) => parent.children.push(at),
            None => self.roots.push((set, at)),
        }
        at
    }

    fn node(&self, at: usize) -> Option<&Node> {
        self.nodes.get(at)?.as_ref()
    }

    fn node_mut(&mut self, at: usize) -> Option<&mut Node> {
        self.nodes.get_mut(at)?.as_mut()
    }

    /// Whether each page is free or has no owner but the tree: no sequence has one.
    #[cfg(test)]
    pub fn has_all_pages(&self) -> bool {
        let mut pages: Vec<u32> = self.nodes.iter().flatten().map(|node| node.page).collect();
        pages.sort_unstable();
        let is_distinct = pages.windows(2).all(|two| two[0] != two[1]);
        let n = pages.len() + self.pool.n_free();
        is_distinct
            && pages.iter().all(|page| !self.pool.is_shared(*page))
            && n * PAGE as usize == self.cells()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::graph::testing::Random;

    /// Takes pages for tokens, adds them to the tree and gives them up.
    fn add(cache: &mut Cache, set: Set, ids: &[u32]) -> Vec<u32> {
        let pages = cache.take(ids.len().div_ceil(PAGE as usize)).unwrap();
        cache.insert(set, ids, &pages, 0);
        cache.release(&pages);
        pages
    }

    fn find(cache: &mut Cache, set: Set, ids: &[u32]) -> Prefix {
        let prefix = cache.find(set, ids);
        cache.release(&prefix.full);
        prefix
    }

    fn text(n: u32, change: usize) -> Vec<u32> {
        (0..n).map(|i| if i as usize >= change { 1000 + i } else { i }).collect()
    }

    #[test]
    fn what_is_common_is_found() {
        let mut cache = Cache::new(10);
        let pages = add(&mut cache, None, &text(70, 99));
        let whole = Prefix { full: pages[..2].to_vec(), part: Some((pages[2], 6)) };
        assert_eq!(find(&mut cache, None, &text(90, 99)), whole);
        assert_eq!(find(&mut cache, None, &text(70, 99)), whole);
        let some = Prefix { full: vec![pages[0]], part: Some((pages[1], 18)) };
        assert_eq!(find(&mut cache, None, &text(90, 50)), some);
        assert_eq!(find(&mut cache, None, &text(50, 99)), some);
        assert_eq!(find(&mut cache, None, &text(64, 99)).full, pages[..2]);
        assert_eq!(find(&mut cache, None, &text(90, 0)), Prefix::default());
        // Other adapters have other keys and values.
        assert_eq!(find(&mut cache, Some(7), &text(70, 99)), Prefix::default());
        let others = add(&mut cache, Some(7), &text(40, 99));
        assert_eq!(find(&mut cache, Some(7), &text(70, 99)).full, others[..1]);
        assert!(cache.has_all_pages());
    }

    #[test]
    fn branches_share_their_beginning() {
        let mut cache = Cache::new(10);
        let pages = add(&mut cache, None, &text(70, 99));
        let branch = add(&mut cache, None, &text(70, 40));
        // Its first page is not kept twice.
        assert_eq!(cache.pool.n_free(), 5);
        let found = find(&mut cache, None, &text(70, 40));
        assert_eq!(found, Prefix { full: vec![pages[0], branch[1]], part: Some((branch[2], 6)) });
        // A longer version of a page that is not full takes its place.
        let longer = add(&mut cache, None, &text(80, 99));
        assert_eq!(cache.pool.n_free(), 5);
        assert_eq!(find(&mut cache, None, &text(90, 99)).part, Some((longer[2], 16)));
        // A shorter one adds nothing.
        add(&mut cache, None, &text(75, 99));
        assert_eq!(find(&mut cache, None, &text(90, 99)).part, Some((longer[2], 16)));
        assert!(cache.has_all_pages());
    }

    #[test]
    fn the_leaves_that_were_used_longest_ago_go_first() {
        let mut cache = Cache::new(6);
        let one = add(&mut cache, None, &text(96, 99));
        let two = add(&mut cache, None, &text(96, 0));
        find(&mut cache, None, &text(96, 99));
        let taken = cache.take(2).unwrap();
        assert_eq!(taken.len(), 2);
        assert_eq!(find(&mut cache, None, &text(96, 0)).full, two[..1]);
        assert_eq!(find(&mut cache, None, &text(96, 99)).full, one);
        // A page that a sequence uses is not taken, but the tree may forget it.
        let held = cache.find(None, &text(32, 0)).full;
        cache.release(&taken);
        let most = cache.take(5).unwrap();
        assert!(!most.contains(&held[0]) && cache.take(1).is_none());
        cache.release(&most);
        cache.release(&held);
        assert!(cache.has_all_pages());
    }

    #[test]
    fn pages_that_were_given_back_must_be_in_the_tree() {
        let ids = text(96, 99);
        for is_known in [true, false] {
            let mut cache = Cache::new(3);
            let pages = cache.take(3).unwrap();
            if is_known {
                cache.insert(None, &ids[..32], &pages, 0);
            }
            cache.release(&pages[..1]);
            cache.insert(None, &ids, &pages, 1);
            assert_eq!(find(&mut cache, None, &ids).full, if is_known { &pages[..] } else { &[] });
            cache.release(&pages[1..]);
            assert!(cache.has_all_pages());
        }
    }

    /// Random sequences against a list of all that was ever added: what is found was added, with its page.
    #[test]
    fn what_is_found_was_added() {
        let mut random = Random(3);
        let mut cache = Cache::new(12);
        // What each page holds.
        let mut contents: Vec<Vec<u32>> = vec![Vec::new(); 12];
        for _ in 0..2000 {
            let mut below = |n: u64| (random.bits() >> 20) % n;
            let n = below(150) as usize + 1;
            let (from, kind) = (below(3) as u32, below(2) as u32);
            let ids: Vec<u32> =
                (0..n as u32).map(|i| if i >= 30 * from { i + 500 * from } else { i }).collect();
            let prefix = cache.find(Some(kind), &ids);
            let whole = prefix.full.iter().zip(ids.chunks(PAGE as usize));
            for (page, ids) in whole.chain(
                prefix.part.iter().map(|(page, n)| (page, &ids[prefix.full.len() * PAGE as usize..][..*n])),
            ) {
                assert!(contents[*page as usize].starts_with(&[&[kind], ids].concat()));
            }
            let more = n.div_ceil(PAGE as usize) - prefix.full.len();
            let taken = cache.take(more).unwrap();
            let pages = [prefix.full.clone(), taken.clone()].concat();
            for (page, ids) in pages.iter().zip(ids.chunks(PAGE as usize)).skip(prefix.full.len()) {
                contents[*page as usize] = [&[kind], ids].concat();
            }
            cache.insert(Some(kind), &ids, &pages, 0);
            cache.release(&pages);
            assert!(cache.has_all_pages());
        }
    }
}
