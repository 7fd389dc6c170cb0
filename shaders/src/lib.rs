//! Nomoat's compute kernels: their WGSL, validated when this crate is built, and what a host must know to run
//! them.
//!
//! Each kernel is one file in `wgsl/`. The file says what the kernel computes, how its buffers are laid out
//! and how workgroups map to the output. [`Kernel`] lists the kernels and their settings.

mod compose;
mod kernel;
mod reflect;

pub use kernel::train::Slope;
pub use kernel::{
    Blocks, Elementwise, Kernel, Keys, Kv, Lanes, Layout, NormKind, Number, Numbers, Operands, Output,
    Packed, Room, Staged, Tail, Tile, Train,
};
pub use reflect::{Access, Binding};

/// The text of a kernel, and what a host must know to run it.
#[derive(Clone, Debug)]
pub struct Shader {
    /// The kernel and its settings.
    pub kernel: Kernel,
    /// The whole text, in WGSL that browsers accept; the entry point is `main`.
    pub wgsl: String,
    /// The names of the `override` constants.
    pub overrides: Vec<String>,
    /// The bindings, in ascending order.
    pub bindings: Vec<Binding>,
}

impl Kernel {
    /// Composes the kernel's text. Kernels of `bench` are an error without that feature.
    pub fn shader(self) -> Result<Shader, String> {
        let source = |name: &str| {
            SOURCES.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|at| SOURCES[at].1)
        };
        let wgsl = compose::compose(&self.settings(), source)?;
        let (overrides, bindings) = (reflect::overrides(&wgsl), reflect::bindings(&wgsl));
        Ok(Shader { kernel: self, wgsl, overrides, bindings })
    }
}

impl Shader {
    /// Whether the device must have the `shader-f16` feature.
    pub fn needs_f16(&self) -> bool {
        self.wgsl.contains("enable f16;")
    }

    /// Whether the device must have the `subgroups` feature.
    pub fn needs_subgroups(&self) -> bool {
        self.wgsl.contains("enable subgroups;")
    }
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

impl Layout {
    /// The layout with this name.
    pub fn find(name: &str) -> Option<Layout> {
        LAYOUTS.iter().copied().find(|layout| layout.name == name)
    }

    /// All layouts.
    pub fn all() -> &'static [Layout] {
        LAYOUTS
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Shader> {
        let is_kept = |kernel: &Kernel| match kernel {
            Kernel::BenchMemory { .. } | Kernel::BenchMultiplyAdd(_) => cfg!(feature = "bench"),
            _ => true,
        };
        Kernel::all(LAYOUTS).into_iter().filter(is_kept).map(|kernel| kernel.shader().unwrap())
    }

    #[test]
    fn names_are_unique_and_limits_hold() {
        let mut names = std::collections::HashSet::new();
        for shader in all() {
            assert!(names.insert(shader.kernel.to_string()), "{} twice", shader.kernel);
            // Every WebGPU device supports 8 storage buffers per stage.
            let storage = shader.bindings.iter().filter(|b| b.access != Access::Uniform).count();
            assert!(storage <= 8, "{}: {storage} storage buffers", shader.kernel);
            assert!(!shader.wgsl.contains("\n#"), "{}: {}", shader.kernel, shader.wgsl);
        }
    }

    #[test]
    fn layouts_are_found_in_the_folder() {
        let names: Vec<_> = Layout::all().iter().map(|layout| layout.name()).collect();
        for name in ["f16", "f32", "q4_0", "q4_1", "q8_0"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(Layout::find("nibbles").is_none() && Layout::find("block").is_none());
        assert!(Layout::find("q4_0").unwrap().packed().is_some());
        assert!(Layout::find("q8_0").unwrap().packed().is_none());
    }

    #[test]
    fn bindings_and_features_are_reflected() {
        let [f32, q4_1] = ["f32", "q4_1"].map(|name| Layout::find(name).unwrap());
        let plain = Tail { output: Output::Plain, bias: false, low: false };
        let matvec = Kernel::Matvec(Operands::Floats(f32), plain, Lanes::One);
        let names: Vec<_> = matvec.shader().unwrap().bindings.into_iter().map(|b| b.name).collect();
        assert_eq!(names, ["step", "x", "quants", "y", "shape"]);
        assert_eq!(matvec.to_string(), "matvec.f32.plain.plain.none.one");
        let heads = Tail { output: Output::Heads, bias: true, low: false };
        let shared = Kernel::Matvec(Operands::Normed(q4_1), heads, Lanes::Shared).shader().unwrap();
        assert!(shared.overrides.iter().any(|name| name == "LANES") && !shared.needs_subgroups());
        assert!(
            Kernel::Matvec(Operands::Normed(q4_1), heads, Lanes::Subgroup)
                .shader()
                .unwrap()
                .needs_subgroups()
        );
        assert!(Kernel::Matmul(Staged::F16(q4_1), Tile::Large).shader().unwrap().needs_f16());
    }
}
