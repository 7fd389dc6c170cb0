//! Shared by all benches: the machine's description, medians, tables, and `docs/benchmarks.md`, which only
//! commands write.

use crate::lines::MARKDOWN;
use crate::tools::root;
use anyhow::{Context, Result};
use textwrap::{Options, WordSplitter};

/// The beginning of `docs/benchmarks.md`.
const TITLE: &str = "# Benchmarks\n\n\
    Each section is what the command that it names writes or prints, on the machine that it names. \
    No figure is edited by hand.\n";

/// Puts a section into `docs/benchmarks.md`: it replaces the one of this name, or goes to the end.
pub fn replace_section(name: &str, body: &str) -> Result<()> {
    let path = root().join("docs/benchmarks.md");
    let document = if path.exists() { std::fs::read_to_string(&path)? } else { TITLE.into() };
    std::fs::write(&path, replaced(&document, name, body)).with_context(|| path.display().to_string())
}

fn replaced(document: &str, name: &str, body: &str) -> String {
    let (start, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let section = format!("{start}\n\n{}\n\n{end}", wrapped(body.trim()));
    let found = document.find(&start).zip(document.find(&end).map(|at| at + end.len()));
    match found {
        Some((from, to)) if from < to => format!("{}{section}{}", &document[..from], &document[to..]),
        _ => format!("{}\n\n{section}\n", document.trim_end()),
    }
}

/// Markdown with its paragraphs and list items wrapped; tables stay as they are.
fn wrapped(text: &str) -> String {
    let wrap = |line: &str| {
        if line.starts_with('|') {
            return line.to_string();
        }
        let options = Options::new(MARKDOWN).break_words(false).word_splitter(WordSplitter::NoHyphenation);
        textwrap::fill(line, options.subsequent_indent(if line.starts_with("- ") { "  " } else { "" }))
    };
    text.lines().map(wrap).collect::<Vec<_>>().join("\n")
}

/// The command that was run.
pub fn command() -> String {
    let args: Vec<String> = std::env::args().skip(1).collect();
    format!("cargo xtask {}", args.join(" "))
}

/// Processor, threads and memory, where the system tells.
pub fn machine() -> String {
    let line = |path: &str, start: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(start))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    let cpu = line("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.into());
    let memory = line("/proc/meminfo", "MemTotal")
        .and_then(|text| text.trim_end_matches(" kB").parse::<f64>().ok())
        .map_or(String::new(), |kib| format!(", {:.0} GiB of memory", kib / 1024.0 / 1024.0));
    format!("{cpu}, {} threads{memory}, {}", cores(), std::env::consts::OS)
}

/// The number of threads that the machine runs at once.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The median; `None` without values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 0 => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}

/// A Markdown table that also lines up in a terminal.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|cell| cell.to_string()).collect();
    let all = || std::iter::once(&header).chain(rows);
    let widths: Vec<usize> = (0..header.len())
        .map(|column| {
            all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    std::iter::once(&header).chain([&rule]).chain(rows).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_added_then_replaced_and_others_stay() {
        let one = replaced("# Title\n", "a", "first");
        let two = replaced(&one, "b", "other");
        let three = replaced(&two, "a", "second\n");
        assert_eq!(
            three,
            "# Title\n\n<!-- a -->\n\nsecond\n\n<!-- /a -->\n\n<!-- b -->\n\nother\n\n<!-- /b -->\n"
        );
    }

    #[test]
    fn paragraphs_and_list_items_wrap_and_tables_do_not() {
        let (words, row) = ("word-word ".repeat(20), format!("| {} |", "cell ".repeat(40)));
        let text = wrapped(&format!("{}\n\n- {}\n\n{row}", words.trim(), words.trim()));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7);
        assert!(lines[..6].iter().all(|line| line.len() <= MARKDOWN && !line.ends_with('-')));
        assert!(lines[3].starts_with("- word") && lines[4].starts_with("  word"));
        assert_eq!(lines[6], row);
    }

    #[test]
    fn medians() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["é".to_string(), "10.0".to_string()]];
        assert_eq!(table(&["name", "x"], &rows), "| name | x    |\n| ---- | ---- |\n| é    | 10.0 |\n");
    }
}
