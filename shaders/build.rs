//! Composes every kernel with every setting and validates it with naga. Also checks that hosts find the same
//! bindings and overrides in its text as naga does. An invalid shader fails the build. Those of
//! `bench` are always validated, but only included with the feature of that name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

#[path = "src/compose.rs"]
mod compose;
#[allow(dead_code)]
#[path = "src/kernel.rs"]
mod kernel;
#[path = "src/reflect.rs"]
mod reflect;

use kernel::{Kernel, Layout};
use reflect::{Access, Binding};

type Result<T> = std::result::Result<T, String>;

fn main() {
    println!("cargo::rerun-if-changed=wgsl");
    println!("cargo::rerun-if-changed=src");
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
    let layouts = layouts(&sources);
    for kernel in Kernel::all(&layouts) {
        let text = compose::compose(&kernel.settings(), |name| sources.get(name).map(String::as_str))?;
        check(&text).map_err(|e| format!("{kernel}: {e}"))?;
    }
    let mut code = String::from("static SOURCES: &[(&str, &str)] = &[\n");
    let is_left_out = |name: &str| name.starts_with("bench/") && env::var_os("CARGO_FEATURE_BENCH").is_none();
    for (name, text) in sources.iter().filter(|(name, _)| !is_left_out(name)) {
        let _ = writeln!(code, "({name:?}, {text:?}),");
    }
    code.push_str("];\nstatic LAYOUTS: &[Layout] = &[\n");
    for Layout { name, is_packed } in layouts {
        let _ = writeln!(code, "Layout {{ name: {name:?}, is_packed: {is_packed} }},");
    }
    code.push_str("];\n");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|e| e.to_string())?).join("shaders.rs");
    fs::write(out, code).map_err(|e| e.to_string())
}

/// The weight layouts: the files that declare a `quants` buffer. Layouts import the other files.
fn layouts(sources: &BTreeMap<String, String>) -> Vec<Layout> {
    let files = sources.iter().filter_map(|(name, text)| Some((name.strip_prefix("weight/")?, text)));
    let layouts = files.filter(|(_, text)| text.contains("> quants:")).map(|(name, text)| {
        let imports = text.lines().filter_map(|line| sources.get(line.strip_prefix("#import ")?));
        let is_packed = imports.chain([text]).any(|text| text.contains("fn load_packed("));
        // The leak does not matter: a build script is short-lived.
        Layout { name: String::leak(name.to_string()), is_packed }
    });
    layouts.collect()
}

/// Reads every file. Its name is the path below `wgsl/`, without `.wgsl`. Comment lines and empty lines are
/// left out.
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

/// Validates a kernel's text, and checks that hosts find the same declarations in it as naga does.
fn check(text: &str) -> Result<()> {
    // Browsers require the directive; naga rejects it and has a capability instead.
    let plain = text.replace("enable subgroups;", "");
    let module = naga::front::wgsl::parse_str(&plain).map_err(|e| e.emit_to_string(&plain))?;
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all())
        .validate(&module)
        .map_err(|e| e.emit_to_string(&plain))?;
    let [entry] = module.entry_points.as_slice() else {
        return Err("a kernel must have exactly one entry point".into());
    };
    // The limit that every WebGPU device supports.
    if entry.workgroup_size.iter().product::<u32>() > 256 {
        return Err("a workgroup has more than 256 threads".into());
    }
    let mut bindings = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(binding) = variable.binding else { continue };
        let access = match variable.space {
            naga::AddressSpace::Uniform => Access::Uniform,
            naga::AddressSpace::Storage { access } if access.contains(naga::StorageAccess::STORE) => {
                Access::Write
            }
            naga::AddressSpace::Storage { .. } => Access::Read,
            space => return Err(format!("a binding is in the address space {space:?}")),
        };
        let name = variable.name.clone().unwrap_or_default();
        bindings.push(Binding { index: binding.binding, name, access });
    }
    bindings.sort_by_key(|binding| binding.index);
    if let Some(pair) = bindings.windows(2).find(|pair| pair[0].index == pair[1].index) {
        return Err(format!("binding {} is both {} and {}", pair[0].index, pair[0].name, pair[1].name));
    }
    let read = reflect::bindings(text);
    if read != bindings {
        return Err(format!(
            "naga finds bindings {bindings:?}, hosts find {read:?}: put each on its own line"
        ));
    }
    let overrides: Vec<_> = module.overrides.iter().filter_map(|(_, o)| o.name.clone()).collect();
    let read = reflect::overrides(text);
    match read == overrides {
        true => Ok(()),
        false => {
            Err(format!("naga finds overrides {overrides:?}, hosts find {read:?}: put each on its own line"))
        }
    }
}
