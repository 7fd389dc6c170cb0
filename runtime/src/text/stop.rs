//! Stop strings in a stream of text. Text that may be the beginning of one is held back.

use super::Tokenizer;

/// Finds stop strings.
#[derive(Debug, Default)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// Stop strings that are control tokens, which have no text.
    tokens: Vec<u32>,
    held: String,
}

impl StopMatcher {
    /// A matcher for these strings; empty ones are ignored.
    pub fn new(stops: Vec<String>, tokenizer: &Tokenizer) -> Self {
        let id = |stop: &String| tokenizer.id_of(stop).filter(|id| tokenizer.is_control(*id));
        let tokens = stops.iter().filter_map(id).collect();
        let stops = stops.into_iter().filter(|stop| !stop.is_empty()).collect();
        Self { stops, tokens, held: String::new() }
    }

    /// Whether a stop string is this control token.
    pub fn is_stop_token(&self, id: u32) -> bool {
        self.tokens.contains(&id)
    }

    /// Takes more text. Returns the text that can be shown, and whether a stop string was found; the text
    /// then ends before it.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            let shown = self.held[..at].to_string();
            self.held.clear();
            return (shown, true);
        }
        let may_begin = |at: usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..]));
        let from =
            self.held.char_indices().map(|(at, _)| at).find(|at| may_begin(*at)).unwrap_or(self.held.len());
        let rest = self.held.split_off(from);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// The text that is still held back, at the end.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}
