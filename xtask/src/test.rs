//! `cargo xtask test`: installs what the tests need, builds everything, and runs all checks and tests.

use crate::tools::{self, npm_packages, root, run as execute, run_with, target};
use crate::{build, lines, model};
use anyhow::{Context, Result, bail, ensure};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

type Step = (&'static str, fn(&Options) -> Result<()>);

struct Options {
    full: bool,
}

/// The steps, in order: those that fail fastest come first.
const STEPS: [Step; 9] = [
    ("format", format),
    ("lint", lint),
    ("setup", setup),
    ("native", native),
    ("golden", golden),
    ("build", |_| build::all()),
    ("sizes", sizes),
    ("unit", unit),
    ("browser", browser),
];

fn run_steps(steps: &[Step], options: &Options) -> Result<()> {
    let mut times = Vec::new();
    for (name, step) in steps {
        println!("=== {name}");
        let start = Instant::now();
        if let Err(error) = step(options) {
            println!("{} passed, 1 failed", times.len());
            return Err(error.context(format!("the step `{name}` failed")));
        }
        times.push((name, start.elapsed().as_secs_f64()));
    }
    println!("=== done");
    for (name, seconds) in &times {
        println!("{name:<10} {seconds:>7.1} s");
    }
    println!("{:<10} {:>7.1} s", "all", times.iter().map(|(_, seconds)| seconds).sum::<f64>());
    println!("{} passed, 0 failed", times.len());
    Ok(())
}

/// Runs all steps, or the one with this name.
pub fn run(only: Option<&str>, full: bool) -> Result<()> {
    let options = Options { full };
    let Some(name) = only else { return run_steps(&STEPS, &options) };
    let Some(step) = STEPS.iter().find(|(known, _)| *known == name) else {
        bail!("there is no step `{name}`; use one of {}", STEPS.map(|(known, _)| known).join(", "));
    };
    run_steps(&[*step], &options)
}

/// Runs the first, fast steps.
pub fn check() -> Result<()> {
    run_steps(&STEPS[..4], &Options { full: false })
}

fn format(_: &Options) -> Result<()> {
    lines::check()?;
    npm_packages()?;
    execute("cargo", &["fmt", "--all", "--check"])?;
    execute("npx", &["prettier", "--check", "--log-level", "warn", "pkg", "web", "tests"])
}

fn lint(_: &Options) -> Result<()> {
    tools::wasm_target()?;
    let deny = ["--", "-D", "warnings"];
    let native = [
        "clippy",
        "--quiet",
        "--profile",
        "checked",
        "--workspace",
        "--all-targets",
        "--features",
        "nomoat-runtime/cli",
    ];
    execute("cargo", &[native.as_slice(), &deny].concat())?;
    // A build for browsers has one device, or the parser for constraints.
    for (package, feature) in
        [("nomoat-runtime", "gpu"), ("nomoat-runtime", "cpu"), ("nomoat-grammar", "module")]
    {
        let wasm = ["clippy", "--quiet", "--profile", "wasm", "--target", "wasm32-unknown-unknown"];
        let what = ["-p", package, "--lib", "--no-default-features", "--features", feature];
        execute("cargo", &[wasm.as_slice(), &what, &deny].concat())?;
    }
    Ok(())
}

fn setup(_: &Options) -> Result<()> {
    tools::test_packages()?;
    model::fetch(TEST_MODEL).map(|_| ())
}

const TEST_MODEL: &str = "smollm2-135m-instruct";

fn native(_: &Options) -> Result<()> {
    // In the profile that this program was built with.
    execute("cargo", &["test", "-p", "xtask"])?;
    execute("cargo", &CARGO_TEST)
}

/// The native tests, and the program that they run.
const CARGO_TEST: [&str; 11] = [
    "test",
    "--profile",
    "checked",
    "-p",
    "nomoat-shaders",
    "-p",
    "nomoat-grammar",
    "-p",
    "nomoat-runtime",
    "--features",
    "nomoat-runtime/cli",
];

/// Compares log-probabilities and texts of a real model with golden ones, for all kinds of kernels. With
/// `--full` also those of models of mixed K-quants, on each device.
fn golden(options: &Options) -> Result<()> {
    let nomoat = program()?;
    WAYS.iter().try_for_each(|way| evaluate(&nomoat, options, TEST_MODEL, way))?;
    if options.full {
        for model in FULL_MODELS {
            FULL_WAYS.iter().try_for_each(|way| evaluate(&nomoat, options, model, way))?;
        }
    }
    Ok(())
}

/// Builds the native program; returns its path. `cargo build` alone would choose other features of the
/// dependencies than the tests have, and compile them once more.
fn program() -> Result<PathBuf> {
    execute("cargo", &[&CARGO_TEST[..], &["--quiet", "--no-run"]].concat())?;
    Ok(target().join("checked/nomoat"))
}

fn evaluate(nomoat: &Path, options: &Options, id: &str, &(how, top1, off): &Way) -> Result<()> {
    let model = model::fetch(id)?.remove(0);
    let (nomoat, model) = (nomoat.to_string_lossy(), model.to_string_lossy());
    let golden = format!("tests/golden/{id}.dev.json");
    let mut args = vec!["eval", model.as_ref(), "--golden", &golden];
    args.extend(how);
    // With int8, tokens that are almost equally likely may swap, so more steps are needed.
    let most = if top1 < 0.99 { "128" } else { "64" };
    if !options.full {
        args.extend(["--max-tokens", most]);
    }
    println!("{id} {}", how.join(" "));
    let report = tools::output(&nomoat, &args)?;
    println!("{report}");
    let report: serde_json::Value = serde_json::from_str(&report)?;
    let number = |name: &str| report[name].as_f64().with_context(|| format!("the report has no {name}"));
    // With 8-bit activations a tie between two tokens may end either way.
    let agreement = if top1 < 0.98 { "top1_without_ties" } else { "top1_agreement" };
    ensure!(number(agreement)? >= top1, "{agreement} is below {top1}");
    ensure!(number("mean_abs_dlogprob")? <= off, "mean |Δ logprob| is above {off}");
    ensure!(
        id != TEST_MODEL || top1 < 0.99 || report["greedy_exact"] == report["entries"],
        "a greedy text differs from the golden one"
    );
    Ok(())
}

/// Options of `nomoat eval`, the least top-1 agreement, and the largest mean |Δ logprob|.
type Way = (&'static [&'static str], f64, f64);

