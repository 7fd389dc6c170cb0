//! What an answer may think, and its count.

use super::Answer;
use crate::text::response::Separator;

/// How much an answer may reason.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Budget {
    /// Tokens of reasoning that are left.
    pub left: usize,
    /// What then ends the reasoning.
    pub ending: Vec<u32>,
}

impl Answer {
    /// Whether the reasoning's budget may be spent after so many more tokens.
    pub(super) fn may_end_reasoning_after(&self, n: usize) -> bool {
        let (Some(budget), Some(separator)) = (&self.budget, &self.separator) else { return false };
        let may_reason = separator.is_in_reasoning() || separator.is_undecided() || self.last.is_none();
        may_reason && budget.left <= n
    }

    /// The tokens that end the reasoning, if its budget is spent.
    pub(super) fn end_of_reasoning(&self) -> Vec<u32> {
        let (Some(budget), Some(separator)) = (&self.budget, &self.separator) else { return Vec::new() };
        // Steps under way have no room for other tokens, and a character is not cut.
        let is_due = budget.left == 0 && self.ahead == 0 && self.detokenizer.is_at_boundary();
        if is_due && separator.is_in_reasoning() { budget.ending.clone() } else { Vec::new() }
    }
}

/// Counts a token that follows what the separator has read: 1 if it belongs to the model's thoughts.
pub(super) fn spent(budget: Option<&mut Budget>, separator: Option<&Separator>) -> usize {
    let is_thought = separator.is_some_and(Separator::is_in_reasoning);
    if let Some(budget) = budget.filter(|_| is_thought) {
        budget.left = budget.left.saturating_sub(1);
    }
    usize::from(is_thought)
}
