//! Runs other programs, and installs those that are missing.

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Builds the native program for measurements; returns its path.
pub fn nomoat() -> Result<String> {
    let program = ["-p", "nomoat-runtime", "--features", "cli", "--bin", "nomoat"];
    run("cargo", &[["build", "--quiet", "--release"].as_slice(), &program].concat())?;
    Ok(target().join("release/nomoat").to_string_lossy().into_owned())
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where build outputs go: cargo's target folder, which `CARGO_TARGET_DIR` may change.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).unwrap_or_else(|| root().join("target"))
}

/// The path of Chromium: what `NOMOAT_CHROMIUM` says, or else where Debian has it.
pub fn chromium() -> String {
    std::env::var("NOMOAT_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into())
}

/// Runs a program in the repository's root; fails if the program does.
pub fn run(program: &str, args: &[&str]) -> Result<()> {
    run_with(program, args, &[])
}

/// The same with environment variables.
pub fn run_with(program: &str, args: &[&str], env: &[(&str, &str)]) -> Result<()> {
    let mut command = command(program);
    command.args(args).envs(env.iter().copied()).current_dir(root());
    let status = command.status().with_context(|| missing(program))?;
    ensure!(status.success(), "{program} {} failed", args.join(" "));
    Ok(())
}

/// What a program prints. Its errors and progress are shown meanwhile.
pub fn output_of(program: &str, args: &[&str]) -> Result<String> {
    let mut command = command(program);
    command.args(args).current_dir(root()).stderr(Stdio::inherit());
    let output = command.output().with_context(|| missing(program))?;
    ensure!(output.status.success(), "{program} {} failed", args.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

/// What a program prints.
pub fn output(program: &str, args: &[&str]) -> Result<String> {
    let output =
        command(program).args(args).current_dir(root()).output().with_context(|| missing(program))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn command(program: &str) -> Command {
    // On Windows npm is a script, which only its full name finds.
    Command::new(if cfg!(windows) && program == "npm" { "npm.cmd" } else { program })
}

fn missing(program: &str) -> String {
    match program {
        "npm" | "node" => format!("{program} is not installed: install Node.js 20 or later"),
        _ => format!("{program} is not installed: install it and try again"),
    }
}

/// Adds the wasm target to the Rust toolchain.
pub fn wasm_target() -> Result<()> {
    let have = output("rustup", &["target", "list", "--installed"])?;
    if have.lines().any(|line| line == "wasm32-unknown-unknown") {
        return Ok(());
    }
    run("rustup", &["target", "add", "wasm32-unknown-unknown"])
}

/// Adds the source of the standard library, which the build with threads compiles.
pub fn rust_source() -> Result<()> {
    let have = output("rustup", &["component", "list", "--installed"])?;
    if have.lines().any(|line| line.starts_with("rust-src")) {
        return Ok(());
    }
    run("rustup", &["component", "add", "rust-src"])
}

/// Installs the npm packages in package-lock.json.
pub fn npm_packages() -> Result<()> {
    let inputs = [root().join("package-lock.json")];
    let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    once("npm", &inputs, &[&root().join("node_modules")], || run("npm", &ci))?;
    // An old version of LangChain, whose packages have the names of the new one's.
    let old = root().join("tests/langchain-0");
    once("npm-langchain-0", &[old.join("package-lock.json")], &[&old.join("node_modules")], || {
        run("npm", &[&ci[..], &["--prefix", old.to_string_lossy().as_ref()]].concat())
    })
}

/// Debian packages that the tests need, each with a file that exists if it is installed.
const DEBIAN: [(&str, &str); 5] = [
    ("chromium", "/usr/bin/chromium"),
    ("firefox-esr", "/usr/bin/firefox-esr"),
    ("libvulkan1", "/usr/lib/x86_64-linux-gnu/libvulkan.so.1"),
    ("mesa-vulkan-drivers", "/usr/share/vulkan/icd.d"),
    ("fonts-noto-cjk", "/usr/share/fonts/opentype/noto"),
];

/// Installs two browsers, a software Vulkan driver and Chinese fonts. Where it cannot, the error says what to
/// install.
pub fn test_packages() -> Result<()> {
    let absent: Vec<&str> =
        DEBIAN.iter().filter(|(_, file)| !Path::new(file).exists()).map(|(name, _)| *name).collect();
    if absent.is_empty() || std::env::var_os("NOMOAT_CHROMIUM").is_some() {
        return Ok(());
    }
    let is_root = output("id", &["-u"]).is_ok_and(|id| id.trim() == "0");
    if !is_root || !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "the tests need Chromium, Firefox and a Vulkan driver; on Debian, run `sudo apt-get install {}`; \
             elsewhere, install them and set NOMOAT_CHROMIUM and NOMOAT_FIREFOX to the paths of the browsers",
            absent.join(" ")
        );
    }
    let env = [("DEBIAN_FRONTEND", "noninteractive")];
    run_with("apt-get", &["-qq", "update"], &env)?;
    run_with(
        "apt-get",
        &[&["-qq", "install", "-y", "--no-install-recommends"], absent.as_slice()].concat(),
        &env,
    )
}

/// Runs an action, unless it has run for the same inputs before and its outputs still exist. Inputs are files
/// and folders.
pub fn once(
    name: &str,
    inputs: &[PathBuf],
    outputs: &[&Path],
    action: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let stamp = target().join("xtask").join(name);
    let state = fingerprint(inputs)?;
    let is_done = std::fs::read_to_string(&stamp).is_ok_and(|done| done == state);
    if is_done && outputs.iter().all(|path| path.exists()) {
        return Ok(());
    }
    action()?;
    std::fs::create_dir_all(target().join("xtask"))?;
    // The action may have written into the folders of its inputs.
    Ok(std::fs::write(stamp, fingerprint(inputs)?)?)
}

/// Folders of outputs, which do not count as inputs.
const GENERATED: [&str; 4] = ["node_modules", "dist", "target", "results"];

fn fingerprint(inputs: &[PathBuf]) -> Result<String> {
    let mut hash = Sha256::new();
    let mut paths: Vec<PathBuf> = inputs.to_vec();
    while let Some(path) = paths.pop() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !GENERATED.contains(&name.as_str()) {
                let mut entries: Vec<PathBuf> =
                    std::fs::read_dir(&path)?.flatten().map(|entry| entry.path()).collect();
                entries.sort();
                paths.extend(entries);
            }
            continue;
        }
        hash.update(path.to_string_lossy().as_bytes());
        hash.update(std::fs::read(&path).with_context(|| format!("{} is missing", path.display()))?);
    }
    Ok(hex(&hash.finalize()))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
