//! The input and output of a step: its rows, the outputs that are wanted, and the pages of the KV pool that
//! its sequences use.

use super::{Choice, Domain, Graph, Index, Op};
use thiserror::Error;

/// Positions per page of the KV pool.
pub const PAGE: u32 = 32;

/// The limits of a plan. A step can be smaller and then takes less time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Rows per step.
    pub tokens: u32,
    /// Outputs per step.
    pub outputs: u32,
    /// Number of sequences in the page table, and of slots.
    pub sequences: u32,
    /// Pages per sequence.
    pub max_pages: u32,
    /// Pages of the KV pool.
    pub pages: u32,
}

impl Capacity {
    /// Positions in the KV pool.
    pub fn cells(&self) -> u32 {
        self.pages * PAGE
    }

    /// The most rows of a value in this domain.
    pub fn rows(&self, domain: Domain) -> u32 {
        match domain {
            Domain::Tokens => self.tokens,
            Domain::Outputs => self.outputs,
        }
    }
}

/// One row of a step, as kernels read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Token {
    /// A token id; or [`Token::FROM_SLOT`] plus a slot, for the token that an earlier step chose there.
    pub id: u32,
    /// Position in its sequence.
    pub position: u32,
    /// Row of the page table.
    pub sequence: u32,
    /// Where its keys and values go in the KV pool.
    pub cell: u32,
    /// In graphs whose rows use different adapters: which of their sets this row uses.
    pub set: u32,
    /// Makes rows of the length that kernels read: always 0.
    pub unused: [u32; 3],
}

impl Token {
    /// Set in an id that is the number of a slot.
    pub const FROM_SLOT: u32 = 1 << 31;

    /// The row of a table that is its own. Its id must be that of a token.
    pub fn index(&self, by: Index) -> u32 {
        match by {
            Index::Id => self.id,
            Index::Position => self.position,
            Index::Set => self.set,
        }
    }
}

/// A row of a step whose logits are wanted, in the layout that kernels read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Output {
    /// Row of the step.
    pub row: u32,
    /// A token whose logit is reported along with the chosen token's.
    pub target: u32,
    /// Where the chosen token is kept for later steps, or [`Output::NO_SLOT`].
    pub slot: u32,
    /// 0: the likeliest token; 1: the output's [`Choice`] picks it; [`Output::BY_HOST`]: the host does.
    pub by_choice: u32,
}

impl Output {
    /// The chosen token is not kept.
    pub const NO_SLOT: u32 = u32::MAX;

    /// The device gives the logits and keeps no token.
    pub const BY_HOST: u32 = 2;

    /// The logits of a row, for the host.
    pub fn by_host(row: u32) -> Self {
        Self { row, target: 0, slot: Self::NO_SLOT, by_choice: Self::BY_HOST }
    }

    /// The likeliest token of a row, which is not kept.
    pub fn likeliest(row: u32, target: u32) -> Self {
        Self { row, target, slot: Self::NO_SLOT, by_choice: 0 }
    }
}

/// One execution of a graph.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The rows.
    pub tokens: &'a [Token],
    /// The rows whose logits are wanted.
    pub outputs: &'a [Output],
    /// One per output; read if [`Output::by_choice`] is 1.
    pub choices: &'a [Choice],
    /// `[sequences, max_pages]`: page p of sequence s is pool page `pages[s * max_pages + p]`.
    pub pages: &'a [u32],
    /// Entries per row of the page table.
    pub max_pages: u32,
}

/// The result of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Chosen {
    /// The chosen token.
    pub id: u32,
    /// Its logit. This field and the next two are 0 if a [`Choice`] picked the token. Nothing here
    /// means anything if the host picks it.
    pub logit: f32,
    /// ln Σ exp(l − logit), over all logits l.
    pub log_sum: f32,
    /// The target's logit.
    pub target_logit: f32,
}

impl Chosen {
    /// The natural logarithm of the target's probability.
    pub fn target_logprob(&self) -> f32 {
        self.target_logit - self.logit - self.log_sum
    }
}

