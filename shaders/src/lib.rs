//! Nomoat's compute kernels: their WGSL, composed and validated when this crate is built, with the bindings
//! and constants that a host needs to run them.
//!
//! Each kernel is a file in `wgsl/`, which describes what it computes, the layout of its buffers and how
//! workgroups map to the output. `variants.txt` lists the variants.

mod compose;

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A uniform buffer.
    Uniform,
    /// A storage buffer that is only read.
    Read,
    /// A storage buffer that is written.
    Write,
}

/// One binding of a kernel, in group 0.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The `@binding` number.
    pub index: u32,
    /// The variable's name in WGSL, by which hosts find it.
    pub name: &'static str,
    /// How the kernel uses it.
    pub access: Access,
}

/// One variant of a kernel.
#[derive(Debug)]
pub struct Shader {
    /// Kernel and settings, such as `matmul.q4_0.f16.64`.
    pub name: &'static str,
    /// Names and values of its settings.
    settings: &'static [(&'static str, &'static str)],
    /// Whether the device must have the `shader-f16` feature.
    pub needs_f16: bool,
    /// Whether the device must have the `subgroups` feature.
    pub needs_subgroups: bool,
    /// Threads of a workgroup, per dimension.
    pub workgroup_size: [u32; 3],
    /// Names of the `override` constants.
    pub overrides: &'static [&'static str],
    /// Bindings, in order of their number.
    pub bindings: &'static [Binding],
}

impl Shader {
    /// The complete WGSL, as browsers accept it. The entry point is `main`.
    pub fn wgsl(&self) -> String {
        let source = |name: &str| {
            SOURCES.binary_search_by(|(known, _)| (*known).cmp(name)).ok().map(|at| SOURCES[at].1)
        };
        // The build script has composed every variant, so this cannot fail.
        compose::compose(&self.settings.to_vec(), source).unwrap_or_default()
    }
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

/// The variant with this name.
pub fn find(name: &str) -> Option<&'static Shader> {
    SHADERS.iter().find(|shader| shader.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_limits_hold() {
        for (i, shader) in SHADERS.iter().enumerate() {
            assert!(SHADERS[..i].iter().all(|s| s.name != shader.name), "{} twice", shader.name);
            // Every WebGPU device supports 8 storage buffers per stage and 256 threads per workgroup.
            let storage = shader.bindings.iter().filter(|b| b.access != Access::Uniform).count();
            assert!(storage <= 8, "{}: {storage} storage buffers", shader.name);
            assert!(shader.workgroup_size.iter().product::<u32>() <= 256, "{}", shader.name);
        }
    }

    #[test]
    fn bindings_and_features_are_reflected() {
        let shader = find("matmul.q4_0.f16.64").map(|s| (s.needs_f16, s.workgroup_size));
        assert_eq!(shader, Some((true, [64, 1, 1])));
        let names: Vec<_> =
            find("matvec.f32.plain.plain.one").into_iter().flat_map(|s| s.bindings).map(|b| b.name).collect();
        assert_eq!(names, ["step", "x", "quants", "y", "shape"]);
        assert!(find("matvec.q4_1.normed.qkv.shared").is_some_and(|s| s.overrides.contains(&"LANES")));
        assert!(find("matvec.q4_1.int8.plain.subgroup").is_some_and(|s| s.needs_subgroups));
    }

    #[test]
    fn texts_are_composed() {
        for shader in SHADERS {
            let text = shader.wgsl();
            assert!(text.contains("fn main(") && !text.contains("\n#"), "{}: {text}", shader.name);
        }
    }
}
