//! Composes the text of a variant from WGSL files: `{NAME}` is replaced by a setting's value, `#import`
//! includes another file once, and `#if NAME=value`, `#else` and `#endif` keep or drop lines. The build
//! script validates every variant. Hosts compose variants at run time, so that each file is stored only once.

use std::collections::BTreeSet;

/// The names and values of the settings.
pub type Settings<'a> = Vec<(&'a str, &'a str)>;

/// The text of the variant with these settings; `source` returns a file's text by its name.
pub fn compose<'s>(settings: &Settings, source: impl Fn(&str) -> Option<&'s str>) -> Result<String, String> {
    let mut composer = Composer { settings, source, imported: BTreeSet::new(), text: String::new() };
    composer.file("{FILE}")?;
    Ok(composer.text)
}

struct Composer<'a, F> {
    settings: &'a Settings<'a>,
    source: F,
    imported: BTreeSet<String>,
    text: String,
}

impl<'s, F: Fn(&str) -> Option<&'s str>> Composer<'_, F> {
    fn fill_in(&self, line: &str) -> String {
        if !line.contains('{') {
            return line.to_string();
        }
        self.settings
            .iter()
            .fold(line.to_string(), |line, (name, value)| line.replace(&format!("{{{name}}}"), value))
    }

    fn file(&mut self, name: &str) -> Result<(), String> {
        let name = self.fill_in(name);
        if !self.imported.insert(name.clone()) {
            return Ok(());
        }
        let source = (self.source)(&name).ok_or_else(|| format!("{name}.wgsl does not exist"))?;
        let mut kept: Vec<bool> = Vec::new();
        for line in source.lines() {
            if let Some(condition) = line.strip_prefix("#if ") {
                let (setting, wanted) =
                    condition.split_once('=').ok_or_else(|| format!("{name}: {line} has no = sign"))?;
                let value = self
                    .settings
                    .iter()
                    .find(|(known, _)| *known == setting)
                    .ok_or_else(|| format!("{name}: there is no setting {setting}"))?;
                kept.push(wanted.split('|').any(|wanted| wanted == value.1));
            } else if line == "#else" {
                let last = kept.last_mut().ok_or_else(|| format!("{name}: #else without #if"))?;
                *last = !*last;
            } else if line == "#endif" {
                kept.pop().ok_or_else(|| format!("{name}: #endif without #if"))?;
            } else if !kept.iter().all(|k| *k) {
                continue;
            } else if let Some(import) = line.strip_prefix("#import ") {
                self.file(import)?;
            } else {
                let line = self.fill_in(line);
                self.text.push_str(&line);
                self.text.push('\n');
            }
        }
        if kept.is_empty() { Ok(()) } else { Err(format!("{name}: #if without #endif")) }
    }
}
