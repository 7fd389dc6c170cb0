//! Nomoat's runtime: loads a GGUF model onto a GPU or the CPU and generates text with it, natively and in the
//! browser.
//!
//! The rooms, and who uses whom, are drawn in `docs/architecture.md`.

pub mod adapter;
#[cfg(feature = "cpu")]
pub mod cpu;
pub mod engine;
pub mod gguf;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod graph;
pub mod load;
pub mod model;
pub mod quant;
pub mod text;
pub mod train;
#[cfg(target_arch = "wasm32")]
pub mod web;
