//! A part of the step `format`: no line of the repository is longer than its kind of file allows.

use crate::tools::{output, root};
use anyhow::{Result, bail};
use std::path::Path;

/// Columns of a line of code.
const CODE: usize = 110;
/// Columns of a line of Markdown.
pub const MARKDOWN: usize = 140;

/// Columns that a file's lines may have, by its extension. Other files are not checked.
fn limit(path: &Path) -> Option<usize> {
    match path.extension()?.to_str()? {
        "rs" | "ts" | "tsx" | "css" | "wgsl" | "js" | "mjs" | "py" => Some(CODE),
        "md" => Some(MARKDOWN),
        _ => None,
    }
}

/// Checks every file that git tracks, and prints the place of each line that is too long.
pub fn check() -> Result<()> {
    let mut too_long = 0;
    for name in output("git", &["ls-files", "-z"])?.split_terminator('\0') {
        let path = root().join(name);
        // A file that was deleted and not yet committed is still in git's list.
        let Some(limit) = limit(&path).filter(|_| path.exists()) else { continue };
        for (number, columns) in long_lines(&std::fs::read_to_string(&path)?, limit) {
            println!("{name}:{number}: {columns} columns");
            too_long += 1;
        }
    }
    if too_long > 0 {
        bail!("{too_long} lines are too long: wrap code at {CODE} columns, Markdown at {MARKDOWN}");
    }
    Ok(())
}

/// Numbers and lengths of the lines that are longer than `limit`, save those that cannot be wrapped.
fn long_lines(text: &str, limit: usize) -> Vec<(usize, usize)> {
    let columns = |line: &str| match limit {
        MARKDOWN if line.starts_with('|') => 0,
        MARKDOWN => without_targets(line).chars().count(),
        _ => line.chars().count(),
    };
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !is_url(line));
    lines.map(|(number, line)| (number, columns(line))).filter(|(_, columns)| *columns > limit).collect()
}

/// Whether a line is one URL, perhaps after the mark of a comment or a list.
fn is_url(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [url] => url.contains("://"),
        [mark, url] => url.contains("://") && !mark.contains(char::is_alphanumeric),
        _ => false,
    }
}

/// A line of Markdown without the targets of its links.
fn without_targets(line: &str) -> String {
    let mut parts = line.split("](");
    let first = parts.next().unwrap_or_default().to_string();
    parts.fold(first, |line, part| line + part.split_once(')').map_or(part, |(_, after)| after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_found_by_number_and_length() {
        let text = format!("short\n{}\n{}\n", "é".repeat(110), "é".repeat(111));
        assert_eq!(long_lines(&text, CODE), [(3, 111)]);
    }

    #[test]
    fn tables_urls_and_link_targets_do_not_count() {
        let long = "x".repeat(200);
        assert!(long_lines(&format!("| {long} | {long} |"), MARKDOWN).is_empty());
        assert!(long_lines(&format!("see [this]({long}) and [that](x)"), MARKDOWN).is_empty());
        assert!(long_lines(&format!("//! <https://example.org/{long}>"), CODE).is_empty());
        assert_eq!(long_lines(&format!("see https://example.org/{long}"), CODE).len(), 1);
        assert_eq!(long_lines(&format!("let y = x[0]({long});"), CODE).len(), 1);
        assert_eq!(long_lines(&format!("// {long}"), CODE).len(), 1);
    }

    #[test]
    fn limits_are_by_kind_of_file() {
        assert_eq!(limit(Path::new("a/b.wgsl")), Some(CODE));
        assert_eq!(limit(Path::new("README.md")), Some(MARKDOWN));
        assert_eq!(limit(Path::new("package-lock.json")), None);
        assert_eq!(limit(Path::new("LICENSE-MIT")), None);
    }
}