/// Why a step cannot run.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StepError {
    /// The step has more rows than the plan allows.
    #[error("the step has {rows} rows, but at most {most} are allowed; split it into several steps")]
    Rows {
        /// Rows of the step.
        rows: usize,
        /// The most rows that the plan allows.
        most: u32,
    },
    /// The step has more outputs than the plan allows.
    #[error("the step has {outputs} outputs, but at most {most} are allowed; split it into several steps")]
    Outputs {
        /// Outputs of the step.
        outputs: usize,
        /// The most outputs that the plan allows.
        most: u32,
    },
    /// The page table is too large, or its last row is incomplete.
    #[error("the page table has {entries} entries; use whole rows of {row}, at most {most} entries in all")]
    Pages {
        /// Entries of the table.
        entries: usize,
        /// Entries per row.
        row: u32,
        /// The most entries that the plan allows.
        most: u32,
    },
    /// The page table has a page that is not in the pool.
    #[error("the page table has page {page}, but the KV pool has {pages} pages; number pages from 0")]
    Page {
        /// The page.
        page: u32,
        /// Pages of the pool.
        pages: u32,
    },
    /// A row writes its keys and values to a cell that is not in the pool.
    #[error("row {row} writes to cell {cell}, but the KV pool has {cells} cells; number cells from 0")]
    Cell {
        /// The row.
        row: usize,
        /// Its cell.
        cell: u32,
        /// Cells of the pool.
        cells: u32,
    },
    /// A row's position has no entry in the page table.
    #[error(
        "row {row} is at position {position} of sequence {sequence}, \
         which has no page in the page table; add one"
    )]
    Position {
        /// The row.
        row: usize,
        /// Its position.
        position: u32,
        /// Its sequence.
        sequence: u32,
    },
    /// The model has no embedding for a row's position.
    #[error(
        "row {row} is at position {position}, but the model knows only {n_positions} positions; \
         use a shorter context"
    )]
    Untrained {
        /// The row.
        row: usize,
        /// Its position.
        position: u32,
        /// Rows of the table of positions.
        n_positions: usize,
    },
    /// A row's set of adapters is none of the graph's.
    #[error("row {row} uses the set of adapters {set}, but there are {n_sets}")]
    Set {
        /// The row.
        row: usize,
        /// Its set.
        set: u32,
        /// Sets of the graph.
        n_sets: usize,
    },
    /// A row's token id is not in the vocabulary, or its slot does not exist.
    #[error("row {row} has id {id:#x}; use a token id of the vocabulary, or a slot of the plan")]
    TokenId {
        /// The row.
        row: usize,
        /// Its id.
        id: u32,
    },
    /// An output refers to a row that does not exist.
    #[error("output {output} is for row {row}, but the step has {rows} rows; number rows from 0")]
    OutputRow {
        /// The output.
        output: usize,
        /// Its row.
        row: u32,
        /// Rows of the step.
        rows: usize,
    },
    /// An output's slot does not exist, or a token is to be chosen without a slot or a choice.
    #[error(
        "output {output} has slot {slot}; use a slot below {slots}, \
         and pass a choice for each token that is chosen by one"
    )]
    Slot {
        /// The output.
        output: usize,
        /// Its slot.
        slot: u32,
        /// Number of slots.
        slots: u32,
    },
    /// Two outputs with the same slot.
    #[error("two outputs have slot {slot}; give each its own slot")]
    SlotTwice {
        /// The slot.
        slot: u32,
    },
}

