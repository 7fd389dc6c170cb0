//! Composes every kernel with every setting, validates it with naga, and compares naga's view of its bindings
//! and overrides with what hosts read from its text. An invalid shader fails the build. Kernels of benches
//! are always validated, but only included with the feature `bench`.

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
    let has_bench = env::var_os("CARGO_FEATURE_BENCH").is_some();
    for (name, text) in sources.iter().filter(|(name, _)| has_bench || !name.starts_with("bench/")) {
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

/// The layouts of weights: files that declare where quants are. Others are parts of several.
fn layouts(sources: &BTreeMap<String, String>) -> Vec<Layout> {
    let files = sources.iter().filter_map(|(name, text)| Some((name.strip_prefix("weight/")?, text)));
    let layouts = files.filter(|(_, text)| text.contains("> quants:")).map(|(name, text)| {
        let imports = text.lines().filter_map(|line| sources.get(line.strip_prefix("#import ")?));
        let is_packed = imports.chain([text]).any(|text| text.contains("fn load_packed("));
        // Build scripts end soon.
        Layout { name: String::leak(name.to_string()), is_packed }
    });
    layouts.collect()
}

/// Reads every file by its path below `wgsl/`, without `.wgsl`; comment lines are for readers and stay
/// behind.
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

/// Validates a kernel's text, and that hosts read the same from it as naga.
fn check(text: &str) -> Result<()> {
    // Browsers need the directive; naga does not know it, but has the capability.
    let plain = text.replace("enable subgroups;", "");
    let module = naga::front::wgsl::parse_str(&plain).map_err(|e| e.emit_to_string(&plain))?;
    naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all())
        .validate(&module)
        .map_err(|e| e.emit_to_string(&plain))?;
    let [entry] = module.entry_points.as_slice() else {
        return Err("a kernel has exactly one entry point".into());
    };
    // What every WebGPU device offers.
    if entry.workgroup_size.iter().product::<u32>() > 256 {
        return Err("more than 256 threads in a workgroup".into());
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
            space => return Err(format!("a binding in {space:?}")),
        };
        let name = variable.name.clone().unwrap_or_default();
        bindings.push(Binding { index: binding.binding, name, access });
    }
    bindings.sort_by_key(|binding| binding.index);
    if let Some(pair) = bindings.windows(2).find(|pair| pair[0].index == pair[1].index) {
        return Err(format!("binding {} is {} and {}", pair[0].index, pair[0].name, pair[1].name));
    }
    let read = reflect::bindings(text);
    if read != bindings {
        return Err(format!(
            "bindings are {bindings:?}, but {read:?} was read: keep each on a line of its own"
        ));
    }
    let overrides: Vec<_> = module.overrides.iter().filter_map(|(_, o)| o.name.clone()).collect();
    let read = reflect::overrides(text);
    match read == overrides {
        true => Ok(()),
        false => {
            Err(format!("overrides are {overrides:?}, but {read:?} was read: keep each on a line of its own"))
        }
    }
}
