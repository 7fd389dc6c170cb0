//! Composes every shader variant of `variants.txt`, validates it with naga, and writes what Rust must know of it: its text, its
//! bindings and its workgroup size. A shader that does not validate does not compile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

type Result<T> = std::result::Result<T, String>;
type Settings = BTreeMap<String, String>;

fn main() {
    println!("cargo::rerun-if-changed=wgsl");
    println!("cargo::rerun-if-changed=variants.txt");
    if let Err(message) = generate() {
        for line in message.lines() {
            println!("cargo::error={line}");
        }
        std::process::exit(1);
    }
}

fn generate() -> Result<()> {
    let list = fs::read_to_string("variants.txt").map_err(|e| format!("variants.txt: {e}"))?;
    let mut code = String::from("/// Every variant that exists.\npub static SHADERS: &[Shader] = &[\n");
    for line in list.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let mut words = line.split_whitespace();
        let file = words.next().ok_or("variants.txt: a line without a kernel")?;
        for (suffix, settings) in combinations(words)? {
            let kernel = file.rsplit('/').next().unwrap_or(file);
            let name = format!("{kernel}{suffix}");
            let mut composer = Composer { settings, imported: BTreeSet::new(), text: String::new() };
            composer.file(file)?;
            describe(&mut code, &name, &composer.text).map_err(|e| format!("{name}: {e}"))?;
        }
    }
    code.push_str("];\n");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|e| e.to_string())?).join("shaders.rs");
    fs::write(out, code).map_err(|e| e.to_string())
}

/// Every combination of `NAME=a|b` settings, with the suffix that it gives the variant's name.
fn combinations<'a>(words: impl Iterator<Item = &'a str>) -> Result<Vec<(String, Settings)>> {
    let mut all = vec![(String::new(), Settings::new())];
    for word in words {
        let (name, values) =
            word.split_once('=').ok_or_else(|| format!("variants.txt: {word} is not NAME=VALUE"))?;
        all = all
            .iter()
            .flat_map(|(suffix, settings)| {
                values.split('|').map(move |value| {
                    let mut settings = settings.clone();
                    settings.insert(name.to_string(), value.to_string());
                    (format!("{suffix}.{value}"), settings)
                })
            })
            .collect();
    }
    Ok(all)
}

struct Composer {
    settings: Settings,
    imported: BTreeSet<String>,
    text: String,
}

impl Composer {
    /// Appends a file with its imports, each once, and without the lines that its `#if`s leave out.
    fn file(&mut self, name: &str) -> Result<()> {
        let path = Path::new("wgsl").join(format!("{name}.wgsl"));
        let source = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut kept: Vec<bool> = Vec::new();
        for line in source.lines() {
            let mut line = line.to_string();
            for (name, value) in &self.settings {
                line = line.replace(&format!("{{{name}}}"), value);
            }
            if let Some(name) = line.strip_prefix("#if ") {
                let value = self
                    .settings
                    .get(name)
                    .ok_or_else(|| format!("{}: no setting {name}", path.display()))?;
                kept.push(value == "on");
            } else if line == "#else" {
                let last = kept.last_mut().ok_or_else(|| format!("{}: #else without #if", path.display()))?;
                *last = !*last;
            } else if line == "#endif" {
                kept.pop().ok_or_else(|| format!("{}: #endif without #if", path.display()))?;
            } else if !kept.iter().all(|k| *k) {
                continue;
            } else if let Some(import) = line.strip_prefix("#import ") {
                if self.imported.insert(import.to_string()) {
                    self.file(import)?;
                }
            } else {
                self.text.push_str(&line);
                self.text.push('\n');
            }
        }
        if kept.is_empty() { Ok(()) } else { Err(format!("{}: #if without #endif", path.display())) }
    }
}

/// Validates one variant and appends its `Shader` value to the generated code.
fn describe(code: &mut String, name: &str, text: &str) -> Result<()> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all())
        .validate(&module)
        .map_err(|e| e.emit_to_string(text))?;
    let [entry] = module.entry_points.as_slice() else {
        return Err("a kernel has exactly one entry point".into());
    };
    let mut bindings = BTreeMap::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = variable.binding else { continue };
        let access = match variable.space {
            naga::AddressSpace::Uniform => "Uniform",
            naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => "Write",
            naga::AddressSpace::Storage { .. } => "Read",
            space => return Err(format!("a binding in {space:?}")),
        };
        bindings.insert(binding.binding, (variable.name.clone().unwrap_or_default(), access));
    }
    let overrides: Vec<_> = module.overrides.iter().filter_map(|(_, o)| o.name.clone()).collect();
    let _ = writeln!(code, "Shader {{ name: {name:?}, wgsl: {text:?},");
    let _ = writeln!(
        code,
        "  needs_f16: {}, workgroup_size: {:?},",
        text.contains("enable f16;"),
        entry.workgroup_size
    );
    let _ = writeln!(code, "  overrides: &{overrides:?}, bindings: &[");
    for (index, (name, access)) in bindings {
        let _ = writeln!(code, "    Binding {{ index: {index}, name: {name:?}, access: Access::{access} }},");
    }
    code.push_str("  ] },\n");
    Ok(())
}
