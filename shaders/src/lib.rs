//! Nomoat's compute kernels: their WGSL, composed and validated when this crate is built, and what a host must know to run them.
//!
//! The kernels are in `wgsl/`, one file each, which says what it computes, how its buffers are laid out and how workgroups map
//! onto the output. `variants.txt` lists the variants that exist.

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// A uniform buffer.
    Uniform,
    /// A storage buffer that is read.
    Read,
    /// A storage buffer that is written, and perhaps read.
    Write,
}

/// One binding of a kernel, in group 0.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// `@binding` number.
    pub index: u32,
    /// The variable's name in WGSL, by which hosts bind.
    pub name: &'static str,
    /// Kind and direction.
    pub access: Access,
}

/// One variant of a kernel.
#[derive(Debug)]
pub struct Shader {
    /// Kernel and settings, such as `matmul.q4_0.off`.
    pub name: &'static str,
    /// The whole text, valid WGSL; the entry point is `main`.
    pub wgsl: &'static str,
    /// Whether the device must have the `shader-f16` feature.
    pub needs_f16: bool,
    /// Threads of a workgroup, per dimension.
    pub workgroup_size: [u32; 3],
    /// Names of the `override` constants.
    pub overrides: &'static [&'static str],
    /// Bindings, by rising number.
    pub bindings: &'static [Binding],
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

/// The variant of this name.
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
            // What every WebGPU device offers: 8 storage buffers a stage, 256 threads a workgroup.
            let storage = shader.bindings.iter().filter(|b| b.access != Access::Uniform).count();
            assert!(storage <= 8, "{}: {storage} storage buffers", shader.name);
            assert!(shader.workgroup_size.iter().product::<u32>() <= 256, "{}", shader.name);
        }
    }

    #[test]
    fn bindings_and_features_are_reflected() {
        let shader = find("matmul.q4_0.on").map(|s| (s.needs_f16, s.workgroup_size));
        assert_eq!(shader, Some((true, [64, 1, 1])));
        let names: Vec<_> =
            find("matvec.f32.off").into_iter().flat_map(|s| s.bindings).map(|b| b.name).collect();
        assert_eq!(names, ["step", "x", "quants", "y"]);
        assert!(find("matvec.q4_1.on").is_some_and(|s| s.overrides.contains(&"THREADS_PER_ROW")));
    }
}
