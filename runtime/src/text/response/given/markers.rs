//! Patterns of response templates, as far as they are texts with white space and names between them.

use super::super::pattern;

/// Characters of a pattern.
const MAX_LENGTH: usize = 2000;
/// Alternatives of a pattern.
const MAX_ALTERNATIVES: usize = 16;

/// A part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Text(String),
    /// White space, or what is not looked at.
    Slack,
    /// A named group, and the pattern in it.
    Group(String, String),
}

/// The alternatives of a pattern, each as its parts; none if it has others.
pub(super) fn alternatives(pattern: &str) -> Option<Vec<Vec<Item>>> {
    if pattern.len() > MAX_LENGTH {
        return None;
    }
    let mut all = Vec::new();
    for part in pattern::alternatives(pattern) {
        // The end of the text ends everything.
        if part == "$" || part == "\\Z" {
            continue;
        }
        all.extend(sequences(part)?);
        if all.len() > MAX_ALTERNATIVES {
            return None;
        }
    }
    (!all.is_empty()).then_some(all)
}

/// The texts of a pattern, put together where nothing is between them.
pub(super) fn texts(items: &[Item]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut is_open = false;
    for item in items {
        match item {
            Item::Text(text) if is_open => all.last_mut().into_iter().for_each(|last| last.push_str(text)),
            Item::Text(text) => all.push(text.clone()),
            _ => {}
        }
        is_open = matches!(item, Item::Text(_));
    }
    all.retain(|text| !text.trim().is_empty());
    all
}

/// Characters that end a name of this pattern.
pub(super) fn ends(body: &str) -> String {
    let inner = body.trim_end_matches('?').trim_end_matches(['+', '*']);
    match inner.strip_prefix("[^").and_then(|set| set.strip_suffix(']')) {
        Some(set) => set.replace("\\n", "\n").replace("\\s", " \n\t").replace('\\', ""),
        None if inner == "\\S" => " \n\t".into(),
        // Letters, digits and the like.
        None => " \n\t({<[:".into(),
    }
}

/// A pattern without alternatives outside of groups, with those of its groups spelled out.
fn sequences(pattern: &str) -> Option<Vec<Vec<Item>>> {
    let mut all: Vec<Vec<Item>> = vec![Vec::new()];
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if c == '(' {
            let end = pattern::group_end(rest)?;
            let inner = &rest[1..end];
            rest = &rest[end + 1..];
            if let Some(named) = inner.strip_prefix("?P<") {
                let (name, body) = named.split_once('>')?;
                all.iter_mut().for_each(|one| one.push(Item::Group(name.into(), body.into())));
                continue;
            }
            // Groups in groups are not spelled out.
            let inner = inner.strip_prefix("?:").unwrap_or(inner);
            let choices: Option<Vec<Vec<Item>>> = pattern::alternatives(inner)
                .into_iter()
                .map(|choice| if choice.contains('(') { None } else { sequences(choice)?.pop() })
                .collect();
            let mut choices = choices?;
            if let Some(after) = rest.strip_prefix('?') {
                choices.push(Vec::new());
                rest = after;
            }
            all =
                all.iter().flat_map(|one| choices.iter().map(|choice| [&one[..], choice].concat())).collect();
            if all.len() > MAX_ALTERNATIVES {
                return None;
            }
            continue;
        }
        rest = &rest[c.len_utf8()..];
        let (text, is_space) = match c {
            '\\' => {
                let escaped = rest.chars().next()?;
                rest = &rest[escaped.len_utf8()..];
                match escaped {
                    's' => (' ', true),
                    'n' => ('\n', true),
                    't' => ('\t', true),
                    _ if escaped.is_alphanumeric() => return None,
                    other => (other, false),
                }
            }
            '.' => {
                rest = rest.strip_prefix('*')?;
                rest = rest.strip_prefix('?').unwrap_or(rest);
                all.iter_mut().for_each(|one| one.push(Item::Slack));
                continue;
            }
            '[' | ']' | '{' | '}' | '*' | '+' | '?' | '^' | '$' | ')' => return None,
            other => (other, other.is_whitespace()),
        };
        let many = ["*?", "+?", "*", "+", "?"].iter().find_map(|many| rest.strip_prefix(many));
        let item = match many {
            Some(after) if is_space => {
                rest = after;
                Item::Slack
            }
            Some(_) => return None,
            // A class of its own, without a number.
            None if is_space && text == ' ' && c == '\\' => Item::Slack,
            None => Item::Text(text.into()),
        };
        all.iter_mut().for_each(|one| one.push(item.clone()));
    }
    Some(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_texts_with_white_space_between_them() {
        let of = |pattern: &str| -> Option<Vec<Vec<String>>> {
            Some(alternatives(pattern)?.iter().map(|items| texts(items)).collect())
        };
        let list = |all: &[&[&str]]| -> Option<Vec<Vec<String>>> {
            Some(all.iter().map(|one| one.iter().map(ToString::to_string).collect()).collect())
        };
        assert_eq!(of(r"</think>\s*"), list(&[&["</think>"]]));
        assert_eq!(of(r"</function>\s*</tool_call>\s*|$"), list(&[&["</function>", "</tool_call>"]]));
        assert_eq!(
            of(r"(?:<turn\|>|<\|tool_response>|<eos>)\s*|$"),
            list(&[&["<turn|>"], &["<|tool_response>"], &["<eos>"]])
        );
        assert_eq!(of(r"<a(?P<name>[^)>]+)>\n?"), list(&[&["<a", ">"]]));
        for refused in
            [r"(?=a)b", r"a{9}", r"[ab]", r"(a+)+b", r"((a))", r"\d+", r"\1", "a)", "(a", &"a|".repeat(20)]
        {
            assert_eq!(of(refused), None, "{refused}");
        }
        assert_eq!(ends("[^\\n>]+"), "\n>");
        assert_eq!(ends("\\S+?"), " \n\t");
    }
}
