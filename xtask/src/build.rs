//! Builds the runtime as wasm, the npm package and the page.

use crate::tools::{npm_packages, once, root, run, run_with, rust_source, target, wasm_target};
use anyhow::{Context, Result, anyhow, ensure};
use std::path::{Path, PathBuf};

/// Builds everything that has changed.
pub fn all() -> Result<()> {
    npm_packages()?;
    wasm()?;
    package()?;
    page()
}

/// This file is an input of all steps: a change to it makes their outputs stale.
fn steps() -> PathBuf {
    root().join("xtask/src/build.rs")
}

/// A build of the runtime for browsers.
struct Build {
    /// Its folder in `pkg/wasm`.
    name: &'static str,
    /// Its target folder. Builds with different flags, and two of one crate, would overwrite each other's
    /// outputs.
    target: &'static str,
    /// The crate, with dashes.
    package: &'static str,
    /// Features of the crate.
    features: &'static str,
    /// Wasm instructions besides rustc's defaults.
    target_features: &'static str,
    /// Whether threads share its memory. The standard library is then compiled, too.
    threads: bool,
    /// Optimisation level of our own crates. Only kernels on the CPU are worth their bytes.
    level: &'static str,
    /// Optimisation level of wasm-opt.
    optimise: &'static str,
}

const BUILDS: [Build; 4] = [
    Build {
        name: "cpu-threads",
        target: "cpu-threads",
        package: "nomoat-runtime",
        features: "cpu",
        target_features: "+simd128,+relaxed-simd,+atomics,+bulk-memory,+mutable-globals",
        threads: true,
        level: "3",
        optimise: "-O3",
    },
    Build {
        name: "cpu",
        target: "cpu",
        package: "nomoat-runtime",
        features: "cpu",
        target_features: "+simd128",
        threads: false,
        level: "3",
        optimise: "-O3",
    },
    Build {
        name: "gpu",
        target: "gpu",
        package: "nomoat-runtime",
        features: "gpu",
        target_features: "",
        threads: false,
        level: "s",
        optimise: "-Os",
    },
    // The parser for constraints. The others load it when they need it.
    Build {
        name: "grammar",
        target: "gpu",
        package: "nomoat-grammar",
        features: "module",
        target_features: "",
        threads: false,
        level: "3",
        optimise: "-Os",
    },
];

/// The build with threads, and with the measurements of its kernels.
const BENCH: Build = Build { name: "bench", target: "bench", features: "bench", ..BUILDS[0] };

/// Linker arguments for a memory of up to 4 GiB that threads share; wasm-bindgen needs the exports to start
/// them.
const SHARED_MEMORY: &str = "-Clink-arg=--shared-memory -Clink-arg=--max-memory=4294967296 \
                             -Clink-arg=--import-memory -Clink-arg=--export=__wasm_init_tls \
                             -Clink-arg=--export=__tls_size -Clink-arg=--export=__tls_align \
                             -Clink-arg=--export=__tls_base";

/// Compiles Rust to wasm in `pkg/wasm`, with the JavaScript that loads it. The builds run at the same time:
/// linking and wasm-opt, most of the work, use one core each.
fn wasm() -> Result<()> {
    wasm_target()?;
    std::thread::scope(|scope| {
        let builds = BUILDS
            .each_ref()
            .map(|build| (build.name, scope.spawn(|| build.make(&root().join("pkg/wasm").join(build.name)))));
        for (name, build) in builds {
            let result = build.join().map_err(|_| anyhow!("the build panicked"));
            result.flatten().with_context(|| format!("the wasm build `{name}`"))?;
        }
        Ok(())
    })
}

/// Builds everything, and the build that measures its kernels; returns the folder of that.
pub fn with_bench() -> Result<PathBuf> {
    all()?;
    let out = target().join("bench/wasm");
    BENCH.make(&out)?;
    Ok(out)
}

impl Build {
    fn target(&self) -> PathBuf {
        target().join("wasm").join(self.target)
    }

    /// What its files are called.
    fn file(&self) -> String {
        self.package.replace('-', "_")
    }

