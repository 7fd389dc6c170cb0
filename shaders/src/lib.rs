//! Nomoat WGSL kernels.