/// Models of mixed K-quants, which only the full test downloads.
const FULL_MODELS: [&str; 2] = ["qwen2.5-coder-0.5b", "gemma-3-270m"];
const FULL_WAYS: [Way; 2] = [(&["--device", "cpu"], 0.985, 0.015), (&[], 0.985, 0.015)];

/// The kinds of kernels that a browser may choose, with the least top-1 agreement and the largest mean |Δ
/// logprob|: first exact ones, then those with 8-bit activations. f16 needs an adapter that supports it;
/// lavapipe does.
const WAYS: [Way; 7] = [
    (&["--device", "cpu"], 0.99, 0.01),
    (&["--kernels", "exact,one,few"], 0.99, 0.01),
    (&["--kernels", "exact,shared,tile,f32,steps:4"], 0.99, 0.01),
    (&["--kernels", "exact,subgroup,tile,f16,steps:2"], 0.99, 0.01),
    (&["--device", "cpu", "--kernels", "int8"], 0.97, 0.04),
    (&["--kernels", "int8,one,few"], 0.97, 0.04),
    (&["--kernels", "int8,shared,tile"], 0.97, 0.04),
];

/// Training is 70 kB of each.
const MAX_WASM: usize = 1_500_000;
/// The parser for constraints, which is fetched for the first of them.
const MAX_GRAMMAR_WASM: usize = 600_000;
const MAX_PAGE_JS: usize = 250_000;

/// Checks the gzipped sizes of what a first visit downloads.
fn sizes(_: &Options) -> Result<()> {
    let size = |file: &str| gzipped(&root().join("pkg/dist/wasm").join(file));
    let mut wasm = 0;
    for build in ["gpu", "cpu", "cpu-threads"] {
        // The first answer needs only one of them; the service worker fetches the others later.
        wasm = wasm.max(size(&format!("{build}/nomoat_runtime_bg.wasm"))?);
    }
    let grammar = size("grammar/nomoat_grammar_bg.wasm")?;
    let mut script = 0;
    for entry in std::fs::read_dir(root().join("web/dist/assets"))?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "js") {
            script += gzipped(&entry.path())?;
        }
    }
    println!(
        "bytes gzipped: runtime wasm {wasm} (limit {MAX_WASM}), grammar wasm {grammar} (limit \
         {MAX_GRAMMAR_WASM}), page JavaScript {script} (limit {MAX_PAGE_JS})"
    );
    ensure!(wasm <= MAX_WASM, "the runtime is larger than its limit");
    ensure!(grammar <= MAX_GRAMMAR_WASM, "the parser for constraints is larger than its limit");
    ensure!(script > 0, "web/dist/assets has no JavaScript: run `cargo xtask build`");
    ensure!(script <= MAX_PAGE_JS, "the page's JavaScript is larger than its limit");
    Ok(())
}

fn gzipped(path: &Path) -> Result<usize> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&bytes)?;
    Ok(encoder.finish()?.len())
}

fn unit(_: &Options) -> Result<()> {
    execute("npx", &["tsc", "--noEmit", "-p", "tests"])?;
    execute("npm", &["run", "--silent", "unit", "-w", "pkg"])
}

fn browser(options: &Options) -> Result<()> {
    setup(&Options { full: false })?;
    if options.full {
        FULL_MODELS.iter().try_for_each(|id| model::fetch(id).map(|_| ()))?;
    }
    let (models, tarball, program) = (model::folder()?, build::pack()?, program()?);
    let chromium = tools::chromium();
    let env = [
        ("NOMOAT_CHROMIUM", chromium.as_str()),
        ("NOMOAT_MODELS", &models.to_string_lossy()),
        ("NOMOAT_TARBALL", &tarball.to_string_lossy()),
        ("NOMOAT_PROGRAM", &program.to_string_lossy()),
        ("NOMOAT_FULL", if options.full { "1" } else { "" }),
    ];
    run_with("npm", &["run", "--silent", "e2e", "-w", "tests"], &env)
}
