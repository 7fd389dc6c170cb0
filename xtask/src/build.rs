//! The runtime as wasm, the npm package, the page.

use crate::tools::{npm_packages, once, root, run, target, wasm_target};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// Builds everything that has changed.
pub fn all() -> Result<()> {
    npm_packages()?;
    wasm()?;
    package()?;
    page()
}

/// This file: what it does differently makes old outputs stale.
fn steps() -> PathBuf {
    root().join("xtask/src/build.rs")
}

/// Rust to wasm, and the JavaScript that loads it, in `pkg/wasm`.
fn wasm() -> Result<()> {
    wasm_target()?;
    let build = [
        "build",
        "--quiet",
        "--profile",
        "wasm",
        "--target",
        "wasm32-unknown-unknown",
        "-p",
        "nomoat-runtime",
        "--lib",
    ];
    run("cargo", &build)?;
    let built = target().join("wasm32-unknown-unknown/wasm/nomoat_runtime.wasm");
    let out = root().join("pkg/wasm");
    let result = out.join("nomoat_runtime_bg.wasm");
    once("wasm", &[built.clone(), steps()], &[&result], || {
        wasm_bindgen_cli_support::Bindgen::new()
            .input_path(&built)
            .web(true)?
            .typescript(false)
            .omit_default_module_path(false)
            .generate(&out)
            .context("wasm-bindgen")?;
        optimise(&result)
    })
}

/// What rustc may emit for wasm32-unknown-unknown.
const WASM_FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

fn optimise(wasm: &Path) -> Result<()> {
    let script = root().join("node_modules/binaryen/bin/wasm-opt");
    let (script, wasm) = (script.to_string_lossy(), wasm.to_string_lossy());
    run(
        "node",
        &[&[script.as_ref(), wasm.as_ref(), "-Os", "-o", wasm.as_ref()], WASM_FEATURES.as_slice()].concat(),
    )
}

/// TypeScript to `pkg/dist`, with the wasm beside it.
fn package() -> Result<()> {
    let pkg = root().join("pkg");
    let dist = pkg.join("dist");
    let inputs = ["src", "scripts", "package.json", "tsconfig.json", "wasm"].map(|name| pkg.join(name));
    let inputs = [inputs.as_slice(), &[steps()]].concat();
    once("pkg", &inputs, &[&dist.join("index.js"), &dist.join("wasm/nomoat_runtime_bg.wasm")], || {
        if dist.exists() {
            std::fs::remove_dir_all(&dist)?;
        }
        run("npm", &["run", "--silent", "build", "-w", "pkg"])?;
        std::fs::create_dir_all(dist.join("wasm"))?;
        for file in ["nomoat_runtime.js", "nomoat_runtime_bg.wasm"] {
            std::fs::copy(pkg.join("wasm").join(file), dist.join("wasm").join(file))?;
        }
        Ok(())
    })
}

fn page() -> Result<()> {
    let web = root().join("web");
    let inputs = ["src", "public", "index.html", "package.json", "tsconfig.json", "vite.config.ts"]
        .map(|name| web.join(name));
    // The package's stamp changes whenever its output does.
    let inputs = [inputs.as_slice(), &[target().join("xtask/pkg"), steps()]].concat();
    let dist = web.join("dist/index.html");
    once("web", &inputs, &[&dist], || run("npm", &["run", "--silent", "build", "-w", "web"]))
}

/// The npm tarball.
pub fn pack() -> Result<PathBuf> {
    all()?;
    let (pkg, out) = (root().join("pkg"), target().join("npm"));
    std::fs::create_dir_all(&out)?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        std::fs::copy(root().join(licence), pkg.join(licence))?;
    }
    let (from, to) = (pkg.to_string_lossy(), out.to_string_lossy());
    run("npm", &["pack", "--silent", from.as_ref(), "--pack-destination", to.as_ref()])?;
    let tarball = out.join(format!("nomoat-{}.tgz", env!("CARGO_PKG_VERSION")));
    ensure!(
        tarball.exists(),
        "npm packed no {}; pkg/package.json has another version than Cargo.toml",
        tarball.display()
    );
    Ok(tarball)
}
