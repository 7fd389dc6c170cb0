//! Composes every shader variant of `variants.txt`, validates it with naga, and writes its bindings,
//! overrides and workgroup size as Rust code. An invalid shader fails the build. Shaders of the benches are
//! always validated, but only included with the feature `bench`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "src/compose.rs"]
mod compose;

type Result<T> = std::result::Result<T, String>;

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
    let mut sources = BTreeMap::new();
    read_folder(Path::new("wgsl"), &mut sources)?;
    let mut code = String::from("static SOURCES: &[(&str, &str)] = &[\n");
    for (name, text) in sources.iter().filter(|(name, _)| is_kept(name)) {
        let _ = writeln!(code, "({name:?}, {text:?}),");
    }
    code.push_str("];\n/// Every variant that exists.\npub static SHADERS: &[Shader] = &[\n");
    let list = fs::read_to_string("variants.txt").map_err(|e| format!("variants.txt: {e}"))?;
    for line in list.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        for (name, settings) in combinations(line)? {
            let text = compose::compose(&settings, |name| sources.get(name).map(String::as_str))?;
            let description = describe(&name, &settings, &text).map_err(|e| format!("{name}: {e}"))?;
            if is_kept(line) {
                code.push_str(&description);
            }
        }
    }
    code.push_str("];\n");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|e| e.to_string())?).join("shaders.rs");
    fs::write(out, code).map_err(|e| e.to_string())
}

/// Whether this file and its variants are included in the crate.
fn is_kept(file: &str) -> bool {
    !file.starts_with("bench/") || env::var_os("CARGO_FEATURE_BENCH").is_some()
}

/// The name and the settings of every variant in a line of `variants.txt`.
fn combinations(line: &str) -> Result<Vec<(String, compose::Settings<'_>)>> {
    let mut words = line.split_whitespace();
    let file = words.next().ok_or("variants.txt: a line names no kernel")?;
    let mut all = vec![(file.rsplit('/').next().unwrap_or(file).to_string(), vec![("FILE", file)])];
    for word in words {
        let (name, values) =
            word.split_once('=').ok_or_else(|| format!("variants.txt: {word} is not NAME=VALUE"))?;
        all = all
            .iter()
            .flat_map(|(variant, settings)| {
                values.split('|').map(move |value| {
                    let mut settings = settings.clone();
                    settings.push((name, value));
                    (format!("{variant}.{value}"), settings)
                })
            })
            .collect();
    }
    Ok(all)
}

/// Reads all files, without comments and empty lines. Their names are paths below `wgsl/` without the
/// extension.
fn read_folder(folder: &Path, sources: &mut BTreeMap<String, String>) -> Result<()> {
    let problem = |e: std::io::Error| format!("{}: {e}", folder.display());
    for entry in fs::read_dir(folder).map_err(problem)? {
        let path = entry.map_err(problem)?.path();
        if path.is_dir() {
            read_folder(&path, sources)?;
            continue;
        }
        let text = fs::read_to_string(&path).map_err(problem)?;
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//") && !line.is_empty());
        let name = path.strip_prefix("wgsl").map_err(|e| e.to_string())?.with_extension("");
        let name = name.to_string_lossy().replace('\\', "/");
        sources.insert(name, lines.collect::<Vec<_>>().join("\n"));
    }
    Ok(())
}

/// Validates a variant and returns the Rust code of its `Shader`.
fn describe(name: &str, settings: &compose::Settings, text: &str) -> Result<String> {
    // Browsers need this line; naga has a capability instead and does not know it.
    let plain = text.replace("enable subgroups;", "");
    let module = naga::front::wgsl::parse_str(&plain).map_err(|e| e.emit_to_string(&plain))?;
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all())
        .validate(&module)
        .map_err(|e| e.emit_to_string(&plain))?;
    let [entry] = module.entry_points.as_slice() else {
        return Err("a kernel must have exactly one entry point".into());
    };
    let mut bindings = BTreeMap::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = variable.binding else { continue };
        let access = match variable.space {
            naga::AddressSpace::Uniform => "Uniform",
            naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => "Write",
            naga::AddressSpace::Storage { .. } => "Read",
            space => {
                return Err(format!("a binding is in the address space {space:?}; use uniform or storage"));
            }
        };
        let value = (variable.name.clone().unwrap_or_default(), access);
        if let Some((other, _)) = bindings.insert(binding.binding, value) {
            return Err(format!("two variables have the binding {}, one of them {other}", binding.binding));
        }
    }
    let overrides: Vec<_> = module.overrides.iter().filter_map(|(_, o)| o.name.clone()).collect();
    let mut code = String::new();
    let _ = writeln!(code, "Shader {{ name: {name:?}, settings: &{settings:?},");
    let _ = writeln!(
        code,
        "  needs_f16: {}, needs_subgroups: {}, workgroup_size: {:?},",
        text.contains("enable f16;"),
        text.contains("enable subgroups;"),
        entry.workgroup_size
    );
    let _ = writeln!(code, "  overrides: &{overrides:?}, bindings: &[");
    for (index, (name, access)) in bindings {
        let _ = writeln!(code, "    Binding {{ index: {index}, name: {name:?}, access: Access::{access} }},");
    }
    code.push_str("  ] },\n");
    Ok(code)
}
