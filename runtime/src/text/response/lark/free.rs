//! Text in which there may be calls: where a section of calls begins, it must be a right one.

use super::super::{Calls, Reasoning, Tools};
use super::{ANY, Form, Lark, Part, quoted, rule_of, without};

impl Lark<'_> {
    /// Any text with sections of calls in it.
    pub(super) fn free(
        &mut self,
        calls: &Calls,
        forms: &[Form],
        tools: &Tools,
        reasoning: Option<&Reasoning>,
    ) -> String {
        let reasoning = reasoning.map(|reasoning| (self.parts(&reasoning.open), reasoning.close.clone()));
        let opened = match &reasoning {
            Some((open, close)) if open.len() == 1 => Some((open[0].clone(), self.reasoning(close))),
            // Channels: their texts are like others.
            _ => None,
        };
        if calls.keeps_open() {
            return self.at_start(forms, tools, opened);
        }
        let mut texts: Vec<String> = Vec::new();
        // Tokens that begin a call, a reasoning, or what may become one of these.
        let mut taken: Vec<u32> = Vec::new();
        let sections: Vec<(Vec<Part>, &str)> =
            forms.iter().map(|form| (self.parts(&form.open), form.rest.as_str())).collect();
        let opening = opened.iter().map(|(open, rest)| (vec![open.clone()], rest.as_str()));
        let all: Vec<(Vec<Part>, &str)> = sections.into_iter().chain(opening).collect();
        for (parts, _) in &all {
            match &parts[..] {
                [Part::Text(text)] => texts.push(text.clone()),
                [Part::Token(id), ..] | [Part::Text(_), Part::Token(id), ..] => taken.push(*id),
                _ => {}
            }
        }
        let none_of = without(texts.iter().map(String::as_str));
        let text = self.terminal(&format!("/(?s:.+)/ & {none_of}"));
        let others = self.specials(&taken);
        let mut chunks: Vec<String> = Vec::new();
        let mut first = Vec::new();
        for (parts, rest) in &all {
            match &parts[..] {
                // The second marker of gpt-oss, which is only one where a message begins.
                [Part::Text(open)] if calls.at_start => {
                    let spaced = quoted(&format!(" {open}"));
                    first.push(format!("({} | {spaced}) {rest}", quoted(open)));
                    if let Some(others) = &others {
                        let begins = self.terminal(&format!("/[a-z]* ?/ {}", quoted(open)));
                        chunks.push(format!("{text}? {others} {begins} {rest}"));
                    }
                }
                [Part::Text(open)] => {
                    let others = texts.iter().map(String::as_str).filter(|text| text != open);
                    let before = self.until(&format!("{ANY} & {}", without(others)), true, open);
                    chunks.push(format!("{before} {rest}"));
                }
                [Part::Text(open), more @ ..] => {
                    let before = self.terminal(&format!("({ANY} {}) & {none_of}", quoted(open)));
                    chunks.push(format!("{before} {} {rest}", rule_of(more)));
                }
                [Part::Token(_), more @ ..] => {
                    chunks.push(format!("{text}? {} {rest}", rule_of(parts)));
                    if let Some(Part::Text(next)) = more.first() {
                        let other = format!("/(?s:.+)/ & ~({} {ANY}) & {none_of}", quoted(next));
                        let other = self.terminal(&other);
                        chunks.push(format!("{text}? {} {other}?", rule_of(&parts[..1])));
                    }
                }
                [] => {}
            }
        }
        chunks.extend(others.map(|others| format!("{text}? {others}")));
        let first = if first.is_empty() { String::new() } else { format!("({})?", first.join(" | ")) };
        format!("{first} ({})* {text}?", chunks.join(" | "))
    }

    /// The same where nothing but a tool's name marks a call, and only what an answer begins with.
    fn at_start(&mut self, forms: &[Form], tools: &Tools, opened: Option<(Part, String)>) -> String {
        let taken = match &opened {
            Some((Part::Token(id), _)) => Some(*id),
            _ => None,
        };
        let others = self.specials(taken.as_slice());
        let thought = opened.filter(|_| taken.is_some());
        let thought = thought.map(|(open, rest)| format!("{} {rest}", rule_of(&[open])));
        let skipped: Vec<String> = others.clone().into_iter().chain(thought).collect();
        let skipped = match skipped.is_empty() {
            true => String::new(),
            false => format!("({})*", skipped.join(" | ")),
        };
        let names: Vec<String> = tools.iter().map(|tool| quoted(&quoted(&tool.name))).collect();
        let sections: Vec<&str> = forms.iter().map(|form| form.rest.as_str()).collect();
        let space = "/\\s*/";
        let call =
            format!("{space} \"{{\" {space} \"\\\"name\\\"\" {space} \":\" {space} ({})", names.join(" | "));
        let head = self.terminal(&format!("/(?s:.+)/ & ~({call} {ANY})"));
        let tail = others.map(|others| format!("({others} /(?s:.+)/?)*")).unwrap_or_default();
        format!("({skipped} ({}))* {skipped} ({head} {tail})?", sections.join(" | "))
    }
}
