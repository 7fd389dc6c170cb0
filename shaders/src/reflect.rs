//! Finds a kernel's bindings and overrides in its text. Each declaration must be on one line; the build
//! script compares the result with naga's.

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A uniform buffer.
    Uniform,
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is written and may be read.
    Write,
}

/// One binding of a kernel, in group 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// `@binding` number.
    pub index: u32,
    /// The variable's name in WGSL. Hosts bind buffers by it.
    pub name: String,
    /// How the kernel uses it.
    pub access: Access,
}

/// The bindings, in ascending order.
pub fn bindings(wgsl: &str) -> Vec<Binding> {
    let mut all: Vec<Binding> = wgsl.lines().filter_map(binding).collect();
    all.sort_by_key(|binding| binding.index);
    all
}

/// Parses a line such as `@group(0) @binding(3) var<storage, read> scales: array<u32>;`.
fn binding(line: &str) -> Option<Binding> {
    let (index, rest) = line.strip_prefix("@group(0) @binding(")?.split_once(") var<")?;
    let (space, rest) = rest.split_once("> ")?;
    let (name, _) = rest.split_once(':')?;
    let access = match space {
        "uniform" => Access::Uniform,
        "storage, read" => Access::Read,
        "storage, read_write" => Access::Write,
        _ => return None,
    };
    Some(Binding { index: index.parse().ok()?, name: name.to_string(), access })
}

/// The names of the `override` constants, in the order of the text.
pub fn overrides(wgsl: &str) -> Vec<String> {
    let name = |line: &str| line.strip_prefix("override ")?.split_once(':').map(|(name, _)| name.to_string());
    wgsl.lines().filter_map(name).collect()
}
