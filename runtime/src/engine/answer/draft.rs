//! Steps that compute a draft of the answer's next tokens.

use super::Answer;
use crate::graph::Output;

impl Answer {
    /// What is likely to come after its last token: at most `most` tokens. `is_alone`: no other answer runs.
    pub fn draft(&mut self, most: usize, is_alone: bool) -> Vec<u32> {
        let left = self.max_tokens.saturating_sub(self.completion_tokens + self.ahead + 1);
        self.lookup.draft(most.min(left), is_alone)
    }

    /// How the tokens are chosen after the rows of a draft, in a step that is about to begin:
    /// [`Output::by_choice`].
    pub fn choose_drafted(&mut self, n_draft: usize) -> u32 {
        (self.ahead, self.has_draft) = (1, true);
        self.lookup.drafted += n_draft;
        self.lookup.strain();
        if self.is_argmax() { 0 } else { Output::BY_HOST }
    }

    /// Ends a step that has chosen so many tokens.
    pub fn end_step(&mut self, n_tokens: usize) {
        self.has_draft = false;
        self.lookup.told(n_tokens);
    }
}
