//! What a JSON Schema says about texts, as regular expressions that match them from beginning to end.

/// A pattern that may be found anywhere in a text, as JSON Schema has it. Slashes are escaped. Anchors that
/// are neither at the beginning nor at the end stay, and are refused later.
pub(super) fn search(pattern: &str) -> String {
    let alternatives = alternatives(pattern).into_iter().map(|alternative| {
        if let Some(inner) = inside_group(alternative) {
            return format!("(?:{})", search(inner));
        }
        let (before, rest) = match alternative.strip_prefix('^') {
            Some(rest) => ("", rest),
            None => ("(?s:.*)", alternative),
        };
        let is_end = |rest: &&str| rest.bytes().rev().take_while(|byte| *byte == b'\\').count() & 1 == 0;
        match rest.strip_suffix('$').filter(is_end) {
            Some(rest) => format!("{before}(?:{})", plain(rest)),
            None => format!("{before}(?:{})(?s:.*)", plain(rest)),
        }
    });
    alternatives.collect::<Vec<_>>().join("|")
}

/// Parts of a pattern outside of its groups and sets: the byte, the character, and the depth after it.
fn outside(pattern: &str) -> impl Iterator<Item = (usize, char, usize)> + '_ {
    let (mut depth, mut in_set, mut is_escaped) = (0_usize, false, false);
    pattern.char_indices().filter_map(move |(at, c)| {
        if std::mem::take(&mut is_escaped) {
            return None;
        }
        match c {
            '\\' => is_escaped = true,
            '[' => in_set = true,
            ']' => in_set = false,
            _ if in_set => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        (!in_set && !is_escaped).then_some((at, c, depth))
    })
}

/// The alternatives of a pattern that are outside of its groups and sets.
pub(super) fn alternatives(pattern: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut from = 0;
    for (at, c, depth) in outside(pattern) {
        if c == '|' && depth == 0 {
            parts.push(&pattern[from..at]);
            from = at + 1;
        }
    }
    parts.push(&pattern[from..]);
    parts
}

/// Where the group ends that a pattern begins with.
pub(super) fn group_end(pattern: &str) -> Option<usize> {
    let (at, ..) = outside(pattern).find(|(_, c, depth)| *c == ')' && *depth == 0)?;
    Some(at)
}

/// What is in a pattern that is one group.
fn inside_group(pattern: &str) -> Option<&str> {
    let inner = pattern.strip_prefix("(?:").or_else(|| pattern.strip_prefix('('))?;
    (group_end(pattern)? + 1 == pattern.len() && !inner.starts_with('?')).then(|| &inner[..inner.len() - 1])
}

/// With the classes of JavaScript, in which only ASCII counts, and fit for a grammar.
fn plain(pattern: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            (_, Some('d')) => out.push_str("[0-9]"),
            (_, Some('D')) => out.push_str("[^0-9]"),
            (_, Some('w')) => out.push_str("[0-9a-zA-Z_]"),
            (_, Some('W')) => out.push_str("[^0-9a-zA-Z_]"),
            (_, Some(escaped)) => out.extend(['\\', escaped]),
            ('/', _) => out.push_str("\\/"),
            ('\n', _) => out.push_str("\\n"),
            (c, _) => out.push(c),
        }
    }
    out
}

/// The formats of texts that can be held, as what matches whole texts.
const FORMATS: &[(&str, &str)] = &[
    ("date-time", "DATE[tT]TIME"),
    ("date", "DATE"),
    ("time", "TIME"),
    ("duration", "P([0-9]+W|(DAYS)(T(CLOCK))?|T(CLOCK))"),
    ("email", "ATOM(\\.ATOM)*@(LABEL(\\.LABEL)*|\\[(BYTE\\.){3}BYTE\\])"),
    ("hostname", "LABEL(\\.LABEL)*"),
    ("ipv4", "(BYTE\\.){3}BYTE"),
    (
        "ipv6",
        "(HEX:){7}HEX|(HEX:){1,7}:|:(:HEX){1,7}|(HEX:){1,6}(:HEX)|(HEX:){1,5}(:HEX){2}|(HEX:){1,4}(:HEX){3}\
         |(HEX:){1,3}(:HEX){4}|(HEX:){1,2}(:HEX){5}|HEX:(:HEX){6}|::",
    ),
    ("uuid", "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    (
        "uri",
        "[a-zA-Z][a-zA-Z0-9+.-]*:(\\/\\/AUTHORITY(\\/PCHAR*)*|\\/?(PCHAR+(\\/PCHAR*)*)?)(\\?PART)?(#PART)?",
    ),
];

