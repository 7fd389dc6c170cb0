//! Formats of reasoning: what is found in 70 templates, against what Python's jinja2 renders of them.

#![allow(clippy::unwrap_used)]

use super::reasoning::derived;
use super::tests::{chat, expected};
use crate::text::ToolPrompt;
use crate::text::response::{Format, Parts, Reasoning, Separator, after_question};
use std::sync::Arc;

/// Templates that speak of thoughts or reasons, but mark none, and what they do.
const WITHOUT: &[(&str, &str)] = &[
    ("GigaChat3-10B-A1.8B", "speaks of a chain of reasoning"),
    ("GigaChat3.1-10B-A1.8B", "speaks of a chain of reasoning"),
    ("LFM2.5-Instruct", "leaves out what is before </think> in earlier answers"),
    ("Qwen3-Coder", "allows to give reasons for a call"),
    ("meetkai-functionary-medium-v3.1", "tells to think carefully"),
    ("unsloth-mistral-Devstral-Small-2507", "tells to document the reasoning"),
];

/// Templates that write no reasoning; their format is in a list.
const LISTED: &[(&str, &str, &str)] = &[
    ("Apertus-8B-Instruct", "<|inner_prefix|>", "<|inner_suffix|>"),
    ("ibm-granite-granite-3.3-2B-Instruct", "<think>", "</think>"),
    ("openai-gpt-oss-120b", "<|channel|>analysis<|message|>", "<|end|>"),
    ("unsloth-Apriel-1.5", "Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
];

#[test]
fn reasoning_is_found_in_every_template_that_marks_it() {
    let (mut without, mut listed, mut n) = (Vec::new(), Vec::new(), 0);
    for (name, template) in &expected().templates {
        let chat = template.chat();
        let source = template.source.to_lowercase();
        let Some(found) = chat.format().reasoning else {
            without.extend((source.contains("think") || source.contains("reason")).then_some(name.clone()));
            continue;
        };
        n += 1;
        if derived(&chat, &template.source).as_ref() != Some(&*found) {
            listed.push((name.clone(), found.open.clone(), found.close.clone()));
        }
    }
    assert_eq!(without, WITHOUT.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let texts = |(a, b, c): &(&str, &str, &str)| (a.to_string(), b.to_string(), c.to_string());
    assert_eq!(listed, LISTED.iter().map(texts).collect::<Vec<_>>());
    assert_eq!(n, 44);
}

/// What Python renders of an answer with reasoning is read as these two, wherever it is cut.
#[test]
fn reasoning_is_read_as_templates_write_it() {
    let expected = expected();
    let (mut n, thought) = (0, "One and one.\nTwo.");
    for (name, template) in &expected.templates {
        let written = expected.of(template, "reasoning_last").and_then(|text| after_question(text, "1+1?"));
        let Some((before, after)) = written.and_then(|written| written.split_once(thought)) else { continue };
        n += 1;
        let format = template.chat().format();
        let reasoning = format.reasoning.clone().unwrap();
        // Only the prompt of Apriel 1.6 has what opens it.
        assert!(
            before.trim_end().ends_with(&reasoning.open) || name.starts_with("Apriel"),
            "{name}: {before:?}"
        );
        let answer = format!("{thought}{after}");
        let read = |pieces: [&str; 2]| {
            let mut separator = Separator::new(format.clone(), &reasoning.open);
            let mut parts = Parts::default();
            pieces.iter().for_each(|piece| parts.append(separator.push(piece)));
            parts.append(separator.flush());
            parts
        };
        let whole = read([&answer, ""]);
        assert_eq!(whole.reasoning, thought, "{name}");
        assert!(whole.content.starts_with('2'), "{name}: {:?}", whole.content);
        for (cut, _) in answer.char_indices() {
            let (a, b) = answer.split_at(cut);
            assert_eq!(read([a, b]), whole, "{name} cut at {cut}");
        }
    }
    assert_eq!(n, 21);
}

/// A turn, then the reasoning of an answer and its content, as a template may write them.
fn template(reasoning: &str, answer: &str) -> String {
    format!(
        "{{% for m in messages %}}{{% if m.role == 'user' %}}<user>{{{{ m.content }}}}</user>{{% else %}}\
         <assistant>{{% if m.reasoning_content %}}{reasoning}{{% endif %}}{answer}</assistant>{{% endif %}}\
         {{% endfor %}}{{% if add_generation_prompt %}}<assistant>{{% endif %}}"
    )
}

#[test]
fn markers_that_nobody_knows_are_found() {
    let find = |source: &str| chat(source).format();
    let format = |open: &str, close: &str, begins: &str, dropped: &[&str]| {
        let dropped = dropped.iter().map(ToString::to_string).collect();
        let reasoning = Reasoning { open: open.into(), close: close.into(), begins: begins.into(), dropped };
        Format { reasoning: Some(Arc::new(reasoning)), ..Format::default() }
    };
    let tags = template("<muse>\n{{ m.reasoning_content }}\n</muse>\n\n", "{{ m.content }}");
    assert_eq!(find(&tags), format("<muse>", "</muse>", "", &[]));
    // Tags that are also elsewhere, and some around content.
    let tags = "{% for m in messages %}[A]{{ m.role }}[B]{% if m.role == 'user' %}{{ m.content }}{% else %}\
        [A]t[B]{{ m.reasoning_content }}[C]t[B][A]c[B]{{ m.content }}[C]c[B]{% endif %}[C]m[B][E]\
        {% endfor %}{% if add_generation_prompt %}[A]assistant[B][A]t[B]{% endif %}";
    assert_eq!(find(tags), format("[A]t[B]", "[C]t[B]", "[A]c[B]", &["[A]c[B]", "[C]c[B]", "[C]m[B]"]));
    // The prompt opens it, and only the source knows its end.
    let opened = template("", "{{ m.content.split('</muse>')[-1] }}") + "<muse>\n";
    assert_eq!(find(&opened), format("<muse>", "</muse>", "", &[]));
    // Reasoning is not marked, or only by a name in JSON.
    assert_eq!(find(&template("{{ m.reasoning_content }}\n", "{{ m.content }}")), Format::default());
    assert_eq!(find(&template("{{ m | tojson }}", "{{ m.content }}")), Format::default());
    assert_eq!(find(&template("", "{{ m.content }}")), Format::default());
}

/// What a template writes of a trial is looked at in many ways.
#[test]
fn templates_that_write_much_have_no_format() {
    let source = "{% for m in messages %}{{ '<a>' * 300000 if m.reasoning_content }}{{ m.reasoning_content }}\
        <b>{{ m.content }}{% endfor %}{{ 'x' if add_generation_prompt }}";
    assert_eq!(chat(source).format(), Format::default());
    assert_eq!(chat(&source.replace("300000", "3")).format().reasoning.unwrap().close, "<b>");
    let source = "{{ tools }}{% for m in messages %}{{ m.content }}{{ '[TOOL_CALLS]' * 300000 }}{% endfor %}";
    assert_eq!(chat(source).tool_use().prompt, ToolPrompt::BuiltIn);
}