impl Step<'_> {
    /// Checks that a plan of this capacity can run the step. Devices rely on it and do not check bounds
    /// again.
    pub fn check(&self, graph: &Graph, capacity: Capacity) -> Result<(), StepError> {
        self.check_pages(capacity)?;
        let Capacity { tokens, outputs, .. } = capacity;
        if self.tokens.len() > tokens as usize {
            return Err(StepError::Rows { rows: self.tokens.len(), most: tokens });
        }
        if self.outputs.len() > outputs as usize {
            return Err(StepError::Outputs { outputs: self.outputs.len(), most: outputs });
        }
        self.check_tokens(graph, capacity)?;
        self.check_outputs(capacity)
    }

    fn check_pages(&self, capacity: Capacity) -> Result<(), StepError> {
        let Capacity { sequences, max_pages, pages, .. } = capacity;
        let most = sequences * max_pages;
        let entries = self.pages.len();
        let is_whole =
            entries == 0 || (self.max_pages > 0 && entries.is_multiple_of(self.max_pages as usize));
        if entries > most as usize || !is_whole {
            return Err(StepError::Pages { entries, row: self.max_pages, most });
        }
        match self.pages.iter().find(|page| **page >= pages) {
            Some(&page) => Err(StepError::Page { page, pages }),
            None => Ok(()),
        }
    }

    fn check_tokens(&self, graph: &Graph, capacity: Capacity) -> Result<(), StepError> {
        let rows = |index: Index| {
            let embeds = graph.ops.iter().filter_map(move |op| match op {
                Op::Embed { weight, by, .. } if *by == index => Some(graph.weight(*weight).n_rows),
                _ => None,
            });
            embeds.min().unwrap_or(usize::MAX)
        };
        let (n_vocab, n_positions, n_sets) = (rows(Index::Id), rows(Index::Position), rows(Index::Set));
        let n_entries = self.pages.len() as u64;
        for (row, token) in self.tokens.iter().enumerate() {
            let &Token { id, position, sequence, cell, set, .. } = token;
            let is_known = match id & Token::FROM_SLOT {
                0 => (id as usize) < n_vocab,
                bit => id - bit < capacity.sequences,
            };
            if !is_known {
                return Err(StepError::TokenId { row, id });
            }
            if position as usize >= n_positions {
                return Err(StepError::Untrained { row, position, n_positions });
            }
            if set as usize >= n_sets {
                return Err(StepError::Set { row, set, n_sets });
            }
            if graph.caches.is_empty() {
                continue;
            }
            if cell >= capacity.cells() {
                return Err(StepError::Cell { row, cell, cells: capacity.cells() });
            }
            let page = position / PAGE;
            let entry = u64::from(sequence) * u64::from(self.max_pages) + u64::from(page);
            if page >= self.max_pages || entry >= n_entries {
                return Err(StepError::Position { row, position, sequence });
            }
        }
        Ok(())
    }

    fn check_outputs(&self, capacity: Capacity) -> Result<(), StepError> {
        let slots = capacity.sequences;
        for (i, output) in self.outputs.iter().enumerate() {
            let &Output { row, slot, by_choice, .. } = output;
            if row as usize >= self.tokens.len() {
                return Err(StepError::OutputRow { output: i, row, rows: self.tokens.len() });
            }
            let is_none = slot == Output::NO_SLOT;
            if (!is_none && slot >= slots) || (by_choice == 1 && (is_none || i >= self.choices.len())) {
                return Err(StepError::Slot { output: i, slot, slots });
            }
            if !is_none && self.outputs[..i].iter().any(|other| other.slot == slot) {
                return Err(StepError::SlotTwice { slot });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::{Layers, layers};
    use crate::quant::Format;

    const CAPACITY: Capacity = Capacity { tokens: 3, outputs: 2, sequences: 2, max_pages: 2, pages: 3 };

    /// A step of two sequences that fits, changed, and what is wrong with it.
    fn check(change: impl Fn(&mut Vec<Token>, &mut Vec<Output>, &mut Vec<u32>)) -> Result<(), StepError> {
        let graph = layers(Layers::of(Format::F32), &[1]).graph;
        let row = |position, sequence, cell| Token { id: 1, position, sequence, cell, ..Token::default() };
        let mut tokens = vec![row(33, 0, 1), row(34, 0, 2), row(0, 1, 64)];
        let mut outputs = vec![
            Output { slot: 1, ..Output::likeliest(1, 0) },
            Output { slot: 0, ..Output::likeliest(2, 0) },
        ];
        let mut pages = vec![1, 0, 2, 0];
        change(&mut tokens, &mut outputs, &mut pages);
        let step = Step { tokens: &tokens, outputs: &outputs, choices: &[], pages: &pages, max_pages: 2 };
        step.check(&graph, CAPACITY)
    }

    #[test]
    fn each_refusal_has_its_reason() {
        assert_eq!(check(|_, _, _| {}), Ok(()));
        let more = check(|tokens, _, _| tokens.push(tokens[0]));
        assert_eq!(more, Err(StepError::Rows { rows: 4, most: 3 }));
        let more = check(|_, outputs, _| outputs.push(Output::likeliest(0, 0)));
        assert_eq!(more, Err(StepError::Outputs { outputs: 3, most: 2 }));
        let cell = check(|tokens, _, _| tokens[2].cell = 96);
        assert_eq!(cell, Err(StepError::Cell { row: 2, cell: 96, cells: 96 }));
        let position = check(|tokens, _, _| tokens[1].position = 64);
        assert_eq!(position, Err(StepError::Position { row: 1, position: 64, sequence: 0 }));
        let sequence = check(|tokens, _, _| tokens[1].sequence = 2);
        assert_eq!(sequence, Err(StepError::Position { row: 1, position: 34, sequence: 2 }));
        let page = check(|_, _, pages| pages[3] = 3);
        assert_eq!(page, Err(StepError::Page { page: 3, pages: 3 }));
        let pages = check(|_, _, pages| pages.truncate(3));
        assert_eq!(pages, Err(StepError::Pages { entries: 3, row: 2, most: 4 }));
        let row = check(|_, outputs, _| outputs[0].row = 3);
        assert_eq!(row, Err(StepError::OutputRow { output: 0, row: 3, rows: 3 }));
        let slot = check(|_, outputs, _| outputs[1].slot = 2);
        assert_eq!(slot, Err(StepError::Slot { output: 1, slot: 2, slots: 2 }));
        let twice = check(|_, outputs, _| outputs[1].slot = 1);
        assert_eq!(twice, Err(StepError::SlotTwice { slot: 1 }));
        let no_choice = check(|_, outputs, _| outputs[0].by_choice = 1);
        assert_eq!(no_choice, Err(StepError::Slot { output: 0, slot: 1, slots: 2 }));
    }

    #[test]
    fn ids_are_of_the_vocabulary_or_of_slots() {
        let mut g = crate::graph::Builder::default();
        let words = g.matrix("words", 10, 4);
        g.embed(words);
        let graph = g.finish();
        let check = |id| {
            let tokens = [Token { id, ..Token::default() }];
            let step = Step { tokens: &tokens, outputs: &[], choices: &[], pages: &[], max_pages: 0 };
            step.check(&graph, CAPACITY).is_ok()
        };
        assert!(check(9) && !check(10));
        assert!(check(Token::FROM_SLOT | 1) && !check(Token::FROM_SLOT | 2));
    }
}
