//! `'…' % values` as in Python, which minijinja knows only as the filter `format`.

use minijinja::Error;
use minijinja::machinery::{Span, Token, tokenize};
use minijinja::syntax::SyntaxConfig;

/// Writes each `%` after a text as the filter: `'%s' % x` becomes `'%s' |format(x)`. Both bind alike, because
/// nothing that binds tighter than `%` can be between the text and it.
pub fn as_filter(source: &str, syntax: &SyntaxConfig) -> Result<String, Error> {
    if !source.contains('%') {
        return Ok(source.into());
    }
    let tokens: Vec<(Token, Span)> = tokenize(source, false, syntax.clone()).collect::<Result<_, _>>()?;
    // What replaces the source from one place to another, in order of the first.
    let mut changes: Vec<(usize, usize, &str)> = Vec::new();
    for (i, pair) in tokens.windows(2).enumerate() {
        let [(Token::Str(_) | Token::String(_), _), (Token::Mod, percent)] = pair else { continue };
        let first = i + 2;
        let Some(end) = end_of_operand(&tokens, first) else { continue };
        changes.push((percent.start_offset as usize, percent.end_offset as usize, "|format"));
        let is_group =
            matches!(tokens[first].0, Token::ParenOpen) && end_of_group(&tokens, first) == Some(end);
        if !is_group {
            let from = tokens[first].1.start_offset as usize;
            let to = tokens[end - 1].1.end_offset as usize;
            changes.extend([(from, from, "("), (to, to, ")")]);
        }
    }
    changes.sort_by_key(|(from, ..)| *from);
    let (mut out, mut at) = (String::new(), 0);
    for (from, to, text) in changes {
        out.push_str(source.get(at..from).unwrap_or_default());
        out.push_str(text);
        at = to;
    }
    out.push_str(source.get(at..).unwrap_or_default());
    Ok(out)
}

/// The token after an operand: a literal, a name or a group, with what follows it without an operator, and
/// its filters.
fn end_of_operand(tokens: &[(Token, Span)], mut at: usize) -> Option<usize> {
    while matches!(tokens.get(at)?.0, Token::Minus) {
        at += 1;
    }
    at = match tokens.get(at)?.0 {
        Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => end_of_group(tokens, at)?,
        Token::Ident(_) | Token::Str(_) | Token::String(_) => at + 1,
        Token::Int(_) | Token::Int128(_) | Token::Float(_) => at + 1,
        _ => return None,
    };
    loop {
        at = match tokens.get(at).map(|(token, _)| token) {
            Some(Token::Dot | Token::Pipe) => at + 2,
            Some(Token::ParenOpen | Token::BracketOpen) => end_of_group(tokens, at)?,
            _ => return Some(at.min(tokens.len())),
        };
    }
}

/// The token after the group that begins here.
fn end_of_group(tokens: &[(Token, Span)], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (i, (token, _)) in tokens.iter().enumerate().skip(at) {
        match token {
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => depth += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => depth = depth.checked_sub(1)?,
            Token::VariableEnd | Token::BlockEnd => return None,
            _ => {}
        }
        if depth == 0 {
            return Some(i + 1);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use crate::text::chat::environment;
    use minijinja::context;

    /// Python's results.
    #[test]
    fn texts_are_formatted_as_in_python() {
        let rendered = |source: &str| {
            let environment = environment::new(source).unwrap_or_else(|e| panic!("{source}: {e}"));
            let context = context! { x => "é", n => 7, m => context! { a => vec![1, 2] }, f => 1.5 };
            environment::render(&environment, context).unwrap_or_else(|e| panic!("{source}: {e}"))
        };
        for (source, expected) in [
            ("{{ '%s' % x }}", "é"),
            ("{{ 'a %s, %d' % (x, n) }}!", "a é, 7!"),
            ("{{ '<%s>' % (x) }}", "<é>"),
            ("{{ '<%s>' % (x,) }}", "<é>"),
            ("{{ '%03d%%' % n ~ '.' }}", "007%."),
            ("{{ '%s' % m.a[1] }}{{ '%s' % x|upper }}", "2É"),
            ("{{ '%s' % ('%s.' % x) }}", "é."),
            ("{{ '%.2f' % f }} {{ '%d' % -n }}", "1.50 -7"),
            ("{% if '%s' % n == '7' %}yes{% endif %}", "yes"),
            ("{{ n % 4 }} {{ 'a' if n % 2 else 'b' }} 50 % {{ '%' }}", "3 a 50 % %"),
        ] {
            assert_eq!(rendered(source), expected, "{source}");
        }
    }

    #[test]
    fn what_is_no_format_stays_an_error() {
        for source in ["{{ '%s' % }}", "{{ '%s' % (x }}", "{{ '%s' % ) }}"] {
            assert!(environment::new(source).is_err(), "{source}");
        }
    }
}