    fn make(&self, out: &Path) -> Result<()> {
        let dir = self.target();
        let dir = dir.to_string_lossy();
        let mut args = vec!["build", "--quiet", "--profile", "wasm", "--target", "wasm32-unknown-unknown"];
        args.extend(["-p", self.package, "--lib", "--no-default-features"]);
        args.extend(["--features", self.features, "--target-dir", dir.as_ref()]);
        let mut flags = String::new();
        if !self.target_features.is_empty() {
            flags = format!("-Ctarget-feature={}", self.target_features);
        }
        let mut env = vec![("CARGO_PROFILE_WASM_OPT_LEVEL", self.level)];
        if self.threads {
            rust_source()?;
            args.push("-Zbuild-std=std,panic_abort");
            flags = format!("{flags} {SHARED_MEMORY}");
            // All builds use the pinned compiler. This allows the one unstable option that threads need.
            env.push(("RUSTC_BOOTSTRAP", "1"));
        }
        env.push(("RUSTFLAGS", &flags));
        run_with("cargo", &args, &env)?;
        let built = self.target().join(format!("wasm32-unknown-unknown/wasm/{}.wasm", self.file()));
        let result = out.join(format!("{}_bg.wasm", self.file()));
        once(&format!("wasm-{}", self.name), &[built.clone(), steps()], &[&result], || {
            wasm_bindgen_cli_support::Bindgen::new()
                .input_path(&built)
                .web(true)?
                .typescript(false)
                .omit_default_module_path(false)
                .generate(out)
                .context("wasm-bindgen")?;
            self.optimise(&result)
        })
    }

    fn optimise(&self, wasm: &Path) -> Result<()> {
        let script = root().join("node_modules/binaryen/bin/wasm-opt");
        let (script, wasm) = (script.to_string_lossy(), wasm.to_string_lossy());
        let mut args = vec![script.as_ref(), wasm.as_ref(), self.optimise, "-o", wasm.as_ref()];
        args.extend(WASM_FEATURES);
        if !self.target_features.is_empty() {
            args.push("--enable-simd");
        }
        if self.optimise == "-O3" {
            // Lets wasm-opt fold constant offsets into loads: the lowest KiB is the end of the stack, never
            // used.
            args.push("--low-memory-unused");
        }
        if self.threads {
            args.extend(["--enable-relaxed-simd", "--enable-threads"]);
        }
        run("node", &args)
    }
}

/// The features that rustc uses by default for wasm32-unknown-unknown.
const WASM_FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// Compiles TypeScript to `pkg/dist` and copies the wasm there.
fn package() -> Result<()> {
    let pkg = root().join("pkg");
    let dist = pkg.join("dist");
    let inputs = ["src", "scripts", "package.json", "tsconfig.json", "wasm"].map(|name| pkg.join(name));
    let inputs = [inputs.as_slice(), &[steps()]].concat();
    let last = dist.join("wasm/cpu-threads/nomoat_runtime_bg.wasm");
    once("pkg", &inputs, &[&dist.join("index.js"), &last], || {
        if dist.exists() {
            std::fs::remove_dir_all(&dist)?;
        }
        run("npm", &["run", "--silent", "build", "-w", "pkg"])?;
        std::fs::create_dir_all(dist.join("vendor"))?;
        let vendor = root().join("node_modules/wasm-feature-detect/dist/esm/index.js");
        std::fs::copy(vendor, dist.join("vendor/wasm-feature-detect.js"))?;
        for build in BUILDS {
            let (from, to) = (pkg.join("wasm").join(build.name), dist.join("wasm").join(build.name));
            std::fs::create_dir_all(&to)?;
            for end in [".js", "_bg.wasm"] {
                let file = build.file() + end;
                std::fs::copy(from.join(&file), to.join(&file))?;
            }
        }
        Ok(())
    })
}

fn page() -> Result<()> {
    let web = root().join("web");
    let inputs = ["src", "sw", "public", "index.html", "package.json", "tsconfig.json", "vite.config.ts"]
        .map(|name| web.join(name));
    // The package's stamp changes whenever its output does.
    let inputs = [inputs.as_slice(), &[target().join("xtask/pkg"), steps()]].concat();
    let dist = web.join("dist/index.html");
    once("web", &inputs, &[&dist], || run("npm", &["run", "--silent", "build", "-w", "web"]))
}

/// Packs the npm tarball.
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
        "npm did not make {}; the versions in pkg/package.json and Cargo.toml must be the same",
        tarball.display()
    );
    Ok(tarball)
}
