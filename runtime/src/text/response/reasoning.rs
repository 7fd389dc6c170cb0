//! How models mark their reasoning.

/// How a model marks its reasoning. Markers have no white space at their ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// Begins reasoning, in the answer or at the end of the prompt.
    pub open: String,
    /// Ends it.
    pub close: String,
    /// What then begins the content; empty if nothing does.
    pub begins: String,
    /// Markers around content, which are left out.
    pub dropped: Vec<String>,
}

/// A format whose markers a template spells: open, close, what begins the content, markers around it.
type Row = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// gpt-oss has channels, of which reasoning is one. Its template writes only some of them.
const CHANNELS: Row = (
    "<|channel|>analysis<|message|>",
    "<|end|>",
    "<|start|>assistant<|channel|>final<|message|>",
    &["<|start|>assistant", "<|channel|>final<|message|>", "<|channel|>commentary<|message|>"],
);

/// Formats of templates that write no reasoning themselves, but tell the model how to.
const SPELLED: &[Row] = &[
    // Granite 3.3.
    ("<think>", "</think>", "", &["<response>", "</response>"]),
    ("<think>", "</think>", "", &[]),
    // Magistral.
    ("[THINK]", "[/THINK]", "", &[]),
    // Apertus.
    ("<|inner_prefix|>", "<|inner_suffix|>", "", &[]),
    // Apriel 1.5; its model knows how to begin.
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]", "", &["[END FINAL RESPONSE]"]),
];

impl Reasoning {
    /// That of gpt-oss, if this is its template.
    pub fn of_channels(template: &str) -> Option<Self> {
        template.contains(CHANNELS.0).then(|| Self::from(CHANNELS))
    }

    /// The first format whose markers a template spells.
    pub fn spelled_in(template: &str) -> Option<Self> {
        let is_spelled = |(open, close, _, dropped): &&Row| {
            // What opens it may be left to the model if it is no tag.
            let opens = !open.starts_with(['<', '[']) || template.contains(open);
            opens && template.contains(close) && dropped.iter().all(|marker| template.contains(marker))
        };
        SPELLED.iter().find(is_spelled).map(|row| Self::from(*row))
    }

    /// What ends the reasoning and begins the content.
    pub fn ending(&self) -> String {
        format!("{}{}", self.close, self.begins)
    }

    /// Whether a prompt has opened the reasoning.
    pub(super) fn is_opened_by(&self, prompt: &str) -> bool {
        match self.open.is_empty() {
            // Every prompt opens it that does not close it.
            true => !prompt.trim_end().ends_with(&self.close),
            false => prompt.trim_end().ends_with(&self.open),
        }
    }

    pub(super) fn markers(&self) -> impl Iterator<Item = &str> {
        [self.open.as_str(), self.close.as_str()].into_iter().chain(self.dropped.iter().map(String::as_str))
    }
}

impl From<Row> for Reasoning {
    fn from((open, close, begins, dropped): Row) -> Self {
        Self {
            open: open.into(),
            close: close.into(),
            begins: begins.into(),
            dropped: dropped.iter().map(ToString::to_string).collect(),
        }
    }
}
