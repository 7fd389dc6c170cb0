//! Steps that compute a draft of the answer's next tokens.

use super::Answer;
use crate::engine::draft_model::Gains;
use crate::graph::Output;

impl Answer {
    /// What is likely to come after its last token: at most `most` tokens. `is_alone`: no other answer runs.
    pub fn draft(&mut self, most: usize, is_alone: bool) -> Vec<u32> {
        let most = self.draft_room(most);
        self.lookup.draft(most, is_alone)
    }

    /// So many tokens of a draft, or fewer if the answer may not have as many.
    fn draft_room(&self, most: usize) -> usize {
        most.min(self.max_tokens.saturating_sub(self.completion_tokens + self.ahead + 1))
    }

    /// How many tokens the draft model may guess after its last one, where `most` have room. 0: nothing
    /// is guessed now.
    pub fn room_for_guess(&mut self, most: usize, gains: &Gains) -> usize {
        let is_asked = self.unfed() == 0 && !self.has_draft && self.lookup.asks(gains);
        if is_asked && self.draft(most, true).is_empty() { self.draft_room(most) } else { 0 }
    }

    /// How the tokens are chosen after the rows of a draft, in a step that is about to begin:
    /// [`Output::by_choice`].
    pub fn choose_drafted(&mut self, n_draft: usize) -> u32 {
        (self.ahead, self.has_draft) = (1, true);
        self.lookup.drafted += n_draft;
        self.lookup.strain_by_draft();
        if self.is_argmax() { 0 } else { Output::BY_HOST }
    }

    /// Ends a step that has chosen so many tokens. `gains` are those of the draft model.
    pub fn end_step(&mut self, n_tokens: usize, gains: Option<&mut Gains>) {
        self.has_draft = false;
        self.lookup.told(n_tokens, gains);
    }
}