/// What stands for longer expressions there.
const NAMES: &[(&str, &str)] = &[
    (
        "DATE",
        "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)\
         |02-(0[1-9]|[12][0-9]))",
    ),
    (
        "TIME",
        "([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\\.[0-9]+)?([zZ]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])",
    ),
    ("DAYS", "[0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D"),
    ("CLOCK", "[0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S"),
    ("AUTHORITY", "((NCHAR|:)*@)?(NCHAR*|\\[([0-9a-fA-F:]*:(BYTE\\.){3}BYTE|[0-9a-fA-F:]+)\\])(:[0-9]*)?"),
    ("HEX", "[0-9a-fA-F]{1,4}"),
    ("ATOM", "[a-zA-Z0-9!#$%&'*+=?^_`{|}~\\/-]+"),
    ("LABEL", "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"),
    ("BYTE", "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"),
    ("PART", "(PCHAR|[\\/?])*"),
    ("PCHAR", "(NCHAR|[:@])"),
    ("NCHAR", "([a-zA-Z0-9._~!$&'()*+,;=-]|%[0-9a-fA-F]{2})"),
];

/// A format's expression; none if it is not known.
pub(super) fn format(name: &str) -> Option<String> {
    let (_, found) = FORMATS.iter().find(|(known, _)| *known == name)?;
    Some(NAMES.iter().fold(found.to_string(), |text, (name, full)| text.replace(name, &format!("({full})"))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_found_anywhere() {
        for (pattern, whole) in [
            ("ab", "(?s:.*)(?:ab)(?s:.*)"),
            ("^a/b$", "(?:a\\/b)"),
            ("^a\\$", "(?:a\\$)(?s:.*)"),
            ("^a\\\\$", "(?:a\\\\)"),
            ("^a|b$", "(?:a)(?s:.*)|(?s:.*)(?:b)"),
            ("^(a|b)$", "(?:(a|b))"),
            ("(?:^a$|^[|(]$)", "(?:(?:a)|(?:[|(]))"),
            ("\\d\\D", "(?s:.*)(?:[0-9][^0-9])(?s:.*)"),
        ] {
            assert_eq!(search(pattern), whole);
        }
    }

    #[test]
    fn formats_match_whole_texts() {
        for (name, right, wrong) in [
            ("date-time", "2026-11-27T20:15:00Z", "2026-11-27"),
            ("date", "2024-02-28", "2024-02-30"),
            ("time", "20:15:00.5+01:00", "25:15:00Z"),
            ("duration", "P1DT2H0M3S", "1D"),
            ("email", "a.b+c@example.org", "a@@b"),
            ("hostname", "www.example.org", "-a"),
            ("ipv4", "127.0.0.255", "127.0.0.256"),
            ("ipv6", "::1", "1::1::1"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("uri", "https://example.org/a?b=%20#c", "example.org/ a"),
        ] {
            let regex = fancy_regex::Regex::new(&format!("^(?:{})$", format(name).unwrap())).unwrap();
            assert!(regex.is_match(right).unwrap(), "{name}: {right}");
            assert!(!regex.is_match(wrong).unwrap(), "{name}: {wrong}");
        }
        assert_eq!(format("phone"), None);
    }

    /// A text is right here where the parser for JSON holds it to be right. The texts are those of the JSON
    /// Schema Test Suite, see `tests/schemas`.
    #[test]
    fn formats_are_those_of_texts_in_json() {
        let file = &include_bytes!("../../../../tests/schemas/draft2020-12.json.gz")[..];
        let suite: serde_json::Value = serde_json::from_reader(flate2::read::GzDecoder::new(file)).unwrap();
        let bytes = (0..=255_u8).map(|byte| vec![byte]).collect();
        let grammars = nomoat_grammar::Grammars::new(bytes, &[], None).unwrap();
        let mut n = 0;
        for (name, _) in FORMATS {
            let schema = serde_json::json!({ "type": "string", "format": name });
            let schema = nomoat_grammar::Constraint::JsonSchema(schema);
            let regex = fancy_regex::Regex::new(&format!("^(?:{})$", format(name).unwrap())).unwrap();
            let file = format!("optional/format/{name}");
            let file = suite.as_array().unwrap().iter().find(|part| part["name"] == file.as_str()).unwrap();
            let groups = file["groups"].as_array().unwrap().iter();
            let tests = groups.flat_map(|group| group["tests"].as_array().unwrap());
            for text in tests.filter_map(|test| test["data"].as_str()) {
                let mut grammar = grammars.compile(&schema).unwrap();
                let is_json = serde_json::to_string(text).unwrap().bytes().all(|byte| {
                    let id = u32::from(byte);
                    let may = grammar.allows(id);
                    may && grammar.accept(id).is_ok() && (grammar.is_complete() || grammar.prepare().is_ok())
                });
                assert_eq!(regex.is_match(text).unwrap(), is_json, "{name}: {text:?}");
                n += 1;
            }
        }
        assert!(n > 200, "{n}");
    }
}
